//! The address at which other nodes call this one, and the gRPC server behind it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpSocket, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    service::Routes,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};
use tracing::error;

use super::{
    config::{ConfigureServer, Settings},
    link,
};
use crate::{
    error::{Error, Result, code},
    net::bind,
};

/// Connections the system queues between two accepts.
const BACKLOG: u32 = 1024;

/// Idle time after which the system probes a connection: a machine that loses power closes none.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The node's address in the cluster, bound but not listening: until the node is ready, the system
/// refuses connections instead of queuing them.
pub(crate) struct ClusterListener {
    socket: TcpSocket,
    local: SocketAddr,
    address: String,
}

impl ClusterListener {
    /// Binds the address of the options.
    ///
    /// # Errors
    /// Names the address that cannot be bound.
    pub(crate) async fn bind(settings: &Settings) -> Result<Self> {
        let listen = settings.listen.clone().unwrap_or_default();
        let address = settings.advertise.as_ref().unwrap_or(&listen);
        let unavailable = |error: io::Error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cluster.listen: cannot listen on {listen}: {error}"),
            )
            .with_source(error)
        };
        let socket = bind::bind(&listen).await.map_err(unavailable)?;
        let local = socket.local_addr()?;
        // Port 0 stands for the port the system chose.
        let address = match address.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", local.port()),
            None => address.clone(),
        };
        Ok(Self {
            socket,
            local,
            address,
        })
    }

    /// Returns the address that other nodes call.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the address it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }
}

/// The options of the gRPC server.
pub(crate) struct ServerConfig {
    server: Server,
    configure: Option<ConfigureServer>,
}

impl ServerConfig {
    /// # Errors
    /// The certificate, the key or the authority of the TLS options is invalid.
    pub(crate) fn new(
        tls: Option<ServerTlsConfig>,
        configure: Option<ConfigureServer>,
    ) -> Result<Self> {
        let mut server = Server::builder()
            .initial_stream_window_size(link::config::STREAM_WINDOW)
            .initial_connection_window_size(link::config::CONNECTION_WINDOW);
        if let Some(tls) = tls {
            server = server.tls_config(tls).map_err(|error| {
                Error::new(
                    code::BAD_REQUEST,
                    format!("cluster.tls: certificate, key or authority: {error:?}"),
                )
            })?;
        }
        Ok(Self { server, configure })
    }
}

/// A running gRPC server. Dropping it closes its connections.
pub(crate) struct ClusterServer {
    task: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl ClusterServer {
    /// Listens, and serves `services` until it is stopped.
    ///
    /// # Errors
    /// Another program listens on the address by now.
    pub(crate) fn start(
        listener: ClusterListener,
        config: ServerConfig,
        services: Routes,
    ) -> Result<Self> {
        let ClusterListener {
            socket, address, ..
        } = listener;
        let listener = socket.listen(BACKLOG).map_err(|error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cannot listen on {address}: {error}"),
            )
            .with_source(error)
        })?;
        let ServerConfig { server, configure } = config;
        let router = configure
            .map_or(server.clone(), |configure| configure(server))
            .add_routes(services);
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(TCP_KEEPALIVE));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                error!(%error, "cluster server failed: other nodes cannot call this one");
            }
        });
        Ok(Self {
            task: AbortOnDropHandle::new(task),
            stop,
        })
    }

    /// Accepts no more calls and waits for those under way, at most `within`.
    pub(crate) async fn stop(mut self, within: Duration) {
        self.stop.cancel();
        // Dropping the task ends what is left.
        let _ = timeout(within, &mut self.task).await;
    }
}
