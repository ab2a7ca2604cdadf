//! Listeners whose addresses are bound, and those that clients can reach.

use std::{io, net, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::connection_options::ConnectionOptions;
use crate::{
    error::{Error, Result, code},
    net::transport::DynAcceptor,
};

/// Connections that the system queues between two accepts.
const LISTEN_BACKLOG: u32 = 1024;

/// A listener whose address is bound.
pub(super) struct BoundListener {
    pub(super) socket: BoundSocket,
    /// As it was given.
    pub(super) address: String,
    pub(super) options: ConnectionOptions,
}

/// What a listener is bound to.
pub(super) enum BoundSocket {
    /// One for each address family of a name, on the same port.
    Bound(Vec<TcpSocket>),
    Listening(net::TcpListener),
    Custom(Box<dyn DynAcceptor>),
}

impl BoundListener {
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            BoundSocket::Bound(sockets) => sockets.first()?.local_addr().ok(),
            BoundSocket::Listening(socket) => socket.local_addr().ok(),
            BoundSocket::Custom(acceptor) => acceptor.local_addr(),
        }
    }

    /// Starts to listen.
    pub(super) fn listen(self) -> Result<ActiveListener> {
        let sockets: io::Result<Vec<_>> = match self.socket {
            BoundSocket::Bound(sockets) => sockets
                .into_iter()
                .map(|socket| socket.listen(LISTEN_BACKLOG))
                .collect(),
            BoundSocket::Listening(socket) => socket
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(socket))
                .map(|socket| vec![socket]),
            BoundSocket::Custom(acceptor) => {
                return Ok(ActiveListener {
                    address: acceptor.local_addr(),
                    accepting: Accepting::Custom(acceptor),
                    options: self.options,
                });
            }
        };
        let sockets = sockets.map_err(|error| cannot_listen(&self.address, error))?;
        let address = sockets.first().map(TcpListener::local_addr).transpose()?;
        Ok(ActiveListener {
            address,
            accepting: Accepting::Tcp(sockets),
            options: self.options,
        })
    }
}

/// What accepts the connections of a listener.
pub(super) enum Accepting {
    Tcp(Vec<TcpListener>),
    Custom(Box<dyn DynAcceptor>),
}

/// A listener that clients can reach.
pub(super) struct ActiveListener {
    pub(super) accepting: Accepting,
    /// That of the first socket, or of a custom transport if it has one.
    pub(super) address: Option<SocketAddr>,
    pub(super) options: ConnectionOptions,
}

pub(super) fn cannot_listen(address: &str, error: io::Error) -> Error {
    Error::new(
        code::UNAVAILABLE,
        format!("cannot listen on {address}: {error}"),
    )
    .with_source(error)
}
