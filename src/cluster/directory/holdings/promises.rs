//! Which grants a gate has promised to refuse.

use std::collections::BTreeMap;

use crate::cluster::directory::{
    slots::SLOTS,
    view::{NodeId, View},
};

/// The latest owner that asked for each slot, and the latest view the gate has heard of. Grants of
/// earlier views are refused.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_slot: BTreeMap<u16, Promise>,
    joined: u64,
}

#[derive(Debug)]
struct Promise {
    view: u64,
    owner: NodeId,
}

impl Promises {
    /// Refuses grants of views before this one, for all slots: the gate may have been out of a view
    /// before it, and has missed the questions of that view's owners.
    pub(super) fn join(&mut self, view: u64) {
        self.joined = self.joined.max(view);
    }

    /// Returns the earliest view whose grants are accepted.
    #[cfg(test)]
    pub(super) fn earliest(&self, slot: u16) -> u64 {
        let promise = self.by_slot.get(&slot);
        promise.map_or(self.joined, |promise| promise.view.max(self.joined))
    }

    /// Promises the slots to an owner. Returns `false` and promises nothing if the owner of a later
    /// view has asked for one of them.
    pub(super) fn promise(&mut self, owner: &NodeId, view: u64, slots: &[u16]) -> bool {
        let later = |slot: &u16| self.by_slot.get(slot).is_some_and(|old| old.view > view);
        if slots.iter().any(later) {
            return false;
        }
        for slot in slots.iter().filter(|slot| usize::from(**slot) < SLOTS) {
            let owner = owner.clone();
            self.by_slot.insert(*slot, Promise { view, owner });
        }
        true
    }

    /// Whether a grant of this view may be accepted.
    pub(super) fn allow(&self, slot: u16, view: u64) -> bool {
        let promise = self.by_slot.get(&slot);
        view >= self.joined && promise.is_none_or(|promise| view >= promise.view)
    }

    /// Whether the owner of a later view has asked for a slot.
    pub(super) fn is_later(&self, slot: u16, view: u64) -> bool {
        let promise = self.by_slot.get(&slot);
        promise.is_some_and(|promise| promise.view > view)
    }

    /// Returns the owner of a slot that has asked under a later view than this one: it is ahead of
    /// the gate's table. Of views without a number the one that asked last counts.
    pub(super) fn owner_after(&self, view: &View, slot: u16) -> Option<&NodeId> {
        let ahead = |promise: &&Promise| {
            promise.view > view.number() || view.number() == 0 && view.contains(&promise.owner)
        };
        let promise = self.by_slot.get(&slot).filter(ahead);
        promise.map(|promise| &promise.owner)
    }
}
