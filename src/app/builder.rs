//! The builder of a node.

use std::{fmt, sync::Arc, thread, time::Duration};

use bytestring::ByteString;

#[cfg(feature = "admin")]
use super::admin::Admin;
use super::{cluster::Cluster, limits::Limits, timeouts::Timeouts, traces::Traces};
use crate::{
    channel::ChannelLimits,
    cluster as cluster_node,
    component::{Component, Options, Service},
    error::{Error, Result},
    filter::IntoFilter,
    gate::{GateConfig, Listener},
    handle::Unique,
    net::network::Network,
    node::{DictionarySource, Node, NodeConfig},
    pipeline::Pipeline,
    serialize::Serializer,
};
#[cfg(feature = "config")]
use crate::{gate::LiveLimits, handle::Handle};

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
    pub(super) config: NodeConfig,
}

impl App {
    /// A node without components and listeners.
    pub fn new() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            config: NodeConfig {
                version: String::new(),
                components: Vec::new(),
                filters: Vec::new(),
                listeners: Vec::new(),
                denied: Vec::new(),
                settings: GateConfig::default(),
                cluster: cluster_node::Settings::default(),
                #[cfg(feature = "admin")]
                admin: None,
                dictionary: DictionarySource::Given(Vec::new()),
                pipeline: Arc::new(Pipeline::new()),
                on_error: None,
                expose_errors: false,
                on_span: None,
                on_session_closed: Vec::new(),
                on_bind: None,
                unique_users: None,
                io_threads: (cores / 2).max(1),
                scheduler_threads: cores.max(2),
                scheduler_capacity: 16 * 1024,
                channels: ChannelLimits::default(),
                timer_precision: Duration::from_secs(1),
                shutdown_timeout: Duration::from_secs(10),
                drain: None,
                shutdown_delay: None,
                reload: None,
            },
        }
    }

    /// Sets the version of the application, for operators and for other members:
    /// [`Member::version`](crate::Member::version). None unless set; at most 64 bytes, without control
    /// characters.
    ///
    /// ```
    /// let app = nano::App::new().version(env!("CARGO_PKG_VERSION"));
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.config.version = version.into();
        self
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
        self.config
            .components
            .push(Box::new(move |schedulers, reporter, filters| {
                Service::register(component, &options, schedulers, reporter, filters)
            }));
        self
    }

    /// Installs a filter on all handlers of the node, whenever their components are added: behind
    /// the filters added before, ahead of those of services and routes. See [`filter`](crate::filter).
    #[must_use]
    pub fn filter<Kind>(mut self, filter: impl IntoFilter<Kind>) -> Self {
        self.config.filters.push(filter.into_filter());
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

    /// Refuses clients of these networks from the start on. The list may be changed while the node
    /// runs: [`Handle::deny_list`](crate::Handle::deny_list).
    ///
    /// ```
    /// use nano::{App, Error};
    ///
    /// let app = App::new().deny(["192.0.2.0/24".parse()?, "2001:db8::/32".parse()?]);
    /// # let _ = app;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn deny(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.config.denied.extend(networks);
        self
    }

    /// Sets the bounds of clients and schedulers. Replaces earlier ones as a whole.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        limits.apply_to(&mut self.config);
        self
    }

    /// Sets the heartbeat interval and the deadlines. Replaces earlier ones as a whole.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        timeouts.apply_to(&mut self.config);
        self
    }

    /// Sets which messages are traced. Replaces earlier options as a whole. See
    /// [`trace`](crate::trace).
    #[must_use]
    pub fn traces(mut self, traces: Traces) -> Self {
        self.config.settings.sampling = traces.sampling();
        self.config.on_span = traces.on_span;
        self
    }

    /// Makes the node part of a cluster. Without it the node stands alone, and no other node can
    /// call it. Replaces an earlier one as a whole.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.config.cluster = cluster.settings;
        self
    }

    /// Opens an admin server: metrics, health, a JSON API and a dashboard, at an address such as
    /// `127.0.0.1:9470`; port 0 lets the system choose. Replaces an earlier one as a whole.
    ///
    /// It runs on a thread of its own, and still answers while handlers block all schedulers. The
    /// node then measures each route, which takes a clock read or two per message; without this
    /// option nothing is measured.
    ///
    /// ```
    /// use nano::{Admin, App};
    ///
    /// let app = App::new().admin("127.0.0.1:9470");
    /// // Reachable from other machines, and with actions: a token is needed.
    /// let app = app.admin(Admin::new("0.0.0.0:9470").token("a long secret"));
    /// # let _ = app;
    /// ```
    #[cfg(feature = "admin")]
    #[must_use]
    pub fn admin(mut self, admin: impl Into<Admin>) -> Self {
        self.config.admin = Some(admin.into().settings);
        self
    }

    /// Leaves failed requests without an answer, as nano does: for clients that cannot take an
    /// error reply. The error is still logged and counted.
    #[must_use]
    pub fn suppress_error_replies(mut self) -> Self {
        self.config.settings.silent = true;
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

    /// Lets clients read the text of foreign errors; off unless set.
    ///
    /// An error that `?` converted from another library's type answers with the message
    /// `internal error`, since its text may name tables, paths or addresses. The log has the whole
    /// text either way. [`Error::expose`] does the same for a single error.
    #[must_use]
    pub fn expose_errors(mut self, expose: bool) -> Self {
        self.config.expose_errors = expose;
        self
    }

    /// Lets each user have one session in the cluster: [`Session::login`](crate::Session::login)
    /// replaces the others, or is refused while there is one. Give all nodes the same.
    ///
    /// The key `unique_users` of a configuration says the same.
    ///
    /// [`bind`](crate::Session::bind) stays as it is: it claims nothing. A later login of the user
    /// ends sessions that are only bound, too.
    ///
    /// ```
    /// use nano::{App, Unique};
    ///
    /// let app = App::new().unique_users(Unique::Replace);
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn unique_users(mut self, unique: Unique) -> Self {
        self.config.unique_users = Some(unique);
        self
    }

    /// How many threads of its own the node uses for I/O: clients, links, pipelines and handshake
    /// hooks. One for every two cores unless set.
    ///
    /// With `None`, and always on a single-threaded runtime, I/O runs on the runtime the node is
    /// started on. Tasks spawned by code that runs on these threads end with the node.
    #[must_use]
    pub fn io_threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.config.io_threads = threads.into().unwrap_or(0);
        self
    }

    /// How many threads of its own the node uses for schedulers: handlers, timers, callbacks. One
    /// per core, at least 2, unless set.
    ///
    /// With `None` schedulers run on the runtime the node is started on, where user code that
    /// blocks delays everything else: for tests with paused time.
    #[must_use]
    pub fn scheduler_threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.config.scheduler_threads = threads.into().unwrap_or(0);
        self
    }

    /// How often condition timers look. 1 s unless set, at least 1 ms. Other timers are exact to
    /// the millisecond whatever it is.
    #[must_use]
    pub fn timer_precision(mut self, precision: Duration) -> Self {
        self.config.timer_precision = precision;
        self
    }

    /// What a reload may change: limits, and the time-outs of clients and of the node's end.
    ///
    /// # Errors
    /// Names the option that is not valid.
    #[cfg(feature = "config")]
    pub(crate) fn into_live(self) -> Result<NodeConfig> {
        self.config.check_durations()?;
        self.config.check_limits()?;
        Ok(self.config)
    }

    /// Sets what [`Handle::reload`](crate::Handle::reload) and SIGHUP do.
    #[cfg(feature = "config")]
    pub(crate) fn reload_with(
        mut self,
        reload: impl Fn(&Handle, &LiveLimits) -> Result<Vec<String>> + Send + Sync + 'static,
    ) -> Self {
        self.config.reload = Some(Box::new(reload));
        self
    }

    /// Starts the node. It runs, with this runtime and [threads of its own](App::io_threads),
    /// until it is asked to stop; dropping the [`Node`] does not stop it.
    ///
    /// # Errors
    /// Names what is wrong: a component, a route, a certificate, an address in use, an option; or
    /// what an `init` hook returned.
    pub async fn start(self) -> Result<Node> {
        // The program that starts a node may read the text of foreign errors.
        Node::start(self.config).await.map_err(Error::expose)
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
