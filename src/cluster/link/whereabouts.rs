//! Where a session is that a node serves: at which gate, or between two. No I/O.

use super::held::{Held, HeldItem};

/// Where a session is. `P` names it at one gate.
pub(super) struct Whereabouts<P> {
    /// `None` for the first gate.
    place: Option<P>,
    /// What waits, while the session is held.
    held: Option<Held>,
}

/// Where something for the gate of a session goes.
pub(super) enum Destination<'a, P> {
    /// It waits: the session is held.
    Held(&'a mut Held),
    Gate(P),
}

impl<P> Default for Whereabouts<P> {
    fn default() -> Self {
        Self {
            place: None,
            held: None,
        }
    }
}

impl<P: Clone> Whereabouts<P> {
    /// Holds the session: what is for its gate waits.
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Ends the hold, at another gate if one is given. Returns what has waited.
    pub(super) fn settle(&mut self, place: Option<P>) -> Vec<HeldItem> {
        if place.is_some() {
            self.place = place;
        }
        self.held.take().map(Held::into_items).unwrap_or_default()
    }

    /// Where something goes now; `first` is the first gate.
    pub(super) fn destination(&mut self, first: &P) -> Destination<'_, P> {
        match &mut self.held {
            Some(held) => Destination::Held(held),
            None => Destination::Gate(self.place.as_ref().unwrap_or(first).clone()),
        }
    }

    /// The gate; while the session is held, the one it was at.
    pub(super) fn place(&self) -> Option<&P> {
        self.place.as_ref()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }
}
