//! The client side of a node: listeners, and a task per connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    dispatch::Dispatch,
    error::Result,
    handle::Handle,
    handshake::ReplyTemplate,
    message::Dictionary,
    metrics::Metrics,
    panic::catch_panic,
    session::{CloseReason, Session, SessionSink},
};

mod agent;
mod alarm;
mod bell;
mod connection;
mod http;
mod listener;
mod outbox;
mod protocol;
mod rate;
mod settings;
mod stream;
mod tls;
mod ws;

pub(crate) use self::settings::Settings;
pub use self::{listener::Listener, rate::RateLimit, settings::SlowClient};

use self::{
    agent::Agent,
    bell::Bell,
    connection::{Connection, LINGER},
    listener::{Bound, Listening},
    stream::{Stream, Transport},
    ws::WebSocket,
};

/// How long to wait after a failed accept, which is mostly a lack of file descriptors: others have
/// to close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of a node share.
pub(crate) struct Gate {
    settings: Settings,
    dispatch: Arc<Dispatch>,
    dictionary: Arc<Dictionary>,
    handshake: ReplyTemplate,
    metrics: Arc<Metrics>,
    node: Handle,
    connections: AtomicUsize,
    /// Notified when a session has closed, and when a socket has.
    closed: Notify,
    accepting: Mutex<Vec<JoinHandle<()>>>,
    bell: Arc<Bell>,
}

/// A gate whose addresses are taken, which clients cannot reach yet.
pub(crate) struct Closed {
    listeners: Vec<Bound>,
}

impl Closed {
    /// # Errors
    /// Names the listener that is wrong, or whose address is in use.
    pub(crate) async fn bind(listeners: Vec<Listener>) -> Result<Self> {
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            bound.push(listener.bind().await?);
        }
        Ok(Self { listeners: bound })
    }

    /// Returns the address of the first listener, if there is one.
    pub(crate) fn first_address(&self) -> Option<SocketAddr> {
        self.listeners.first()?.local_addr()
    }

    /// Lets clients in.
    ///
    /// # Errors
    /// Names the address that cannot be listened on.
    pub(crate) fn open(self, gate: &Arc<Gate>) -> Result<Vec<SocketAddr>> {
        let listening: Vec<_> = self
            .listeners
            .into_iter()
            .map(Bound::listen)
            .collect::<Result<_>>()?;
        let addresses = listening.iter().map(|listener| listener.address).collect();
        for listener in listening {
            info!(address = %listener.address, websocket = listener.websocket.as_ref().map(|options| &*options.path), tls = listener.acceptor.is_some(), "listening");
            gate.accepting
                .lock()
                .push(tokio::spawn(accept(gate.clone(), listener)));
        }
        Ok(addresses)
    }
}

impl Gate {
    pub(crate) fn new(
        settings: Settings,
        dispatch: Arc<Dispatch>,
        dictionary: Dictionary,
        metrics: Arc<Metrics>,
        node: Handle,
    ) -> Arc<Self> {
        let handshake = ReplyTemplate::new(settings.heartbeat, &dictionary);
        let dictionary = Arc::new(dictionary);
        let (connections, closed, accepting) =
            (AtomicUsize::new(0), Notify::new(), Mutex::default());
        let bell = Bell::new();
        Arc::new(Self {
            settings,
            dispatch,
            dictionary,
            handshake,
            metrics,
            node,
            connections,
            closed,
            accepting,
            bell,
        })
    }

    /// Stops accepting, and waits until the addresses are free.
    pub(crate) async fn close_listeners(&self) {
        let accepting = std::mem::take(&mut *self.accepting.lock());
        for task in accepting {
            task.abort();
            // It ends by the abort, which is an error to whoever waits.
            let _ = task.await;
        }
    }

    /// Asks every connection to finish what is in flight and close; asked a second time they do not
    /// wait.
    pub(crate) fn close_sessions(&self) {
        for session in self.node.sessions().list_local() {
            session.sink().close(CloseReason::Shutdown);
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn sessions_closed(&self) {
        loop {
            let notified = self.closed.notified();
            if self.node.sessions().local_count() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Waits until no socket is left either, but not for long.
    pub(crate) async fn connections_gone(&self) {
        let gone = async {
            loop {
                let notified = self.closed.notified();
                if self.connections.load(Ordering::Acquire) == 0 {
                    return;
                }
                notified.await;
            }
        };
        // Those that are left then have had their time.
        let _ = timeout(2 * LINGER, gone).await;
    }

    fn close(&self, session: &Session, reason: &CloseReason) {
        self.node
            .sessions()
            .close(session, reason, self.node.scheduler());
        // Behind the end of the session: a message that is sent to a member now is refused, or was
        // sent before this.
        self.dispatch.closed(session, reason);
        self.metrics.closed(reason.label());
        self.closed.notify_waiters();
    }

    /// Calls an application's hook. A panic is an error.
    fn guard<R>(&self, hook: impl FnOnce() -> Result<R>) -> Result<R> {
        catch_panic(&self.metrics.panics, "panicked", hook)
    }

    /// What comes before a session ends with the node, for nobody else closes it.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.node.shutdown_requested() => None,
        }
    }

    async fn serve<T: Transport>(self: Arc<Self>, transport: T, remote: SocketAddr) {
        let agent = Arc::new(Agent::new(self.clone(), remote));
        let session = self.node.sessions().open(agent.clone());
        // Opened after the last look at the list: the shutdown has not seen it.
        if self.node.is_shutting_down() {
            agent.close(CloseReason::Shutdown);
        }
        debug!(session = session.id(), %remote, "session opened");
        let mut end = End {
            gate: self.clone(),
            agent: agent.clone(),
            session: session.clone(),
            reason: None,
        };
        // Run in place: as an argument it would lie in the task's memory twice, and an idle
        // connection hold 2.6 KB instead of 2.3.
        let mut connection = Connection::new(self, agent, session, transport);
        let reason = connection.run().await;
        let orderly = !matches!(reason, CloseReason::Broken(_) | CloseReason::SlowClient);
        end.reason = Some(reason);
        drop(end);
        if orderly {
            connection.linger().await;
        }
    }
}

/// Ends a session with its connection, also when the connection's task is dropped or panics.
struct End {
    gate: Arc<Gate>,
    agent: Arc<Agent>,
    session: Session,
    reason: Option<CloseReason>,
}

impl Drop for End {
    fn drop(&mut self) {
        let reason = self
            .reason
            .take()
            .unwrap_or_else(|| CloseReason::Broken("its task was dropped".to_owned()));
        debug!(session = self.session.id(), uid = self.session.uid(), remote = ?self.session.remote_addr(), %reason, "session closed");
        // Whoever still pushes to it gets an error from here on.
        self.agent.end(&reason);
        self.gate.close(&self.session, &reason);
    }
}

async fn accept(gate: Arc<Gate>, listener: Listening) {
    let acceptor = listener.acceptor;
    let websocket = listener.websocket.map(Arc::new);
    loop {
        let (stream, remote) = match listener.socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(address = %listener.address, %error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = Place::take(&gate) else {
            gate.metrics.refused_connections.increment(1);
            debug!(%remote, "connection limit reached");
            continue;
        };
        let (gate, acceptor, websocket) = (gate.clone(), acceptor.clone(), websocket.clone());
        tokio::spawn(async move {
            let _place = place;
            // Game messages are small, and late is worse than many.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%remote, %error, "connection gone at once");
                return;
            }
            // Each kind in a task-sized box of its own: an idle connection pays for what it is, not
            // for the largest kind.
            match (acceptor, websocket) {
                (None, None) => gate.serve(Stream::new(stream), remote).await,
                (None, Some(options)) => Box::pin(upgrade(gate, stream, options, remote)).await,
                (Some(acceptor), options) => {
                    Box::pin(encrypt(gate, stream, acceptor, options, remote)).await
                }
            }
        });
    }
}

async fn encrypt(
    gate: Arc<Gate>,
    stream: TcpStream,
    acceptor: tokio_rustls::TlsAcceptor,
    websocket: Option<Arc<listener::WebSocketOptions>>,
    remote: SocketAddr,
) {
    let stream = match gate
        .unless_stopped(timeout(
            gate.settings.handshake_timeout,
            acceptor.accept(stream),
        ))
        .await
    {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => return debug!(%remote, %error, "TLS handshake failed"),
        Some(Err(_)) => return debug!(%remote, "TLS handshake timed out"),
        None => return,
    };
    match websocket {
        None => gate.serve(Stream::new(stream), remote).await,
        Some(options) => upgrade(gate, stream, options, remote).await,
    }
}

async fn upgrade<S>(
    gate: Arc<Gate>,
    stream: S,
    options: Arc<listener::WebSocketOptions>,
    remote: SocketAddr,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // In a box, so that what HTTP needs is gone when the WebSocket runs.
    let http = Box::pin(http::serve(
        stream,
        options,
        gate.settings.handshake_timeout,
    ));
    match gate.unless_stopped(http).await {
        Some(Ok(Some((stream, read)))) => {
            let socket = WebSocket::new(stream, read, gate.settings.max_packet);
            gate.serve(socket, remote).await;
        }
        Some(Err(error)) => debug!(%remote, %error, "HTTP connection failed"),
        Some(Ok(None)) | None => {}
    }
}

/// One of the connections a node may have.
struct Place(Arc<Gate>);

impl Place {
    fn take(gate: &Arc<Gate>) -> Option<Self> {
        let limit = gate.settings.max_connections;
        gate.connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < limit).then_some(count + 1)
            })
            .ok()?;
        gate.metrics.accepted.increment(1);
        gate.metrics.connections.increment(1.0);
        Some(Self(gate.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.metrics.connections.decrement(1.0);
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("settings", &self.settings)
            .field("dispatch", &self.dispatch)
            .finish_non_exhaustive()
    }
}
