//! What a node does for the users whose slots it owns. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

pub(crate) use self::effect::Effect;
use self::{
    departed::Departed,
    entries::Gates,
    leaving::Leaving,
    outstanding::{Calls, Outstanding, StepDown},
    slot::{Claim, Next, Slot},
};
use super::{
    message::{
        CallId, CallerId, GateReply, Holding, Notice, OwnerReply, OwnerRequest, Place, Replaced,
    },
    slots::{SLOTS, slot_of},
    view::{NodeId, View},
};
use crate::session::UserId;

mod departed;
mod effect;
mod entries;
#[cfg(test)]
mod inspect;
mod leaving;
mod outstanding;
mod packed_map;
mod slot;

/// The most calls that wait here, over all slots. More have to try again.
const MAX_WAITING: usize = 64 * 1024;

/// The owner of some slots.
#[derive(Debug)]
pub(crate) struct Owner {
    own: NodeId,
    view: View,
    /// By slot; `None` for those of other owners.
    slots: Vec<Option<Slot>>,
    gates: Gates,
    leaving: Leaving,
    departed: Departed,
    calls: Calls,
    waiting: usize,
    /// The users with claims that wait, by slot.
    contested: BTreeSet<(u16, UserId)>,
    effects: Vec<Effect>,
}

impl Owner {
    /// Creates an owner without slots.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            view: View::new(0, Vec::new(), 0),
            slots: (0..SLOTS).map(|_| None).collect(),
            gates: Gates::default(),
            leaving: Leaving::default(),
            departed: Departed::default(),
            calls: Calls::default(),
            waiting: 0,
            contested: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Takes what is to be done since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Goes on to a later view: gives slots up, takes others over, and forgets the sessions of gates
    /// that are not in it.
    ///
    /// A gate that was evicted may have them still. It tells them when it is back.
    pub(crate) fn set_view(&mut self, view: View, now: Instant) {
        let kept = self.view.precedes(&view);
        let before = std::mem::replace(&mut self.view, view);
        let mut recover: BTreeMap<NodeId, Vec<u16>> = BTreeMap::new();
        for slot in 0..self.view.slots() {
            let at = usize::from(slot);
            if self.view.owner(slot) != Some(&self.own) {
                self.give_up(at);
                continue;
            }
            let asked = match (&mut self.slots[at], kept) {
                (Some(owned), true) => {
                    owned.unanswered.retain(|gate| self.view.contains(gate));
                    let joined = |node: &&NodeId| !before.contains(node);
                    self.view.gates().iter().filter(joined).collect::<Vec<_>>()
                }
                _ => {
                    self.give_up(at);
                    let gates = self.view.gates().iter();
                    let slot = Slot::new(self.view.number(), gates.clone().cloned());
                    self.slots[at] = Some(slot);
                    gates.collect()
                }
            };
            for gate in asked {
                recover.entry(gate.clone()).or_default().push(slot);
            }
        }
        for (gate, holding) in self.leaving.sessions() {
            self.add(&gate, &holding);
        }
        for (gate, slots) in recover {
            self.call(Outstanding::Recover {
                gate,
                slots,
                view: self.view.number(),
            });
        }
        self.departed.follow(&before, &self.view);
        self.withdraw_departed(now);
        self.forget_departed(now);
    }

    /// Returns where the open sessions of users are; `None` for those of other owners, and of slots that
    /// wait for gates.
    pub(crate) fn locate(&self, users: &[UserId]) -> Vec<Option<Vec<Place>>> {
        let locate = |user| {
            let slot = self.slots[usize::from(slot_of(user))].as_ref()?;
            let mut entries = slot.is_complete().then(|| slot.entries.of(user))?;
            entries.retain(|entry| !entry.closing);
            Some(entries.iter().map(|it| self.gates.place(it)).collect())
        };
        users.iter().map(locate).collect()
    }

    /// Whether nothing is to be done until something else happens.
    pub(crate) fn is_idle(&self) -> bool {
        self.contested.is_empty() && self.leaving.is_empty() && !self.calls.has_failed()
    }

    /// Takes a call of a gate. It is answered with [`Effect::Reply`].
    pub(crate) fn on_call(
        &mut self,
        from: &NodeId,
        caller: CallerId,
        request: OwnerRequest,
        now: Instant,
    ) {
        match request {
            OwnerRequest::Claim {
                user,
                session,
                policy,
            } => {
                let gate = from.clone();
                let claim = Claim::new(caller, Place { gate, session }, policy, now);
                self.claim(user, claim, now);
            }
            OwnerRequest::Compare(sums) => self.compare(from, caller, sums),
        }
    }

    fn claim(&mut self, user: UserId, claim: Claim, now: Instant) {
        let at = slot_of(&user);
        let full = self.waiting >= MAX_WAITING;
        // A gate that is not in the view yet may be ahead of this node.
        let gate = &claim.place.gate;
        let gone = self.departed.contains(gate) || self.view.replaces(gate);
        let refused = full || gone;
        let Some(slot) = self.slots[usize::from(at)].as_mut().filter(|_| !refused) else {
            return self.reply(claim.caller, OwnerReply::Retry);
        };
        match slot.claim(&user, claim) {
            Ok(None) => self.waiting += 1,
            Ok(Some(before)) => self.reply(before, OwnerReply::Retry),
            Err(claim) => return self.reply(claim.caller, OwnerReply::Retry),
        }
        self.contested.insert((at, user.clone()));
        self.advance(at, &user, now);
    }

    /// Compares what a gate has in some slots. Asks it for what differs.
    fn compare(&mut self, gate: &NodeId, caller: CallerId, sums: Vec<(u16, u64)>) {
        let (mut equal, mut differ) = (Vec::new(), Vec::new());
        for (at, sum) in sums {
            match self.slots.get(usize::from(at)) {
                Some(Some(slot)) if slot.entries.sum(&self.gates, gate) == sum => equal.push(at),
                Some(Some(_)) => differ.push(at),
                _ => {}
            }
        }
        self.reply(caller, OwnerReply::Compared(equal));
        if !differ.is_empty() && self.view.contains(gate) {
            self.call(Outstanding::Recover {
                gate: gate.clone(),
                slots: differ,
                view: self.view.number(),
            });
        }
    }

    /// Takes a message of a gate.
    pub(crate) fn on_notice(&mut self, from: &NodeId, notice: Notice, now: Instant) {
        match notice {
            Notice::Bound(holdings) => holdings.iter().for_each(|bound| self.add(from, bound)),
            Notice::Released(holdings) => {
                for holding in holdings {
                    let (gate, session) = (from.clone(), holding.session);
                    let place = Place { gate, session };
                    self.leaving.released(from, session);
                    self.released(&holding.user, &place, (false, false), now);
                }
            }
            Notice::Leaving(holdings) => self.leaving.add(from, holdings, now),
        }
    }

    /// Takes a gate's reply; `None` if the call failed.
    pub(crate) fn on_reply(&mut self, call: CallId, reply: Option<GateReply>, now: Instant) {
        let Some(outstanding) = self.calls.take(call) else {
            return;
        };
        match (outstanding, reply) {
            (
                Outstanding::Recover { gate, slots, view },
                Some(GateReply::Holdings { held, replaced }),
            ) => self.recovered(&gate, (&slots, view), &held, replaced, now),
            (
                Outstanding::StepDown { step, claimant, .. },
                Some(GateReply::SteppedDown { replaced, late }),
            ) => {
                self.calls.finish(&step);
                if let Some(claimant) = claimant.filter(|_| replaced) {
                    let user = step.user.clone();
                    self.note_replaced(
                        Replaced {
                            user,
                            claimant,
                            late,
                        },
                        now,
                    );
                }
                self.released(&step.user, &step.place, (replaced, late), now);
            }
            (Outstanding::StepDown { step, .. }, Some(GateReply::Lives)) => {
                self.calls.finish(&step);
                self.refuse(&step);
                self.advance(slot_of(&step.user), &step.user, now);
            }
            (outstanding, _) => self.calls.failed(outstanding, now),
        }
    }

    /// Repeats failed calls, and ends what has waited for too long. Call it every 100 ms unless it
    /// [is idle](Self::is_idle).
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(outstanding) = self.calls.next_due(now) {
            self.retry(outstanding, now);
        }
        if self.leaving.is_overdue(now) {
            self.forget_departed(now);
        }
        for (at, user) in self.contested.clone() {
            let slot = self.slots[usize::from(at)].as_ref();
            let overdue = slot.is_some_and(|slot| slot.is_overdue(&user, now));
            if self.withdraw(at, &user, |claim| claim.until <= now) || overdue {
                self.advance(at, &user, now);
            }
        }
    }

    fn retry(&mut self, outstanding: Outstanding, now: Instant) {
        match outstanding {
            Outstanding::Recover {
                gate,
                mut slots,
                view,
            } => {
                let since = |at: &u16| self.slots[usize::from(*at)].as_ref().map(|slot| slot.since);
                slots.retain(|at| since(at).is_some_and(|since| since <= view));
                if self.view.contains(&gate) && !slots.is_empty() {
                    self.call(Outstanding::Recover {
                        gate,
                        slots,
                        view: self.view.number(),
                    });
                }
            }
            Outstanding::StepDown { step, claimant, .. } => {
                let at = slot_of(&step.user);
                // A claim that waits asks by itself.
                let waits = self.advance(at, &step.user, now);
                let slot = self.slots[usize::from(at)].as_ref();
                if !waits && slot.is_some_and(|slot| slot.has_to_ask(&self.gates, &step)) {
                    self.step_down(vec![step], claimant.as_ref());
                }
            }
        }
    }

    fn reply(&mut self, caller: CallerId, reply: OwnerReply) {
        self.effects.push(Effect::Reply { caller, reply });
    }

    fn call(&mut self, outstanding: Outstanding) {
        let (to, request) = (outstanding.gate().clone(), outstanding.request());
        if let Some(call) = self.calls.begin(outstanding) {
            self.effects.push(Effect::Call { call, to, request });
        }
    }

    fn step_down(&mut self, steps: Vec<StepDown>, claimant: Option<&Place>) {
        let view = self.view.number();
        for step in steps {
            self.call(Outstanding::step_down(step, claimant.cloned(), view));
        }
    }

    /// Lets go of a slot that has another owner, or may have had one meanwhile.
    fn give_up(&mut self, at: usize) {
        let Some(mut slot) = self.slots[at].take() else {
            return;
        };
        let callers = slot.callers();
        self.contested
            .retain(|(contested, _)| usize::from(*contested) != at);
        self.waiting -= callers.len();
        for caller in callers {
            self.reply(caller, OwnerReply::Retry);
        }
        slot.entries.clear(&mut self.gates);
    }

    /// Drops the claims of gates that are not in the view. Those that are ahead of it make them again;
    /// the others may have ended before they were in one.
    fn withdraw_departed(&mut self, now: Instant) {
        let view = self.view.clone();
        for (at, user) in self.contested.clone() {
            if self.withdraw(at, &user, |claim| !view.contains(&claim.place.gate)) {
                self.advance(at, &user, now);
            }
        }
    }

    /// Forgets the sessions of gates that are neither in the view nor leaving, and goes on with what
    /// waited for them.
    fn forget_departed(&mut self, now: Instant) {
        self.leaving.expire(now);
        let (view, leaving) = (&self.view, &self.leaving);
        let departed = self
            .gates
            .which(|gate| !view.contains(gate) && !leaving.contains(gate));
        let mut waiting = Vec::new();
        for (at, slot) in (0..view.slots()).zip(&mut self.slots) {
            let Some(slot) = slot else { continue };
            slot.forget(&mut self.gates, &departed);
            waiting.extend(slot.contested().into_iter().map(|user| (at, user)));
        }
        for at in 0..self.view.slots() {
            self.serve(at, now);
        }
        for (at, user) in waiting {
            self.advance(at, &user, now);
        }
    }

    fn add(&mut self, gate: &NodeId, holding: &Holding) {
        let known = self.view.contains(gate) || self.leaving.contains(gate);
        if let Some(slot) = &mut self.slots[usize::from(slot_of(&holding.user))]
            && known
        {
            slot.entries.insert(&mut self.gates, gate, holding);
        }
    }

    /// A gate has told what it has.
    fn recovered(
        &mut self,
        gate: &NodeId,
        (slots, view): (&[u16], u64),
        held: &[Holding],
        replaced: Vec<Replaced>,
        now: Instant,
    ) {
        let mut by_slot: BTreeMap<u16, Vec<&Holding>> = BTreeMap::new();
        for holding in held {
            by_slot
                .entry(slot_of(&holding.user))
                .or_default()
                .push(holding);
        }
        let is_known = self.view.contains(gate) || self.leaving.contains(gate);
        let mut ask = Vec::new();
        for at in slots {
            let slot = self.slots[usize::from(*at)].as_mut();
            if let Some(slot) = slot.filter(|slot| slot.since <= view && is_known) {
                let told = by_slot.remove(at).unwrap_or_default();
                ask.extend(slot.reconcile(&mut self.gates, gate, &told));
            }
        }
        for replaced in replaced {
            self.note_replaced(replaced, now);
        }
        self.step_down(ask, None);
        for at in slots {
            self.serve(*at, now);
        }
    }

    fn note_replaced(&mut self, replaced: Replaced, now: Instant) {
        if let Some(slot) = &mut self.slots[usize::from(slot_of(&replaced.user))] {
            slot.note_replaced(replaced, now);
        }
    }

    /// Serves what waited for a slot, if all gates have told what they have.
    fn serve(&mut self, at: u16, now: Instant) {
        let Some(slot) = &mut self.slots[usize::from(at)] else {
            return;
        };
        if !slot.is_complete() {
            return;
        }
        let (users, superseded) = (slot.contested(), slot.superseded(&self.gates));
        self.step_down(superseded, None);
        for user in users {
            self.advance(at, &user, now);
        }
    }

    /// A session has ended. A claim of it that waits may be older: its gate makes a later one again.
    fn released(&mut self, user: &UserId, place: &Place, ended: (bool, bool), now: Instant) {
        let at = slot_of(user);
        self.withdraw(at, user, |claim| claim.place == *place);
        if let Some(slot) = &mut self.slots[usize::from(at)] {
            slot.released(&mut self.gates, user, place, ended);
            self.advance(at, user, now);
        }
    }

    /// Drops claims of a user, and lets them be made again. Returns whether there were some.
    fn withdraw(&mut self, at: u16, user: &UserId, is_one: impl Fn(&Claim) -> bool) -> bool {
        let Some(slot) = &mut self.slots[usize::from(at)] else {
            return false;
        };
        let callers = slot.withdraw(user, is_one);
        self.waiting -= callers.len();
        for caller in &callers {
            self.reply(*caller, OwnerReply::Retry);
        }
        !callers.is_empty()
    }

    /// Refuses the first claim of a user if it must not replace the session, which lives.
    fn refuse(&mut self, lives: &StepDown) {
        let slot = self.slots[usize::from(slot_of(&lives.user))].as_mut();
        if let Some(claim) = slot.and_then(|slot| slot.refuse(&lives.user, &lives.place)) {
            self.waiting -= 1;
            self.reply(claim.caller, OwnerReply::Refused);
        }
    }

    /// Grants the claims of a user that nothing stands against. Tells the sessions that stand
    /// against the next one to end. Returns whether a claim waits.
    fn advance(&mut self, at: u16, user: &UserId, now: Instant) -> bool {
        loop {
            let Some(slot) = &mut self.slots[usize::from(at)] else {
                return false;
            };
            match slot.next(&self.gates, user, now) {
                Next::Idle => {
                    self.contested.remove(&(at, user.clone()));
                    return false;
                }
                Next::Wait => return true,
                Next::End(steps, claimant) => {
                    self.step_down(steps, Some(&claimant));
                    return true;
                }
                Next::Grant(claim, ended, unconfirmed) => {
                    let view = self.view.number();
                    let number = slot.grant(&mut self.gates, view, user, &claim.place);
                    self.waiting -= 1;
                    let granted = OwnerReply::Granted {
                        view,
                        claim: number,
                        replaced: ended.replaced,
                        late: ended.late,
                    };
                    self.reply(claim.caller, granted);
                    self.step_down(unconfirmed, None);
                }
            }
        }
    }
}
