//! What a gate has in the directory: the users of its sessions, its claims, its lease. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::effect::{Effect, EndReason, Outcome};
use self::{
    promises::Promises,
    record::{Record, State},
};
use super::{
    checksum::checksum,
    lease::Lease,
    message::{
        CallId, CallerId, GateReply, GateRequest, Holding, Notice, OwnerReply, OwnerRequest, Policy,
    },
    slots::slot_of,
    view::{NodeId, View},
};
use crate::session::UserId;

mod effect;
mod promises;
mod record;

/// How long the close callbacks of a session may keep the next session of its user waiting.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a login may take, with the callbacks of the session it replaces.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before a claim is made again.
const RETRY: Duration = Duration::from_millis(50);

/// How often a gate compares what it has with what each owner knows.
const SUM_INTERVAL: Duration = Duration::from_secs(5);

/// The sessions of one gate that have a user.
#[derive(Debug)]
pub(crate) struct Holdings {
    view: View,
    lease: Lease,
    promises: Promises,
    sessions: BTreeMap<i64, Record>,
    /// Sessions whose state has a deadline: claims and close callbacks.
    timed: BTreeSet<i64>,
    last_call: CallId,
    /// The session of each call.
    calls: BTreeMap<CallId, i64>,
    sums_due: Instant,
    effects: Vec<Effect>,
}

impl Holdings {
    /// Creates the state of a gate without sessions.
    pub(crate) fn new(lease: Lease, now: Instant) -> Self {
        Self {
            view: View::new(0, Vec::new()),
            lease,
            promises: Promises::default(),
            sessions: BTreeMap::new(),
            timed: BTreeSet::new(),
            last_call: 0,
            calls: BTreeMap::new(),
            sums_due: now + SUM_INTERVAL,
            effects: Vec::new(),
        }
    }

    /// Takes what is to be done since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Returns the owner of a user as this gate knows it; `None` before the first view.
    pub(crate) fn owner(&self, user: &UserId) -> Option<&NodeId> {
        self.owner_of(slot_of(user))
    }

    fn owner_of(&self, slot: u16) -> Option<&NodeId> {
        // An owner that has asked under a later view is ahead of this gate's table.
        self.promises
            .owner_after(self.view.number(), slot)
            .or_else(|| self.view.owner(slot))
    }

    /// Goes on to another view. Owners ask for what they need by themselves.
    pub(crate) fn set_view(&mut self, view: View) {
        self.view = view;
    }

    /// Takes a sign that the master counts this node as alive: it has answered a heartbeat that was
    /// sent at `sent`, under the view with this number. The number is 0 while the master has none;
    /// then a lease that has run out does not begin anew.
    pub(crate) fn on_heartbeat(&mut self, sent: Instant, view: u64, now: Instant) {
        self.cut_off(now);
        if self.lease.renew(sent, now, view != 0) {
            self.promises.join(view);
        }
    }

    /// Binds a session to a user, without a claim. Other sessions of the user stay.
    pub(crate) fn bind(&mut self, session: i64, user: UserId) {
        if self.is_current(session, &user) {
            return;
        }
        self.unbind(session);
        let bound = Holding {
            user: user.clone(),
            session,
            claim: 0,
        };
        self.notify(bound, Notice::Bound);
        let state = State::Bound;
        self.sessions.insert(session, Record { user, state });
    }

    /// Claims a user for a session. [`Effect::LoggedIn`] follows.
    pub(crate) fn login(&mut self, session: i64, user: UserId, policy: Policy, now: Instant) {
        if let Some(record) = self.sessions.get(&session)
            && record.user == user
            && matches!(record.state, State::Granted { .. })
        {
            let (replaced, late) = (false, false);
            return self.logged_in(session, Outcome::Granted { replaced, late });
        }
        if !self.is_current(session, &user) {
            self.unbind(session);
        }
        let state = State::Claiming {
            policy,
            retry: Some(now),
            until: now + LOGIN_TIMEOUT,
        };
        self.sessions.insert(session, Record { user, state });
        self.timed.insert(session);
        self.claim(session, now);
    }

    /// Takes back what a session is bound to, as before another user takes it.
    pub(crate) fn unbind(&mut self, session: i64) {
        let Some(record) = self.sessions.get(&session) else {
            return;
        };
        if matches!(record.state, State::Closing { .. }) {
            return;
        }
        if matches!(record.state, State::Claiming { .. }) {
            self.logged_in(session, Outcome::Ended);
        }
        self.release(session);
    }

    /// Notes that a session has ended, and that its close callbacks begin to run.
    pub(crate) fn closed(&mut self, session: i64, now: Instant) {
        let Some(record) = self.sessions.get_mut(&session) else {
            return;
        };
        let claim = match record.state {
            State::Closing { .. } => return,
            State::Granted { claim } => claim,
            State::Bound | State::Claiming { .. } => 0,
        };
        let claiming = matches!(record.state, State::Claiming { .. });
        record.state = State::Closing {
            claim,
            until: Some(now + CALLBACK_TIMEOUT),
            waiting: Vec::new(),
        };
        self.timed.insert(session);
        if claiming {
            self.logged_in(session, Outcome::Ended);
        }
    }

    /// Notes that the close callbacks of a session have run.
    pub(crate) fn callbacks_done(&mut self, session: i64) {
        self.answer_waiting(session, false);
        self.release(session);
    }

    /// Takes an owner's call. It is answered with [`Effect::Reply`].
    pub(crate) fn on_call(
        &mut self,
        from: &NodeId,
        caller: CallerId,
        request: GateRequest,
        now: Instant,
    ) {
        match request {
            GateRequest::StepDown { user, session, ask } => {
                self.step_down(caller, &user, session, ask, now);
            }
            GateRequest::Recover { view, slots } => {
                let reply = self.recover(from, view, &slots);
                self.effects.push(Effect::Reply { caller, reply });
            }
        }
    }

    /// Takes an owner's reply; `None` if the call failed.
    pub(crate) fn on_reply(&mut self, call: CallId, reply: Option<OwnerReply>, now: Instant) {
        self.cut_off(now);
        let Some(session) = self.calls.remove(&call) else {
            return;
        };
        let Some(record) = self.sessions.get_mut(&session) else {
            return;
        };
        let State::Claiming { retry, .. } = &mut record.state else {
            return;
        };
        let outcome = match reply {
            Some(OwnerReply::Granted {
                view,
                claim,
                replaced,
                late,
            }) if self.lease.is_valid(now) && self.promises.allow(slot_of(&record.user), view) => {
                record.state = State::Granted { claim };
                Outcome::Granted { replaced, late }
            }
            Some(OwnerReply::Refused) => {
                self.release(session);
                Outcome::Refused
            }
            _ => {
                *retry = Some(now + RETRY);
                return;
            }
        };
        self.timed.remove(&session);
        self.logged_in(session, outcome);
    }

    /// Ends what is overdue, and makes claims again. Call it at [`due`](Self::due).
    pub(crate) fn tick(&mut self, now: Instant) {
        self.cut_off(now);
        for session in self.timed.clone() {
            self.tick_session(session, now);
        }
        if self.sums_due <= now {
            self.sums_due = now + SUM_INTERVAL;
            self.compare();
        }
    }

    /// Gives up all claims when the node leaves the cluster, and tells the next owners which sessions
    /// are still closing.
    pub(crate) fn leave(&mut self, own: &NodeId) {
        let others = self.view.nodes().iter().filter(|node| *node != own);
        let next = View::new(0, others.cloned().collect());
        let mut by_owner: BTreeMap<&NodeId, Vec<Holding>> = BTreeMap::new();
        for node in next.nodes() {
            by_owner.entry(node).or_default();
        }
        for holding in self.held(|_| true) {
            if let Some(owner) = next.owner(slot_of(&holding.user)) {
                by_owner.entry(owner).or_default().push(holding);
            }
        }
        for (to, holdings) in by_owner {
            self.effects.push(Effect::Send {
                to: to.clone(),
                notice: Notice::Leaving(holdings),
            });
        }
    }

    /// Whether the gate may have sessions with claims now.
    #[cfg(test)]
    pub(crate) fn has_lease(&self, now: Instant) -> bool {
        self.lease.is_valid(now)
    }

    /// Returns the sessions that have their users alone now.
    #[cfg(test)]
    pub(crate) fn in_force(&self, now: Instant) -> Vec<(UserId, i64)> {
        if !self.lease.is_valid(now) {
            return Vec::new();
        }
        let granted = self
            .sessions
            .iter()
            .filter(|(_, record)| matches!(record.state, State::Granted { .. }));
        granted
            .map(|(session, record)| (record.user.clone(), *session))
            .collect()
    }

    /// Returns what the gate has.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Holding> {
        self.held(|_| true)
    }

    fn tick_session(&mut self, session: i64, now: Instant) {
        let state = self
            .sessions
            .get_mut(&session)
            .map(|record| &mut record.state);
        match state {
            Some(State::Claiming { until, .. }) if *until <= now => {
                self.timed.remove(&session);
                self.release(session);
                self.logged_in(session, Outcome::TimedOut);
            }
            Some(State::Claiming { retry, .. }) if retry.is_some_and(|at| at <= now) => {
                self.claim(session, now);
            }
            Some(State::Closing { until, .. }) if until.is_some_and(|at| at <= now) => {
                *until = None;
                self.timed.remove(&session);
                self.answer_waiting(session, true);
            }
            Some(State::Claiming { .. } | State::Closing { .. }) => {}
            Some(State::Bound | State::Granted { .. }) | None => {
                self.timed.remove(&session);
            }
        }
    }

    /// Ends all claims if the lease has run out.
    fn cut_off(&mut self, now: Instant) {
        if !self.lease.expire(now) {
            return;
        }
        let granted = |(session, record): (&i64, &Record)| {
            matches!(record.state, State::Granted { .. }).then_some(*session)
        };
        let sessions: Vec<_> = self.sessions.iter().filter_map(granted).collect();
        for session in sessions {
            self.end(session, EndReason::CutOff, now);
        }
    }

    fn end(&mut self, session: i64, reason: EndReason, now: Instant) {
        self.closed(session, now);
        self.effects.push(Effect::End { session, reason });
    }

    fn is_current(&self, session: i64, user: &UserId) -> bool {
        let record = self.sessions.get(&session);
        record.is_some_and(|record| record.user == *user)
    }

    /// Makes the claim of a session, or schedules it if there is no owner.
    fn claim(&mut self, session: i64, now: Instant) {
        let Some(record) = self.sessions.get(&session) else {
            return;
        };
        let to = self.owner(&record.user).cloned();
        let Some(record) = self.sessions.get_mut(&session) else {
            return;
        };
        let State::Claiming { retry, policy, .. } = &mut record.state else {
            return;
        };
        let Some(to) = to.filter(|_| self.lease.is_valid(now)) else {
            *retry = Some(now + RETRY);
            return;
        };
        *retry = None;
        self.last_call += 1;
        let request = OwnerRequest::Claim {
            user: record.user.clone(),
            session,
            policy: *policy,
        };
        self.calls.insert(self.last_call, session);
        self.effects.push(Effect::Call {
            call: self.last_call,
            to,
            request,
        });
    }

    fn logged_in(&mut self, session: i64, outcome: Outcome) {
        self.effects.push(Effect::LoggedIn { session, outcome });
    }

    /// Forgets a session, and tells the owner.
    fn release(&mut self, session: i64) {
        self.timed.remove(&session);
        if let Some(record) = self.sessions.remove(&session) {
            let released = record.holding(session);
            self.notify(released, Notice::Released);
        }
    }

    fn notify(&mut self, holding: Holding, notice: impl Fn(Vec<Holding>) -> Notice) {
        if let Some(to) = self.owner(&holding.user).cloned() {
            let notice = notice(vec![holding]);
            self.effects.push(Effect::Send { to, notice });
        }
    }

    fn answer_waiting(&mut self, session: i64, late: bool) {
        let state = self
            .sessions
            .get_mut(&session)
            .map(|record| &mut record.state);
        let Some(State::Closing { waiting, .. }) = state else {
            return;
        };
        for caller in std::mem::take(waiting) {
            let reply = GateReply::SteppedDown { late };
            self.effects.push(Effect::Reply { caller, reply });
        }
    }

    fn step_down(
        &mut self,
        caller: CallerId,
        user: &UserId,
        session: i64,
        ask: bool,
        now: Instant,
    ) {
        let known = self.is_current(session, user);
        let record = self.sessions.get(&session).filter(|_| known);
        let reply = match record.map(|record| &record.state) {
            None => GateReply::SteppedDown { late: false },
            Some(State::Closing { until: None, .. }) => GateReply::SteppedDown { late: true },
            // The claim of a session that is closing already is as good as gone.
            Some(State::Bound | State::Claiming { .. } | State::Granted { .. }) if ask => {
                GateReply::Lives
            }
            Some(State::Closing { .. }) => return self.wait_for_callbacks(session, caller),
            Some(_) => {
                self.end(session, EndReason::Replaced, now);
                return self.wait_for_callbacks(session, caller);
            }
        };
        self.effects.push(Effect::Reply { caller, reply });
    }

    fn wait_for_callbacks(&mut self, session: i64, caller: CallerId) {
        let state = self
            .sessions
            .get_mut(&session)
            .map(|record| &mut record.state);
        if let Some(State::Closing { waiting, .. }) = state {
            waiting.push(caller);
        }
    }

    fn recover(&mut self, from: &NodeId, view: u64, slots: &[u16]) -> GateReply {
        if !self.promises.promise(from, view, slots) {
            return GateReply::Stale;
        }
        let slots: BTreeSet<_> = slots.iter().collect();
        GateReply::Holdings(self.held(|slot| slots.contains(&slot)))
    }

    /// Returns what the gate has in some slots: all but claims under way.
    fn held(&self, wanted: impl Fn(u16) -> bool) -> Vec<Holding> {
        let sessions = self.sessions.iter();
        let held = sessions.filter(|(_, record)| record.is_held() && wanted(slot_of(&record.user)));
        held.map(|(session, record)| record.holding(*session))
            .collect()
    }

    /// Sends every owner the sum of what this gate has in its slots.
    fn compare(&mut self) {
        let mut sums: BTreeMap<_, u64> = self
            .view
            .nodes()
            .iter()
            .map(|node| (node.clone(), 0))
            .collect();
        for holding in self.held(|_| true) {
            if let Some(owner) = self.owner(&holding.user)
                && let Some(sum) = sums.get_mut(owner)
            {
                *sum = sum.wrapping_add(checksum(&holding.user, holding.session));
            }
        }
        for (to, sum) in sums {
            let notice = Notice::Sum(sum);
            self.effects.push(Effect::Send { to, notice });
        }
    }
}
