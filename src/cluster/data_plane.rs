//! The exchange of messages with other nodes: what is sent to them, what they send, and its end.
//!
//! ```text
//! data plane -> links, compat service -> dispatch -> router -> transports of the peers
//! ```

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::{
    compat::{peers::CompatPeers, service::CompatService},
    grpc_channel::Dialer,
    link::{
        context::{LinkContext, LinkOptions},
        peers::LinkPeers,
        probe_loop,
    },
    membership::subscriber::MembershipSubscriber,
    node_services::NodeServices,
    peer_table::PeerTable,
    routing::{
        balance::{Balance, RouteFn},
        router::PeerRouter,
    },
    served::ServedSessions,
};
use crate::{
    component::ErrorReporter,
    dispatch::Dispatch,
    handle::Handle,
    member::Member,
    session::{CloseReason, Departure},
};

/// How often a stopping node looks whether all is done.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The sessions of which bindings are forgotten before others have their turn, some 0.1 ms, and how long that is.
const FREED_AT_ONCE: usize = 256;
const FREE_PAUSE: Duration = Duration::from_millis(1);

/// What an application may choose about messages between nodes.
pub(crate) struct Options {
    pub(crate) balance: Balance,
    pub(crate) route_fn: Option<RouteFn>,
    /// The partition grace.
    pub(crate) grace: Duration,
    /// How long a link may be open without need; `None` for ever.
    pub(crate) link_idle_timeout: Option<Duration>,
    /// Whether nodes without links, and their clients, reach internal services.
    pub(crate) trust_unlinked: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            route_fn: None,
            grace: Duration::from_secs(10),
            link_idle_timeout: Some(Duration::from_secs(60)),
            trust_unlinked: false,
        }
    }
}

/// What sends to other nodes, which exists before dispatch.
pub(crate) struct Outbound {
    context: Arc<LinkContext>,
    table: Arc<PeerTable>,
    compat: Arc<CompatPeers>,
    router: Arc<PeerRouter>,
}

impl Outbound {
    pub(super) fn new(
        own: &Member,
        table: Arc<PeerTable>,
        dialer: Arc<Dialer>,
        reporter: Arc<ErrorReporter>,
        (node, node_services): (Handle, Arc<NodeServices>),
        options: Options,
    ) -> Self {
        let context = LinkContext::new(
            (own.address(), own.incarnation()),
            dialer,
            reporter,
            node,
            node_services,
            LinkOptions {
                grace: options.grace,
                idle_timeout: options.link_idle_timeout,
                has_services: !own.services().is_empty(),
            },
        );
        let compat = CompatPeers::new(context.clone(), table.clone(), options.trust_unlinked);
        let choice = (options.balance, options.route_fn);
        Self {
            router: PeerRouter::new(context.clone(), table.clone(), compat.clone(), choice),
            context,
            table,
            compat,
        }
    }

    pub(crate) fn router(&self) -> &Arc<PeerRouter> {
        &self.router
    }

    pub(super) fn node(&self) -> &Handle {
        &self.context.node
    }
}

/// All traffic with other nodes.
pub(crate) struct DataPlane {
    outbound: Outbound,
    links: Arc<LinkPeers>,
    dispatch: Arc<Dispatch>,
}

impl DataPlane {
    /// Adds what receives. Nothing arrives before a member or a stream of one does.
    pub(super) fn new(outbound: Outbound, dispatch: Arc<Dispatch>) -> Arc<Self> {
        let links = LinkPeers::new(
            outbound.context.clone(),
            dispatch.clone(),
            outbound.table.clone(),
        );
        let served = Arc::new(ServedSessions::new(&links));
        outbound.context.node_services.insert("Served", served);
        let wake = outbound.context.detector.clone();
        tokio::spawn(probe_loop::run(Arc::downgrade(&links), wake));
        Arc::new(Self {
            outbound,
            links,
            dispatch,
        })
    }

    pub(super) fn links(&self) -> &Arc<LinkPeers> {
        &self.links
    }

    /// The service for nodes without links.
    pub(super) fn compat_service(&self) -> CompatService {
        CompatService {
            peers: self.outbound.compat.clone(),
            links: self.links.clone(),
            dispatch: self.dispatch.clone(),
        }
    }

    /// Asks the other nodes for no new sessions; those that are bound to this one stay.
    pub(crate) fn cordon(&self) {
        self.links.cordon();
    }

    /// Asks the other nodes for no more work and finishes what there is. Returns when all requests
    /// are answered and everything has been sent, or at the deadline; then all sessions of other
    /// gates end.
    pub(crate) async fn drain(&self, deadline: Instant) {
        let (compat, calls) = (&self.outbound.compat, &self.outbound.context.calls);
        let peers = self.links.goaway();
        let finished = async {
            loop {
                let now = Instant::now();
                if LinkPeers::are_drained(&peers, now)
                    && calls.waiting(now) == 0
                    && compat.is_drained()
                {
                    return;
                }
                sleep(POLL_INTERVAL).await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            warn!("drain took too long, requests of other nodes are given up");
        }
        compat.end_sessions(&CloseReason::Shutdown);
        self.links.end_sessions(&peers);
    }

    /// Sends what is queued, at most until the deadline, and ends all links.
    pub(crate) async fn finish(&self, deadline: Instant) {
        let compat = &self.outbound.compat;
        let peers = self.links.finish();
        let sent = async {
            while !LinkPeers::are_flushed(&peers) || !compat.is_flushed() {
                sleep(POLL_INTERVAL).await;
            }
        };
        // A peer that does not read now finds out by itself that this node is gone.
        let _ = timeout_at(deadline, sent).await;
        self.links.close_all(&peers);
        compat.close_all("this node stops");
    }

    /// Forgets what sessions are bound to a member that has left. No message goes there any more, nor to its
    /// [successor](PeerTable::get_bound), so that it may take its time: 50,000 sessions would keep a thread from
    /// its clients for 15 ms.
    async fn free_sessions(self: Arc<Self>, left: Departure) {
        let sessions = self.outbound.context.node.sessions();
        for some in sessions.local_ids().chunks(FREED_AT_ONCE) {
            for session in some.iter().filter_map(|id| sessions.find_local(*id)) {
                session.inner().bindings.forget_departed(&left);
            }
            sleep(FREE_PAUSE).await;
        }
    }
}

impl MembershipSubscriber for DataPlane {
    fn on_member_added(self: Arc<Self>, member: &Member) {
        self.outbound.table.insert_member(member);
        if member.info().link {
            self.links.joined(member);
        } else {
            self.outbound.compat.joined(member);
        }
    }

    fn on_member_removed(self: Arc<Self>, member: &Member) {
        let left = Departure::new(member.address());
        self.outbound.table.remove_member(member, left.number());
        self.outbound.compat.left(member);
        self.links.left(member);
        tokio::spawn(self.free_sessions(left));
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane")
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}
