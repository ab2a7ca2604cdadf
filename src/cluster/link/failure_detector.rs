//! When a silent peer is suspected, and when it is given up as dead.

use super::{
    config::{DEAD_AFTER, SUSPECT_AFTER},
    effect::Effect,
    receiver::Receiver,
    session::LinkedSession,
};

impl<S: LinkedSession> Receiver<S> {
    /// Whether the peer has been silent for so long that others are preferred.
    pub(super) fn is_suspect(&self) -> bool {
        self.missed_probes >= SUSPECT_AFTER
    }

    /// Counts a probe without an inbound frame, if one is awaited. Returns whether the peer is dead.
    pub(super) fn probe(&mut self, waits: bool, effects: &mut Vec<Effect<S>>) -> bool {
        self.missed_probes = match waits {
            true => self.missed_probes.saturating_add(1),
            false => 0,
        };
        if self.is_down() {
            return false;
        }
        if self.missed_probes == SUSPECT_AFTER {
            effects.push(Effect::PeerSuspected);
        }
        self.missed_probes >= DEAD_AFTER
    }
}
