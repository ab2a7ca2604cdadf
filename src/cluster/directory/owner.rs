//! What a node does for the users whose slots it owns. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::effect::Effect;
use self::{
    entries::Gates,
    leaving::Leaving,
    outstanding::{Calls, Outstanding, StepDown},
    slot::{Claim, Next, Slot},
};
use super::{
    message::{CallId, CallerId, GateReply, Holding, Notice, OwnerReply, OwnerRequest, Place},
    slots::{SLOTS, slot_of},
    view::{NodeId, View},
};
use crate::session::UserId;

mod effect;
mod entries;
mod leaving;
mod outstanding;
mod slot;

/// How long a claim may wait here. Its caller waits less.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);

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
    /// The number of the latest claim.
    last_claim: u64,
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
            view: View::new(0, Vec::new()),
            slots: (0..SLOTS).map(|_| None).collect(),
            gates: Gates::default(),
            leaving: Leaving::default(),
            last_claim: 0,
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

    /// Returns all sessions that are known, with their users.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<(UserId, Place)> {
        let owned = self.slots.iter().flatten();
        owned
            .flat_map(|slot| slot.entries.all(&self.gates))
            .collect()
    }

    /// Returns how many slots this node owns, and how many of them wait for gates.
    pub(crate) fn slots(&self) -> (usize, usize) {
        let owned = self.slots.iter().flatten();
        let recovering = owned.clone().filter(|slot| !slot.is_complete());
        (owned.count(), recovering.count())
    }

    /// Returns how many users are known.
    pub(crate) fn users(&self) -> usize {
        let owned = self.slots.iter().flatten();
        owned.map(|slot| slot.entries.len()).sum()
    }

    /// Goes on to a later view: gives slots up, takes others over, and forgets the sessions of gates
    /// that are not in it.
    ///
    /// A gate that was evicted has ended its claims before: its lease is shorter than the silence
    /// that evicts it.
    pub(crate) fn set_view(&mut self, view: View, now: Instant) {
        let kept = self.view.precedes(&view);
        let before = std::mem::replace(&mut self.view, view);
        self.last_claim = self.last_claim.max(self.view.number());
        let mut recover: BTreeMap<NodeId, Vec<u16>> = BTreeMap::new();
        for slot in 0..SLOTS as u16 {
            let at = usize::from(slot);
            if self.view.owner(slot) != Some(&self.own) {
                self.give_up(at);
                continue;
            }
            let asked = match (&mut self.slots[at], kept) {
                (Some(owned), true) => {
                    owned.unanswered.retain(|gate| self.view.contains(gate));
                    let joined = |node: &&NodeId| !before.contains(node);
                    self.view.nodes().iter().filter(joined).collect::<Vec<_>>()
                }
                _ => {
                    self.give_up(at);
                    let nodes = self.view.nodes().iter();
                    let slot = Slot::new(self.view.number(), nodes.clone().cloned());
                    self.slots[at] = Some(slot);
                    nodes.collect()
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
        self.forget_departed(now);
    }

    /// Takes a call of a gate, or of a node that looks for a user. It is answered with
    /// [`Effect::Reply`], unless it takes too long.
    pub(crate) fn on_call(
        &mut self,
        from: &NodeId,
        caller: CallerId,
        request: OwnerRequest,
        now: Instant,
    ) {
        let (OwnerRequest::Claim { user, .. } | OwnerRequest::Locate { user }) = &request;
        let (at, full) = (slot_of(user), self.waiting >= MAX_WAITING);
        let Some(slot) = &mut self.slots[usize::from(at)] else {
            return self.reply(caller, OwnerReply::Retry);
        };
        match request {
            OwnerRequest::Locate { user } if slot.is_complete() => {
                let places = slot.locate(&self.gates, &user);
                self.reply(caller, OwnerReply::Located(places));
            }
            _ if full => self.reply(caller, OwnerReply::Retry),
            OwnerRequest::Locate { user } => {
                slot.locate_later(caller, user);
                self.waiting += 1;
            }
            OwnerRequest::Claim {
                user,
                session,
                policy,
            } => {
                let place = Place {
                    gate: from.clone(),
                    session,
                };
                let until = now + CLAIM_TIMEOUT;
                let claim = Claim {
                    caller,
                    place,
                    policy,
                    until,
                };
                match slot.claim(&user, claim) {
                    Ok(more) => self.waiting += more,
                    Err(claim) => return self.reply(claim.caller, OwnerReply::Retry),
                }
                self.contested.insert((at, user.clone()));
                self.advance(at, &user);
            }
        }
    }

    /// Takes a message of a gate.
    pub(crate) fn on_notice(&mut self, from: &NodeId, notice: Notice, now: Instant) {
        match notice {
            Notice::Bound(holdings) => holdings.iter().for_each(|bound| self.add(from, bound)),
            Notice::Released(holdings) => {
                for holding in holdings {
                    let place = Place {
                        gate: from.clone(),
                        session: holding.session,
                    };
                    self.leaving.released(from, holding.session);
                    self.withdraw(&holding.user, &place);
                    self.released(&holding.user, &place, false);
                }
            }
            Notice::Sum(sum) if sum != self.gates.sum(from) && self.view.contains(from) => {
                let owned =
                    (0..SLOTS as u16).filter(|slot| self.slots[usize::from(*slot)].is_some());
                let slots = owned.collect();
                self.call(Outstanding::Recover {
                    gate: from.clone(),
                    slots,
                    view: self.view.number(),
                });
            }
            Notice::Sum(_) => {}
            Notice::Leaving(holdings) => self.leaving.add(from, holdings, now),
        }
    }

    /// Takes a gate's reply; `None` if the call failed.
    pub(crate) fn on_reply(&mut self, call: CallId, reply: Option<GateReply>, now: Instant) {
        let Some(outstanding) = self.calls.take(call) else {
            return;
        };
        match (outstanding, reply) {
            (Outstanding::Recover { gate, slots, view }, Some(GateReply::Holdings(holdings))) => {
                self.recovered(&gate, &slots, view, &holdings);
            }
            (Outstanding::StepDown(step), Some(GateReply::SteppedDown { late })) => {
                self.calls.finish(&step);
                self.released(&step.user, &step.place, late);
            }
            (Outstanding::StepDown(step), Some(GateReply::Lives)) => {
                self.calls.finish(&step);
                self.refuse(&step.user);
                self.advance(slot_of(&step.user), &step.user);
            }
            (outstanding, _) => self.calls.failed(outstanding, now),
        }
    }

    /// Repeats failed calls, and forgets what has waited for too long.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(outstanding) = self.calls.next_due(now) {
            self.retry(outstanding);
        }
        if self.leaving.is_overdue(now) {
            self.forget_departed(now);
        }
        let mut expired = Vec::new();
        for (at, user) in &self.contested {
            let Some(slot) = &mut self.slots[usize::from(*at)] else {
                continue;
            };
            let gone = slot.withdraw(user, |claim| claim.until <= now);
            self.waiting -= gone;
            if gone > 0 {
                expired.push((*at, user.clone()));
            }
        }
        for (at, user) in expired {
            self.advance(at, &user);
        }
    }

    fn retry(&mut self, outstanding: Outstanding) {
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
            Outstanding::StepDown(step) => {
                let at = slot_of(&step.user);
                if step.ask || !self.advance(at, &step.user) {
                    self.step_down_again(step);
                }
            }
        }
    }

    fn step_down_again(&mut self, step: StepDown) {
        let slot = self.slots[usize::from(slot_of(&step.user))].as_ref();
        let known = slot.is_some_and(|slot| {
            let entries = slot.entries.of(&step.user);
            entries
                .iter()
                .any(|entry| self.gates.place(entry) == step.place)
        });
        if known {
            self.step_down(step);
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

    fn step_down(&mut self, step: StepDown) {
        // A gate that is not in the view has ended its sessions, or ends them by itself.
        if self.view.contains(&step.place.gate) {
            self.call(Outstanding::StepDown(step));
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

    /// Forgets the sessions of gates that are neither in the view nor leaving, and goes on with what
    /// waited for them.
    fn forget_departed(&mut self, now: Instant) {
        self.leaving.expire(now);
        let (view, leaving) = (&self.view, &self.leaving);
        let departed = self
            .gates
            .which(|gate| !view.contains(gate) && !leaving.contains(gate));
        let mut waiting = Vec::new();
        for (at, slot) in (0_u16..).zip(&mut self.slots) {
            let Some(slot) = slot else { continue };
            slot.forget(&mut self.gates, &departed);
            waiting.extend(slot.contested().into_iter().map(|user| (at, user)));
        }
        for at in 0..SLOTS as u16 {
            self.serve(at);
        }
        for (at, user) in waiting {
            self.advance(at, &user);
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
    fn recovered(&mut self, gate: &NodeId, slots: &[u16], view: u64, holdings: &[Holding]) {
        let mut by_slot: BTreeMap<u16, Vec<&Holding>> = BTreeMap::new();
        for holding in holdings {
            self.last_claim = self.last_claim.max(holding.claim);
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
        for step in ask {
            self.step_down(step);
        }
        for at in slots {
            self.serve(*at);
        }
    }

    /// Serves what waited for a slot, if all gates have told what they have.
    fn serve(&mut self, at: u16) {
        let Some(slot) = &mut self.slots[usize::from(at)] else {
            return;
        };
        if !slot.is_complete() {
            return;
        }
        let (locates, users) = (slot.take_locates(), slot.contested());
        let superseded = slot.superseded(&self.gates);
        self.waiting -= locates.len();
        for (caller, user) in locates {
            let slot = self.slots[usize::from(at)].as_ref();
            let places = slot.map(|slot| slot.locate(&self.gates, &user));
            self.reply(caller, OwnerReply::Located(places.unwrap_or_default()));
        }
        for step in superseded {
            self.step_down(step);
        }
        for user in users {
            self.advance(at, &user);
        }
    }

    /// A session has ended.
    fn released(&mut self, user: &UserId, place: &Place, late: bool) {
        let at = slot_of(user);
        if let Some(slot) = &mut self.slots[usize::from(at)] {
            slot.released(&mut self.gates, user, place, late);
            self.advance(at, user);
        }
    }

    /// Forgets the claim of a session that has ended.
    fn withdraw(&mut self, user: &UserId, place: &Place) {
        if let Some(slot) = &mut self.slots[usize::from(slot_of(user))] {
            self.waiting -= slot.withdraw(user, |claim| claim.place == *place);
        }
    }

    /// Refuses the first claim of a user if it must not replace others.
    fn refuse(&mut self, user: &UserId) {
        let slot = self.slots[usize::from(slot_of(user))].as_mut();
        if let Some(claim) = slot.and_then(|slot| slot.refuse(user)) {
            self.waiting -= 1;
            self.reply(claim.caller, OwnerReply::Refused);
        }
    }

    /// Grants the claims of a user that nothing stands against. Tells the sessions that stand
    /// against the next one to end. Returns whether a claim waits.
    fn advance(&mut self, at: u16, user: &UserId) -> bool {
        loop {
            let Some(slot) = &mut self.slots[usize::from(at)] else {
                return false;
            };
            match slot.next(&self.gates, user) {
                Next::Idle => {
                    self.contested.remove(&(at, user.clone()));
                    return false;
                }
                Next::Wait => return true,
                Next::End(steps) => {
                    steps.into_iter().for_each(|step| self.step_down(step));
                    return true;
                }
                Next::Grant(claim, _) if !self.view.contains(&claim.place.gate) => {
                    // It has left, or is in a later view than this node.
                    self.waiting -= 1;
                    self.reply(claim.caller, OwnerReply::Retry);
                }
                Next::Grant(claim, ended) => {
                    self.waiting -= 1;
                    self.last_claim += 1;
                    let holding = Holding {
                        user: user.clone(),
                        session: claim.place.session,
                        claim: self.last_claim,
                    };
                    slot.grant(&mut self.gates, &claim.place.gate, &holding);
                    let granted = OwnerReply::Granted {
                        view: self.view.number(),
                        claim: self.last_claim,
                        replaced: ended.replaced,
                        late: ended.late,
                    };
                    self.reply(claim.caller, granted);
                }
            }
        }
    }
}
