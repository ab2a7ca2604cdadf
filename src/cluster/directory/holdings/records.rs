//! The sessions of a gate by id, and by the slot of their user.

use std::collections::BTreeMap;

use super::record::Record;
use crate::cluster::directory::{
    packed_set::PackedSet,
    slots::{SLOTS, slot_of},
};

/// The sessions of a gate that have a user.
///
/// An owner that takes slots over asks for those in a few of them, on a thread that serves clients: the
/// time that takes depends on how many these are, not on how many sessions the gate has.
#[derive(Debug)]
pub(super) struct Records {
    by_session: BTreeMap<i64, Record>,
    /// The ids of the sessions in each slot.
    by_slot: Vec<PackedSet<i64>>,
}

impl Records {
    pub(super) fn new() -> Self {
        Self {
            by_session: BTreeMap::new(),
            by_slot: (0..SLOTS).map(|_| PackedSet::default()).collect(),
        }
    }

    pub(super) fn get(&self, session: i64) -> Option<&Record> {
        self.by_session.get(&session)
    }

    /// Returns a record whose state may be changed; its user may not.
    pub(super) fn get_mut(&mut self, session: i64) -> Option<&mut Record> {
        self.by_session.get_mut(&session)
    }

    /// Sets the record of a session.
    pub(super) fn insert(&mut self, session: i64, record: Record) {
        self.remove(session);
        self.by_slot[usize::from(slot_of(&record.user))].insert(session);
        self.by_session.insert(session, record);
    }

    pub(super) fn remove(&mut self, session: i64) -> Option<Record> {
        let record = self.by_session.remove(&session)?;
        self.by_slot[usize::from(slot_of(&record.user))].remove(&session);
        Some(record)
    }

    /// Returns all sessions in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Record)> {
        let all = self.by_session.iter();
        all.map(|(session, record)| (*session, record))
    }

    /// Returns the sessions in a slot. There are none in one that does not exist.
    pub(super) fn in_slot(&self, slot: u16) -> impl Iterator<Item = (i64, &Record)> {
        let sessions = self.by_slot.get(usize::from(slot)).into_iter();
        let sessions = sessions.flat_map(PackedSet::iter);
        sessions.filter_map(|session| Some((*session, self.get(*session)?)))
    }

    /// The number of sessions in a slot.
    pub(super) fn count_in_slot(&self, slot: u16) -> usize {
        self.by_slot
            .get(usize::from(slot))
            .map_or(0, PackedSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::UserId;

    #[test]
    fn a_session_is_in_the_slot_of_its_user_alone() {
        let mut records = Records::new();
        let mut number = 1_u32;
        for _ in 0..5_000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (session, user) = (i64::from(number >> 24), i64::from(number >> 8 & 0x3f) + 1);
            if number >> 16 & 3 == 0 {
                records.remove(session);
            } else {
                // Often another user than before.
                records.insert(session, Record::held(user.into(), 0));
            }
        }
        let by_slot = (0..SLOTS as u16).flat_map(|slot| {
            let sessions = records.in_slot(slot);
            sessions.map(move |(session, record)| (slot, session, record.user.clone()))
        });
        let mut by_slot: Vec<_> = by_slot
            .map(|(slot, session, user)| (session, slot, user))
            .collect();
        by_slot.sort();
        let all = records.iter();
        let all: Vec<(i64, u16, UserId)> = all
            .map(|(session, record)| (session, slot_of(&record.user), record.user.clone()))
            .collect();
        assert_eq!(by_slot, all);
        assert!(all.len() > 100);
        assert_eq!(records.in_slot(u16::MAX).count(), 0);
    }
}
