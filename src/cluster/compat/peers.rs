//! The nodes of Go nano, and what happens when they come and go.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;
use tokio::{runtime, time::sleep};
use tracing::info;

use super::{
    call_queue::OutboundCall, peer::CompatPeer, remote::CompatSession, served::ServedSession,
};
use crate::{
    cluster::{link::context::LinkContext, peer_table::PeerTable, proto::NotifyMessage},
    error::{Error, Result, code},
    member::Member,
    message::Message,
    session::{CloseReason, Session},
};

/// Gates that may send messages before the master has announced them, at most.
const MAX_UNVERIFIED: usize = 256;

/// All nodes without links.
pub(in crate::cluster) struct CompatPeers {
    pub(super) context: Arc<LinkContext>,
    /// Where the router finds those that are members.
    table: Arc<PeerTable>,
    /// Locked before `table`.
    peers: RwLock<HashMap<Arc<str>, Arc<CompatPeer>>>,
    runtime: runtime::Handle,
    /// Whether messages of Go nodes, and so of their clients, reach internal services.
    trust: bool,
}

impl CompatPeers {
    pub(in crate::cluster) fn new(
        context: Arc<LinkContext>,
        table: Arc<PeerTable>,
        trust: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            table,
            peers: RwLock::default(),
            runtime: runtime::Handle::current(),
            trust,
        })
    }

    pub(super) fn trusts_clients(&self) -> bool {
        self.trust
    }

    /// The master announced a member without links.
    pub(in crate::cluster) fn joined(self: &Arc<Self>, member: &Member) {
        if let Ok(peer) = self.get_or_create(member.address()) {
            peer.join();
            self.table.insert(peer.address.clone(), peer);
        }
    }

    /// A member has left, which may be one without links.
    pub(in crate::cluster) fn left(&self, member: &Member) {
        let peer = self.peers.read().get(member.address()).cloned();
        if let Some(peer) = peer {
            self.close(&peer, "it left the cluster");
        }
    }

    /// Gets or creates the peer at an address. One that is not announced within the partition grace
    /// is closed again.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] if it is not an address, [`code::TOO_MANY`] for too many gates that are
    /// no members.
    pub(super) fn get_or_create(self: &Arc<Self>, address: &str) -> Result<Arc<CompatPeer>> {
        if let Some(peer) = self.peers.read().get(address) {
            return Ok(peer.clone());
        }
        let context = &self.context;
        let peer = CompatPeer::new(address, context.clone(), self.runtime.clone())?;
        let unverified = {
            let mut peers = self.peers.write();
            if let Some(peer) = peers.get(address) {
                return Ok(peer.clone());
            }
            let unverified = !self.table.is_member(address);
            let others = peers.values().filter(|peer| !peer.is_member()).count();
            if unverified && others >= MAX_UNVERIFIED {
                return Err(Error::new(
                    code::TOO_MANY,
                    "too many gates that are no members",
                ));
            }
            peers.insert(peer.address.clone(), peer.clone());
            context.set_outside_nodes(true);
            unverified
        };
        if unverified {
            let (peers, peer, grace) = (Arc::downgrade(self), peer.clone(), context.options.grace);
            self.runtime.spawn(async move {
                sleep(grace).await;
                if let Some(peers) = peers.upgrade().filter(|_| !peer.is_member()) {
                    peers.close(&peer, "it never joined");
                }
            });
        }
        Ok(peer)
    }

    /// Forgets a peer: all that was shared with it ends.
    fn close(&self, peer: &Arc<CompatPeer>, reason: &str) {
        {
            let mut peers = self.peers.write();
            if peers
                .get(&peer.address)
                .is_some_and(|known| Arc::ptr_eq(known, peer))
            {
                peers.remove(&peer.address);
            }
            self.context.set_outside_nodes(!peers.is_empty());
            self.table.remove(&**peer);
        }
        let served = peer.close();
        info!(peer = %peer.address, sessions = served.len(), reason, "peer gone");
        let reason = CloseReason::Broken(format!("the gate {} is gone", peer.address));
        served.iter().for_each(|served| self.end(served, &reason));
    }

    fn list(&self) -> Vec<Arc<CompatPeer>> {
        self.peers.read().values().cloned().collect()
    }

    fn end(&self, served: &ServedSession, reason: &CloseReason) {
        served.requests.end();
        let node = &self.context.node;
        node.sessions()
            .close(&served.session, reason, node.scheduler());
    }

    /// A Go node has answered a request of this gate. Its protocol does not say which node it is.
    pub(super) fn answered(&self, session: i64, request: u64) {
        self.peers
            .read()
            .values()
            .any(|peer| peer.answered(session, request).is_some());
    }

    /// A Go gate has closed a session. Its protocol does not say which gate it is.
    pub(super) fn closed(&self, session: i64, reason: &CloseReason) {
        let served: Vec<_> = self
            .list()
            .iter()
            .filter_map(|peer| peer.end(session))
            .collect();
        served.iter().for_each(|served| self.end(served, reason));
    }

    /// Sends a one-way message on behalf of a session of a Go gate: straight to the member, in the
    /// gate's name.
    ///
    /// # Errors
    /// [`code::TOO_MANY`], or [`code::CLOSED`] when the member is gone.
    pub(in crate::cluster) fn rpc(
        self: &Arc<Self>,
        session: &Session,
        remote: &CompatSession,
        address: &str,
        message: Message,
    ) -> Result {
        let notify = NotifyMessage {
            gate_addr: remote.gate().to_owned(),
            session_id: session.id(),
            route: message.route.to_string(),
            data: message.body,
        };
        self.get_or_create(address)?
            .enqueue(session.id(), OutboundCall::Notify(notify))
    }
}

/// How calls end when this node stops.
impl CompatPeers {
    /// Whether all requests of Go gates are answered, and all calls sent.
    pub(in crate::cluster) fn is_drained(&self) -> bool {
        self.list()
            .iter()
            .all(|peer| peer.unanswered() == 0 && peer.is_flushed())
    }

    /// Whether all calls are sent.
    pub(in crate::cluster) fn is_flushed(&self) -> bool {
        self.list().iter().all(|peer| peer.is_flushed())
    }

    /// Ends all sessions of Go gates.
    pub(in crate::cluster) fn end_sessions(&self, reason: &CloseReason) {
        for served in self.list().iter().flat_map(|peer| peer.end_all()) {
            self.end(&served, reason);
        }
    }

    pub(in crate::cluster) fn close_all(&self, reason: &str) {
        for peer in self.list() {
            self.close(&peer, reason);
        }
    }
}

impl fmt::Debug for CompatPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompatPeers")
            .field("peers", &self.peers.read().len())
            .finish_non_exhaustive()
    }
}
