//! The parts of a running node: started bottom up, stopped in reverse.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytestring::ByteString;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use super::{
    admin::AdminPart,
    bound::BoundAddresses,
    config::{DictionarySource, NodeConfig},
    draining::Draining,
    hooks::{self, Hook},
};
use crate::{
    cluster::{
        BoundCluster, Channels, Cluster, DataPlane, NodeCaller, NodeServices, Outbound, Users,
    },
    component::{ErrorReporter, Service},
    dispatch::Dispatch,
    error::Result,
    gate::{BoundListeners, Gate},
    handle::{Handle, HandleConfig, NodeParts, Schedulers, Step},
    memory_budget::MemoryBudget,
    message::Dictionary,
    metrics::{GroupMetrics, InputRefusals, Metrics},
    scheduler::Pool,
    session::SessionHooks,
    trace::Tracer,
};

/// The heartbeat between nodes where clients have none to derive it from; that of nano.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);

/// How long the last frames to other nodes may take to be sent, and their last calls to end.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The least time schedulers get to end, however late it is.
const MIN_POOL_SHUTDOWN: Duration = Duration::from_millis(10);

/// What a shutdown has to stop.
pub(super) struct Running {
    pub(super) handle: Handle,
    pub(super) gate: Arc<Gate>,
    pub(super) admin: AdminPart,
    services: Arc<Vec<Service>>,
    /// What other nodes may ask of this one. They hold it weakly.
    _node_services: Arc<NodeServices>,
    /// The handle holds the next three weakly.
    dispatch: Arc<Dispatch>,
    users: Arc<Users>,
    /// Ended with this.
    _channels: Channels,
    cluster: Option<Cluster>,
}

/// What a node opens when its components are initialized.
struct Opening {
    listeners: BoundListeners,
    cluster: Option<(BoundCluster, Outbound)>,
}

impl Running {
    /// Starts everything: components, hooks, the cluster, and clients' listeners last.
    ///
    /// # Errors
    /// Names the invalid option, or is what a hook returned. Nothing but the pool is left running.
    pub(super) async fn start(
        config: NodeConfig,
        bound: BoundAddresses,
        metrics: Arc<Metrics>,
        pool: Pool,
    ) -> Result<(Self, Vec<SocketAddr>)> {
        let (mut running, opening) = Self::assemble(config, bound, metrics, pool)?;
        match running.open(opening).await {
            Ok(addresses) => Ok((running, addresses)),
            Err(error) => {
                running.handle.shutdown();
                running.handle.forget_callbacks();
                running.admin.stop().await;
                Err(error)
            }
        }
    }

    /// Makes all parts of the node from the bottom up. Only the admin server answers yet.
    fn assemble(
        config: NodeConfig,
        bound: BoundAddresses,
        metrics: Arc<Metrics>,
        pool: Pool,
    ) -> Result<(Self, Opening)> {
        let name = bound.name();
        let BoundAddresses {
            listeners,
            cluster,
            admin,
        } = bound;
        let schedulers = Schedulers::new(pool, config.scheduler_capacity);
        let reporter = Arc::new(ErrorReporter {
            on_error: config.on_error,
            expose_errors: config.expose_errors,
            request_timeout: config.settings.request_timeout,
            metrics: metrics.clone(),
            tracer: Arc::new(Tracer {
                node: name.clone(),
                on_span: config.on_span,
                panics: metrics.panics.clone(),
            }),
        });
        let services: Vec<_> = config
            .components
            .into_iter()
            .map(|build| build(&schedulers, &reporter, &config.filters))
            .collect::<Result<_>>()?;
        let mut cluster = match cluster {
            Some(listener) => Some(BoundCluster::new(
                config.cluster,
                listener,
                (names(&services), !listeners.is_empty()),
                config.settings.heartbeat.unwrap_or(DEFAULT_HEARTBEAT),
                &metrics,
                admin.advertised(&name),
                config.version,
            )?),
            None => None,
        };
        let memory = MemoryBudget::new(
            config.settings.memory,
            metrics.memory_queued.clone(),
            metrics.memory_limit.clone(),
        );
        let handle = Handle::new(HandleConfig {
            schedulers,
            memory,
            hooks: SessionHooks {
                panics: metrics.panics.clone(),
                on_bind: config.on_bind,
                groups: Arc::new(GroupMetrics::new(metrics.handles())),
                inputs: Arc::new(InputRefusals::new(metrics.handles())),
            },
            routes: routes(&services),
            cluster: cluster.as_ref().map(BoundCluster::membership),
            admin: admin.address(),
            certificates: cluster.as_ref().and_then(BoundCluster::certificates),
        });
        handle.deny_list().set(config.denied);
        for callback in config.on_session_closed {
            handle.on_session_closed(callback);
        }

        let node_services = Arc::<NodeServices>::default();
        let outbound = cluster
            .as_mut()
            .map(|cluster| cluster.outbound(&handle, reporter.clone(), node_services.clone()));
        let router = outbound
            .as_ref()
            .map(|outbound| outbound.router().clone() as _);
        let dispatch = Arc::new(Dispatch::new(
            &services,
            config.pipeline,
            reporter,
            handle.sessions().clone(),
            router,
        )?);
        let dictionary = match config.dictionary {
            DictionarySource::Given(entries) => Dictionary::new(entries)?,
            DictionarySource::Routes(pushes) => {
                Dictionary::from_routes(dispatch.open_routes().into_iter().chain(pushes))?
            }
        };
        let handles = metrics.handles().clone();
        let caller = match &cluster {
            Some(cluster) => cluster.node_caller(&node_services),
            None => NodeCaller::standalone(&name, &node_services),
        };
        let others = cluster.is_some().then(|| caller.clone());
        let gate = Gate::new(
            config.settings,
            dispatch.clone(),
            dictionary,
            metrics,
            handle.clone(),
            others.map(|others| (others, &*node_services)),
        );
        let users = Users::start(
            caller.clone(),
            &node_services,
            &handle,
            cluster.as_ref().map(BoundCluster::place),
            config.unique_users,
            &handles,
        );
        let channels = Channels::start(
            &handle,
            &node_services,
            caller.clone(),
            config.channels,
            &handles,
        );
        let limits = gate.limits().clone();
        let reload = config
            .reload
            .map(|reload| Arc::new(move |node: &Handle| reload(node, &limits)) as _);
        handle.attach(NodeParts {
            call_router: Arc::downgrade(&(dispatch.clone() as _)),
            users: Arc::downgrade(&(users.clone() as _)),
            user_observer: Arc::downgrade(&(users.clone() as _)),
            channels: Arc::downgrade(&channels.network()),
            reload,
        });
        let admin = admin.serve(
            name,
            handle.clone(),
            listeners.addresses(),
            &gate,
            cluster.as_ref(),
            (caller, &node_services),
        )?;
        let running = Self {
            handle,
            gate,
            admin,
            services: Arc::new(services),
            _node_services: node_services,
            dispatch,
            users,
            _channels: channels,
            cluster: None,
        };
        let opening = Opening {
            listeners,
            cluster: cluster.zip(outbound),
        };
        Ok((running, opening))
    }

    /// Initializes the components, joins the cluster, and lets clients connect.
    async fn open(&mut self, opening: Opening) -> Result<Vec<SocketAddr>> {
        for hook in [Hook::Init, Hook::AfterInit] {
            hooks::call(hook, &self.handle, &self.services)
                .await
                .map_err(hooks::HookError::into_error)?;
        }
        self.handle.started(Step::Components);
        if let Some((bound, outbound)) = opening.cluster {
            let cluster = bound.serve(outbound, self.dispatch.clone())?;
            self.cluster.insert(cluster).join().await?;
        }
        self.handle.started(Step::Cluster);
        let addresses = opening.listeners.open(&self.gate)?;
        self.handle.started(Step::Listeners);
        info!(
            services = self.services.len(),
            routes = self.handle.routes().len(),
            "node started"
        );
        Ok(addresses)
    }

    fn data_plane(&self) -> Option<&Arc<DataPlane>> {
        self.cluster.as_ref().map(Cluster::data_plane)
    }

    /// What a drain needs of it.
    pub(super) fn draining(&self) -> Draining {
        Draining {
            node: self.handle.clone(),
            gate: self.gate.clone(),
            services: self.services.clone(),
            data_plane: self.data_plane().cloned(),
        }
    }

    /// Stops everything in order within a deadline.
    ///
    /// The first half of the time is for requests in flight. The master hears of it first, so that
    /// no new session comes; clients are disconnected; close callbacks and hooks run while other
    /// nodes can still be called; links and schedulers end last.
    pub(super) async fn stop(mut self, within: Duration) {
        let begun = Instant::now();
        let (grace, deadline) = (begun + within / 2, begun + within);
        info!(sessions = self.handle.sessions().count(), "node stopping");
        self.users.directory().leave();
        if let Some(cluster) = &mut self.cluster
            && timeout_at(grace, cluster.leave()).await.is_err()
        {
            warn!("unregistering timed out");
        }
        self.drain(grace).await;
        if timeout_at(deadline, self.close_components()).await.is_err() {
            error!("shutdown deadline passed, dropping what is left");
        }
        if let Some(data_plane) = self.data_plane() {
            let flushed_by = Instant::now() + FLUSH_TIMEOUT;
            data_plane.finish(flushed_by.min(deadline)).await;
        }
        if let Some(cluster) = &mut self.cluster {
            let left = deadline.saturating_duration_since(Instant::now());
            cluster.stop(left.min(FLUSH_TIMEOUT)).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if !self
            .handle
            .pool()
            .shutdown(left.max(MIN_POOL_SHUTDOWN))
            .await
        {
            error!("a scheduler task still runs, abandoning its thread");
        }
        self.handle.forget_callbacks();
        info!(took = ?begun.elapsed(), "node stopped");
    }

    /// Takes no more clients, and lets requests in flight end until `grace`.
    async fn drain(&self, grace: Instant) {
        self.gate.close_listeners().await;
        self.gate.close_sessions();
        let peers_drained = async {
            if let Some(data_plane) = self.data_plane() {
                data_plane.drain(grace).await;
            }
        };
        let (closed, ()) = tokio::join!(
            timeout_at(grace, self.gate.sessions_closed()),
            peers_drained
        );
        if closed.is_err() {
            let sessions = self.handle.sessions().count();
            warn!(sessions, "grace period passed, dropping requests in flight");
            self.gate.close_sessions();
        }
    }

    /// Runs what the application wants to happen at the end: close callbacks, then hooks.
    async fn close_components(&self) {
        self.gate.sessions_closed().await;
        self.handle.sessions().callbacks_done().await;
        for hook in [Hook::BeforeShutdown, Hook::Shutdown] {
            if let Err(failed) = hooks::call(hook, &self.handle, &self.services).await {
                let (component, hook, error) = (failed.component, failed.hook, failed.error);
                error!(component, hook, %error, "hook failed");
            }
        }
    }
}

/// The names of the services, sorted.
fn names(services: &[Service]) -> Vec<String> {
    let mut names: Vec<_> = services
        .iter()
        .map(|service| service.name.clone())
        .collect();
    names.sort();
    names
}

/// The routes of the services, sorted.
fn routes(services: &[Service]) -> Vec<ByteString> {
    let handlers = services.iter().flat_map(|service| &service.handlers);
    let mut routes: Vec<_> = handlers.map(|handler| handler.route().into()).collect();
    routes.sort();
    routes
}
