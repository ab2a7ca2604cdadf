//! Runs the directory of one node: calls, and the lock around the state machines.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::{
    runtime,
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

use self::state::{Effect, State};
use super::{
    gauges::DirectoryGauges,
    holdings::{self, LOGIN_TIMEOUT, Outcome},
    message::{
        CallerId, GateReply, GateRequest, Located, Notice, OwnerReply, OwnerRequest, Policy,
    },
    owner,
    view::{NodeId, View},
    wire::{self, Runs},
};
use crate::{
    cluster::{node_caller::NodeCaller, node_services::NodeCall},
    error::{Error, Result, code},
    session::UserId,
};

mod state;

/// How long a gate may take to end a session, with its close callbacks.
const STEP_DOWN_TIMEOUT: Duration = Duration::from_secs(7);

/// How long a node may take for what takes it no time.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// All messages from one node to another keep their order.
const KEY: u64 = 0;

/// What the directory needs of the sessions of its node.
pub(crate) trait GateSessions: Send + Sync {
    /// Waits until the close callbacks of a session have run on all nodes that served it, or their
    /// deadline has passed. Returns whether it has. With `kick` the session is ended first.
    fn ended(&self, session: i64, kick: bool) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

/// The directory of one node, as a gate and as an owner.
pub(crate) struct Directory {
    own: NodeId,
    caller: NodeCaller,
    metrics: DirectoryGauges,
    runtime: runtime::Handle,
    sessions: Arc<dyn GateSessions>,
    /// No call is made and no session is touched while it is held.
    state: Mutex<State>,
    /// Notified when the state machines need the clock earlier than they said.
    needs_tick: Arc<Notify>,
}

impl Directory {
    /// Creates the directory of a node, without a view. A standalone node has no incarnation.
    pub(crate) fn new(
        caller: NodeCaller,
        incarnation: u64,
        sessions: Arc<dyn GateSessions>,
        metrics: DirectoryGauges,
    ) -> Arc<Self> {
        let own = NodeId {
            address: caller.own_address().into(),
            incarnation,
        };
        Arc::new(Self {
            state: Mutex::new(State::new(own.clone())),
            own,
            caller,
            metrics,
            runtime: runtime::Handle::current(),
            sessions,
            needs_tick: Arc::default(),
        })
    }

    /// Claims a user for a session of this gate.
    ///
    /// The claim is made by this call; the future only waits.
    pub(crate) fn login(
        self: &Arc<Self>,
        session: i64,
        user: UserId,
        policy: Policy,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let (sender, outcome) = oneshot::channel();
        self.step(|state, now| state.login(session, user, policy, sender, now));
        async move { outcome.await.unwrap_or(Outcome::Ended) }
    }

    /// Notes that a session of this gate is bound to the user that `user` returns, or to none.
    pub(crate) fn bound(self: &Arc<Self>, session: i64, user: &dyn Fn() -> Option<UserId>) {
        // Read under the lock, so that of two binds at a time the last one counts.
        self.step(|state, _| match user() {
            Some(user) => state.holdings.bind(session, user, 0),
            None => state.holdings.unbind(session),
        });
    }

    /// Notes that a session of this gate has ended.
    pub(crate) fn closed(self: &Arc<Self>, session: i64) {
        self.step(|state, now| state.holdings.closed(session, now));
    }

    /// The number of the claim of a session of this gate, 0 for none; `None` while it is not decided.
    pub(crate) fn claim(&self, session: i64) -> Option<u64> {
        self.state.lock().holdings.claim_of(session)
    }

    /// Notes that a session comes from another gate, with its claim.
    pub(crate) fn adopted(self: &Arc<Self>, session: i64, user: UserId, claim: u64) {
        self.step(|state, _| state.holdings.bind(session, user, claim));
    }

    /// Notes that another gate has a session.
    pub(crate) fn moved(self: &Arc<Self>, session: i64) {
        self.step(|state, _| state.holdings.unbind(session));
    }

    /// Gives up the slots of this node: it is about to leave the cluster.
    pub(crate) fn leave(self: &Arc<Self>) {
        self.step(|state, _| state.holdings.leave(&self.own));
    }

    /// Returns this node.
    pub(super) fn own(&self) -> &NodeId {
        &self.own
    }

    /// Returns the owners of users by address, with the users' places in the list. `None` while the
    /// node has no numbered view.
    pub(crate) fn owners(&self, users: &[UserId]) -> Option<HashMap<NodeId, Vec<usize>>> {
        let state = self.state.lock();
        if state.owner.view().number() == 0 {
            return None;
        }
        let mut owners: HashMap<NodeId, Vec<usize>> = HashMap::new();
        for (at, user) in users.iter().enumerate() {
            let owner = state.holdings.owner(user)?;
            owners.entry(owner.clone()).or_default().push(at);
        }
        Some(owners)
    }

    /// Returns where sessions of users are, as their owner; `None` for those of other owners.
    pub(super) fn locate(&self, users: &[UserId]) -> Vec<Option<Located>> {
        self.state.lock().owner.locate(users)
    }

    /// Returns the view of the node.
    pub(super) fn view(&self) -> View {
        self.state.lock().owner.view().clone()
    }

    pub(super) fn set_view(self: &Arc<Self>, view: View) {
        let latest = view.clone();
        self.step(|state, now| {
            state.holdings.set_view(view.clone());
            state.owner.set_view(view, now);
        });
        self.metrics.view.set(latest.number() as f64);
        self.metrics.nodes.set(latest.nodes().len() as f64);
        self.metrics.owners.set(latest.candidates() as f64);
    }

    /// Notes that the master has told this node of a view, which it may not be in yet.
    pub(super) fn heard_of(self: &Arc<Self>, view: u64) {
        self.step(|state, _| state.holdings.on_heartbeat(view));
    }

    /// Lets the state machines look at the clock. Returns when they need it again.
    pub(super) fn tick(self: &Arc<Self>) -> Option<Instant> {
        self.step(|state, now| {
            state.holdings.tick(now);
            state.owner.tick(now);
        });
        let mut state = self.state.lock();
        state.next_tick = state.wants_tick(Instant::now());
        state.next_tick
    }

    /// Returns what is notified when the state machines need the clock earlier than they said.
    pub(super) fn needs_tick(&self) -> Arc<Notify> {
        self.needs_tick.clone()
    }

    /// Takes the call of a gate.
    pub(super) fn on_owner_call(
        self: &Arc<Self>,
        from: &NodeId,
        request: OwnerRequest,
        call: NodeCall,
    ) {
        self.step(|state, now| {
            let caller = state.expect(call);
            state.owner.on_call(from, caller, request, now);
        });
    }

    /// Takes the call of an owner.
    pub(super) fn on_gate_call(
        self: &Arc<Self>,
        from: &NodeId,
        request: GateRequest,
        call: NodeCall,
    ) {
        self.step(|state, now| {
            let caller = state.expect(call);
            state.holdings.on_call(from, caller, request, now);
        });
    }

    /// Takes the notices of a gate.
    pub(super) fn on_notices(self: &Arc<Self>, from: &NodeId, notices: Vec<Notice>) {
        self.step(|state, now| {
            for notice in notices {
                state.owner.on_notice(from, notice, now);
            }
        });
    }

    /// Feeds the state machines, and does what they want, in order and without the lock: by the thread
    /// that is at it already, if there is one.
    fn step(self: &Arc<Self>, act: impl FnOnce(&mut State, Instant)) {
        let mut state = self.state.lock();
        let now = Instant::now();
        act(&mut state, now);
        state.collect();
        if let Some(wanted) = state.wants_tick(now)
            && state.next_tick.is_none_or(|next| wanted < next)
        {
            state.next_tick = Some(wanted);
            self.needs_tick.notify_one();
        }
        if std::mem::replace(&mut state.applying, true) {
            return;
        }
        while let Some(effect) = state.effects.pop_front() {
            MutexGuard::unlocked(&mut state, || match effect {
                Effect::Owner(effect) => self.apply_owner(effect),
                Effect::Gate(effect) => self.apply_gate(effect),
                Effect::EndLogins { waiting, outcome } => {
                    for login in waiting {
                        // The claim stays if its caller has gone.
                        let _ = login.send(outcome);
                    }
                }
            });
        }
        state.applying = false;
    }

    fn apply_owner(self: &Arc<Self>, effect: owner::Effect) {
        match effect {
            owner::Effect::Reply { caller, reply } => {
                let reply = match &reply {
                    OwnerReply::Compared(_) => wire::compare_reply(&reply).encode_to_vec(),
                    _ => wire::claim_reply(&reply).encode_to_vec(),
                };
                self.respond(caller, reply.into());
            }
            owner::Effect::Call {
                call,
                to,
                request,
                pause,
            } => {
                let runs = self.runs(&to);
                let take = move |state: &mut State, reply: Option<GateReply>, now: Instant| {
                    state.owner.on_reply(call, reply, now);
                };
                match request {
                    GateRequest::StepDown {
                        user,
                        session,
                        ask,
                        claimant,
                        view,
                    } => {
                        let ended = (&user, session);
                        let request = wire::step_down(runs, ended, ask, claimant.as_ref(), view);
                        let within = STEP_DOWN_TIMEOUT;
                        let reply = self.call(&to, "Directory.StepDown", &request, within);
                        let (caller, gate) = (self.caller.clone(), to.address);
                        let is_gone = move |error: &Error| {
                            error.code() == code::NOT_FOUND || !caller.is_member(&gate)
                        };
                        let read = move |reply: Result<_>| match reply {
                            Ok(reply) => Some(wire::stepped_down(&reply)),
                            // This run of the gate is gone, with its sessions.
                            Err(error) if is_gone(&error) => {
                                let (claimant, late) = (None, true);
                                Some(GateReply::SteppedDown { claimant, late })
                            }
                            Err(_) => None,
                        };
                        self.feed(reply, read, take);
                    }
                    GateRequest::Recover { view, slots } => {
                        let request = wire::recover(runs, view, &slots);
                        let caller = self.caller.clone();
                        let reply = async move {
                            if !pause.is_zero() {
                                sleep(pause).await;
                            }
                            let (gate, method) = (&to.address, "Directory.Recover");
                            caller.call(gate, KEY, method, &request, CALL_TIMEOUT).await
                        };
                        let read = |reply: Result<_>| wire::recovered(&reply.ok()?).ok();
                        self.feed(reply, read, take);
                    }
                }
            }
        }
    }

    fn apply_gate(self: &Arc<Self>, effect: holdings::Effect) {
        match effect {
            holdings::Effect::Call { call, to, request } => {
                let runs = self.runs(&to);
                let take = move |state: &mut State, reply: Option<OwnerReply>, now: Instant| {
                    state.holdings.on_reply(call, reply, now);
                };
                match request {
                    OwnerRequest::Claim {
                        user,
                        session,
                        policy,
                    } => {
                        let request = wire::claim(runs, &user, session, policy);
                        let reply = self.call(&to, "Directory.Claim", &request, LOGIN_TIMEOUT);
                        let read = |reply: Result<_>| Some(wire::claimed(&reply.ok()?));
                        self.feed(reply, read, take);
                    }
                    OwnerRequest::Compare(sums) => {
                        let request = wire::compare(runs, &sums);
                        let reply = self.call(&to, "Directory.Compare", &request, CALL_TIMEOUT);
                        let read = |reply: Result<_>| Some(wire::compared(&reply.ok()?));
                        self.feed(reply, read, take);
                    }
                }
            }
            holdings::Effect::Send { to, notice } => {
                let message = wire::notice(self.runs(&to), &notice);
                // A comparison finds what is lost.
                let _ = self
                    .caller
                    .send(&to.address, KEY, "Directory.Notice", &message);
            }
            holdings::Effect::Reply { caller, reply } => {
                let reply = match &reply {
                    GateReply::SteppedDown { .. } | GateReply::Lives => {
                        wire::step_down_reply(&reply).encode_to_vec()
                    }
                    GateReply::Holdings { .. } | GateReply::Stale => {
                        wire::recover_reply(&reply).encode_to_vec()
                    }
                };
                self.respond(caller, reply.into());
            }
            holdings::Effect::End { session } => self.wait_for_end(session, true),
            holdings::Effect::AwaitEnd { session } => self.wait_for_end(session, false),
            // The logins that it ends have been collected with it.
            holdings::Effect::LoggedIn { .. } => {}
        }
    }

    fn wait_for_end(self: &Arc<Self>, session: i64, kick: bool) {
        let (directory, ended) = (Arc::downgrade(self), self.sessions.ended(session, kick));
        self.runtime.spawn(async move {
            let late = ended.await;
            if let Some(directory) = directory.upgrade() {
                directory.step(|state, now| state.holdings.callbacks_done(session, late, now));
            }
        });
    }

    fn runs(&self, to: &NodeId) -> Runs {
        Runs {
            from: self.own.incarnation,
            to: to.incarnation,
        }
    }

    fn respond(&self, caller: CallerId, reply: Bytes) {
        let call = self.state.lock().callers.remove(&caller);
        if let Some(call) = call {
            call.respond(Ok(reply));
        }
    }

    fn call<Request: Message, Reply: Message + Default>(
        &self,
        to: &NodeId,
        method: &'static str,
        request: &Request,
        within: Duration,
    ) -> impl Future<Output = Result<Reply>> + Send + use<Request, Reply> {
        self.caller.call(&to.address, KEY, method, request, within)
    }

    /// Waits for a reply, and feeds it to the state machines; `None` if the call has failed.
    fn feed<Wire: Send + 'static, Reply: Send + 'static>(
        self: &Arc<Self>,
        reply: impl Future<Output = Result<Wire>> + Send + 'static,
        read: impl FnOnce(Result<Wire>) -> Option<Reply> + Send + 'static,
        take: impl FnOnce(&mut State, Option<Reply>, Instant) + Send + 'static,
    ) {
        let directory = Arc::downgrade(self);
        self.runtime.spawn(async move {
            let reply = read(reply.await);
            if let Some(directory) = directory.upgrade() {
                directory.step(|state, now| take(state, reply, now));
            }
        });
    }
}
