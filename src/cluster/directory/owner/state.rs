//! What the owner of some slots knows, and how it answers and calls gates.

use std::collections::BTreeSet;

use super::{
    departed::Departed,
    effect::Effect,
    entries::Gates,
    leaving::Leaving,
    outstanding::{Calls, Outstanding, StepDown},
    questions::Questions,
    slot::Slot,
};
use crate::{
    cluster::directory::{
        message::{CallerId, Holding, OwnerReply, Place},
        slots::{SLOTS, slot_of},
        view::{NodeId, View},
    },
    session::UserId,
};

/// The owner of some slots.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(super) own: NodeId,
    pub(super) view: View,
    /// By slot; `None` for those of other owners.
    pub(super) slots: Vec<Option<Slot>>,
    pub(super) gates: Gates,
    pub(super) leaving: Leaving,
    pub(super) departed: Departed,
    pub(super) calls: Calls,
    pub(super) questions: Questions,
    pub(super) waiting: usize,
    /// The users with claims that wait, by slot.
    pub(super) contested: BTreeSet<(u16, UserId)>,
    pub(super) effects: Vec<Effect>,
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
            questions: Questions::default(),
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

    pub(super) fn reply(&mut self, caller: CallerId, reply: OwnerReply) {
        self.effects.push(Effect::Reply { caller, reply });
    }

    pub(super) fn call(&mut self, outstanding: Outstanding) {
        let (to, request) = (outstanding.gate().clone(), outstanding.request());
        let pause = outstanding.pause();
        if let Some(call) = self.calls.begin(outstanding) {
            self.effects.push(Effect::Call {
                call,
                to,
                request,
                pause,
            });
        }
    }

    pub(super) fn step_down(&mut self, steps: Vec<StepDown>, claimant: Option<&Place>) {
        let view = self.view.number();
        for step in steps {
            self.call(Outstanding::step_down(step, claimant.cloned(), view));
        }
    }

    pub(super) fn add(&mut self, gate: &NodeId, holding: &Holding) {
        let known = self.view.contains(gate) || self.leaving.contains(gate);
        if let Some(slot) = &mut self.slots[usize::from(slot_of(&holding.user))]
            && known
        {
            slot.entries.insert(&mut self.gates, gate, holding);
        }
    }
}
