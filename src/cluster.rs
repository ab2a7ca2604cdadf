//! A node's place in a cluster: joining, serving other nodes, leaving.
//!
//! The control plane is in [`membership`]; the other modules carry messages between nodes.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::{Routes, interceptor::InterceptedService};
#[cfg(feature = "admin")]
use tonic_health::pb::health_server::HealthServer;
use tracing::{info, warn};

use crate::{
    component::ErrorReporter,
    dispatch::Dispatch,
    error::{Error, Result, code},
    handle::{ClusterMembership, Handle, ReadCertificates},
    member::{Info, Member, MemberSet, OnMember},
    metrics::{ClusterMetrics, Metrics},
};

mod address;
mod admission;
mod auth;
mod backoff;
mod broadcast;
mod channels;
mod codec;
mod compat;
mod config;
mod data_plane;
mod directory;
mod grpc_channel;
#[cfg(feature = "admin")]
mod health;
mod incoming;
mod link;
mod masters;
mod member_info;
mod membership;
mod node_caller;
mod node_services;
mod peer_table;
mod pending_calls;
mod players;
mod proto;
mod routing;
mod served;
mod server;
mod stable_hash;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "cluster/no_tls.rs"]
mod tls;
mod tls_options;
mod transport;
mod user_ids;
mod users;

pub(crate) use self::channels::Channels;
#[cfg(feature = "admin")]
use self::health::HealthService;
#[cfg(test)]
pub(crate) use self::link::mesh;
pub(crate) use self::routing::balance::rendezvous_score;
#[cfg(feature = "admin")]
pub(crate) use self::transport::PeerReport;
use self::{
    auth::{AuthInterceptor, Credentials},
    grpc_channel::Dialer,
    link::service::LinkService,
    membership::{
        broadcaster::MembershipBroadcaster,
        client::MembershipClient,
        election_service::ElectionService,
        heartbeat::HeartbeatConfig,
        leadership::Leadership,
        masters::Masters,
        registration::RegistrationState,
        registry::Registry,
        service::{MasterService, MemberService},
        state::{ClusterState, MasterState},
        view_status::ViewStatus,
    },
    proto::{master_server::MasterServer, member_server::MemberServer},
    server::{ClusterServer, ServerConfig},
    tls::NodeTls,
};
pub(crate) use self::{
    config::Settings,
    data_plane::{DataPlane, Outbound},
    node_caller::NodeCaller,
    node_services::{NodeCall, NodeService, NodeServices},
    peer_table::PeerTable,
    players::{
        ChannelPosition, MovedBinding, MovedChannel, MovedRequest, MovedService, MovedValue,
        SessionAdopt, SessionAttach, SessionClose, SessionHold, SessionRelease, TunnelChunk,
        TunnelFind, TunnelFound, TunnelOpen, TunnelOpened,
    },
    server::ClusterListener,
    user_ids::user,
    users::{ClusterPlace, Users},
};
#[cfg(fuzzing)]
pub(crate) use self::{
    directory::fuzzing::check as check_directory, link::fuzzing::check as check_link,
};
pub use self::{routing::balance::Balance, tls_options::ClusterTls};

/// How long a node waits after a failed attempt to join, unless the options say otherwise.
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// How long a connection may be without an authenticated call, unless the options say otherwise.
const DEFAULT_AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A node of a cluster that has its address and identity, but neither listens nor has joined.
pub(crate) struct BoundCluster {
    listener: ClusterListener,
    server: ServerConfig,
    own: Member,
    node_metrics: Arc<Metrics>,
    dialer: Arc<Dialer>,
    metrics: Arc<ClusterMetrics>,
    members: watch::Sender<Arc<MemberSet>>,
    view_status: watch::Sender<ViewStatus>,
    heartbeat: HeartbeatConfig,
    retry: Duration,
    is_master: bool,
    masters: Vec<String>,
    on_unregister: Option<OnMember>,
    on_joined: Vec<OnMember>,
    on_left: Vec<OnMember>,
    peer_table: Arc<PeerTable>,
    /// Until it is taken.
    data: data_plane::Options,
}

impl BoundCluster {
    /// Reads the security options, and makes the member that this node is.
    ///
    /// `services` are the names of the node's services, sorted; `heartbeat` is the interval unless
    /// the options set one; `admin` is where other members find the node's admin server;
    /// `version` is the application's, or empty.
    ///
    /// # Errors
    /// Names what is wrong: a file of the TLS options, the token, a master's address.
    pub(crate) fn new(
        mut settings: Settings,
        listener: ClusterListener,
        (services, gate): (Vec<String>, bool),
        heartbeat: Duration,
        node_metrics: &Arc<Metrics>,
        admin: Option<String>,
        version: String,
    ) -> Result<Self> {
        if address::is_loopback(listener.address()) {
            settings.warn_of_loopback(listener.address());
        }
        let credentials = Credentials::new(settings.token)?;
        let tls = settings.tls.as_ref().map(NodeTls::read).transpose()?;
        let local = listener.local();
        if !local.ip().is_loopback() && tls.is_none() && !credentials.has_token() {
            warn!(%local, "ANY HOST THAT REACHES THIS ADDRESS CAN JOIN THE CLUSTER: set a cluster token or TLS");
        }
        let dialer = Dialer {
            credentials,
            tls: tls.clone(),
            configure: settings.configure_endpoint,
        };
        for master in &settings.masters {
            dialer.channel(master)?;
        }
        let metrics = Arc::new(ClusterMetrics::new(node_metrics.handles()));
        let server = ServerConfig::new(
            tls,
            settings.configure_server,
            settings.connections,
            settings
                .authentication_timeout
                .unwrap_or(DEFAULT_AUTHENTICATION_TIMEOUT),
            metrics.clone(),
        );

        let own = Member::new(Info {
            label: settings.label,
            address: listener.address().to_owned(),
            services,
            metadata: settings.metadata,
            incarnation: now_in_microseconds(),
            link: true,
            gate,
            admin: admin.unwrap_or_default(),
            version,
            unknown: Vec::new(),
        });
        proto::member(Some((&own).into())).map_err(|invalid| {
            Error::new(code::BAD_REQUEST, format!("cluster: {}", invalid.reason()))
        })?;
        Ok(Self {
            server,
            metrics,
            listener,
            own,
            node_metrics: node_metrics.clone(),
            dialer: Arc::new(dialer),
            members: watch::Sender::default(),
            view_status: watch::Sender::default(),
            heartbeat: HeartbeatConfig::new(settings.heartbeat.unwrap_or(heartbeat)),
            retry: settings.retry_interval.unwrap_or(DEFAULT_RETRY),
            is_master: settings.master,
            masters: settings.masters,
            on_unregister: settings.on_unregister,
            on_joined: settings.on_joined,
            on_left: settings.on_left,
            peer_table: Arc::default(),
            data: settings.data,
        })
    }

    /// What the node's handle knows of the cluster.
    pub(crate) fn membership(&self) -> ClusterMembership {
        ClusterMembership {
            own: self.own.clone(),
            members: self.members.subscribe(),
            metrics: self.node_metrics.clone(),
        }
    }

    /// What reads the files of the TLS options again; `None` without TLS.
    pub(crate) fn certificates(&self) -> Option<ReadCertificates> {
        let tls = self.dialer.tls.clone()?;
        Some(Box::new(move || tls.read_again()))
    }

    /// What is known of other nodes.
    #[cfg(feature = "admin")]
    pub(crate) fn peer_table(&self) -> Arc<PeerTable> {
        self.peer_table.clone()
    }

    /// What calls services of this node and of others.
    pub(crate) fn node_caller(&self, services: &Arc<NodeServices>) -> NodeCaller {
        NodeCaller::new(self.own.address(), services, &self.peer_table)
    }

    /// What users need of the cluster.
    pub(crate) fn place(&self) -> ClusterPlace {
        ClusterPlace {
            incarnation: self.own.incarnation(),
            is_master: self.is_master && self.masters.is_empty(),
            members: self.members.subscribe(),
            view_status: self.view_status.subscribe(),
        }
    }

    /// Creates what sends to other nodes, from the options given, and registers their callbacks.
    /// Called once, before dispatch is created, which owns its router.
    pub(crate) fn outbound(
        &mut self,
        handle: &Handle,
        reporter: Arc<ErrorReporter>,
        node_services: Arc<NodeServices>,
    ) -> Outbound {
        for callback in std::mem::take(&mut self.on_joined) {
            handle.on_member_joined(move |member| callback(member));
        }
        for callback in std::mem::take(&mut self.on_left) {
            handle.on_member_left(move |member| callback(member));
        }
        Outbound::new(
            &self.own,
            self.peer_table.clone(),
            self.dialer.clone(),
            reporter,
            (handle.clone(), node_services),
            std::mem::take(&mut self.data),
        )
    }

    /// Lets other nodes call this one.
    ///
    /// # Errors
    /// Another program listens on the address by now.
    pub(crate) fn serve(self, outbound: Outbound, dispatch: Arc<Dispatch>) -> Result<Cluster> {
        let handle = outbound.node().clone();
        let data_plane = DataPlane::new(outbound, dispatch);
        let is_one_of_several = self.is_master && !self.masters.is_empty();
        let leadership = is_one_of_several
            .then(|| Arc::new(Leadership::new(&self.own, &self.masters, self.heartbeat)));
        let master = self.is_master.then(|| {
            let only = Registry::new(self.own.clone(), self.heartbeat, Instant::now());
            MasterState {
                registry: Mutex::new(leadership.is_none().then_some(only)),
                broadcaster: MembershipBroadcaster::new(
                    self.dialer.clone(),
                    self.metrics.clone(),
                    leadership.clone(),
                ),
                on_unregister: self.on_unregister,
                leadership: leadership.clone(),
            }
        });
        let auth = AuthInterceptor {
            credentials: self.dialer.credentials.clone(),
            metrics: self.metrics.clone(),
        };
        let state = Arc::new(ClusterState::new(
            self.own,
            handle,
            self.dialer,
            self.metrics,
            (self.members, self.view_status),
            data_plane.clone(),
            master,
        ));
        let mut services = Routes::default()
            .add_service(MemberServer::with_interceptor(
                MemberService {
                    state: state.clone(),
                    data: data_plane.compat_service(),
                },
                auth.clone(),
            ))
            .add_service(InterceptedService::new(
                LinkService::new(data_plane.links()),
                auth.clone(),
            ));
        // Without the interceptor: probes carry no token, and what they learn is no secret.
        #[cfg(feature = "admin")]
        {
            let health = HealthService::new(state.handle.clone(), state.own.services());
            services = services.add_service(HealthServer::new(health));
        }
        if self.is_master {
            let service = MasterService::new(state.clone());
            services = services.add_service(MasterServer::with_interceptor(service, auth.clone()));
        }
        if let Some(leadership) = leadership {
            let service = ElectionService::new(leadership);
            services = services.add_service(InterceptedService::new(service, auth));
        }
        let server = ClusterServer::start(self.listener, self.server, services)?;
        info!(
            address = state.own.address(),
            master = self.is_master,
            "serving other nodes"
        );
        Ok(Cluster {
            state,
            data_plane,
            server: Some(server),
            membership: None,
            leave: CancellationToken::new(),
            heartbeat: self.heartbeat,
            retry: self.retry,
            masters: if self.is_master {
                Vec::new()
            } else {
                self.masters
            },
        })
    }
}

/// A node of a cluster. Dropping it stops everything without unregistering.
pub(crate) struct Cluster {
    state: Arc<ClusterState>,
    data_plane: Arc<DataPlane>,
    server: Option<ClusterServer>,
    /// The task that keeps this node registered, or as master evicts silent members.
    membership: Option<AbortOnDropHandle<()>>,
    /// Cancelled to end `membership` in order.
    leave: CancellationToken,
    heartbeat: HeartbeatConfig,
    retry: Duration,
    masters: Vec<String>,
}

impl Cluster {
    /// Joins the cluster, and waits until a master answers; as master, begins to watch the
    /// members.
    ///
    /// # Errors
    /// The master rejects this node's token, or the node is asked to stop meanwhile.
    pub(crate) async fn join(&mut self) -> Result {
        let leave = self.leave.clone();
        if self.state.is_master() && self.state.leadership().is_none() {
            self.state.metrics.leads.set(1.0);
            self.state.reports_to(self.state.own.address());
            let state = self.state.clone();
            let watch = state.clone().evict_silent_members(self.heartbeat);
            self.spawn(async move {
                leave.run_until_cancelled(watch).await;
                state.metrics.leads.set(0.0);
            });
            return Ok(());
        }
        let (joined, mut outcome) = mpsc::channel(1);
        let (state, heartbeat, retry) = (self.state.clone(), self.heartbeat, self.retry);
        if let Some(leadership) = self.state.leadership().cloned() {
            let master = Masters::new(state, leadership, heartbeat, retry, joined);
            self.spawn(master.run(leave));
        } else {
            let masters = std::mem::take(&mut self.masters);
            let registration = RegistrationState::new(heartbeat, retry, Instant::now());
            let client = MembershipClient::new(state, masters, registration, joined);
            self.spawn(client.run(leave));
        }
        let stopped = || {
            Error::new(
                code::UNAVAILABLE,
                "asked to stop before the master let this node join",
            )
        };
        tokio::select! {
            outcome = outcome.recv() => outcome.unwrap_or_else(|| Err(stopped())),
            () = self.state.handle.lifecycle().shutdown_requested() => Err(stopped()),
        }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.membership = Some(AbortOnDropHandle::new(tokio::spawn(task)));
    }

    /// Leaves the cluster, so that members send no new sessions here. What is under way goes on.
    /// Takes a few seconds at most.
    pub(crate) async fn leave(&mut self) {
        self.leave.cancel();
        if let Some(membership) = self.membership.take() {
            // An error is a panic, which has been printed.
            let _ = membership.await;
        }
    }

    pub(crate) fn data_plane(&self) -> &Arc<DataPlane> {
        &self.data_plane
    }

    /// Stops serving other nodes, and waits for calls under way, at most `within`.
    pub(crate) async fn stop(&mut self, within: Duration) {
        self.state.stop();
        if let Some(server) = self.server.take() {
            server.stop(within).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.state.stop();
    }
}

/// Returns an incarnation: a restarted node has a larger one, unless its clock was set back by more
/// than the restart took.
fn now_in_microseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
        .max(1)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("own", &self.state.own)
            .field("members", &self.state.members().borrow())
            .finish_non_exhaustive()
    }
}
