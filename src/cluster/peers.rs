//! The data plane: all other nodes, and what happens when they come and go.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::{
    runtime,
    time::{Instant, sleep, timeout_at},
};
use tonic::Status;
use tracing::{debug, info, warn};

use super::{
    balance::{Balancer, RouteFn},
    calls::{Calls, Way},
    channel::Dialer,
    go::GoPeer,
    link::{
        SHARDS, outlet,
        proto::{Frame, Hello},
        shard::Lost,
        shard_of,
    },
    membership::subscriber::MembershipSubscriber,
    peer::{Answers, Peer},
    vigil,
};
use crate::{
    dispatch::Dispatch,
    error::{Error, code},
    handle::Handle,
    member::Member,
    metrics::LinkMetrics,
    session::{CloseReason, Session},
};

/// How often a stopping node looks whether all is done.
const LOOK: Duration = Duration::from_millis(5);

/// How many nodes may be linked of which the master has said nothing, or that have left.
const MAX_STRANGERS: usize = 64;

/// Everything that carries messages between this node and others.
pub(crate) struct Peers {
    pub(super) address: String,
    pub(super) incarnation: u64,
    pub(super) dialer: Arc<Dialer>,
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) node: Handle,
    pub(super) balancer: Balancer,
    pub(super) route_fn: Option<RouteFn>,
    pub(super) calls: Calls,
    pub(super) metrics: LinkMetrics,
    /// How long two nodes may be cut off from each other before the sessions they share end.
    pub(super) grace: Duration,
    /// Whether nodes of Go nano, and their clients, reach internal services.
    pub(super) trust_go: bool,
    pub(super) runtime: runtime::Handle,
    pub(super) this: Weak<Peers>,
    last_stream: AtomicU64,
    stopped: AtomicBool,
    pub(super) table: RwLock<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) peers: HashMap<Arc<str>, Arc<Peer>>,
    /// Who says to be in the cluster, with or without a link.
    pub(super) members: HashMap<String, Member>,
    /// Those that are spoken to as nano does.
    pub(super) go: HashMap<String, Arc<GoPeer>>,
}

/// On whose word a node is let in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Masters,
    Its,
}

impl Table {
    /// Whether a node may come at an address where nobody is.
    fn may_come(&self, address: &str, incarnation: u64, word: Word) -> Result<(), Status> {
        if word == Word::Masters {
            return Ok(());
        }
        if self
            .members
            .get(address)
            .is_some_and(|member| member.incarnation() != incarnation)
        {
            return Err(Status::unavailable(
                "the master says that another node is there",
            ));
        }
        if self
            .peers
            .values()
            .filter(|peer| !peer.has_joined())
            .count()
            >= MAX_STRANGERS
        {
            return Err(Status::resource_exhausted(
                "too many nodes that the master has said nothing of",
            ));
        }
        Ok(())
    }
}

/// Whether another run of a node may take its place.
fn may_succeed(peer: &Peer, incarnation: u64, word: Word) -> Result<(), Status> {
    match word {
        Word::Masters if !peer.has_joined() || peer.incarnation < incarnation => Ok(()),
        _ if peer.incarnation > incarnation => Err(Status::failed_precondition(
            "a later run of this node is known",
        )),
        _ if peer.is_succeeded_by(incarnation) => Ok(()),
        // It tries again, and by then the master may have said so, or it was found at the address.
        _ => Err(Status::unavailable(
            "an earlier run of this node is known, and the master has not said that it is gone",
        )),
    }
}

/// What an application may choose about it.
pub(crate) struct Options {
    pub(crate) balance: super::balance::Balance,
    pub(crate) route_fn: Option<RouteFn>,
    pub(crate) grace: Duration,
    pub(crate) trust_go: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            balance: super::balance::Balance::default(),
            route_fn: None,
            grace: Duration::from_secs(10),
            trust_go: false,
        }
    }
}

impl Peers {
    pub(crate) fn new(
        member: &Member,
        dialer: Arc<Dialer>,
        dispatch: Arc<Dispatch>,
        node: Handle,
        options: Options,
    ) -> Arc<Self> {
        let peers = Arc::new_cyclic(|this| Self {
            address: member.address().to_owned(),
            incarnation: member.incarnation(),
            dialer,
            dispatch: dispatch.clone(),
            node,
            balancer: Balancer::new(options.balance),
            route_fn: options.route_fn,
            calls: Calls::default(),
            metrics: LinkMetrics::new(member.address()),
            grace: options.grace,
            trust_go: options.trust_go,
            runtime: runtime::Handle::current(),
            this: this.clone(),
            last_stream: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            table: RwLock::default(),
        });
        let weak = Arc::downgrade(&peers);
        dispatch.connect(weak);
        tokio::spawn(vigil::run(Arc::downgrade(&peers)));
        peers
    }

    pub(super) fn everybody(&self) -> (Vec<Arc<Peer>>, Vec<Arc<GoPeer>>) {
        let table = self.table.read();
        (
            table.peers.values().cloned().collect(),
            table.go.values().cloned().collect(),
        )
    }

    pub(super) fn each_peer(&self, mut look: impl FnMut(&Peer)) {
        self.table.read().peers.values().for_each(|peer| look(peer));
    }

    pub(super) fn next_stream(&self) -> u64 {
        self.last_stream.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A node has joined.
    pub(crate) fn joined(self: &Arc<Self>, member: &Member) {
        self.table
            .write()
            .members
            .insert(member.address().to_owned(), member.clone());
        if member.info().link
            && let Ok(peer) = self.peer(member.address(), member.incarnation(), Word::Masters)
        {
            peer.join();
        } else if !member.info().link
            && let Ok(peer) = self.go_peer(member.address())
        {
            peer.join();
        }
    }

    /// A node has left: what is bound to it is free. If it left in order, what it still has to do
    /// goes on for as long as its links are up.
    pub(crate) fn left(self: &Arc<Self>, member: &Member) {
        let (peer, go) = {
            let mut table = self.table.write();
            if table
                .members
                .get(member.address())
                .is_some_and(|known| known.incarnation() == member.incarnation())
            {
                table.members.remove(member.address());
            }
            let peer = table
                .peers
                .get(member.address())
                .filter(|peer| peer.incarnation == member.incarnation())
                .cloned();
            (peer, table.go.get(member.address()).cloned())
        };
        for session in self.node.sessions().list_local() {
            session.router().forget(member.address());
        }
        if let Some(go) = go {
            self.close_go(&go, "the node has left the cluster");
        }
        if let Some(peer) = peer {
            peer.leave();
            if !peer.is_linked() || peer.is_broken() {
                self.close(&peer, "the node has left the cluster");
            }
        }
    }

    /// The peer, which may be new. Its own word brings in who is not known. It puts another run of
    /// it out only if it was found where that run was; the master's does in any case.
    ///
    /// # Errors
    /// Another run is known, there are too many that the master has said nothing of, or this node
    /// has stopped.
    fn peer(
        self: &Arc<Self>,
        address: &str,
        incarnation: u64,
        word: Word,
    ) -> Result<Arc<Peer>, Status> {
        let (peer, old) = {
            let mut table = self.table.write();
            // Under the lock, so that nobody comes behind the look at everybody when this node
            // stops.
            if self.stopped.load(Ordering::Acquire) {
                return Err(Status::unavailable("the node has stopped"));
            }
            match table.peers.get(address) {
                Some(peer) if peer.incarnation == incarnation => return Ok(peer.clone()),
                Some(peer) => may_succeed(peer, incarnation, word)?,
                None => table.may_come(address, incarnation, word)?,
            }
            let peer = Peer::new(address, incarnation);
            let old = table.peers.insert(peer.address.clone(), peer.clone());
            (peer, old)
        };
        if let Some(old) = old {
            self.close(&old, "the node was started again");
        }
        for shard in 0..SHARDS {
            tokio::spawn(outlet::run(self.clone(), peer.clone(), shard));
        }
        Ok(peer)
    }

    /// Another node opens a stream. It may do so before this node has heard that it joined.
    ///
    /// # Errors
    /// Another run of that node is known, or a later stream; or this node takes no more.
    pub(super) fn welcome(
        self: &Arc<Self>,
        hello: &Hello,
        answers: Answers,
    ) -> Result<Arc<Peer>, Status> {
        let peer = self.peer(&hello.address, hello.incarnation, Word::Its)?;
        let shard = hello.stream_index as usize;
        {
            let inlet = &peer.inlets[shard];
            let _turn = inlet.turn.lock();
            let mut state = inlet.state.lock();
            if state.stream >= hello.stream {
                return Err(Status::failed_precondition("a later link is known"));
            }
            state.begin(hello.stream);
            if state.answers.replace(answers).is_none() {
                debug!(peer = %peer.address, shard, "link accepted");
                return Ok(peer.clone());
            }
        }
        // The last stream has not ended here, but it has there.
        self.answers_lost(&peer, shard);
        Ok(peer)
    }

    /// What was under way to the peer is lost.
    pub(super) fn outlet_broken(self: &Arc<Self>, peer: &Arc<Peer>, shard: usize) {
        self.fail(peer.shards[shard].broken());
        self.calls.lost(Way {
            incarnation: peer.incarnation,
            shard,
        });
        self.settle(peer, shard, peer.shards[shard].down_since());
    }

    /// What was under way from the peer is lost.
    pub(super) fn inlet_broken(self: &Arc<Self>, peer: &Arc<Peer>, shard: usize, stream: u64) {
        let down_since = {
            let mut state = peer.inlets[shard].state.lock();
            if state.stream != stream {
                return;
            }
            state.answers = None;
            state.down_since = Some(Instant::now());
            state.down_since
        };
        self.answers_lost(peer, shard);
        self.settle(peer, shard, down_since);
    }

    fn answers_lost(&self, peer: &Peer, shard: usize) {
        self.fail(peer.shards[shard].answers_lost());
        self.calls.lost(Way {
            incarnation: peer.incarnation,
            shard,
        });
    }

    /// A peer that has left is gone with its last link; else the sessions that it shares with this
    /// node end when it has been away for too long.
    fn settle(self: &Arc<Self>, peer: &Arc<Peer>, shard: usize, down_since: Option<Instant>) {
        if peer.is_closed() {
            return;
        }
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped && peer.shards.iter().any(|shard| shard.is_up()) {
            // The other stream still has something to send.
            return;
        }
        if stopped || (!peer.has_joined() && peer.is_broken() && !peer.is_linked()) {
            return self.close(peer, "the node is gone");
        }
        let Some(since) = down_since else { return };
        let (peers, peer, wait) = (
            self.clone(),
            peer.clone(),
            self.grace.saturating_sub(since.elapsed()),
        );
        if wait.is_zero() {
            return peers.part(&peer, shard);
        }
        tokio::spawn(async move {
            tokio::select! {
                () = sleep(wait) => {}
                () = peer.closed() => return,
            }
            let down = [
                peer.shards[shard].down_since(),
                peer.inlets[shard].state.lock().down_since,
            ];
            if down.into_iter().flatten().any(|down| down == since) {
                peers.part(&peer, shard);
            }
        });
    }

    /// Two nodes have been cut off from each other for too long.
    fn part(&self, peer: &Arc<Peer>, shard: usize) {
        let lost = peer.shards[shard].part();
        let served = peer.inlets[shard]
            .state
            .lock()
            .sessions
            .drain()
            .map(|(_, served)| served)
            .collect::<Vec<_>>();
        if !lost.is_empty() || !served.is_empty() {
            warn!(peer = %peer.address, sessions = lost.len() + served.len(), "cut off for too long: shared sessions end");
        }
        self.unbind(peer, &lost);
        self.fail(lost);
        let reason = CloseReason::Broken(format!("the gate {} cannot be reached", peer.address));
        for served in served {
            peer.inlets[shard].gone(served.session.id());
            self.end(&served, &reason);
        }
    }

    /// The peer no longer serves a session of this gate.
    pub(super) fn gone(&self, peer: &Peer, frame: &Frame) {
        let lost: Lost = peer.shards[shard_of(frame.session)]
            .gone(frame.session, frame.opened)
            .into_iter()
            .collect();
        self.unbind(peer, &lost);
        self.fail(lost);
    }

    fn unbind(&self, peer: &Peer, sessions: &[(Session, VecDeque<u64>)]) {
        for (session, _) in sessions {
            session.router().forget(&peer.address);
        }
    }

    /// Forgets a peer: everything that was shared with it ends.
    fn close(&self, peer: &Arc<Peer>, why: &str) {
        {
            let mut table = self.table.write();
            if table
                .peers
                .get(&peer.address)
                .is_some_and(|known| Arc::ptr_eq(known, peer))
            {
                table.peers.remove(&peer.address);
            }
        }
        peer.close();
        for (index, shard) in peer.shards.iter().enumerate() {
            let lost = shard.close();
            self.unbind(peer, &lost);
            self.fail(lost);
            self.calls.lost(Way {
                incarnation: peer.incarnation,
                shard: index,
            });
        }
        let reason = CloseReason::Broken(format!("the gate {} is gone", peer.address));
        let mut count = 0;
        for inlet in &peer.inlets {
            let _turn = inlet.turn.lock();
            let served = {
                let mut state = inlet.state.lock();
                state.answers = None;
                // No stream of this run has a number that large.
                state.stream = u64::MAX;
                std::mem::take(&mut state.sessions)
            };
            count += served.len();
            served.values().for_each(|served| self.end(served, &reason));
        }
        info!(peer = %peer.address, sessions = count, why, "node gone");
    }

    /// Ends a session that this node serves for another gate.
    pub(super) fn end(&self, served: &super::remote::Served, reason: &CloseReason) {
        served.sink.end();
        self.node
            .sessions()
            .close(&served.session, reason, self.node.scheduler());
    }

    /// Answers requests that no member will answer.
    pub(super) fn fail(&self, lost: Lost) {
        for (session, requests) in lost {
            for request in requests {
                let error =
                    Error::new(code::UNAVAILABLE, "the member went away before it answered");
                self.dispatch.fail(&session.with_request(request), error);
            }
        }
    }

    /// Asks the other nodes for no more work, and finishes what there is: returns when all requests
    /// are answered, all sessions of other gates have ended, and everything has been sent.
    pub(crate) async fn drain(&self, deadline: Instant) {
        let (peers, go) = self.everybody();
        for peer in &peers {
            peer.shards
                .iter()
                .for_each(|shard| shard.send(Frame::goaway()));
        }
        let finished = async {
            let done = |go: &Arc<GoPeer>| go.unanswered() == 0 && go.is_flushed();
            let drained = |now: Instant| {
                peers
                    .iter()
                    .all(|peer| peer.is_drained() && unanswered(peer, now) == 0)
            };
            while !drained(Instant::now())
                || self.calls.waiting(Instant::now()) > 0
                || !go.iter().all(done)
            {
                sleep(LOOK).await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            warn!("requests of other nodes are given up");
        }
        for served in go.iter().flat_map(|peer| peer.end_all()) {
            self.end_go(&served, &CloseReason::Shutdown);
        }
        for peer in &peers {
            for inlet in &peer.inlets {
                let served = std::mem::take(&mut inlet.state.lock().sessions);
                served
                    .values()
                    .for_each(|served| self.end(served, &CloseReason::Shutdown));
            }
        }
    }

    /// Sends what is queued and ends all links.
    pub(crate) async fn finish(&self, deadline: Instant) {
        {
            let _table = self.table.write();
            self.stopped.store(true, Ordering::Release);
        }
        let (peers, go) = self.everybody();
        peers.iter().for_each(|peer| peer.finish());
        let sent = async {
            while peers
                .iter()
                .any(|peer| peer.shards.iter().any(|shard| shard.is_up()))
                || !go.iter().all(|peer| peer.is_flushed())
            {
                sleep(LOOK).await;
            }
        };
        // Who does not read now will find out that this node is gone.
        let _ = timeout_at(deadline, sent).await;
        for peer in &peers {
            self.close(peer, "this node stops");
        }
        for peer in &go {
            self.close_go(peer, "this node stops");
        }
    }
}

impl MembershipSubscriber for Peers {
    fn on_member_added(self: Arc<Self>, member: &Member) {
        self.joined(member);
    }

    fn on_member_removed(self: Arc<Self>, member: &Member) {
        self.left(member);
    }
}

fn unanswered(peer: &Peer, now: Instant) -> usize {
    let count = |inlet: &super::peer::Inlet| -> usize {
        inlet
            .state
            .lock()
            .sessions
            .values()
            .map(|served| served.sink.unanswered(now))
            .sum()
    };
    peer.inlets.iter().map(count).sum()
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("address", &self.address)
            .field("peers", &self.table.read().peers.len())
            .finish_non_exhaustive()
    }
}
