//! The address at which other nodes call this one, and the gRPC server behind it.

use std::{future::ready, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{net::TcpSocket, task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    service::Routes,
    transport::{Error as TransportError, Server, server::Router},
};
use tracing::{debug, error};

use super::{
    admission::ConnectionLimits,
    config::{ConfigureServer, Settings},
    incoming::{Incoming, NodeConnection},
    link,
    tls::NodeTls,
};
use crate::{
    error::{Error, Result, code},
    metrics::ClusterMetrics,
    net::{address::HostPort, bind},
};

/// Connections the system queues between two accepts.
const LISTEN_BACKLOG: u32 = 1024;

/// Calls that one connection may have under way. Links need one each; a basic member makes one for
/// every message.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// Bytes of the headers of one call. A token and the headers of gRPC take some hundred.
const MAX_HEADER_LIST: u32 = 16 * 1024;

/// The longest HTTP/2 frame that is accepted, in bytes; the least that the protocol allows.
const MAX_FRAME: u32 = 16 * 1024;

/// Streams that a caller may have reset before they were accepted, and streams reset because the
/// caller broke the protocol. A connection that exceeds one is closed (rapid reset).
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 256;

/// A connection without traffic is pinged after the first time and closed after the second.
const HTTP2_KEEPALIVE: Duration = Duration::from_secs(20);
const HTTP2_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take until its answer begins: its body may never end. Far above what any
/// call waits for.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

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
        let parsed: HostPort = listen
            .parse()
            .map_err(|error| Error::bad_request(format!("cluster.listen: {error}")))?;
        // One family is enough: callers that dial a name try both.
        let mut sockets = bind::bind(&parsed).await.map_err(unavailable)?;
        let socket = sockets.swap_remove(0);
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
    tls: Option<Arc<NodeTls>>,
    configure: Option<ConfigureServer>,
    limits: ConnectionLimits,
    authentication_timeout: Duration,
    metrics: Arc<ClusterMetrics>,
}

impl ServerConfig {
    pub(super) fn new(
        tls: Option<Arc<NodeTls>>,
        configure: Option<ConfigureServer>,
        limits: ConnectionLimits,
        authentication_timeout: Duration,
        metrics: Arc<ClusterMetrics>,
    ) -> Self {
        let server = Server::builder()
            .initial_stream_window_size(link::config::STREAM_WINDOW)
            .initial_connection_window_size(link::config::CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .max_frame_size(MAX_FRAME)
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
            .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
            .http2_keepalive_interval(Some(HTTP2_KEEPALIVE))
            .http2_keepalive_timeout(Some(HTTP2_KEEPALIVE_TIMEOUT))
            .timeout(CALL_TIMEOUT);
        Self {
            server,
            tls,
            configure,
            limits,
            authentication_timeout,
            metrics,
        }
    }
}

/// What serves each connection, with the certificates of its time.
struct Services {
    /// Without TLS.
    server: Server,
    routes: Routes,
    tls: Option<Arc<NodeTls>>,
    /// What the router was made of: see [`NodeTls::contents`].
    contents: Option<u64>,
    router: Router,
}

impl Services {
    /// # Errors
    /// The certificates cannot be used, which were checked when they were read.
    fn new(
        server: Server,
        routes: Routes,
        tls: Option<Arc<NodeTls>>,
    ) -> Result<Self, TransportError> {
        let contents = tls.as_ref().map(|tls| tls.contents());
        let secured = match &tls {
            Some(tls) => tls.secure_server(server.clone())?,
            None => server.clone(),
        };
        Ok(Self {
            router: { secured }.add_routes(routes.clone()),
            server,
            routes,
            tls,
            contents,
        })
    }

    /// Returns what serves the next connection.
    fn next(&mut self) -> Router {
        let contents = self.tls.as_ref().map(|tls| tls.contents());
        if contents != self.contents {
            match Self::new(self.server.clone(), self.routes.clone(), self.tls.clone()) {
                Ok(new) => *self = new,
                Err(error) => error!(%error, "cluster certificates cannot be used"),
            }
        }
        self.router.clone()
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
    /// Another program listens on the address by now, or the TLS options cannot be used.
    pub(crate) fn start(
        listener: ClusterListener,
        config: ServerConfig,
        services: Routes,
    ) -> Result<Self> {
        let ClusterListener {
            socket, address, ..
        } = listener;
        let listener = socket.listen(LISTEN_BACKLOG).map_err(|error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cannot listen on {address}: {error}"),
            )
            .with_source(error)
        })?;
        let ServerConfig {
            server,
            tls,
            configure,
            limits,
            authentication_timeout,
            metrics,
        } = config;
        let server = match configure {
            Some(configure) => configure(server),
            None => server,
        };
        let mut services = Services::new(server, services, tls).map_err(|error| {
            let text = format!("cluster.tls: certificate, key or authority: {error:?}");
            Error::new(code::BAD_REQUEST, text)
        })?;
        let mut incoming = Incoming::new(listener, limits, authentication_timeout, metrics);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => break,
                    Some(_) = connections.join_next() => {}
                    accepted = incoming.next() => match accepted {
                        Some(accepted) => {
                            connections.spawn(serve(services.next(), accepted, stopped.clone()));
                        }
                        None => {
                            error!("cluster listener failed: other nodes cannot call this one");
                            break;
                        }
                    },
                }
            }
            // Frees the address.
            drop(incoming);
            while connections.join_next().await.is_some() {}
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

/// Serves one connection until it has ended. A server of its own lets one connection be asked to
/// close without the others.
async fn serve(router: Router, connection: NodeConnection, stop: CancellationToken) {
    let ended = connection.info().ended();
    let only = stream::once(ready(Ok::<_, io::Error>(connection)));
    let asked_to_close = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = ended => {}
        }
    };
    // The end of the stream would close the connection as well.
    let incoming = only.chain(stream::pending());
    let served = router.serve_with_incoming_shutdown(incoming, asked_to_close);
    if let Err(error) = served.await {
        debug!(%error, "connection of a node failed");
    }
}
