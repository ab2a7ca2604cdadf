//! Which slots a gate has yet to compare with their owners, and when.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::record::Record;
use crate::cluster::directory::checksum::checksum;

/// How long after a change a gate compares what it has with what the owner has.
const COMPARE_AFTER: Duration = Duration::from_secs(5);

/// How often a slot is compared in which a claim was given up: for as long as an owner that has
/// lost the notice may grant the claim.
pub(super) const GIVEN_UP: u8 = 5;

/// Returns the sum of the sessions of a slot which owners should know.
pub(super) fn sum<'a>(sessions: impl Iterator<Item = (i64, &'a Record)>) -> u64 {
    let held = sessions.filter(|(_, record)| record.is_held());
    held.fold(0, |sum, (session, record)| {
        sum.wrapping_add(checksum(&record.user, session))
    })
}

/// The slots that have changed.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// How often the owner of each has yet to find the same in it.
    due: BTreeMap<u16, u8>,
    at: Option<Instant>,
}

impl Comparison {
    /// Whether nothing is to be compared.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Has a slot compared at least this many times.
    pub(super) fn add(&mut self, slot: u16, times: u8) {
        let due = self.due.entry(slot).or_default();
        *due = times.max(*due);
    }

    /// Takes the slots to compare now. Each that is not found to be equal has to be added again.
    pub(super) fn take_due(&mut self, now: Instant) -> BTreeMap<u16, u8> {
        if self.due.is_empty() {
            self.at = None;
        } else if *self.at.get_or_insert(now + COMPARE_AFTER) <= now {
            self.at = None;
            return std::mem::take(&mut self.due);
        }
        BTreeMap::new()
    }
}
