//! Which member a message goes to: the one its session is bound to, else the application's choice,
//! else that of the balance policy.

use std::{any::Any, fmt, sync::Arc};

use tokio::time::Instant;

use super::balance::{Balance, Balancer, RouteFn};
use crate::{
    cluster::{
        compat::{peers::CompatPeers, remote::CompatSession},
        link::{context::LinkContext, remote::RemoteSession},
        peer_table::{Candidate, PeerTable, unsupported},
        pending_calls::PendingCalls,
        transport::{PeerStatus, PeerTransport, Serves, into_error},
    },
    dispatch::{ClusterRouter, ForwardError, Origin},
    error::{Error, Result, code},
    message::Message,
    panic::catch_panic,
    session::{Call, CloseReason, Session, SessionSink},
};

/// The way to the other nodes, which dispatch owns. It only sends: what peers send arrives at the
/// [data plane](crate::cluster::data_plane), which owns dispatch.
pub(crate) struct PeerRouter {
    context: Arc<LinkContext>,
    table: Arc<PeerTable>,
    /// Sends on behalf of sessions whose gates have no links.
    compat: Arc<CompatPeers>,
    balancer: Balancer,
    route_fn: Option<RouteFn>,
}

impl PeerRouter {
    pub(in crate::cluster) fn new(
        context: Arc<LinkContext>,
        table: Arc<PeerTable>,
        compat: Arc<CompatPeers>,
        (balance, route_fn): (Balance, Option<RouteFn>),
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            table,
            compat,
            balancer: Balancer::new(balance),
            route_fn,
        })
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
            session.inner().bindings.with(service, |address, since| {
                self.table.get_bound(address, since)
            })
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
        let panics = &self.context.reporter.metrics.panics;
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
    fn send_via_gate(&self, remote: &RemoteSession, call: Call) {
        let calls = &self.context.calls;
        let id = calls.next_id();
        calls.insert(id, remote.stream(), call.caller.clone());
        let message = Message::request(id, call.route, call.body);
        match remote.call_via_gate(id, message, call.to, call.caller.deadline()) {
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

impl ClusterRouter for PeerRouter {
    fn forward(&self, session: &Session, message: Message) -> Result<(), ForwardError> {
        self.route(Some(session), &message.route)?
            .send(session, message, Origin::Client)?;
        self.context.metrics.forwarded.increment(1);
        Ok(())
    }

    fn rpc(&self, session: &Session, message: Message) -> Result {
        if let Some(remote) = sink::<RemoteSession>(session) {
            return remote.rpc_via_gate(message);
        }
        let transport = self.route(Some(session), &message.route)?;
        if let Some(remote) = sink::<CompatSession>(session) {
            return self
                .compat
                .rpc(session, remote, transport.address(), message);
        }
        transport
            .send(session, message, Origin::Node)
            .map_err(into_error)
    }

    fn call(&self, mut call: Call) {
        // A gate without links passes no calls on, and the member does not know its sessions: the call
        // becomes the node's own.
        call.session = call
            .session
            .filter(|session| sink::<CompatSession>(session).is_none());
        let session = call.session.clone();
        if let Some(remote) = session.as_ref().and_then(sink::<RemoteSession>) {
            return self.send_via_gate(remote, call);
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
        self.context.address == address
    }

    fn nodes_with(&self, route: &str, here: bool) -> Vec<String> {
        let Ok(service) = service_of(route) else {
            return Vec::new();
        };
        let mut nodes = self.table.addresses(service);
        if here {
            nodes.insert(0, self.context.address.clone());
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

    fn served(&self, session: &Session) -> Option<Vec<(String, Vec<u64>)>> {
        let (mut served, mut fixed) = (Vec::new(), false);
        self.table
            .each(|transport| match transport.serves(session.id()) {
                Serves::Nothing => {}
                Serves::Movable(requests) => {
                    served.push((transport.address().to_owned(), requests));
                }
                Serves::Fixed => fixed = true,
            });
        (!fixed).then_some(served)
    }

    fn moved(&self, session: &Session) {
        self.table
            .each(|transport| transport.session_moved(session.id()));
    }

    fn adopted(&self, session: &Session, address: &str, requests: Vec<u64>) -> Result<u64> {
        let transport = self.table.answering(address)?;
        transport.session_adopted(session, requests)
    }

    fn attached(&self, session: &Session, address: &str, attached: bool) {
        if let Some(transport) = self.table.get(address) {
            transport.session_attached(session, attached);
        }
    }

    fn closed(&self, session: &Session, reason: &CloseReason) {
        let mut servers = Vec::new();
        self.table.each(|transport| {
            if transport.clone().session_closed(session, reason) {
                servers.push(transport.address().to_owned());
            }
        });
        // Only logins ask, about sessions with a user.
        if session.user().is_some() {
            let last_servers = &self.context.node.sessions().last_servers;
            last_servers.add(session.id(), servers, Instant::now());
        }
    }
}

fn sink<E: SessionSink>(session: &Session) -> Option<&E> {
    let sink: &dyn Any = &**session.sink();
    sink.downcast_ref()
}

/// The part of a route that names the service.
fn service_of(route: &str) -> Result<&str> {
    // The search for a byte from the end: that for a character takes 150 instructions, for any route.
    let dot = route.bytes().rposition(|byte| byte == b'.');
    dot.and_then(|dot| route.get(..dot))
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
        f.debug_struct("PeerRouter").finish_non_exhaustive()
    }
}
