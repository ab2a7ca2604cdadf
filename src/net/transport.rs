//! Transports of the application's own: what carries the packets of one client, and what accepts
//! such connections.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::stream::Transport;
use crate::packet::Decoder;

/// A connection that an [`Acceptor`] has accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<T> {
    /// Carries the client's packets.
    pub transport: T,
    /// The client's address, where it has one; see
    /// [`Session::remote_addr`](crate::Session::remote_addr). Deny list and limits go by it.
    pub remote: Option<SocketAddr>,
}

impl<T> Accepted<T> {
    /// A connection without an address.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            remote: None,
        }
    }

    /// Sets the client's address.
    #[must_use]
    pub fn remote(mut self, address: SocketAddr) -> Self {
        self.remote = Some(address);
        self
    }
}

/// Accepts connections of a transport, for [`Listener::custom`](crate::Listener::custom).
///
/// The node drops it when it stops to accept, which has to free what it listens on.
pub trait Acceptor: Send + 'static {
    /// What carries the packets of a connection.
    type Transport: Transport + 'static;

    /// Waits for the next connection.
    ///
    /// Must be cancel safe, and must not wait for a client that has connected already: handshakes of
    /// the transport belong into the transport, whose first read the node limits to
    /// [`Timeouts::handshake`](crate::Timeouts::handshake).
    ///
    /// # Errors
    /// As those of `accept` of a socket: errors of one connection are ignored, and others, such as
    /// too many open files, make the node wait a moment before it tries again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Transport>>> + Send;

    /// The address it listens on, if that is an IP address and a port: for
    /// [`Node::addresses`](crate::Node::addresses) and the log.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

pub(crate) type BoxTransport = Box<dyn Transport>;

/// An [`Acceptor`] whose types are erased.
pub(crate) trait DynAcceptor: Send {
    fn accept(
        &mut self,
    ) -> Pin<Box<dyn Future<Output = io::Result<Accepted<BoxTransport>>> + Send + '_>>;

    fn local_addr(&self) -> Option<SocketAddr>;
}

impl<A: Acceptor> DynAcceptor for A {
    fn accept(
        &mut self,
    ) -> Pin<Box<dyn Future<Output = io::Result<Accepted<BoxTransport>>> + Send + '_>> {
        Box::pin(async {
            let Accepted { transport, remote } = Acceptor::accept(self).await?;
            Ok(Accepted {
                transport: Box::new(transport) as BoxTransport,
                remote,
            })
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Acceptor::local_addr(self)
    }
}

impl Transport for BoxTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, into)
    }

    fn take_overhead(&mut self) -> usize {
        (**self).take_overhead()
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        (**self).poll_discard(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        (**self).poll_write(cx, from, written)
    }

    fn is_final_close(&self) -> bool {
        (**self).is_final_close()
    }

    fn close(&mut self, code: Option<u16>, reason: &str) -> io::Result<()> {
        (**self).close(code, reason)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_shutdown(cx)
    }
}

impl fmt::Debug for dyn DynAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("address", &self.local_addr())
            .finish()
    }
}
