//! From options to a running node.

mod membership;

use std::{fmt, sync::Arc, thread, time::Duration};

use bytestring::ByteString;
use serde_json::Value;

use crate::{
    cluster,
    component::{Component, Options, Service},
    error::{Error, Result},
    gate::{Listener, RateLimit, Settings, SlowClient},
    handshake::Request,
    node::{DictionarySource, Node, NodeConfig},
    pipeline::Pipeline,
    serialize::Serializer,
    session::{CloseReason, Session},
};

/// Describes a node: its components, where clients connect, and everything that can be chosen about
/// it.
///
/// Nothing happens before [`start`](App::start) or [`run`](App::run), and what is wrong is an error
/// there, before anything listens.
///
/// ```no_run
/// # use nano::{App, Component, Handlers, Result, Session};
/// # struct Room;
/// # impl Component for Room {
/// #     fn handlers(h: Handlers<Self>) -> Handlers<Self> { h.on("Join", Self::join) }
/// # }
/// # impl Room { fn join(&self, _: &Session, _: ()) -> Result<bool> { Ok(true) } }
/// #[tokio::main]
/// async fn main() -> Result {
///     App::new().component(Room).tcp("0.0.0.0:3250").websocket("0.0.0.0:3251", "/nano").run().await
/// }
/// ```
pub struct App {
    config: NodeConfig,
}

impl App {
    /// A node without components and listeners.
    pub fn new() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            config: NodeConfig {
                components: Vec::new(),
                listeners: Vec::new(),
                settings: Settings::default(),
                cluster: cluster::Settings::default(),
                dictionary: DictionarySource::Given(Vec::new()),
                pipeline: Arc::new(Pipeline::new()),
                on_error: None,
                on_session_closed: Vec::new(),
                network_threads: (cores / 2).max(1),
                scheduler_threads: cores.max(2),
                scheduler_capacity: 16 * 1024,
                timer_precision: Duration::from_secs(1),
                shutdown_timeout: Duration::from_secs(10),
            },
        }
    }

    /// Adds a component under the name of its type, on the node's default scheduler.
    #[must_use]
    pub fn component<S: Serializer, C: Component<S>>(self, component: C) -> Self {
        self.component_with(component, Options::new())
    }

    /// Adds a component with options: another name, another scheduler, closed to clients.
    #[must_use]
    pub fn component_with<S: Serializer, C: Component<S>>(
        mut self,
        component: C,
        options: Options,
    ) -> Self {
        let component = Arc::new(component);
        self.config.components.push(Box::new(move |node, reporter| {
            Service::new(component, &options, node, reporter)
        }));
        self
    }

    /// Lets clients connect by TCP, at an address such as `0.0.0.0:3250`; port 0 lets the system
    /// choose.
    #[must_use]
    pub fn tcp(self, address: impl Into<String>) -> Self {
        self.listen(Listener::tcp(address))
    }

    /// Lets clients connect by WebSocket, at an address and a path.
    #[must_use]
    pub fn websocket(self, address: impl Into<String>, path: &str) -> Self {
        self.listen(Listener::websocket(address, path))
    }

    /// Lets clients connect by a listener with options: TLS, an origin check, HTTP beside the
    /// WebSocket.
    #[must_use]
    pub fn listen(mut self, listener: Listener) -> Self {
        self.config.listeners.push(listener);
        self
    }

    /// The interval of heartbeats, sent to clients with the handshake; one that is silent for two
    /// intervals is disconnected. 30 s unless set.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.config.settings.heartbeat = Some(interval);
        self
    }

    /// Sends no heartbeats and never disconnects a silent client: for tests, and for connections
    /// whose end TCP is sure to report.
    #[must_use]
    pub fn no_heartbeat(mut self) -> Self {
        self.config.settings.heartbeat = None;
        self
    }

    /// How long a client may take for its handshakes, from the connection on. 10 s unless set.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.settings.handshake_timeout = timeout;
        self
    }

    /// How long a request may wait for its answer before it is answered with
    /// [`code::TIMEOUT`](crate::code::TIMEOUT); `None` switches that off. 30 s unless set.
    #[must_use]
    pub fn request_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.settings.request_timeout = timeout.into();
        self
    }

    /// Lets failed requests go unanswered, as nano does: for clients that cannot bear an answer
    /// they did not expect.
    #[must_use]
    pub fn silent_errors(mut self) -> Self {
        self.config.settings.silent = true;
        self
    }

    /// The longest packet a client may send, in bytes of its body; a longer one ends the
    /// connection. 65,536 unless set, as in nano; at most 16,777,215.
    #[must_use]
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.config.settings.max_packet = bytes;
        self
    }

    /// How many clients may be connected; more are refused at once. No limit unless set.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.settings.max_connections = connections;
        self
    }

    /// How many requests of one client may wait for their answer, more being answered with
    /// [`code::TOO_MANY`](crate::code::TOO_MANY); and how many of its messages may wait for a
    /// handler, more being left in its socket. 1,024 unless set.
    #[must_use]
    pub fn max_in_flight(mut self, messages: usize) -> Self {
        self.config.settings.max_in_flight = messages;
        self
    }

    /// How many messages one client may send. No limit unless set.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.config.settings.rate_limit = Some(limit);
        self
    }

    /// What may be queued for one client that does not read: bytes and messages. 4 MiB and 65,536
    /// unless set. A single message may be larger.
    #[must_use]
    pub fn send_queue(mut self, bytes: usize, messages: usize) -> Self {
        self.config.settings.queue_bytes = bytes;
        self.config.settings.queue_messages = messages;
        self
    }

    /// What happens to a client whose queue is full. It is disconnected unless set.
    #[must_use]
    pub fn slow_client(mut self, policy: SlowClient) -> Self {
        self.config.settings.slow_client = policy;
        self
    }

    /// Looks at every client's handshake. `Ok(Some(value))` becomes the user data of the reply; an
    /// error closes the connection, silently as nano does unless its code is a number, such as
    /// `501`, which is sent to the client as pomelo does.
    ///
    /// Called with the session, the parsed request (empty where the client sent something else) and
    /// the bytes it sent, on a thread that does the network's work: it must not block.
    #[must_use]
    pub fn on_handshake(
        mut self,
        hook: impl Fn(&Session, &Request, &[u8]) -> Result<Option<Value>> + Send + Sync + 'static,
    ) -> Self {
        self.config.settings.on_handshake = Some(Box::new(hook));
        self
    }

    /// The route dictionary: routes with their codes on the wire. Replaces an earlier one.
    #[must_use]
    pub fn dictionary<R: Into<ByteString>>(
        mut self,
        entries: impl IntoIterator<Item = (R, u16)>,
    ) -> Self {
        let entries = entries
            .into_iter()
            .map(|(route, code)| (route.into(), code))
            .collect();
        self.config.dictionary = DictionarySource::Given(entries);
        self
    }

    /// Makes the route dictionary from the routes of all handlers that are open to clients, and
    /// these routes of pushes.
    #[must_use]
    pub fn dictionary_from_routes<R: Into<ByteString>>(
        mut self,
        pushes: impl IntoIterator<Item = R>,
    ) -> Self {
        self.config.dictionary =
            DictionarySource::Routes(pushes.into_iter().map(Into::into).collect());
        self
    }

    /// What every message passes through on its way from and to clients.
    #[must_use]
    pub fn pipeline(mut self, pipeline: impl Into<Arc<Pipeline>>) -> Self {
        self.config.pipeline = pipeline.into();
        self
    }

    /// Sees the error of every message that fails on its way to its handler or in it, with its
    /// session and route, and returns what the client gets: to log it, to map the error types of
    /// other crates ([`Error::source_as`]), or to hide what should not leave the server. It does
    /// not see what the node itself says of a request nobody answered: timeouts, dropped
    /// responders, the outbound pipeline, a shutdown.
    #[must_use]
    pub fn on_error(
        mut self,
        hook: impl Fn(&Session, &str, Error) -> Error + Send + Sync + 'static,
    ) -> Self {
        self.config.on_error = Some(Box::new(hook));
        self
    }

    /// Calls `callback` whenever a session has closed; see
    /// [`Sessions::on_closed`](crate::Sessions::on_closed).
    #[must_use]
    pub fn on_session_closed(
        mut self,
        callback: impl Fn(&Session, &CloseReason) + Send + Sync + 'static,
    ) -> Self {
        self.config.on_session_closed.push(Box::new(callback));
        self
    }

    /// How many threads do the network's work: for clients and for other nodes, pipelines and
    /// handshake hooks included. One for every two cores unless set. Tasks that such code spawns
    /// run there as well, and end with the node. With 0 it is done on the threads of the runtime
    /// the node is started on, as it always is on a runtime of a single thread.
    #[must_use]
    pub fn network_threads(mut self, threads: usize) -> Self {
        self.config.network_threads = threads;
        self
    }

    /// How many threads run schedulers: handlers, timers, callbacks. One per core, but at least 2,
    /// unless set. With 0 they run on the threads of the runtime the node is started on, where user
    /// code that blocks delays all else: for tests with paused time.
    #[must_use]
    pub fn scheduler_threads(mut self, threads: usize) -> Self {
        self.config.scheduler_threads = threads;
        self
    }

    /// How many tasks may wait on one scheduler: beyond it readers stop reading, and
    /// [`push_task`](crate::Scheduler::push_task) refuses. 16,384 unless set.
    #[must_use]
    pub fn scheduler_capacity(mut self, tasks: usize) -> Self {
        self.config.scheduler_capacity = tasks;
        self
    }

    /// How often condition timers look. 1 s unless set, at least 1 ms. Other timers are exact to
    /// the millisecond whatever it is.
    #[must_use]
    pub fn timer_precision(mut self, precision: Duration) -> Self {
        self.config.timer_precision = precision;
        self
    }

    /// How long a shutdown may take. Half of it is for requests in flight; at the end everything
    /// that is left is dropped. 10 s unless set.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// Starts the node. It runs, with this runtime and [threads of its own](App::network_threads),
    /// until it is asked to stop; dropping the [`Node`] does not stop it.
    ///
    /// # Errors
    /// Names what is wrong: a component, a route, a certificate, an address in use, an option; or
    /// what an `init` hook returned.
    pub async fn start(self) -> Result<Node> {
        Node::start(self.config).await
    }

    /// Starts the node and runs it until SIGINT (Ctrl-C), SIGTERM or SIGQUIT arrives or
    /// [`Handle::shutdown`](crate::Handle::shutdown) is called, then stops it in order.
    ///
    /// # Errors
    /// See [`start`](App::start).
    pub async fn run(self) -> Result {
        self.start().await?.run().await
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("listeners", &self.config.listeners)
            .field("settings", &self.config.settings)
            .finish_non_exhaustive()
    }
}
