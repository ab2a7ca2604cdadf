//! What a gate has in the directory: the users of its sessions, and its claims. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use self::{
    comparison::{Comparison, GIVEN_UP, sum},
    ended_sessions::EndedSessions,
    promises::Promises,
    record::{Call, Claiming, Closing, RETRY, Record, State},
    records::Records,
};
pub(crate) use self::{
    effect::{Effect, Outcome},
    record::{CALLBACK_TIMEOUT, LOGIN_TIMEOUT},
};
use super::{
    message::{
        CallId, CallerId, GateReply, GateRequest, Holding, Notice, OwnerReply, OwnerRequest, Place,
        Policy,
    },
    slots::slot_of,
    view::{NodeId, View},
};
use crate::session::UserId;

mod comparison;
mod effect;
mod ended_sessions;
#[cfg(test)]
mod inspect;
mod promises;
mod record;
mod records;

/// The sessions of one gate that have a user.
#[derive(Debug)]
pub(crate) struct Holdings {
    view: View,
    promises: Promises,
    sessions: Records,
    /// Sessions whose state has a deadline: claims and close callbacks.
    timed: BTreeSet<i64>,
    last_call: CallId,
    calls: BTreeMap<CallId, Call>,
    comparison: Comparison,
    ended: EndedSessions,
    effects: Vec<Effect>,
}

impl Holdings {
    /// Creates the state of a gate without sessions.
    pub(crate) fn new() -> Self {
        Self {
            view: View::new(0, Vec::new(), 0),
            promises: Promises::default(),
            sessions: Records::new(),
            timed: BTreeSet::new(),
            last_call: 0,
            calls: BTreeMap::new(),
            comparison: Comparison::default(),
            ended: EndedSessions::default(),
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
        (self.promises.owner_after(&self.view, slot)).or_else(|| self.view.owner(slot))
    }

    /// Goes on to another view. Owners ask for what they need by themselves.
    pub(crate) fn set_view(&mut self, view: View) {
        if view.number() < self.view.number() {
            // The master that numbered views before has been replaced by a basic one.
            self.promises = Promises::default();
        }
        self.promises.join(view.number());
        self.view = view;
    }

    /// Notes that the master counts this node as alive, under the view with this number, which the
    /// gate may not be in yet. 0 while the master numbers no views.
    pub(crate) fn on_heartbeat(&mut self, view: u64) {
        self.promises.join(view);
    }

    /// Whether nothing is to be done until something else happens.
    pub(crate) fn is_idle(&self) -> bool {
        self.timed.is_empty() && self.comparison.is_empty()
    }

    /// Binds a session to a user, with another gate's claim or 0. Other sessions of the user stay.
    pub(crate) fn bind(&mut self, session: i64, user: UserId, claim: u64) {
        if self.is_current(session, &user) {
            return;
        }
        self.unbind(session);
        let record = Record::held(user, claim);
        self.notify(record.holding(session), Notice::Bound);
        self.sessions.insert(session, record);
    }

    /// The number of a session's claim, 0 for none; `None` while it is not decided.
    pub(crate) fn claim_of(&self, session: i64) -> Option<u64> {
        let record = self.sessions.get(session);
        record.map_or(Some(0), Record::decided)
    }

    /// Claims a user for a session. [`Effect::LoggedIn`] follows.
    pub(crate) fn login(&mut self, session: i64, user: UserId, policy: Policy, now: Instant) {
        if let Some(record) = self.sessions.get(session)
            && record.user == user
            && matches!(record.state, State::Granted { .. })
        {
            let (replaced, late) = (false, false);
            return self.logged_in(session, user, Outcome::Granted { replaced, late });
        }
        if !self.is_current(session, &user) {
            self.unbind(session);
        }
        let state = State::Claiming(Box::new(Claiming::new(policy, now, now + LOGIN_TIMEOUT)));
        self.sessions.insert(session, Record { user, state });
        self.timed.insert(session);
        self.claim(session, now);
    }

    /// Takes back what a session is bound to, as before another user takes it.
    pub(crate) fn unbind(&mut self, session: i64) {
        match self.sessions.get(session).map(|record| &record.state) {
            None | Some(State::Closing(_)) => return,
            Some(State::Claiming(_)) => self.give_up(session, Outcome::Ended),
            Some(State::Bound | State::Granted { .. }) => {}
        }
        self.release(session);
    }

    /// Notes that a session has ended, and that its close callbacks begin to run.
    pub(crate) fn closed(&mut self, session: i64, now: Instant) {
        let Some(record) = self.sessions.get_mut(session) else {
            return;
        };
        let claiming = match record.state {
            State::Closing(_) => return,
            State::Claiming(_) => true,
            State::Bound | State::Granted { .. } => false,
        };
        record.state = State::Closing(Box::new(Closing::new(record.claim(), now)));
        let closing = record.holding(session);
        self.notify(closing, Notice::Bound);
        self.timed.insert(session);
        if claiming {
            self.give_up(session, Outcome::Ended);
        }
    }

    /// Notes that the close callbacks of a session have run, or are late: the session is forgotten.
    ///
    /// An owner that waits for it learns so by its answer: a notice beside it could come first, and does
    /// not say what the answer says.
    pub(crate) fn callbacks_done(&mut self, session: i64, late: bool, now: Instant) {
        let record = self.sessions.get(session);
        if let Some(replaced) = record.and_then(|record| record.made_way(late)) {
            self.ended.add(session, replaced, now);
        }
        if self.answer_waiting(session, late) {
            self.timed.remove(&session);
            if let Some(record) = self.sessions.remove(session) {
                // It was another owner that waited if there is a new one.
                self.comparison.add(slot_of(&record.user), 1);
            }
        } else {
            self.release(session);
        }
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
            GateRequest::StepDown {
                user,
                session,
                ask,
                claimant,
                view,
            } => {
                if self.promises.is_later(slot_of(&user), view) {
                    let reply = GateReply::Stale;
                    return self.effects.push(Effect::Reply { caller, reply });
                }
                self.step_down(caller, (&user, session), ask, claimant, now);
            }
            GateRequest::Recover { view, slots } => {
                let reply = self.recover(from, view, &slots, now);
                self.effects.push(Effect::Reply { caller, reply });
            }
        }
    }

    /// Takes an owner's reply; `None` if the call failed.
    pub(crate) fn on_reply(&mut self, call: CallId, reply: Option<OwnerReply>, now: Instant) {
        match self.calls.remove(&call) {
            Some(Call::Claim { session, user }) => self.on_claim_reply((session, user), reply, now),
            Some(Call::Compare(slots)) => {
                let equal = match reply {
                    Some(OwnerReply::Compared(equal)) => equal.into_iter().collect(),
                    _ => BTreeSet::new(),
                };
                for (slot, times) in slots {
                    let times = times - u8::from(equal.contains(&slot));
                    if times > 0 {
                        self.comparison.add(slot, times);
                    }
                }
            }
            None => {}
        }
    }

    /// Takes the reply to a claim. One about another user than the present claim decides nothing.
    fn on_claim_reply(
        &mut self,
        (session, user): (i64, UserId),
        reply: Option<OwnerReply>,
        now: Instant,
    ) {
        let (slot, promises) = (slot_of(&user), &self.promises);
        let record = self.sessions.get_mut(session);
        let outcome = record
            .filter(|record| record.user == user)
            .and_then(|it| it.on_claim_reply(reply, |view| promises.allow(slot, view), now));
        let Some(outcome) = outcome else { return };
        match outcome {
            Outcome::Granted { .. } => self.comparison.add(slot, 1),
            _ => self.release(session),
        }
        self.timed.remove(&session);
        self.logged_in(session, user, outcome);
    }

    /// Ends what is overdue, makes claims again, and compares with owners. Call it every 100 ms
    /// unless it [is idle](Self::is_idle).
    pub(crate) fn tick(&mut self, now: Instant) {
        for session in self.timed.clone() {
            self.tick_session(session, now);
        }
        let sessions = |slot| self.sessions.count_in_slot(slot);
        let due = self.comparison.take_due(now, sessions);
        if !due.is_empty() {
            self.compare(&due);
        }
    }

    /// Gives up all claims when the node leaves the cluster, and tells the next owners which sessions
    /// are still closing.
    pub(crate) fn leave(&mut self, own: &NodeId) {
        let next = self.view.without(own);
        let mut by_owner: BTreeMap<&NodeId, Vec<Holding>> = BTreeMap::new();
        for node in next.nodes() {
            by_owner.entry(node).or_default();
        }
        for holding in held(self.sessions.iter()) {
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
        self.view = next;
    }

    fn tick_session(&mut self, session: i64, now: Instant) {
        let state = self
            .sessions
            .get_mut(session)
            .map(|record| &mut record.state);
        match state {
            Some(State::Claiming(claiming)) if claiming.until <= now => {
                self.give_up(session, Outcome::TimedOut);
                self.release(session);
            }
            Some(State::Claiming(claiming)) if claiming.retry.is_some_and(|at| at <= now) => {
                self.claim(session, now);
            }
            Some(State::Closing(closing)) if closing.until <= now => {
                self.callbacks_done(session, true, now)
            }
            Some(State::Claiming(_) | State::Closing(_)) => {}
            Some(State::Bound | State::Granted { .. }) | None => {
                self.timed.remove(&session);
            }
        }
    }

    /// Has the close callbacks of a session that ends waited for, once. `replaced` if an owner has
    /// it ended.
    fn await_callbacks(&mut self, session: i64, replaced: bool, now: Instant) {
        let record = self.sessions.get_mut(session);
        if let Some(State::Closing(closing)) = record.map(|record| &mut record.state)
            && !std::mem::replace(&mut closing.awaited, true)
        {
            closing.until = now + CALLBACK_TIMEOUT;
            self.effects.push(match replaced {
                true => Effect::End { session },
                false => Effect::AwaitEnd { session },
            });
        }
    }

    fn is_current(&self, session: i64, user: &UserId) -> bool {
        matches!(self.sessions.get(session), Some(record) if record.user == *user)
    }

    /// Makes the claim of a session, or schedules it if there is no owner.
    fn claim(&mut self, session: i64, now: Instant) {
        let record = self.sessions.get(session);
        let to = record.and_then(|record| self.owner(&record.user).cloned());
        let Some(record) = self.sessions.get_mut(session) else {
            return;
        };
        let State::Claiming(claiming) = &mut record.state else {
            return;
        };
        let Some(to) = to else {
            claiming.retry = Some(now + RETRY);
            return;
        };
        claiming.retry = None;
        let request = OwnerRequest::Claim {
            user: record.user.clone(),
            session,
            policy: claiming.policy,
        };
        let user = record.user.clone();
        self.call(to, request, Call::Claim { session, user });
    }

    fn call(&mut self, to: NodeId, request: OwnerRequest, waiting: Call) {
        self.last_call += 1;
        let call = self.last_call;
        self.calls.insert(call, waiting);
        self.effects.push(Effect::Call { call, to, request });
    }

    fn logged_in(&mut self, session: i64, user: UserId, outcome: Outcome) {
        self.effects.push(Effect::LoggedIn {
            session,
            user,
            outcome,
        });
    }

    /// Ends the login of a session. An owner that has lost the notice may grant it still.
    fn give_up(&mut self, session: i64, outcome: Outcome) {
        if let Some(record) = self.sessions.get(session) {
            let user = record.user.clone();
            self.comparison.add(slot_of(&user), GIVEN_UP);
            self.logged_in(session, user, outcome);
        }
    }

    /// Forgets a session, and tells the owner.
    fn release(&mut self, session: i64) {
        self.timed.remove(&session);
        if let Some(record) = self.sessions.remove(session) {
            let released = record.holding(session);
            self.notify(released, Notice::Released);
        }
    }

    fn notify(&mut self, holding: Holding, notice: impl Fn(Vec<Holding>) -> Notice) {
        self.comparison.add(slot_of(&holding.user), 1);
        if let Some(to) = self.owner(&holding.user).cloned() {
            let notice = notice(vec![holding]);
            self.effects.push(Effect::Send { to, notice });
        }
    }

    /// Answers the owners that wait for a session. Returns whether there were some.
    fn answer_waiting(&mut self, session: i64, late: bool) -> bool {
        let state = self
            .sessions
            .get_mut(session)
            .map(|record| &mut record.state);
        let Some(State::Closing(closing)) = state else {
            return false;
        };
        let (claimant, waiting) = (&closing.claimant, std::mem::take(&mut closing.waiting));
        let answered = !waiting.is_empty();
        for caller in waiting {
            let claimant = claimant.clone();
            let reply = GateReply::SteppedDown { claimant, late };
            self.effects.push(Effect::Reply { caller, reply });
        }
        answered
    }

    fn step_down(
        &mut self,
        caller: CallerId,
        (user, session): (&UserId, i64),
        ask: bool,
        claimant: Option<Place>,
        now: Instant,
    ) {
        let record = self.sessions.get(session);
        let replaced = match record.filter(|record| record.user == *user) {
            None => {
                let reply = self.ended.reply(session, user);
                return self.effects.push(Effect::Reply { caller, reply });
            }
            Some(record) if matches!(record.state, State::Closing(_)) => false,
            Some(_) if ask => {
                let reply = GateReply::Lives;
                return self.effects.push(Effect::Reply { caller, reply });
            }
            Some(_) => true,
        };
        self.closed(session, now);
        self.await_callbacks(session, replaced, now);
        let record = self.sessions.get_mut(session);
        if let Some(State::Closing(closing)) = record.map(|record| &mut record.state) {
            closing.waiting.push(caller);
            if replaced {
                closing.claimant = claimant;
            }
        }
    }

    fn recover(&mut self, from: &NodeId, view: u64, slots: &[u16], now: Instant) -> GateReply {
        if !self.promises.promise(from, view, slots) {
            return GateReply::Stale;
        }
        let slots: BTreeSet<_> = slots.iter().copied().collect();
        let mut replaced = self.ended.within(now, |slot| slots.contains(&slot));
        let sessions = slots.iter().flat_map(|slot| self.sessions.in_slot(*slot));
        replaced.extend(sessions.filter_map(|(_, record)| record.made_way(false)));
        let sessions = slots.iter().flat_map(|slot| self.sessions.in_slot(*slot));
        let held = held(sessions);
        GateReply::Holdings { held, replaced }
    }

    /// Has owners compare the sums of what this gate has in slots that have changed.
    fn compare(&mut self, changed: &BTreeMap<u16, u8>) {
        let mut by_owner: BTreeMap<NodeId, Vec<(u16, u64)>> = BTreeMap::new();
        for slot in changed.keys().copied() {
            let sum = sum(self.sessions.in_slot(slot));
            match self.owner_of(slot) {
                Some(owner) => by_owner.entry(owner.clone()).or_default().push((slot, sum)),
                None => self.comparison.add(slot, changed[&slot]),
            }
        }
        for (to, sums) in by_owner {
            let slots = sums.iter().map(|(slot, _)| (*slot, changed[slot]));
            let slots = slots.collect();
            self.call(to, OwnerRequest::Compare(sums), Call::Compare(slots));
        }
    }
}

/// Returns what owners should know of some sessions: all but claims under way.
fn held<'a>(sessions: impl Iterator<Item = (i64, &'a Record)>) -> Vec<Holding> {
    let held = sessions.filter(|(_, record)| record.is_held());
    held.map(|(session, record)| record.holding(session))
        .collect()
}
