//! Which slots a gate has yet to compare with their owners, and when.

use std::{collections::BTreeMap, mem, time::Duration};

use tokio::time::Instant;

use super::record::Record;
use crate::cluster::directory::checksum::checksum;

/// How long after a change a gate compares what it has with what the owner has.
const COMPARE_AFTER: Duration = Duration::from_secs(5);

/// How often a slot is compared in which a claim was given up: for as long as an owner that has
/// lost the notice may grant the claim.
pub(super) const GIVEN_UP: u8 = 5;

/// The sessions after which a tick takes no further slot: a million are compared within half a minute, and
/// the thread, which serves clients too, is held up for a few milliseconds at a time.
const SESSIONS_PER_TICK: usize = 4096;

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
    changed: BTreeMap<u16, u8>,
    /// When those are due.
    at: Option<Instant>,
    /// Those that are due.
    due: BTreeMap<u16, u8>,
}

impl Comparison {
    /// Whether nothing is to be compared.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.due.is_empty()
    }

    /// Has a slot compared at least this many times.
    pub(super) fn add(&mut self, slot: u16, times: u8) {
        let due = self.changed.entry(slot).or_default();
        *due = times.max(*due);
    }

    /// Takes slots to compare now, not many more sessions at a time than a tick is for. Each that is not
    /// found to be equal has to be added again.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        sessions: impl Fn(u16) -> usize,
    ) -> BTreeMap<u16, u8> {
        if self.changed.is_empty() {
            self.at = None;
        } else if *self.at.get_or_insert(now + COMPARE_AFTER) <= now && self.due.is_empty() {
            self.at = None;
            self.due = mem::take(&mut self.changed);
        }
        let mut left = SESSIONS_PER_TICK;
        let later = self.due.keys().copied().find(|slot| {
            let is_later = left == 0;
            left = left.saturating_sub(sessions(*slot));
            is_later
        });
        match later {
            Some(later) => {
                let later = self.due.split_off(&later);
                mem::replace(&mut self.due, later)
            }
            None => mem::take(&mut self.due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_with_many_sessions_are_compared_a_few_at_a_time_and_each_once() {
        let (mut comparison, start) = (Comparison::default(), Instant::now());
        let sessions = |slot: u16| usize::from(slot % 3) * 2000;
        (0..30).for_each(|slot| comparison.add(slot, 1));
        assert!(comparison.take_due(start, sessions).is_empty());
        let due = start + COMPARE_AFTER;
        let (mut taken, mut ticks) = (Vec::new(), 0);
        while !comparison.is_empty() {
            // It may change again while it waits: then it is compared again later.
            let slots = comparison.take_due(due, sessions);
            let without_last = slots.keys().rev().skip(1).map(|slot| sessions(*slot));
            assert!(without_last.sum::<usize>() < SESSIONS_PER_TICK);
            taken.extend(slots.into_keys());
            ticks += 1;
        }
        assert!(taken.into_iter().eq(0..30));
        assert_eq!(ticks, 10);
    }

    #[test]
    fn what_changes_while_slots_are_compared_is_due_later() {
        let (mut comparison, start) = (Comparison::default(), Instant::now());
        let sessions = |_: u16| SESSIONS_PER_TICK;
        (0..3).for_each(|slot| comparison.add(slot, 1));
        assert!(comparison.take_due(start, sessions).is_empty());
        let due = start + COMPARE_AFTER;
        let first = comparison.take_due(due, sessions);
        assert_eq!(first.into_keys().collect::<Vec<_>>(), [0]);
        comparison.add(0, 1);
        comparison.add(2, 1);
        let mut slots = |now| {
            let slots = comparison.take_due(now, sessions);
            slots.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(slots(due), [1]);
        assert_eq!(slots(due), [2]);
        assert_eq!(slots(due), [0_u16; 0]);
        assert_eq!(slots(due + COMPARE_AFTER), [0]);
        assert_eq!(slots(due + COMPARE_AFTER), [2]);
        assert!(comparison.is_empty());
    }
}
