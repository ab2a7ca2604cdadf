//! The nodes of Go nano, and what happens when they come and go.

use std::sync::Arc;

use tokio::time::sleep;
use tracing::info;

use super::{
    GoPeer, Outgoing,
    remote::{GoRemote, GoServed},
};
use crate::{
    cluster::{
        link::{proto::Frame, shard_of},
        peer::Peer,
        peers::Peers,
        proto::NotifyMessage,
        remote::{Remote, Served},
    },
    error::{Error, Result, code},
    message::Message,
    session::{CloseReason, Session},
};

/// So many gates may send messages before anybody has heard that they joined.
const STRANGERS: usize = 256;

impl Peers {
    /// A node that is spoken to as nano does, which may be one that nobody has heard of yet.
    ///
    /// # Errors
    /// The address is none, or there are too many strangers.
    pub(in crate::cluster) fn go_peer(self: &Arc<Self>, address: &str) -> Result<Arc<GoPeer>> {
        if let Some(peer) = self.table.read().go.get(address) {
            return Ok(peer.clone());
        }
        let peer = GoPeer::new(address, &self.dialer, &self.dispatch, self.runtime.clone())?;
        let stranger = {
            let mut table = self.table.write();
            if let Some(peer) = table.go.get(address) {
                return Ok(peer.clone());
            }
            let stranger = !table.members.contains_key(address);
            if stranger && table.go.values().filter(|peer| !peer.has_joined()).count() >= STRANGERS
            {
                return Err(Error::new(
                    code::TOO_MANY,
                    "too many gates that are no members",
                ));
            }
            table.go.insert(address.to_owned(), peer.clone());
            stranger
        };
        if stranger {
            let (peers, peer) = (Arc::downgrade(self), peer.clone());
            let grace = self.grace;
            self.runtime.spawn(async move {
                sleep(grace).await;
                if let Some(peers) = peers.upgrade().filter(|_| !peer.has_joined()) {
                    peers.close_go(&peer, "it never joined");
                }
            });
        }
        Ok(peer)
    }

    /// Everything that was shared with it ends.
    pub(in crate::cluster) fn close_go(&self, peer: &Arc<GoPeer>, why: &str) {
        {
            let mut table = self.table.write();
            if table
                .go
                .get(&peer.address)
                .is_some_and(|known| Arc::ptr_eq(known, peer))
            {
                table.go.remove(&peer.address);
            }
        }
        let served = peer.close();
        info!(
            peer = peer.address,
            sessions = served.len(),
            why,
            "node gone"
        );
        let reason = CloseReason::Broken(format!("the gate {} is gone", peer.address));
        served
            .iter()
            .for_each(|served| self.end_go(served, &reason));
    }

    pub(in crate::cluster) fn end_go(&self, served: &GoServed, reason: &CloseReason) {
        served.sink.end();
        self.node
            .sessions()
            .close(&served.session, reason, self.node.scheduler());
    }

    /// Whether there are nodes that are spoken to as nano does.
    pub(in crate::cluster) fn has_go(&self) -> bool {
        !self.table.read().go.is_empty()
    }

    /// The peer at this address, if it has links.
    pub(super) fn linked(&self, address: &str) -> Option<Arc<Peer>> {
        self.table.read().peers.get(address).cloned()
    }

    /// A session of a gate that has links, of which a node of Go nano speaks, perhaps before its
    /// gate does.
    ///
    /// # Errors
    /// It has ended, or its gate is gone.
    pub(super) fn served_by_notify(&self, gate: &Arc<Peer>, id: i64) -> Result<Session> {
        let mut state = gate.inlets[shard_of(id)].state.lock();
        if gate.is_closed() || state.ended.contains(id) {
            return Err(Error::new(
                code::NOT_FOUND,
                format!("session not found: {id}"),
            ));
        }
        let stream = state.stream;
        let served = state.sessions.entry(id).or_insert_with(|| {
            let sink = Remote::new(id, gate.clone(), "", self.dispatch.clone());
            Served {
                session: self.node.sessions().open_remote(id, sink.clone()),
                sink,
                stream,
            }
        });
        Ok(served.session.clone())
    }

    /// A node of Go nano has answered a request; which one it was it does not say.
    pub(super) fn answered_by_go(&self, session: i64, request: u64) {
        self.table
            .read()
            .go
            .values()
            .any(|peer| peer.answered(session, request).is_some());
    }

    /// A gate of Go nano has closed a session; which gate it was it does not say.
    pub(super) fn closed_by_go(&self, session: i64, reason: &CloseReason) {
        let served: Vec<_> = self
            .table
            .read()
            .go
            .values()
            .filter_map(|peer| peer.end(session))
            .collect();
        served.iter().for_each(|served| self.end_go(served, reason));
    }

    /// Sends a one-way message on behalf of a session of a gate of Go nano: straight to the member,
    /// in the gate's name.
    pub(in crate::cluster) fn rpc_for_go(
        &self,
        session: &Session,
        remote: &GoRemote,
        address: &str,
        message: Message,
    ) -> Result {
        let this = self
            .this
            .upgrade()
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "the node has stopped"))?;
        let (gate_addr, session_id) = (remote.gate().to_owned(), session.id());
        let notify = NotifyMessage {
            gate_addr,
            session_id,
            route: message.route.to_string(),
            data: message.body,
        };
        this.go_peer(address)?
            .send(session_id, Outgoing::Notify(notify))
    }

    /// A session of this gate has ended, of which nodes of Go nano may have told others.
    pub(in crate::cluster) fn closed_for_go(&self, session: &Session, reason: &CloseReason) {
        let table = self.table.read();
        if table.go.is_empty() {
            return;
        }
        table
            .go
            .values()
            .filter(|peer| peer.has_joined())
            .for_each(|peer| peer.closed(session));
        // Also to one that is cut off: when it is back, what a node of Go nano has to say of the
        // session may not have arrived yet.
        for peer in table.peers.values() {
            peer.shards[shard_of(session.id())].send(Frame::session_closed(session.id(), reason));
        }
    }
}
