//! The parts of a running node: started bottom up, stopped in reverse.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use super::{
    admin::AdminPart,
    config::{DictionarySource, NodeConfig},
    draining::Draining,
    hooks::{self, Hook},
};
use crate::{
    cluster::{
        BoundCluster, Channels, Cluster, ClusterListener, DataPlane, Directory, NodeCaller,
        NodeServices, Users,
    },
    component::{ErrorReporter, Service},
    dispatch::Dispatch,
    error::Result,
    gate::{BoundListeners, Gate},
    handle::{Handle, Step},
    message::Dictionary,
    metrics::Metrics,
};

/// The heartbeat between nodes where clients have none to derive it from; that of nano.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);

/// How long the last frames to other nodes may take to be sent, and their last calls to end.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The least time schedulers get to end, however late it is.
const MIN_POOL_SHUTDOWN: Duration = Duration::from_millis(10);

/// What a shutdown has to stop.
pub(super) struct Running {
    handle: Handle,
    pub(super) gate: Arc<Gate>,
    services: Arc<Vec<Service>>,
    /// What other nodes may ask of this one. They hold it weakly.
    _node_services: Arc<NodeServices>,
    directory: Arc<Directory>,
    /// Ended with this.
    _channels: Channels,
    cluster: Option<Cluster>,
}

impl Running {
    /// Starts everything: components, hooks, the cluster, and clients' listeners last.
    ///
    /// Addresses are bound before the hooks run, so that a wrong one fails early, and listened on
    /// when there is something to serve.
    ///
    /// # Errors
    /// Names the invalid option, or is what a hook returned.
    pub(super) async fn start(
        config: NodeConfig,
        handle: Handle,
        admin: AdminPart,
    ) -> Result<(Self, Vec<SocketAddr>)> {
        handle.deny_list().set(config.denied);
        let listeners = BoundListeners::bind(config.listeners).await?;
        let cluster_listener = if config.cluster.is_cluster() {
            Some(ClusterListener::bind(&config.cluster).await?)
        } else {
            None
        };
        let name = match (&cluster_listener, listeners.first_address()) {
            (Some(listener), _) => listener.address().to_owned(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "standalone".to_owned(),
        };
        let metrics = Arc::new(Metrics::new(admin.handles(&name)));
        if let Some(seconds) = metrics.turn_seconds() {
            handle.pool().record_turns(seconds);
        }
        let panics = metrics.panics.clone();
        handle.sessions().set_hooks(panics, config.on_bind);
        let reporter = Arc::new(ErrorReporter {
            on_error: config.on_error,
            expose_errors: config.expose_errors,
            request_timeout: config.settings.request_timeout,
            metrics: metrics.clone(),
        });
        let services: Vec<_> = config
            .components
            .into_iter()
            .map(|build| build(&handle, &reporter, &config.filters))
            .collect::<Result<_>>()?;
        let node_services = Arc::<NodeServices>::default();
        let mut bound_cluster = if let Some(listener) = cluster_listener {
            let mut names: Vec<_> = services
                .iter()
                .map(|service| service.name.clone())
                .collect();
            names.sort();
            let heartbeat = config.settings.heartbeat.unwrap_or(DEFAULT_HEARTBEAT);
            Some(BoundCluster::new(
                config.cluster,
                listener,
                names,
                heartbeat,
                &handle,
                &metrics,
                admin.advertised(&name),
            )?)
        } else {
            None
        };
        let outbound = bound_cluster
            .as_mut()
            .map(|bound| bound.outbound(reporter.clone(), node_services.clone()));
        let dispatch = Arc::new(Dispatch::new(
            &services,
            config.pipeline,
            reporter,
            handle.sessions().clone(),
            outbound
                .as_ref()
                .map(|outbound| outbound.router().clone() as _),
        )?);
        let call_router = Arc::downgrade(&dispatch);
        handle.sessions().connect(call_router);
        let dictionary = match config.dictionary {
            DictionarySource::Given(entries) => Dictionary::new(entries)?,
            DictionarySource::Routes(pushes) => {
                Dictionary::from_routes(dispatch.open_routes().into_iter().chain(pushes))?
            }
        };

        for callback in config.on_session_closed {
            handle.on_session_closed(callback);
        }
        handle.name_routes(dispatch.routes());
        let handles = metrics.handles().clone();
        let caller = match &bound_cluster {
            Some(bound) => bound.node_caller(&node_services),
            None => NodeCaller::standalone(&name, &node_services),
        };
        let others = bound_cluster.is_some().then(|| caller.clone());
        let gate = Gate::new(
            config.settings,
            dispatch.clone(),
            dictionary,
            metrics,
            handle.clone(),
            others.map(|others| (others, &*node_services)),
        );
        if let Some(reload) = config.reload {
            let limits = gate.limits().clone();
            handle.set_reload(move |node| reload(node, &limits));
        }
        let directory = Users::start(
            caller.clone(),
            &node_services,
            &handle,
            bound_cluster.as_ref().map(BoundCluster::place),
            config.unique_users,
            &handles,
        );
        let channels = Channels::start(&handle, &node_services, caller, config.channels, &handles);
        handle.set_channels(Some(channels.network()));
        let mut running = Self {
            handle: handle.clone(),
            gate,
            services: Arc::new(services),
            _node_services: node_services,
            directory,
            _channels: channels,
            cluster: None,
        };
        for hook in [Hook::Init, Hook::AfterInit] {
            hooks::call(hook, &running.handle, &running.services)
                .await
                .map_err(hooks::HookError::into_error)?;
        }
        handle.started(Step::Components);
        if let Some((bound, outbound)) = bound_cluster.zip(outbound) {
            admin.set_peers(outbound.router());
            let cluster = running.cluster.insert(bound.serve(outbound, dispatch)?);
            cluster.join().await?;
        }
        handle.started(Step::Cluster);
        let addresses = listeners.open(&running.gate)?;
        admin.set_listeners(&addresses);
        handle.started(Step::Listeners);
        info!(
            services = running.services.len(),
            routes = handle.routes().len(),
            "node started"
        );
        Ok((running, addresses))
    }

    fn data_plane(&self) -> Option<&Arc<DataPlane>> {
        self.cluster.as_ref().map(Cluster::data_plane)
    }

    /// What a drain needs of it.
    pub(super) fn draining(&self, delay: Duration) -> Draining {
        Draining {
            node: self.handle.clone(),
            gate: self.gate.clone(),
            services: self.services.clone(),
            data_plane: self.data_plane().cloned(),
            delay,
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
        self.directory.leave();
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
