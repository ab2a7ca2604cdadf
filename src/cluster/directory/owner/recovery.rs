//! The slots of a view, and how an owner learns what gates have in them.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{outstanding::Outstanding, slot::Slot, state::Owner};
use crate::cluster::directory::{
    message::{CallerId, Holding, OwnerReply, Replaced},
    slots::slot_of,
    view::{NodeId, View},
};

impl Owner {
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
        self.add_leaving();
        self.questions.retain(|gate| self.view.contains(gate));
        for (gate, slots) in recover {
            self.recover(&gate, slots);
        }
        self.departed.follow(&before, &self.view);
        self.withdraw_departed(now);
        self.forget_departed(now);
    }

    /// Asks a gate for what it has in some slots, behind what it is asked for already.
    fn recover(&mut self, gate: &NodeId, slots: Vec<u16>) {
        self.questions.add(gate, slots);
        self.ask(gate);
    }

    /// Asks a gate the next question, if it has none.
    fn ask(&mut self, gate: &NodeId) {
        while let Some((mut slots, pause)) = self.questions.next(gate) {
            // What has another owner by now is not asked for.
            slots.retain(|at| self.slots[usize::from(*at)].is_some());
            if !slots.is_empty() && self.view.contains(gate) {
                return self.call(Outstanding::Recover {
                    gate: gate.clone(),
                    slots,
                    view: self.view.number(),
                    pause,
                    tries: 0,
                });
            }
            self.questions.withdrawn(gate);
        }
    }

    /// A gate has no question any more.
    pub(super) fn withdrawn(&mut self, gate: &NodeId) {
        self.questions.withdrawn(gate);
        self.ask(gate);
    }

    /// A gate has told what it has. It is asked the next question.
    pub(super) fn recovered(
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
            // If the slot had another owner since the call, the gate may take a grant of that one.
            if let Some(slot) = slot.filter(|slot| slot.since <= view && is_known) {
                let told = by_slot.remove(at).unwrap_or_default();
                ask.extend(slot.reconcile(&mut self.gates, gate, &told));
            }
        }
        for replaced in &replaced {
            self.note_replaced(replaced, now);
        }
        self.step_down(ask, None);
        for at in slots {
            self.serve(*at, now);
        }
        self.questions.answered(gate, held.len());
        self.ask(gate);
    }

    /// Adds the sessions of gates that leave: with a view for slots that have come here, and at once for
    /// a gate that had been evicted.
    pub(super) fn add_leaving(&mut self) {
        for (gate, holding) in self.leaving.sessions() {
            self.add(&gate, &holding);
        }
    }

    /// Compares what a gate has in some slots. Asks it for what differs.
    pub(super) fn compare(&mut self, gate: &NodeId, caller: CallerId, sums: Vec<(u16, u64)>) {
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
            self.recover(gate, differ);
        }
    }

    /// Lets go of a slot that has another owner, or may have had one meanwhile.
    pub(super) fn give_up(&mut self, at: usize) {
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
    pub(super) fn withdraw_departed(&mut self, now: Instant) {
        let view = self.view.clone();
        for (at, user) in self.contested.clone() {
            if self.withdraw(at, &user, |claim| !view.contains(&claim.place.gate)) {
                self.advance(at, &user, now);
            }
        }
    }

    /// Forgets the sessions of gates that are neither in the view nor leaving, and goes on with what
    /// waited for them.
    pub(super) fn forget_departed(&mut self, now: Instant) {
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
}
