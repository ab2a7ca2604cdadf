//! One running node: started bottom up, stopped in reverse.

mod network;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytestring::ByteString;
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tracing::{error, info, warn};

use self::network::Network;
use crate::{
    cluster::{self, Cluster, Peers},
    component::{ErrorReporter, Service},
    dispatch::Dispatch,
    error::{Error, Result, code},
    gate::{Closed, Gate, Listener, Settings},
    handle::Handle,
    message::Dictionary,
    metrics::Metrics,
    packet,
    pipeline::Pipeline,
    scheduler::Pool,
    session::{CloseReason, Session},
};

/// No duration may be longer, so that adding it to a point in time is safe.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Between nodes, if there is none for clients to take it from; nano's.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);

/// How long calls from other nodes may take to end when everything else has.
const GOODBYE: Duration = Duration::from_secs(1);

type BuildService = Box<dyn FnOnce(&Handle, &Arc<ErrorReporter>) -> Result<Service> + Send>;
type OnError = Box<dyn Fn(&Session, &str, Error) -> Error + Send + Sync>;
type OnSessionClosed = Box<dyn Fn(&Session, &CloseReason) + Send + Sync>;

/// Everything an application chose.
pub(crate) struct NodeConfig {
    pub(crate) components: Vec<BuildService>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) settings: Settings,
    pub(crate) cluster: cluster::Settings,
    pub(crate) dictionary: DictionarySource,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) on_session_closed: Vec<OnSessionClosed>,
    pub(crate) network_threads: usize,
    pub(crate) scheduler_threads: usize,
    pub(crate) scheduler_capacity: usize,
    pub(crate) timer_precision: Duration,
    pub(crate) shutdown_timeout: Duration,
}

pub(crate) enum DictionarySource {
    Given(Vec<(ByteString, u16)>),
    /// The routes of all handlers, and these.
    Routes(Vec<ByteString>),
}

impl NodeConfig {
    /// # Errors
    /// Names the option that cannot be.
    fn check(&self) -> Result {
        let Settings {
            heartbeat,
            handshake_timeout,
            request_timeout,
            max_packet,
            max_in_flight,
            rate_limit,
            ..
        } = &self.settings;
        let Settings {
            max_connections,
            queue_bytes,
            queue_messages,
            ..
        } = &self.settings;
        let longest = [
            ("heartbeat", heartbeat.unwrap_or_default()),
            ("handshake_timeout", *handshake_timeout),
            ("request_timeout", request_timeout.unwrap_or_default()),
            ("shutdown_timeout", self.shutdown_timeout),
            ("timer_precision", self.timer_precision),
            (
                "retry_interval",
                self.cluster.retry_interval.unwrap_or_default(),
            ),
            (
                "cluster_heartbeat",
                self.cluster.heartbeat.unwrap_or_default(),
            ),
        ];
        if let Some((name, _)) = longest.iter().find(|(_, duration)| *duration > LONGEST) {
            return Err(Error::new(
                code::BAD_REQUEST,
                format!("{name} must not be longer than a year"),
            ));
        }
        let zero = |name: &str| {
            Err(Error::new(
                code::BAD_REQUEST,
                format!("{name} must not be zero"),
            ))
        };
        match () {
            () if *heartbeat == Some(Duration::ZERO) => zero("heartbeat"),
            () if handshake_timeout.is_zero() => zero("handshake_timeout"),
            () if *request_timeout == Some(Duration::ZERO) => zero("request_timeout"),
            () if *max_in_flight == 0 => zero("max_in_flight"),
            () if *max_connections == 0 => zero("max_connections"),
            () if *queue_bytes == 0 || *queue_messages == 0 => zero("send_queue"),
            () if self.scheduler_capacity == 0 => zero("scheduler_capacity"),
            () if !(1..=packet::MAX_BODY).contains(max_packet) => Err(Error::new(
                code::BAD_REQUEST,
                format!(
                    "max_packet must be from 1 to {}, not {max_packet}",
                    packet::MAX_BODY
                ),
            )),
            () if rate_limit.is_some_and(|limit| !limit.is_valid()) => zero("rate_limit"),
            () => self.cluster.check(),
        }
    }
}

/// A running node. Dropping it does not stop it; see [`shutdown`](Node::shutdown).
pub struct Node {
    handle: Handle,
    addresses: Vec<SocketAddr>,
    stopped: watch::Receiver<bool>,
}

impl Node {
    pub(crate) async fn start(config: NodeConfig) -> Result<Self> {
        config.check()?;
        let network = Network::new(config.network_threads)?;
        let pool = Pool::new("nano", config.scheduler_threads, runtime::Handle::current())?
            .with_precision(config.timer_precision)?;
        let handle = Handle::new(pool, config.scheduler_capacity);
        let shutdown_timeout = config.shutdown_timeout;
        match network.run(Running::start(config, handle.clone())).await {
            Ok((running, addresses)) => {
                let (tell, stopped) = watch::channel(false);
                let (node, gate) = (handle.clone(), running.gate.clone());
                tokio::spawn(async move {
                    node.shutdown_requested().await;
                    // The deadline is kept here as well, for code that blocks the network's threads
                    // blocks those in `stop` too.
                    if timeout(
                        shutdown_timeout + GOODBYE,
                        network.run(running.stop(shutdown_timeout)),
                    )
                    .await
                    .is_err()
                    {
                        error!("the network's threads are blocked: they are left to themselves");
                        node.pool().shutdown(Duration::ZERO).await;
                        node.forget_callbacks();
                    }
                    tell.send_replace(true);
                    // Clients may still be reading what was said last.
                    gate.connections_gone().await;
                });
                Ok(Self {
                    handle,
                    addresses,
                    stopped,
                })
            }
            Err(error) => {
                handle.shutdown();
                handle.pool().shutdown(shutdown_timeout).await;
                handle.forget_callbacks();
                Err(error)
            }
        }
    }

    /// The handle its components have.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where clients connect: the address of each listener, in the order they were added.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops the node in order and waits for the end: no new connections, requests in flight are
    /// finished, clients are told and disconnected, close callbacks run, then the components'
    /// hooks. Never takes longer than the shutdown timeout, and a second more where code blocks the
    /// threads that do the network's work.
    pub async fn shutdown(&self) {
        self.handle.shutdown();
        self.stopped().await;
    }

    /// Waits until SIGINT (Ctrl-C), SIGTERM or SIGQUIT arrives or [`Handle::shutdown`] is called,
    /// and until the node has stopped in order. Signals count from the call on, not only from the
    /// first poll: whoever is told after the call that the node is up may stop it at once.
    ///
    /// # Errors
    /// The system does not let it listen for signals.
    ///
    /// # Panics
    /// Called outside of a runtime.
    pub fn run(&self) -> impl Future<Output = Result> {
        let interrupted = interrupted();
        async {
            tokio::select! {
                () = interrupted? => self.handle.shutdown(),
                () = self.stopped() => {}
            }
            self.stopped().await;
            Ok(())
        }
    }

    /// Waits until the node has stopped.
    pub async fn stopped(&self) {
        // A sender that is gone has stopped too.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

/// Ready when the process is told to end.
#[cfg(unix)]
fn interrupted() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn interrupted() -> Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler for it Ctrl-C ends the process anyway.
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// What stops when the node does.
struct Running {
    handle: Handle,
    gate: Arc<Gate>,
    services: Arc<Vec<Service>>,
    cluster: Option<Cluster>,
    peers: Option<Arc<Peers>>,
}

impl Running {
    async fn start(config: NodeConfig, handle: Handle) -> Result<(Self, Vec<SocketAddr>)> {
        let metrics = Arc::new(Metrics::new());
        let reporter = Arc::new(ErrorReporter {
            on_error: config.on_error,
            metrics: metrics.clone(),
        });
        let services: Vec<_> = config
            .components
            .into_iter()
            .map(|build| build(&handle, &reporter))
            .collect::<Result<_>>()?;
        let dispatch = Arc::new(Dispatch::new(
            &services,
            config.pipeline,
            reporter,
            config.settings.request_timeout,
        )?);
        let call_router = Arc::downgrade(&dispatch);
        handle.sessions().connect(call_router);
        let dictionary = match config.dictionary {
            DictionarySource::Given(entries) => Dictionary::new(entries)?,
            DictionarySource::Routes(pushes) => {
                Dictionary::from_routes(dispatch.open_routes().into_iter().chain(pushes))?
            }
        };
        let listeners = Closed::bind(config.listeners).await?;
        let cluster = match config.cluster.is_cluster() {
            true => {
                let mut names: Vec<_> = services
                    .iter()
                    .map(|service| service.name.clone())
                    .collect();
                names.sort();
                let heartbeat = config.settings.heartbeat.unwrap_or(DEFAULT_HEARTBEAT);
                Some(Cluster::bind(config.cluster, names, heartbeat, &handle).await?)
            }
            false => None,
        };

        for callback in config.on_session_closed {
            handle.on_session_closed(callback);
        }
        handle.name_routes(dispatch.routes());
        let gate = Gate::new(
            config.settings,
            dispatch.clone(),
            dictionary,
            metrics,
            handle.clone(),
        );
        let mut running = Self {
            handle: handle.clone(),
            gate,
            services: Arc::new(services),
            cluster,
            peers: None,
        };
        for (phase, hook) in [("init", Hook::Init), ("after_init", Hook::AfterInit)] {
            running
                .call_hooks(hook, false)
                .await
                .map_err(|(component, error)| {
                    Error::new(
                        error.code().to_owned(),
                        format!("{phase} of component {component}: {}", error.message()),
                    )
                    .with_source(error.to_string())
                })?;
        }
        // Peers and clients come when there is something to serve them.
        if let Some(cluster) = &mut running.cluster {
            let peers = running.peers.insert(cluster.peers(&dispatch));
            cluster.serve(peers)?;
            cluster.join().await?;
        }
        let addresses = listeners.open(&running.gate)?;
        info!(
            services = running.services.len(),
            routes = handle.routes().len(),
            "node started"
        );
        Ok((running, addresses))
    }

    /// Everything in order, and nothing beyond the deadline.
    async fn stop(mut self, within: Duration) {
        let begun = Instant::now();
        let (grace, deadline) = (begun + within / 2, begun + within);
        info!(sessions = self.handle.sessions().count(), "node stopping");
        if let Some(cluster) = &mut self.cluster
            && timeout_at(grace, cluster.leave()).await.is_err()
        {
            warn!("the master did not answer the goodbye");
        }
        self.gate.close_listeners().await;
        self.gate.close_sessions();
        let peers_drained = async {
            if let Some(peers) = &self.peers {
                peers.drain(grace).await;
            }
        };
        let (closed, ()) = tokio::join!(
            timeout_at(grace, self.gate.sessions_closed()),
            peers_drained
        );
        if closed.is_err() {
            warn!(
                sessions = self.handle.sessions().count(),
                "requests still in flight are given up"
            );
            self.gate.close_sessions();
        }
        let closed = async {
            self.gate.sessions_closed().await;
            self.handle.sessions().callbacks_done().await;
            for (phase, hook) in [
                ("before_shutdown", Hook::BeforeShutdown),
                ("shutdown", Hook::Shutdown),
            ] {
                if let Err((component, error)) = self.call_hooks(hook, true).await {
                    error!(component, phase, %error, "hook failed");
                }
            }
        };
        if timeout_at(deadline, closed).await.is_err() {
            error!("shutdown took too long: what was left of it is dropped");
        }
        if let Some(peers) = &self.peers {
            peers.finish((Instant::now() + GOODBYE).min(deadline)).await;
        }
        if let Some(cluster) = &mut self.cluster {
            cluster
                .stop(
                    deadline
                        .saturating_duration_since(Instant::now())
                        .min(GOODBYE),
                )
                .await;
        }
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(10));
        if !self.handle.pool().shutdown(left).await {
            error!("a task still runs on a scheduler: its thread is abandoned");
        }
        self.handle.forget_callbacks();
        info!(took = ?begun.elapsed(), "node stopped");
    }

    /// Calls one hook of every component on the default scheduler, so that it shares the
    /// components' state as handlers do. Starting, the first error ends it; stopping, all are
    /// called and the last error is told.
    async fn call_hooks(&self, hook: Hook, stopping: bool) -> Result<(), (String, Error)> {
        let (node, services) = (self.handle.clone(), self.services.clone());
        let (done, result) = oneshot::channel();
        let task = move || {
            let mut result = Ok(());
            let count = services.len();
            for at in 0..count {
                let service = &services[if stopping { count - 1 - at } else { at }];
                if let Err(error) = hook.call(service, &node) {
                    result = Err((service.name.clone(), error));
                    if !stopping {
                        break;
                    }
                }
            }
            // Nobody listens any more when the deadline has passed.
            let _ = done.send(result);
        };
        let gone = || {
            (
                String::new(),
                Error::new(code::UNAVAILABLE, "the scheduler is shut down"),
            )
        };
        self.handle
            .scheduler()
            .push_always(Box::new(task))
            .map_err(|_| gone())?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }
}

#[derive(Clone, Copy)]
enum Hook {
    Init,
    AfterInit,
    BeforeShutdown,
    Shutdown,
}

impl Hook {
    fn call(self, service: &Service, node: &Handle) -> Result {
        let hooks = &service.hooks;
        match self {
            Self::Init => hooks.init(node),
            Self::AfterInit => hooks.after_init(node),
            Self::BeforeShutdown => hooks.before_shutdown(node),
            Self::Shutdown => hooks.shutdown(node),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("addresses", &self.addresses)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
