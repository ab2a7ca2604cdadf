//! Which member a message goes to, and on its way.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    calls,
    go::{GoPeer, remote::GoRemote},
    link::{
        SHARDS,
        proto::{Frame, Kind},
        shard_of,
    },
    peer::Peer,
    peers::{Peers, Table},
    remote::Remote,
};
use crate::{
    dispatch::{ClusterRouter, ForwardError},
    error::{Error, Result, code},
    member::Member,
    message::Message,
    session::{Call, CloseReason, Session, SessionSink},
};

/// How a member is reached.
#[derive(Clone)]
enum Way {
    Link(Arc<Peer>),
    Go(Arc<GoPeer>),
}

impl Way {
    fn address(&self) -> &str {
        match self {
            Self::Link(peer) => &peer.address,
            Self::Go(peer) => &peer.address,
        }
    }

    /// Whether what is bound to it stays with it.
    fn is_open(&self) -> bool {
        match self {
            Self::Link(peer) => peer.has_joined() && !peer.is_leaving(),
            Self::Go(peer) => peer.has_joined(),
        }
    }

    /// Whether new sessions go there.
    fn is_available(&self) -> bool {
        match self {
            Self::Link(peer) => peer.is_available(),
            Self::Go(peer) => peer.is_available(),
        }
    }

    /// Whether others should be preferred: it may hang, or only be slow.
    fn is_silent(&self) -> bool {
        match self {
            Self::Link(peer) => peer.is_silent(),
            Self::Go(_) => false,
        }
    }

    fn load(&self) -> usize {
        match self {
            Self::Link(peer) => peer.shards.iter().map(|shard| shard.sessions()).sum(),
            Self::Go(peer) => peer.sessions(),
        }
    }
}

impl Table {
    fn way(&self, address: &str) -> Option<Way> {
        let linked = self.peers.get(address).cloned().map(Way::Link);
        linked.or_else(|| self.go.get(address).cloned().map(Way::Go))
    }
}

impl Peers {
    /// The member for a message of this session, or of nobody: the one it is bound to, else the one
    /// that the application or the policy chooses, to which it is bound from now on.
    fn route(&self, session: Option<&Session>, route: &str) -> Result<Way> {
        self.route_among(session, route, |_| true)
    }

    /// [`route`](Peers::route) among the members that are `able`.
    fn route_among(
        &self,
        session: Option<&Session>,
        route: &str,
        able: impl Fn(&Way) -> bool,
    ) -> Result<Way> {
        let service = service_of(route)?;
        let table = self.table.read();
        let bound = session
            .and_then(|session| session.router().with(service, |address| table.way(address)));
        if let Some(way) = bound.filter(Way::is_open) {
            return if able(&way) {
                Ok(way)
            } else {
                Err(unsupported(way.address()))
            };
        }
        let offers: Vec<_> = table
            .members
            .values()
            .filter(|member| member.services().iter().any(|offered| offered == service))
            .collect();
        if offers.is_empty() {
            return Err(not_found(route));
        }
        let available = |member: &Member| {
            table
                .way(member.address())
                .filter(|way| way.is_available() && able(way))
        };
        let mut candidates: Vec<_> = offers
            .into_iter()
            .filter_map(|member| Some((member.clone(), available(member)?)))
            .collect();
        drop(table);
        if candidates.iter().any(|(_, way)| !way.is_silent()) {
            candidates.retain(|(_, way)| !way.is_silent());
        }
        // The same order everywhere, which round robin and the application's own choice may rely
        // on.
        candidates.sort_by(|(a, _), (b, _)| a.address().cmp(b.address()));
        if candidates.is_empty() {
            return Err(unavailable(service));
        }
        // The application has a say in it, on a thread that serves others as well.
        let chosen = catch_unwind(AssertUnwindSafe(|| {
            self.choose(session, service, &candidates)
        }));
        let at = chosen.unwrap_or_else(|_| {
            self.dispatch.reporter().metrics.panics.increment(1);
            Err(Error::new(
                code::INTERNAL,
                format!("the choice of a member for {service} panicked"),
            ))
        })?;
        let (member, way) = candidates
            .into_iter()
            .nth(at)
            .ok_or_else(|| unavailable(service))?;
        if let Some(session) = session {
            session.router().bind(service, member.address());
        }
        Ok(way)
    }

    fn choose(
        &self,
        session: Option<&Session>,
        service: &str,
        candidates: &[(Member, Way)],
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
            .map(|(member, way)| (member.address(), way.load()))
            .collect();
        self.balancer
            .choose(session, &loads)
            .ok_or_else(|| unavailable(service))
    }

    fn send(&self, session: &Session, message: Message, kind: Kind) -> Result<(), ForwardError> {
        let id = session.id();
        match self.route(Some(session), &message.route)? {
            Way::Link(peer) => {
                let timeout = self.dispatch.request_timeout().filter(|_| message.id != 0);
                let frame = |message: Message| {
                    Frame::message(kind, id, message.id, message.route, message.body)
                        .within(timeout)
                };
                peer.shards[shard_of(id)].message(session, message, frame)
            }
            Way::Go(peer) => peer.message(&self.address, session, message),
        }
    }

    /// Sends a call to one peer. On failure the caller has been told.
    fn call_peer(&self, peer: &Arc<Peer>, call: Call) {
        let Call {
            session,
            route,
            body,
            caller,
            ..
        } = call;
        let id = self.calls.next_id();
        let shard = session
            .as_ref()
            .map_or((id % SHARDS as u64) as usize, |session| {
                shard_of(session.id())
            });
        self.calls.insert(
            id,
            calls::Way {
                incarnation: peer.incarnation,
                shard,
            },
            caller.clone(),
        );
        let sent = match &session {
            Some(session) => {
                let message = Message::request(id, route, body);
                let frame = |message: Message| {
                    Frame::message(Kind::Call, session.id(), id, message.route, message.body)
                        .until(caller.deadline())
                };
                peer.shards[shard]
                    .message(session, message, frame)
                    .map_err(into_error)
            }
            None if peer.shards[shard].is_down() => Err(Error::new(
                code::UNAVAILABLE,
                "the member cannot be reached",
            )),
            None => {
                let shard = &peer.shards[shard];
                shard.try_send(
                    Frame::message(Kind::Call, 0, id, route, body).until(caller.deadline()),
                    &shard.node,
                )
            }
        };
        if let Err(error) = sent
            && let Some(caller) = self.calls.take(id)
        {
            // Taken by us, so nobody else answers it.
            let _ = caller.answer(Err(error));
        }
    }

    /// Calls on behalf of a session of another gate go by way of that gate.
    fn call_by_gate(&self, remote: &Remote, call: Call) {
        let id = self.calls.next_id();
        self.calls.insert(id, remote.way(), call.caller.clone());
        let message = Message::request(id, call.route, call.body);
        if let Err(error) =
            remote.relay_message(Kind::RelayCall, id, message, call.caller.deadline())
            && let Some(caller) = self.calls.take(id)
        {
            let _ = caller.answer(Err(error));
        }
    }

    fn peer_at(&self, address: &str) -> Result<Arc<Peer>> {
        let table = self.table.read();
        match table.members.get(address) {
            None => Err(Error::new(
                code::NOT_FOUND,
                format!("no member at {address}"),
            )),
            Some(member) if !member.info().link => Err(unsupported(address)),
            Some(_) => table.peers.get(address).cloned().ok_or_else(|| {
                Error::new(code::UNAVAILABLE, format!("{address} cannot be reached"))
            }),
        }
    }

    /// The member for a call: nodes of Go nano cannot answer one.
    fn linked_for(&self, session: Option<&Session>, route: &str) -> Result<Arc<Peer>> {
        self.check_answerable(route)?;
        match self.route_among(session, route, |way| matches!(way, Way::Link(_)))? {
            Way::Link(peer) => Ok(peer),
            Way::Go(peer) => Err(unsupported(&peer.address)),
        }
    }

    /// Whether only nodes of Go have the service.
    fn check_answerable(&self, route: &str) -> Result {
        let service = service_of(route)?;
        let table = self.table.read();
        let mut offers = table
            .members
            .values()
            .filter(|member| member.services().iter().any(|offered| offered == service))
            .peekable();
        if offers.peek().is_none() {
            return Err(not_found(route));
        }
        if offers.any(|member| member.info().link) {
            Ok(())
        } else {
            Err(unsupported(service))
        }
    }
}

impl ClusterRouter for Peers {
    fn forward(&self, session: &Session, message: Message) -> Result<(), ForwardError> {
        self.send(session, message, Kind::Message)?;
        self.metrics.forwarded.increment(1);
        Ok(())
    }

    fn rpc(&self, session: &Session, message: Message) -> Result {
        if let Some(remote) = sink::<Remote>(session) {
            return remote.relay_message(Kind::Relay, 0, message, None);
        }
        if let Some(remote) = sink::<GoRemote>(session) {
            let address = self
                .route(Some(session), &message.route)?
                .address()
                .to_owned();
            return self.rpc_for_go(session, remote, &address, message);
        }
        self.send(session, message, Kind::Rpc).map_err(into_error)
    }

    fn call(&self, mut call: Call) {
        // A gate of Go nano cannot be asked, and the member would not know its session: the call is
        // the node's own.
        call.session = call
            .session
            .filter(|session| sink::<GoRemote>(session).is_none());
        let session = call.session.clone();
        if let (Some(remote), None) = (session.as_ref().and_then(sink::<Remote>), &call.to) {
            return self.call_by_gate(remote, call);
        }
        let peer = match &call.to {
            Some(address) => self.peer_at(address),
            None => self.linked_for(session.as_ref(), &call.route),
        };
        match peer {
            Ok(peer) => self.call_peer(&peer, call),
            Err(error) => drop(call.caller.answer(Err(error))),
        }
    }

    fn is_here(&self, address: &str) -> bool {
        self.address == address
    }

    fn nodes_with(&self, route: &str, here: bool) -> Vec<String> {
        let Ok(service) = service_of(route) else {
            return Vec::new();
        };
        let table = self.table.read();
        let offers = table
            .members
            .values()
            .filter(|member| member.services().iter().any(|offered| offered == service));
        let mut nodes: Vec<_> = offers.map(|member| member.address().to_owned()).collect();
        nodes.sort();
        if here {
            nodes.insert(0, self.address.clone());
        }
        nodes
    }

    fn bound(&self, session: &Session) {
        self.each_peer(|peer| peer.shards[shard_of(session.id())].bound(session));
    }

    fn closed(&self, session: &Session, reason: &CloseReason) {
        self.each_peer(|peer| peer.shards[shard_of(session.id())].closed(session, reason));
        self.closed_for_go(session, reason);
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

fn unsupported(what: &str) -> Error {
    Error::new(
        code::UNSUPPORTED,
        format!("{what} is on a node of Go nano, which cannot answer calls"),
    )
}

fn into_error(refused: ForwardError) -> Error {
    match refused {
        ForwardError::Full(..) => Error::new(code::TOO_MANY, "the member cannot take more"),
        ForwardError::Error(error) => error,
    }
}
