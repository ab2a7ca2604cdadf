//! Which member a message goes to: the one its session is bound to, else the application's choice,
//! else that of the balance policy.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::balance::{Balance, Balancer, RouteFn};
#[cfg(feature = "admin")]
use crate::cluster::transport::PeerReport;
use crate::{
    cluster::{
        channel::Dialer,
        compat::{peers::CompatPeers, remote::CompatSession},
        link::{
            context::{LinkContext, LinkOptions},
            failure_detector,
            peers::LinkPeers,
            remote::RemoteSession,
        },
        membership::subscriber::MembershipSubscriber,
        node_services::NodeServices,
        peer_table::{Candidate, PeerTable, unsupported},
        pending_calls::PendingCalls,
        transport::{PeerStatus, PeerTransport, into_error},
    },
    dispatch::{ClusterRouter, Dispatch, ForwardError, Origin},
    error::{Error, Result, code},
    handle::Handle,
    member::Member,
    message::Message,
    panic::catch_panic,
    session::{Call, CloseReason, Session, SessionSink},
};

/// How often a stopping node looks whether all is done.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The other nodes, as dispatch sees them.
pub(crate) struct PeerRouter {
    table: Arc<PeerTable>,
    links: Arc<LinkPeers>,
    compat: Arc<CompatPeers>,
    balancer: Balancer,
    route_fn: Option<RouteFn>,
}

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

impl PeerRouter {
    /// Creates the router of a node and connects dispatch to it.
    pub(in crate::cluster) fn new(
        own: &Member,
        table: Arc<PeerTable>,
        dialer: Arc<Dialer>,
        dispatch: Arc<Dispatch>,
        (node, node_services): (Handle, Arc<NodeServices>),
        options: Options,
    ) -> Arc<Self> {
        let context = LinkContext::new(
            (own.address(), own.incarnation()),
            dialer,
            dispatch.clone(),
            node,
            node_services,
            LinkOptions {
                grace: options.grace,
                idle_timeout: options.link_idle_timeout,
                has_services: !own.services().is_empty(),
            },
        );
        let links = LinkPeers::new(context, table.clone());
        let router = Arc::new(Self {
            compat: CompatPeers::new(links.clone(), table.clone(), options.trust_unlinked),
            table,
            balancer: Balancer::new(options.balance),
            route_fn: options.route_fn,
            links,
        });
        let weak = Arc::downgrade(&router);
        dispatch.connect(weak);
        let (links, wake) = (&router.links, &router.links.context.detector);
        tokio::spawn(failure_detector::run(Arc::downgrade(links), wake.clone()));
        router
    }

    pub(in crate::cluster) fn links(&self) -> &Arc<LinkPeers> {
        &self.links
    }

    pub(in crate::cluster) fn compat(&self) -> &Arc<CompatPeers> {
        &self.compat
    }

    /// All peers at this moment.
    #[cfg(feature = "admin")]
    pub(crate) fn reports(&self) -> Vec<PeerReport> {
        let mut reports = Vec::new();
        self.table
            .each(|transport| reports.push(transport.report()));
        reports
    }

    fn context(&self) -> &LinkContext {
        &self.links.context
    }

    /// The transport for a message of the session, which is bound to it from now on.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if no member ever had the service, [`code::UNAVAILABLE`] if none has it now or
    /// none of them can be reached, or what the application's route function returns.
    fn route(&self, session: Option<&Session>, route: &str) -> Result<Arc<dyn PeerTransport>> {
        self.route_among(session, route, false)
    }

    /// [`route`](PeerRouter::route), among the members that answer calls if `calls` is set.
    fn route_among(
        &self,
        session: Option<&Session>,
        route: &str,
        calls: bool,
    ) -> Result<Arc<dyn PeerTransport>> {
        let service = service_of(route)?;
        let able = |transport: &Arc<dyn PeerTransport>| !calls || transport.answers_calls();
        let bound = session.and_then(|session| {
            session
                .inner()
                .bindings
                .with(service, |address| self.table.get(address))
        });
        if let Some(transport) = bound.filter(|transport| transport.status().bound) {
            return if able(&transport) {
                Ok(transport)
            } else {
                Err(unsupported(transport.address()))
            };
        }
        let mut candidates = self
            .table
            .candidates(service, |transport| {
                transport.status().available && able(transport)
            })
            .ok_or_else(|| self.table.missing(service, route))?;
        let any = |candidates: &[Candidate], is: fn(PeerStatus) -> bool| {
            candidates.iter().any(|(_, it)| is(it.status()))
        };
        if session.is_some() || any(&candidates, |status| !status.draining) {
            candidates.retain(|(_, transport)| !transport.status().draining);
        }
        if any(&candidates, |status| !status.suspect) {
            candidates.retain(|(_, transport)| !transport.status().suspect);
        }
        if candidates.is_empty() {
            return Err(unavailable(service));
        }
        // The same order on every gate, for round robin and the application's own choice.
        candidates.sort_by(|(a, _), (b, _)| a.address().cmp(b.address()));
        let chosen = self.choose_caught(session, service, &candidates)?;
        let (member, transport) = candidates
            .into_iter()
            .nth(chosen)
            .ok_or_else(|| unavailable(service))?;
        if let Some(session) = session {
            let bindings = &session.inner().bindings;
            bindings.set(service, Some(member.address()));
        }
        Ok(transport)
    }

    /// Runs the application's code, on a thread that serves other sessions as well.
    fn choose_caught(
        &self,
        session: Option<&Session>,
        service: &str,
        candidates: &[Candidate],
    ) -> Result<usize> {
        let panics = &self.context().dispatch.reporter().metrics.panics;
        catch_panic(panics, "choosing a member panicked", || {
            self.choose(session, service, candidates)
        })
    }

    fn choose(
        &self,
        session: Option<&Session>,
        service: &str,
        candidates: &[Candidate],
    ) -> Result<usize> {
        if let (Some(choose), Some(session)) = (&self.route_fn, session) {
            let members: Vec<_> = candidates
                .iter()
                .map(|(member, _)| member.clone())
                .collect();
            if let Some(chosen) = choose(session, service, &members)? {
                return members
                    .iter()
                    .position(|member| *member == chosen)
                    .ok_or_else(|| unavailable(service));
            }
        }
        let loads: Vec<(&str, usize)> = candidates
            .iter()
            .map(|(member, transport)| (member.address(), transport.load()))
            .collect();
        self.balancer
            .choose(session, &loads)
            .ok_or_else(|| unavailable(service))
    }

    /// The transport for a call without an address.
    fn route_call(&self, session: Option<&Session>, route: &str) -> Result<Arc<dyn PeerTransport>> {
        let service = service_of(route)?;
        match self.table.answers_calls(service) {
            None => Err(self.table.missing(service, route)),
            Some(false) => Err(unsupported(service)),
            Some(true) => self.route_among(session, route, true),
        }
    }

    /// A call on behalf of a session of another gate goes by way of that gate.
    fn call_by_gate(&self, remote: &RemoteSession, call: Call) {
        let calls = &self.context().calls;
        let id = calls.next_id();
        calls.insert(id, remote.stream(), call.caller.clone());
        let message = Message::request(id, call.route, call.body);
        match remote.relay_call(id, message, call.to, call.caller.deadline()) {
            Ok(()) => {
                let calls = Arc::<PendingCalls>::downgrade(calls);
                call.caller.forwarded(calls, id);
            }
            Err(error) => {
                if let Some(caller) = calls.take(id) {
                    // Taken out of the table, so nothing else answers it.
                    let _ = caller.answer(Err(error));
                }
            }
        }
    }
}

/// How traffic ends when this node stops.
impl PeerRouter {
    /// Asks the other nodes for no new sessions; those that are bound to this one stay.
    pub(crate) fn cordon(&self) {
        self.links.cordon();
    }

    /// Asks the other nodes for no more work and finishes what there is. Returns when all requests
    /// are answered and everything has been sent, or at the deadline; then all sessions of other
    /// gates end.
    pub(crate) async fn drain(&self, deadline: Instant) {
        let (peers, calls) = (self.links.goaway(), &self.context().calls);
        let finished = async {
            loop {
                let now = Instant::now();
                if LinkPeers::are_drained(&peers, now)
                    && calls.waiting(now) == 0
                    && self.compat.is_drained()
                {
                    return;
                }
                sleep(POLL_INTERVAL).await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            warn!("drain took too long, requests of other nodes are given up");
        }
        self.compat.end_sessions(&CloseReason::Shutdown);
        LinkPeers::end_sessions(&peers);
    }

    /// Sends what is queued, at most until the deadline, and ends all links.
    pub(crate) async fn finish(&self, deadline: Instant) {
        let peers = self.links.finish();
        let sent = async {
            while !LinkPeers::are_flushed(&peers) || !self.compat.is_flushed() {
                sleep(POLL_INTERVAL).await;
            }
        };
        // A peer that does not read now finds out by itself that this node is gone.
        let _ = timeout_at(deadline, sent).await;
        self.links.close_all(&peers);
        self.compat.close_all("this node stops");
    }
}

impl MembershipSubscriber for PeerRouter {
    fn on_member_added(self: Arc<Self>, member: &Member) {
        self.table.insert_member(member);
        if member.info().link {
            self.links.joined(member);
        } else {
            self.compat.joined(member);
        }
    }

    fn on_member_removed(self: Arc<Self>, member: &Member) {
        self.table.remove_member(member);
        // Sessions that are bound to it are free.
        for session in self.context().node.sessions().list_local() {
            session.inner().bindings.forget(member.address());
        }
        self.compat.left(member);
        self.links.left(member);
    }
}

impl ClusterRouter for PeerRouter {
    fn forward(&self, session: &Session, message: Message) -> Result<(), ForwardError> {
        self.route(Some(session), &message.route)?
            .send(session, message, Origin::Client)?;
        self.context().metrics.forwarded.increment(1);
        Ok(())
    }

    fn rpc(&self, session: &Session, message: Message) -> Result {
        if let Some(remote) = sink::<RemoteSession>(session) {
            return remote.relay(message);
        }
        let transport = self.route(Some(session), &message.route)?;
        if let Some(remote) = sink::<CompatSession>(session) {
            return self
                .compat
                .relay(session, remote, transport.address(), message);
        }
        transport
            .send(session, message, Origin::Node)
            .map_err(into_error)
    }

    fn call(&self, mut call: Call) {
        // A gate without links relays no calls, and the member does not know its sessions: the call
        // becomes the node's own.
        call.session = call
            .session
            .filter(|session| sink::<CompatSession>(session).is_none());
        let session = call.session.clone();
        if let Some(remote) = session.as_ref().and_then(sink::<RemoteSession>) {
            return self.call_by_gate(remote, call);
        }
        let transport = match &call.to {
            Some(address) => self.table.answering(address),
            None => self.route_call(session.as_ref(), &call.route),
        };
        match transport {
            Ok(transport) => transport.call(call),
            Err(error) => drop(call.caller.answer(Err(error))),
        }
    }

    fn is_here(&self, address: &str) -> bool {
        self.context().address == address
    }

    fn nodes_with(&self, route: &str, here: bool) -> Vec<String> {
        let Ok(service) = service_of(route) else {
            return Vec::new();
        };
        let mut nodes = self.table.addresses(service);
        if here {
            nodes.insert(0, self.context().address.clone());
        }
        nodes
    }

    fn bound(&self, session: &Session) {
        self.table
            .each(|transport| transport.session_bound(session));
    }

    fn shared(&self, session: &Session, key: &str) {
        self.table
            .each(|transport| transport.session_shared(session, key));
    }

    fn closed(&self, session: &Session, reason: &CloseReason) {
        self.table
            .each(|transport| transport.clone().session_closed(session, reason));
    }
}

fn sink<E: SessionSink>(session: &Session) -> Option<&E> {
    let sink: &dyn Any = &**session.sink();
    sink.downcast_ref()
}

/// The part of a route that names the service.
fn service_of(route: &str) -> Result<&str> {
    route
        .rsplit_once('.')
        .map(|(service, _)| service)
        .ok_or_else(|| not_found(route))
}

fn not_found(route: &str) -> Error {
    Error::new(code::NOT_FOUND, format!("route not found: {route}"))
}

fn unavailable(service: &str) -> Error {
    Error::new(
        code::UNAVAILABLE,
        format!("no member that has {service} can be reached"),
    )
}

impl fmt::Debug for PeerRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerRouter")
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}
