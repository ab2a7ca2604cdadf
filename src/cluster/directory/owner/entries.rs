//! The sessions of the users of one slot.

use std::collections::{BTreeMap, BTreeSet};

use super::{entry::Entry, packed_users::PackedUsers};
use crate::{
    cluster::directory::{
        checksum::checksum,
        message::{Holding, Place},
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

/// The users of one slot: about 18 bytes for each that has one session, and its number or text.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The first session of each user.
    users: PackedUsers,
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
        first.into_iter().chain(more.copied()).collect()
    }

    /// Adds a session, or raises its claim, or notes that it has ended.
    pub(super) fn insert(&mut self, gates: &mut Gates, node: &NodeId, holding: &Holding) {
        let entry = Entry {
            gate: gates.number(node),
            session: holding.session,
            claim: holding.claim,
            closing: holding.closing,
        };
        let user = &holding.user;
        let raise = |known: &mut Entry| {
            let same = (known.gate, known.session) == (entry.gate, entry.session);
            if same {
                known.claim = known.claim.max(entry.claim);
                known.closing |= entry.closing;
            }
            same
        };
        let (mut is_new, mut is_first) = (false, true);
        self.users.update(user, |first| {
            let Some(mut first) = first else {
                is_new = true;
                return Some(entry);
            };
            is_first = raise(&mut first);
            is_first.then_some(first)
        });
        if is_new {
            gates.add(&entry);
        }
        if is_first {
            return;
        }
        let mut more = self.more.get_mut(user).into_iter().flatten();
        if !more.any(raise) {
            gates.add(&entry);
            self.more.entry(user.clone()).or_default().push(entry);
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
            .map(|(key, _)| key.user())
            .chain(more.map(|(user, _)| user.clone()))
            .collect();
        for user in &users {
            self.retain_of(gates, user, |_, entry| !is_at(entry));
        }
        users
    }

    /// Forgets all sessions.
    pub(super) fn clear(&mut self, gates: &mut Gates) {
        self.users
            .iter()
            .for_each(|(_, entry)| gates.subtract(&entry));
        let more = self.more.values().flatten();
        more.for_each(|entry| gates.subtract(entry));
        *self = Self::default();
    }

    /// Returns all users with more than one session.
    pub(super) fn with_several(&self) -> Vec<UserId> {
        self.more.keys().cloned().collect()
    }

    /// Returns the sessions that a gate has here.
    pub(super) fn at_gate(
        &self,
        gates: &Gates,
        node: &NodeId,
    ) -> impl Iterator<Item = (UserId, Entry)> {
        let known = gates.0.iter().position(|gate| gate.node == *node);
        let is_at = move |entry: &Entry| Some(entry.gate as usize) == known;
        let first = self.users.iter().filter(move |(_, entry)| is_at(entry));
        let more = self.more.iter();
        let more = more.flat_map(|(user, more)| more.iter().map(move |entry| (user, *entry)));
        let more = more.filter(move |(_, entry)| is_at(entry));
        let more = more.map(|(user, entry)| (user.clone(), entry));
        first.map(|(key, entry)| (key.user(), entry)).chain(more)
    }

    /// Returns the sum of what a gate has here.
    pub(super) fn sum(&self, gates: &Gates, node: &NodeId) -> u64 {
        let checksums = self
            .at_gate(gates, node)
            .map(|(user, entry)| checksum(&user, entry.session));
        checksums.fold(0, u64::wrapping_add)
    }

    /// Whether a user has more than one session.
    #[cfg(any(test, fuzzing))]
    pub(super) fn has_several(&self) -> bool {
        !self.more.is_empty()
    }

    /// Returns all sessions, with their users.
    #[cfg(any(test, fuzzing))]
    pub(super) fn all(&self, gates: &Gates) -> Vec<(UserId, Place)> {
        let all = self.users.iter().flat_map(|(key, _)| {
            let user = key.user();
            let entries = self.of(&user).into_iter();
            entries.map(move |entry| (user.clone(), gates.place(&entry)))
        });
        all.collect()
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
        let first = kept.remove(0);
        self.users.update(user, |_| Some(first));
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
        let number = |count: i64| UserId::from(count * 7_919 % 10_007 + 1_000_000_000);
        let uuid = |count: i64| {
            let first = count * 7_919 % 10_007;
            UserId::from(format!("{first:08x}-1ad5-4b1c-8cfe-0123456789ab"))
        };
        for (limit, id) in [(28, &number as &dyn Fn(i64) -> UserId), (44, &uuid)] {
            let node = NodeId {
                address: "10.0.0.1:34567".into(),
                incarnation: 1,
            };
            let (mut entries, mut gates) = (Entries::default(), Gates::default());
            for count in 1..=1_000 {
                let holding = Holding {
                    // In no order.
                    user: id(count),
                    session: i64::MAX - count,
                    claim: 1_000_000,
                    closing: false,
                };
                entries.insert(&mut gates, &node, &holding);
                let bytes = entries.users.bytes();
                assert!(
                    count < 100 || bytes <= limit * count as usize,
                    "{count}: {bytes}"
                );
            }
        }
    }
}
