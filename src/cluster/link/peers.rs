//! The peers that are reached by links: which incarnation counts at an address, and the tasks that
//! keep the streams to each up.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use parking_lot::RwLock;
use tokio::{
    runtime,
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::{Instant, sleep},
};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::{
    activity::OpenCalls,
    context::LinkContext,
    effect::Effect,
    handler, inbound, outbound,
    peer::{InboundStream, LinkPeer},
    proto::{Batch, Frame, Hello},
    stream::LinkStream,
};
use crate::{
    cluster::{
        backoff::Backoff,
        peer_table::{Authority, PeerTable},
    },
    dispatch::Dispatch,
    handle::Readiness,
    member::Member,
    session::Session,
};

/// Pauses between attempts to open a stream.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The longest pause between attempts at a peer that was never reached: its address may be wrong.
const NEVER_CONNECTED: Duration = Duration::from_secs(5);

/// Peers that the master has not announced, or that have left, at most.
const MAX_UNVERIFIED: usize = 64;

/// All peers that are reached by links.
pub(in crate::cluster) struct LinkPeers {
    pub(in crate::cluster) context: Arc<LinkContext>,
    /// Takes what the peers send.
    dispatch: Arc<Dispatch>,
    /// Where the router finds the peers. Locked within `peers`.
    table: Arc<PeerTable>,
    peers: RwLock<HashMap<Arc<str>, Arc<LinkPeer>>>,
    /// The last number of a stream, or epoch of a link.
    last_number: AtomicU64,
    /// Set when this node asks its peers for no new work.
    goes_away: AtomicBool,
    /// Where streams are opened.
    runtime: runtime::Handle,
    /// Set under the lock of `peers`, so that no peer comes after the last look at all of them.
    stopped: AtomicBool,
}

impl LinkPeers {
    pub(in crate::cluster) fn new(
        context: Arc<LinkContext>,
        dispatch: Arc<Dispatch>,
        table: Arc<PeerTable>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            dispatch,
            table,
            peers: RwLock::default(),
            last_number: AtomicU64::new(0),
            goes_away: AtomicBool::new(false),
            runtime: runtime::Handle::current(),
            stopped: AtomicBool::new(false),
        })
    }

    fn apply(&self, peer: &LinkPeer, index: usize, effects: &mut Vec<Effect<Session>>) {
        handler::apply(&self.dispatch, peer, index, effects);
    }

    pub(in crate::cluster) fn list(&self) -> Vec<Arc<LinkPeer>> {
        self.peers.read().values().cloned().collect()
    }

    pub(in crate::cluster) fn get(&self, address: &str) -> Option<Arc<LinkPeer>> {
        self.peers.read().get(address).cloned()
    }

    /// The master announced a member.
    pub(in crate::cluster) fn joined(self: &Arc<Self>, member: &Member) {
        let (address, incarnation) = (member.address(), member.incarnation());
        if let Ok(peer) = self.get_or_create(address, incarnation, Authority::Master) {
            peer.join();
        }
    }

    /// The master announced that a member has left. If it left in order, its work goes on for as
    /// long as its streams are up.
    pub(in crate::cluster) fn left(&self, member: &Member) {
        let peer = self.get(member.address());
        if let Some(peer) = peer.filter(|peer| peer.incarnation == member.incarnation()) {
            peer.leave();
            if !peer.is_active() || peer.is_broken() {
                self.close(&peer, "it left the cluster");
            }
        }
    }

    /// Gets or creates the peer for an address and incarnation. A self-reported incarnation replaces
    /// another only after a dial to that address has found it there; the master may always replace.
    ///
    /// # Errors
    /// Another incarnation counts, there are too many unverified peers, or this node has stopped.
    fn get_or_create(
        self: &Arc<Self>,
        address: &str,
        incarnation: u64,
        authority: Authority,
    ) -> Result<Arc<LinkPeer>, Status> {
        let (peer, old) = {
            let mut peers = self.peers.write();
            if self.stopped.load(Ordering::Acquire) {
                return Err(Status::unavailable("the node has stopped"));
            }
            match peers.get(address) {
                Some(peer) if peer.incarnation == incarnation => return Ok(peer.clone()),
                Some(peer) => may_succeed(peer, incarnation, authority)?,
                None => {
                    self.table.may_come(address, incarnation, authority)?;
                    let unverified = peers.values().filter(|peer| !peer.is_member()).count();
                    if authority == Authority::Reported && unverified >= MAX_UNVERIFIED {
                        return Err(Status::resource_exhausted("too many unverified peers"));
                    }
                }
            }
            let epoch = self.next_number();
            let peer = LinkPeer::new(address, incarnation, epoch, self.context.clone());
            for (index, stream) in peer.streams.iter().enumerate() {
                let opener = self.opener(&peer, index);
                // Nothing is queued for it yet.
                let _ = stream.input(|state| state.poll_open(&opener));
            }
            let old = peers.insert(peer.address.clone(), peer.clone());
            self.table.insert(peer.address.clone(), peer.clone());
            (peer, old)
        };
        if let Some(old) = old {
            self.close(&old, "it was started again");
        }
        if self.context.node.readiness() == Readiness::Draining {
            self.cordon_peer(&peer);
        }
        if self.goes_away.load(Ordering::Acquire) {
            peer.streams.iter().for_each(|stream| stream.goaway(false));
        }
        Ok(peer)
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps an outbound stream up for as long as it is needed, or until the peer is closed. Runs
    /// once for each stream index: the opener it leaves behind starts it again.
    async fn keep_connected(self: Arc<Self>, peer: Arc<LinkPeer>, index: usize) {
        let opener = self.opener(&peer, index);
        let stream = &peer.streams[index];
        let mut backoff = Backoff::new(RECONNECT.0, NEVER_CONNECTED);
        // The last failure, so that each is logged once.
        let mut known = None;
        while !peer.is_closed() {
            if stream.input(|state| state.poll_open(&opener)).is_pending() {
                return self.close_if_gone(&peer);
            }
            self.context.detector.wake();
            let number = self.next_number();
            let up = || {
                backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
                known = None;
            };
            let result = tokio::select! {
                result = outbound::run(&self.dispatch, &peer, index, number, up) => result,
                () = peer.closed() => break,
            };
            if stream.read(|state| state.has_retired()) {
                debug!(peer = %peer.address, stream = index, "link idle, closed");
                continue;
            }
            let finished = result.is_ok() && stream.read(|state| state.is_finishing());
            match result {
                Ok(()) => debug!(peer = %peer.address, stream = index, "link ended"),
                Err(error) if known.as_deref() != Some(error.message()) => {
                    warn!(peer = %peer.address, stream = index, %error, "link broken");
                    known = Some(error.message().to_owned());
                }
                Err(_) => {}
            }
            if !finished {
                self.context.metrics.broken.increment(1);
            }
            let mut effects = Vec::new();
            stream.input(|state| state.outbound_down(Instant::now(), &mut effects));
            self.apply(&peer, index, &mut effects);
            self.context.detector.wake();
            self.close_if_gone(&peer);
            if finished {
                break;
            }
            tokio::select! {
                () = sleep(backoff.next_pause()) => {}
                () = peer.closed() => {}
            }
        }
    }

    /// A waker that opens an outbound stream.
    fn opener(self: &Arc<Self>, peer: &Arc<LinkPeer>, index: usize) -> Waker {
        Waker::from(Arc::new(Opener {
            runtime: self.runtime.clone(),
            peers: Arc::downgrade(self),
            peer: Arc::downgrade(peer),
            index,
        }))
    }

    /// Reads the inbound streams of one index until the peer is closed.
    async fn read_streams(
        self: Arc<Self>,
        peer: Arc<LinkPeer>,
        index: usize,
        mut streams: UnboundedReceiver<InboundStream>,
    ) {
        let mut next = None;
        loop {
            let stream = match next.take() {
                Some(stream) => stream,
                None => tokio::select! {
                    Some(stream) = streams.recv() => stream,
                    () = peer.closed() => return,
                },
            };
            next = inbound::read(&self.dispatch, &peer, index, stream, &mut streams).await;
            if next.is_none() {
                self.close_if_gone(&peer);
            }
        }
    }

    /// Hands a stream that a peer has opened to the task that reads it. A peer may do so before this
    /// node has heard that it joined. Returns the link stream when the stream is the current one.
    ///
    /// # Errors
    /// Another incarnation of the peer counts, or a later stream, or this node takes no more.
    pub(super) async fn accept(
        self: &Arc<Self>,
        hello: &Hello,
        frames: Vec<Frame>,
        batches: Streaming<Batch>,
    ) -> Result<Arc<LinkStream>, Status> {
        let peer = self.get_or_create(&hello.address, hello.incarnation, Authority::Reported)?;
        let index = hello.stream_index as usize;
        let (accepted, result) = oneshot::channel();
        peer.hand_over(
            index,
            InboundStream {
                number: hello.stream,
                epoch: hello.epoch,
                frames,
                batches,
                accepted,
            },
            |streams| {
                tokio::spawn(self.clone().read_streams(peer.clone(), index, streams));
            },
        );
        result
            .await
            .unwrap_or_else(|_| Err(Status::unavailable("the node is gone")))?;
        Ok(peer.streams[index].clone())
    }

    /// Probes all links: see [`LinkState::probe`](super::state::LinkState::probe). Returns when to
    /// do so again; `None` if not before something happens to a link.
    pub(super) fn probe(&self, now: Instant) -> Option<Instant> {
        self.context.calls.expire(now);
        let sent = self.context.calls.streams();
        let mut next: Option<Instant> = None;
        let mut effects = Vec::new();
        for peer in self.list() {
            for (index, stream) in peer.streams.iter().enumerate() {
                if stream.read(|state| state.is_idle()) {
                    continue;
                }
                let calls = OpenCalls {
                    sent: sent.contains(&stream.id),
                    served: stream.serves_calls(),
                };
                let at = stream.input(|state| state.probe(now, calls, &mut effects));
                next = next.into_iter().chain(at).min();
                if !effects.is_empty() {
                    self.apply(&peer, index, &mut effects);
                    self.close_if_gone(&peer);
                }
            }
        }
        next
    }

    /// Closes a peer that has left, or was never announced, when its last stream is gone.
    fn close_if_gone(&self, peer: &Arc<LinkPeer>) {
        if peer.is_closed() {
            return;
        }
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped && peer.is_sending() {
            // The other stream still has frames to send.
            return;
        }
        if stopped || (!peer.is_member() && !peer.is_active()) {
            self.close(peer, "its links ended");
        }
    }

    /// Forgets a peer: all that was shared with it ends.
    fn close(&self, peer: &Arc<LinkPeer>, reason: &str) {
        {
            let mut peers = self.peers.write();
            if peers
                .get(&peer.address)
                .is_some_and(|known| Arc::ptr_eq(known, peer))
            {
                peers.remove(&peer.address);
            }
            self.table.remove(&**peer);
        }
        let was_open = !peer.is_closed();
        peer.close();
        for (index, stream) in peer.streams.iter().enumerate() {
            let mut effects = Vec::new();
            stream.input(|state| state.close(&mut effects));
            self.apply(peer, index, &mut effects);
        }
        if was_open {
            info!(peer = %peer.address, reason, "peer gone");
        }
    }
}

/// How links end when this node stops.
impl LinkPeers {
    /// Asks all peers for no new sessions. Those that appear later learn of it from the handle, which
    /// says that the node drains.
    pub(in crate::cluster) fn cordon(&self) {
        self.list().iter().for_each(|peer| self.cordon_peer(peer));
    }

    /// A peer that may choose this node learns of it by one stream, open or not.
    fn cordon_peer(&self, peer: &LinkPeer) {
        for (index, stream) in peer.streams.iter().enumerate() {
            stream.cordon(self.context.options.has_services && index == 0);
        }
    }

    /// Asks all peers for no new work. Returns them. Peers that may send some learn of it by all
    /// streams, open or not: what they send before is behind none of them.
    pub(in crate::cluster) fn goaway(&self) -> Vec<Arc<LinkPeer>> {
        self.goes_away.store(true, Ordering::Release);
        let peers = self.list();
        let open = self.context.options.has_services;
        for peer in &peers {
            peer.streams.iter().for_each(|stream| stream.goaway(open));
        }
        peers
    }

    /// Whether these peers have sent all that they had for this node, and it is answered.
    pub(in crate::cluster) fn are_drained(peers: &[Arc<LinkPeer>], now: Instant) -> bool {
        peers.iter().all(|peer| {
            peer.is_drained() && peer.served_requests(now) == 0 && !peer.awaits_user_pushes()
        })
    }

    /// Ends all sessions of these peers.
    pub(in crate::cluster) fn end_sessions(&self, peers: &[Arc<LinkPeer>]) {
        for peer in peers {
            for (index, stream) in peer.streams.iter().enumerate() {
                let mut effects = Vec::new();
                stream.input(|state| state.end_served(&mut effects));
                self.apply(peer, index, &mut effects);
            }
        }
    }

    /// Takes no more peers, and ends all outbound streams behind what is queued. Returns the peers.
    pub(in crate::cluster) fn finish(&self) -> Vec<Arc<LinkPeer>> {
        {
            let _peers = self.peers.write();
            self.stopped.store(true, Ordering::Release);
        }
        let peers = self.list();
        for peer in &peers {
            for (index, stream) in peer.streams.iter().enumerate() {
                let mut effects = Vec::new();
                stream.input(|state| state.finish(&mut effects));
                self.apply(peer, index, &mut effects);
            }
        }
        peers
    }

    /// Whether these peers have been sent all that was queued for them.
    pub(in crate::cluster) fn are_flushed(peers: &[Arc<LinkPeer>]) -> bool {
        !peers.iter().any(|peer| peer.is_sending())
    }

    pub(in crate::cluster) fn close_all(&self, peers: &[Arc<LinkPeer>]) {
        for peer in peers {
            self.close(peer, "this node stops");
        }
    }
}

/// Opens an outbound stream when it is woken.
struct Opener {
    runtime: runtime::Handle,
    peers: Weak<LinkPeers>,
    peer: Weak<LinkPeer>,
    index: usize,
}

impl Wake for Opener {
    fn wake(self: Arc<Self>) {
        if let (Some(peers), Some(peer)) = (self.peers.upgrade(), self.peer.upgrade()) {
            self.runtime.spawn(peers.keep_connected(peer, self.index));
        }
    }
}

/// Whether another incarnation may take the place of a peer.
fn may_succeed(peer: &LinkPeer, incarnation: u64, authority: Authority) -> Result<(), Status> {
    match authority {
        Authority::Master if !peer.is_member() || peer.incarnation < incarnation => Ok(()),
        _ if peer.incarnation > incarnation => Err(Status::failed_precondition(
            "a later incarnation of this node is known",
        )),
        _ if peer.is_succeeded_by(incarnation) => Ok(()),
        // The node tries again. By then the master may have announced it, or a dial has found it.
        _ => Err(Status::unavailable(
            "an earlier incarnation of this node is known, and not known to be gone",
        )),
    }
}

impl fmt::Debug for LinkPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkPeers")
            .field("peers", &self.peers.read().len())
            .finish_non_exhaustive()
    }
}
