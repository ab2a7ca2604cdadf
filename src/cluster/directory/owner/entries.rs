//! The sessions of the users of one slot.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::directory::{
        checksum::checksum,
        message::{Holding, Place},
        packed_map::PackedMap,
        view::NodeId,
    },
    session::UserId,
};

/// The gates that have sessions here, each by a small number.
#[derive(Debug, Default)]
pub(super) struct Gates(Vec<Gate>);

#[derive(Debug)]
struct Gate {
    node: NodeId,
    /// The number is free for another gate when it is 0.
    sessions: usize,
}

/// One session of a user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    gate: u32,
    pub(super) session: i64,
    pub(super) claim: u64,
    /// Whether the session has ended, and its close callbacks may still run.
    pub(super) closing: bool,
}

/// The users of one slot: about 42 bytes for each that has a number and one session.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The first session of each user.
    users: PackedMap<UserId, Entry>,
    /// The other sessions of users that have several.
    more: BTreeMap<UserId, Vec<Entry>>,
}

impl Gates {
    /// Returns for each gate, by number, whether it is one of those.
    pub(super) fn which(&self, is_one: impl Fn(&NodeId) -> bool) -> Vec<bool> {
        let used = |gate: &Gate| gate.sessions > 0 && is_one(&gate.node);
        self.0.iter().map(used).collect()
    }

    pub(super) fn node(&self, entry: &Entry) -> &NodeId {
        &self.0[entry.gate as usize].node
    }

    pub(super) fn place(&self, entry: &Entry) -> Place {
        Place {
            gate: self.node(entry).clone(),
            session: entry.session,
        }
    }

    /// Returns how many sessions all gates have here.
    #[cfg(any(test, fuzzing))]
    pub(super) fn sessions(&self) -> usize {
        self.0.iter().map(|gate| gate.sessions).sum()
    }

    fn number(&mut self, node: &NodeId) -> u32 {
        let known = self.0.iter().position(|gate| gate.node == *node);
        let free = || self.0.iter().position(|gate| gate.sessions == 0);
        let at = known.or_else(free).unwrap_or(self.0.len());
        if known.is_none() {
            let gate = Gate {
                node: node.clone(),
                sessions: 0,
            };
            match self.0.get_mut(at) {
                Some(free) => *free = gate,
                None => self.0.push(gate),
            }
        }
        at as u32
    }

    fn add(&mut self, entry: &Entry) {
        self.0[entry.gate as usize].sessions += 1;
    }

    fn subtract(&mut self, entry: &Entry) {
        self.0[entry.gate as usize].sessions -= 1;
    }
}

impl Entries {
    /// Returns the sessions of a user.
    pub(super) fn of(&self, user: &UserId) -> Vec<Entry> {
        let first = self.users.get(user);
        let more = self.more.get(user).into_iter().flatten();
        first.into_iter().chain(more).copied().collect()
    }

    /// Adds a session, or raises its claim, or notes that it has ended.
    pub(super) fn insert(&mut self, gates: &mut Gates, node: &NodeId, holding: &Holding) {
        let entry = Entry {
            gate: gates.number(node),
            session: holding.session,
            claim: holding.claim,
            closing: holding.closing,
        };
        let same = |known: &&mut Entry| (known.gate, known.session) == (entry.gate, entry.session);
        let more = self.more.get_mut(&holding.user).into_iter().flatten();
        if let Some(known) = self
            .users
            .get_mut(&holding.user)
            .into_iter()
            .chain(more)
            .find(same)
        {
            known.claim = known.claim.max(entry.claim);
            known.closing |= entry.closing;
            return;
        }
        gates.add(&entry);
        if self.users.get(&holding.user).is_some() {
            self.more
                .entry(holding.user.clone())
                .or_default()
                .push(entry);
        } else {
            self.users.insert(holding.user.clone(), entry);
        }
    }

    /// Removes the session of a user.
    pub(super) fn remove(&mut self, gates: &mut Gates, user: &UserId, place: &Place) {
        self.retain_of(gates, user, |gates, entry| gates.place(entry) != *place);
    }

    /// Forgets the sessions at some gates, given by number. Returns the users that had some.
    pub(super) fn forget(&mut self, gates: &mut Gates, which: &[bool]) -> BTreeSet<UserId> {
        let is_at = |entry: &Entry| which.get(entry.gate as usize) == Some(&true);
        if !which.contains(&true) {
            return BTreeSet::new();
        }
        let first = self.users.iter().filter(|(_, entry)| is_at(entry));
        let more = self.more.iter().filter(|(_, more)| more.iter().any(is_at));
        let users: BTreeSet<_> = first
            .map(|(user, _)| user.clone())
            .chain(more.map(|(user, _)| user.clone()))
            .collect();
        for user in &users {
            self.retain_of(gates, user, |_, entry| !is_at(entry));
        }
        users
    }

    /// Forgets all sessions.
    pub(super) fn clear(&mut self, gates: &mut Gates) {
        for entry in self.users.values().chain(self.more.values().flatten()) {
            gates.subtract(entry);
        }
        *self = Self::default();
    }

    /// Returns all users with more than one session.
    pub(super) fn with_several(&self) -> Vec<UserId> {
        self.more.keys().cloned().collect()
    }

    /// Returns the sessions that a gate has here.
    pub(super) fn at_gate(&self, gates: &Gates, node: &NodeId) -> Vec<(UserId, Entry)> {
        let at_gate = self.iter_at_gate(gates, node);
        at_gate
            .map(|(user, entry)| (user.clone(), *entry))
            .collect()
    }

    /// Returns the sum of what a gate has here.
    pub(super) fn sum(&self, gates: &Gates, node: &NodeId) -> u64 {
        let checksums = self
            .iter_at_gate(gates, node)
            .map(|(user, entry)| checksum(user, entry.session));
        checksums.fold(0, u64::wrapping_add)
    }

    fn iter_at_gate(
        &self,
        gates: &Gates,
        node: &NodeId,
    ) -> impl Iterator<Item = (&UserId, &Entry)> {
        let known = gates.0.iter().position(|gate| gate.node == *node);
        let more = self.more.iter();
        let more = more.flat_map(|(user, more)| more.iter().map(move |entry| (user, entry)));
        let all = self.users.iter().chain(more);
        all.filter(move |(_, entry)| Some(entry.gate as usize) == known)
    }

    /// Whether a user has more than one session.
    #[cfg(any(test, fuzzing))]
    pub(super) fn has_several(&self) -> bool {
        !self.more.is_empty()
    }

    /// Returns all sessions, with their users.
    #[cfg(any(test, fuzzing))]
    pub(super) fn all(&self, gates: &Gates) -> Vec<(UserId, Place)> {
        let place = |user: &UserId, entry: &Entry| (user.clone(), gates.place(entry));
        let users = self.users.iter();
        users
            .flat_map(|(user, _)| {
                self.of(user)
                    .iter()
                    .map(|entry| place(user, entry))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn retain_of(
        &mut self,
        gates: &mut Gates,
        user: &UserId,
        keep: impl Fn(&Gates, &Entry) -> bool,
    ) {
        let (mut kept, dropped): (Vec<_>, Vec<_>) = self
            .of(user)
            .into_iter()
            .partition(|entry| keep(gates, entry));
        for entry in &dropped {
            gates.subtract(entry);
        }
        self.more.remove(user);
        if kept.is_empty() {
            self.users.remove(user);
            return;
        }
        self.users.insert(user.clone(), kept.remove(0));
        if !kept.is_empty() {
            self.more.insert(user.clone(), kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot has a thousand users in a cluster of a million.
    #[test]
    fn a_user_takes_64_bytes_at_most() {
        let node = NodeId {
            address: "10.0.0.1:34567".into(),
            incarnation: 1,
        };
        let (mut entries, mut gates) = (Entries::default(), Gates::default());
        for count in 1..=1_000 {
            let holding = Holding {
                // In no order.
                user: UserId::from(count * 7_919 % 10_007),
                session: count,
                claim: 1,
                closing: false,
            };
            entries.insert(&mut gates, &node, &holding);
            let bytes = entries.users.bytes();
            assert!(
                count < 100 || bytes <= 64 * count as usize,
                "{count}: {bytes}"
            );
        }
    }
}
