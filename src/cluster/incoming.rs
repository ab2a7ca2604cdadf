//! The connections that other nodes open: accepted within bounds, and closed unless an authenticated
//! call follows in time.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Extensions,
    transport::server::{Connected, TcpIncoming},
};
use tracing::{debug, warn};

use super::{
    admission::{Admitted, ConnectionLimits, ConnectionTable},
    tls,
};
use crate::{
    metrics::ClusterMetrics,
    net::{
        accept_errors::{AcceptErrors, AcceptStep},
        address::canonical,
    },
};

/// Idle time after which the system probes a connection: a machine that loses power closes none.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a connection without an authenticated call may take to close in order. Some
/// nodes open ten connections and use them in turn: one that is asked to close repeats its next call on a new
/// connection, one that is cut may lose it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Label of connections that were closed for want of an authenticated call. Too many of them is no
/// reason to warn: connections that nodes open in advance are among them.
const DEADLINE: &str = "deadline";

/// The least time between two warnings about refused connections. All of them are counted.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The listener of the cluster's port.
pub(super) struct Incoming {
    sockets: TcpIncoming,
    deadline: Duration,
    errors: AcceptErrors,
    shared: Arc<Shared>,
}

impl Incoming {
    /// Accepts connections within `limits`.
    ///
    /// A connection whose first authenticated call does not arrive within `deadline` is closed,
    /// whatever it did before: sent nothing, half a preface, an endless TLS handshake, or calls
    /// without the token.
    pub(super) fn new(
        listener: TcpListener,
        limits: ConnectionLimits,
        deadline: Duration,
        metrics: Arc<ClusterMetrics>,
    ) -> Self {
        Self {
            sockets: TcpIncoming::from(listener)
                .with_nodelay(Some(true))
                .with_keepalive(Some(TCP_KEEPALIVE)),
            deadline,
            errors: AcceptErrors::default(),
            shared: Arc::new(Shared {
                open: Mutex::new(Open {
                    table: ConnectionTable::new(limits),
                    unauthenticated: HashMap::new(),
                    warned: None,
                }),
                metrics,
            }),
        }
    }

    /// Waits for the next connection that is admitted.
    ///
    /// Cancel safe: no connection is lost.
    pub(super) async fn next(&mut self) -> Option<NodeConnection> {
        loop {
            match self.sockets.next().await? {
                Ok(socket) => {
                    self.errors.accepted();
                    if let Some(connection) = self.shared.accept(socket, self.deadline) {
                        return Some(connection);
                    }
                }
                Err(error) => match self.errors.failed(&error) {
                    AcceptStep::Continue => {
                        debug!(%error, "connection of a node lost before accept")
                    }
                    AcceptStep::Pause { wait, is_first } => {
                        if is_first {
                            warn!(%error, "accept failed on the cluster's address, pausing");
                        }
                        sleep(wait).await;
                    }
                },
            }
        }
    }
}

/// What all connections of one listener share.
struct Shared {
    /// Held for a few instructions. No other lock is taken while it is held.
    open: Mutex<Open>,
    metrics: Arc<ClusterMetrics>,
}

struct Open {
    table: ConnectionTable,
    /// Cancelled to close the connection that is displaced.
    unauthenticated: HashMap<u64, CancellationToken>,
    /// When a refusal was last logged as a warning.
    warned: Option<Instant>,
}

impl Shared {
    fn accept(self: &Arc<Self>, socket: TcpStream, deadline: Duration) -> Option<NodeConnection> {
        // An error means that the peer is gone already.
        let remote = canonical(socket.peer_addr().ok()?);
        let displaced = CancellationToken::new();
        let (admitted, other) = {
            let mut open = self.open.lock();
            let admitted = open.table.admit(remote.ip());
            let mut other = None;
            if let Ok(Admitted { id, displaced: old }) = &admitted {
                other = old.and_then(|old| open.unauthenticated.remove(&old));
                open.unauthenticated.insert(*id, displaced.clone());
            }
            (admitted, other)
        };
        if let Some(other) = other {
            other.cancel();
        }
        match admitted {
            Ok(Admitted { id, .. }) => {
                self.metrics.connections.increment(1);
                let cut = sleep(deadline + CLOSE_TIMEOUT);
                Some(NodeConnection {
                    stage: Stage::Unauthenticated(Box::pin(async move {
                        tokio::select! {
                            () = displaced.cancelled() => Some("displaced"),
                            () = cut => None,
                        }
                    })),
                    socket,
                    info: Arc::new(ConnectionInfo {
                        id,
                        remote,
                        deadline,
                        authenticated: AtomicBool::new(false),
                        rejected: AtomicBool::new(false),
                        closed: CancellationToken::new(),
                        shared: self.clone(),
                    }),
                })
            }
            Err(exceeded) => {
                self.refuse(remote, exceeded.label());
                None
            }
        }
    }

    fn refuse(&self, remote: SocketAddr, reason: &'static str) {
        self.metrics.connection_refused(reason);
        debug!(%remote, reason, "connection of a node refused");
        if reason == DEADLINE {
            return;
        }
        let now = Instant::now();
        let is_due = |last: Instant| now.duration_since(last) >= WARNING_INTERVAL;
        let warn_now = {
            let mut open = self.open.lock();
            let due = open.warned.is_none_or(is_due);
            if due {
                open.warned = Some(now);
            }
            due
        };
        if warn_now {
            warn!(%remote, reason, "too many connections at the cluster's port: some are refused");
        }
    }
}

/// What a call knows of the connection it arrived on.
pub(super) struct ConnectionInfo {
    id: u64,
    remote: SocketAddr,
    deadline: Duration,
    authenticated: AtomicBool,
    /// Whether a call on it was rejected.
    rejected: AtomicBool,
    /// Cancelled when the socket is closed.
    closed: CancellationToken,
    shared: Arc<Shared>,
}

impl ConnectionInfo {
    /// Finds it among the extensions of a request.
    pub(super) fn of(extensions: &Extensions) -> Option<&Self> {
        let plain = extensions.get::<Arc<Self>>();
        plain
            .or_else(|| tls::connect_info(extensions))
            .map(Arc::as_ref)
    }

    pub(super) fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Notes a rejected call. Returns whether it is the first of the connection.
    pub(super) fn reject(&self) -> bool {
        !self.rejected.swap(true, Ordering::Relaxed)
    }

    /// Notes an authenticated call: the connection stays until one side closes it.
    pub(super) fn authenticate(&self) {
        if !self.authenticated.swap(true, Ordering::Relaxed) {
            let mut open = self.shared.open.lock();
            open.table.authenticate(self.id);
            open.unauthenticated.remove(&self.id);
        }
    }

    /// Waits until the connection has been closed, or is to be closed because no authenticated call
    /// arrived in time.
    pub(super) async fn ended(self: Arc<Self>) {
        let closed = self.closed.cancelled();
        if timeout(self.deadline, closed).await.is_ok() {
            return;
        }
        if !self.authenticated.load(Ordering::Relaxed) {
            return self.shared.refuse(self.remote, DEADLINE);
        }
        self.closed.cancelled().await;
    }
}

/// A connection that another node opened.
pub(super) struct NodeConnection {
    socket: TcpStream,
    info: Arc<ConnectionInfo>,
    stage: Stage,
}

enum Stage {
    /// Completes when the connection has to be cut, with the reason if it was not counted before.
    Unauthenticated(Pin<Box<dyn Future<Output = Option<&'static str>> + Send>>),
    Authenticated,
    Cut,
}

impl NodeConnection {
    pub(super) fn info(&self) -> Arc<ConnectionInfo> {
        self.info.clone()
    }

    /// Fails once the connection has to be cut. Every poll asks, so that the deadline wakes the
    /// task whatever it waits for.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &mut self.stage {
            Stage::Authenticated => Ok(()),
            Stage::Unauthenticated(_) if self.info.authenticated.load(Ordering::Relaxed) => {
                self.stage = Stage::Authenticated;
                Ok(())
            }
            Stage::Unauthenticated(cut) => match cut.as_mut().poll(cx) {
                Poll::Pending => Ok(()),
                Poll::Ready(reason) => {
                    self.stage = Stage::Cut;
                    if let Some(reason) = reason {
                        self.info.shared.refuse(self.info.remote, reason);
                    }
                    Err(io::ErrorKind::TimedOut.into())
                }
            },
            Stage::Cut => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for NodeConnection {
    fn drop(&mut self) {
        let ConnectionInfo {
            id, shared, closed, ..
        } = &*self.info;
        shared.metrics.connections.decrement(1);
        {
            let mut open = shared.open.lock();
            open.table.close(*id);
            open.unauthenticated.remove(id);
        }
        closed.cancel();
    }
}

impl Connected for NodeConnection {
    type ConnectInfo = Arc<ConnectionInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for NodeConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_stage(cx)?;
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for NodeConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_stage(cx)?;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_stage(cx)?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_stage(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_stage(cx)?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
