//! Which owners a gate has promised to refuse.

use std::collections::BTreeMap;

use crate::cluster::directory::{slots::SLOTS, view::NodeId};

/// The latest owner that asked for each slot. Grants of earlier views are refused.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_slot: BTreeMap<u16, Promise>,
    /// The view to which the gate has returned after it may have been evicted: it has missed the
    /// questions of owners before.
    joined: u64,
}

#[derive(Debug)]
struct Promise {
    view: u64,
    owner: NodeId,
}

impl Promises {
    /// Refuses grants of views before this one, for all slots.
    pub(super) fn join(&mut self, view: u64) {
        self.joined = self.joined.max(view);
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

    /// Returns the owner of a slot in a later view than this one, if it has asked.
    pub(super) fn owner_after(&self, view: u64, slot: u16) -> Option<&NodeId> {
        let promise = self.by_slot.get(&slot);
        promise
            .filter(|promise| promise.view > view)
            .map(|promise| &promise.owner)
    }
}
