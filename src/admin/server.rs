//! The HTTP server: a thread of its own, and bounds for everything a peer sends.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::Request,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, lookup_host},
    runtime::Builder,
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info, warn};

use super::{
    access::Access,
    request::{Answer, ApiError},
    routes::Head,
    state::{AdminNode, AdminState, Settings},
    summary,
};
use crate::{
    cluster::NodeServices,
    error::{Error, Result, code},
    metrics::registry::Registry,
};

/// Connections open at once. At the bound the oldest is closed.
const MAX_CONNECTIONS: usize = 128;

/// Bytes of the head of a request, and its headers.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Bytes of the body of an action.
const MAX_BODY: usize = 64 * 1024;

/// How long the head of a request may take, also after the one before, and then its body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection lives, so that a peer that reads slowly does not stay.
const MAX_AGE: Duration = Duration::from_secs(60);

/// How long what a peer goes on to send is discarded behind the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// The pause after a failed accept, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the thread may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// An admin server that has its address, and answers no request yet.
pub(crate) struct BoundAdmin {
    listener: StdListener,
    address: SocketAddr,
    access: Access,
    settings: Settings,
    registry: Arc<Registry>,
}

/// A running admin server. Dropping it ends its thread.
pub(crate) struct AdminServer {
    address: SocketAddr,
    stop: CancellationToken,
    /// Cancelled when the thread has ended.
    stopped: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl BoundAdmin {
    /// Takes the address of the options.
    ///
    /// # Errors
    /// Names the address that cannot be listened on, or the option that is not valid.
    pub(crate) async fn bind(mut settings: Settings) -> Result<Self> {
        let hosts = std::mem::take(&mut settings.hosts);
        let access = Access::new(settings.token.take(), hosts)?;
        let listener = bind(&settings.address).await.map_err(|error| {
            let address = &settings.address;
            let message = format!("admin: cannot listen on {address}: {error}");
            Error::new(code::UNAVAILABLE, message).with_source(error)
        })?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && !access.has_token() {
            warn!(%address, "admin server has no token: other machines can only ask for its health");
        }
        Ok(Self {
            listener,
            address,
            access,
            settings,
            registry: Arc::default(),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps the metrics that the server shows.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Serves until the server is stopped.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn serve(self, node: AdminNode, services: &NodeServices) -> Result<AdminServer> {
        let (listener, address) = (self.listener, self.address);
        let Settings {
            log_filter,
            warnings,
            ..
        } = self.settings;
        let state = AdminState::new(node, self.access, self.registry, log_filter, warnings);
        let (state, calls) = (Arc::new(state), summary::offer(services));
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (stopping, ended) = (stop.clone(), stopped.clone().drop_guard());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("nano-admin".to_owned())
            .spawn(move || {
                runtime.spawn(summary::answer(calls, state.clone()));
                runtime.spawn(summary::follow_load(state.clone()));
                runtime.block_on(serve(listener, state, stopping));
                // What is left of connections ends with the runtime.
                drop(runtime);
                drop(ended);
            })?;
        info!(%address, "serving operators");
        Ok(AdminServer {
            address,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            stopped,
        })
    }
}

impl AdminServer {
    /// Stops the server, and waits until its address is free.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        // The thread that does not end in time is abandoned.
        let _ = timeout(STOP_TIMEOUT, self.stopped.cancelled()).await;
    }
}

/// Binds the first of the addresses that takes it.
async fn bind(address: &str) -> io::Result<StdListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        match StdListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Accepts connections until the server is stopped.
async fn serve(listener: StdListener, state: Arc<AdminState>, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "admin server failed"),
    };
    let mut connections = JoinSet::new();
    // Ends each connection when it is dropped, the oldest first.
    let mut open: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => open.retain(|connection| !connection.is_closed()),
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    if open.len() >= MAX_CONNECTIONS {
                        open.remove(0);
                    }
                    let (close, closed) = oneshot::channel();
                    open.push(close);
                    connections.spawn(serve_connection(socket, peer, state.clone(), closed));
                }
                Err(error) => {
                    debug!(%error, "admin connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn serve_connection(
    socket: TcpStream,
    peer: SocketAddr,
    state: Arc<AdminState>,
    closed: oneshot::Receiver<()>,
) {
    let service = service_fn(|request| {
        let state = state.clone();
        Box::pin(async move { Ok::<_, Infallible>(answer(&state, peer, request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), service);
    let serving = async {
        let served = poll_fn(|cx| connection.poll_without_shutdown(cx));
        if let Ok(Err(error)) = timeout(MAX_AGE, served).await {
            debug!(%peer, %error, "admin connection failed");
        }
        // In time or not, the socket is closed then.
        let _ = timeout(LINGER, linger(connection.into_parts().io.into_inner())).await;
    };
    tokio::select! {
        () = serving => {}
        _ = closed => {}
    }
}

/// Closes the outgoing direction and discards input: a socket that is closed with unread input is
/// reset, and the reset can overtake the answer to a request that was refused unread.
async fn linger(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    let mut discarded = [0; 1024];
    while socket.read(&mut discarded).await? > 0 {}
    Ok(())
}

async fn answer(state: &AdminState, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let head = Head {
        peer,
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
    };
    let served = async {
        let accepted = head.accept(state)?;
        let body = match accepted.takes_body() {
            true => read(body).await?,
            false => Bytes::new(),
        };
        accepted.serve(state, &head, &body).await
    };
    served.await.unwrap_or_else(ApiError::into_answer)
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let read = to_bytes(Body::new(body), MAX_BODY);
    match timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body),
        // The peer that breaks off its body does not read this answer.
        Ok(Err(_)) => Err(ApiError::too_large(MAX_BODY)),
        Err(_) => Err(ApiError::timeout()),
    }
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
