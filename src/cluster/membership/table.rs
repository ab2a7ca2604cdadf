//! The member table of one node: all members but itself. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::stable_hash::{Fnv1a, mix},
    member::Member,
};

/// One change of a member table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Joined(Member),
    Left(Member),
}

/// All members but this node: the master first, then in the order they joined.
#[derive(Debug, Default)]
pub(crate) struct MemberTable {
    /// This node's own address, which is never in the table.
    own: String,
    entries: Vec<Member>,
    /// The addresses announced since a call began whose reply is a table; `None` between calls.
    /// An announcement is newer than the reply. Always `None` at the master, which makes no such
    /// calls.
    announced: Option<BTreeSet<String>>,
    /// The highest term of a leading master that was heard of; 0 while there is one master only.
    term: u64,
}

impl MemberTable {
    pub(crate) fn new(own: impl Into<String>) -> Self {
        Self {
            own: own.into(),
            ..Self::default()
        }
    }

    /// Whether what a master says in this term may be applied: not if a later one leads. A master
    /// that is the only one, or basic, has the term 0 and is always believed.
    pub(crate) fn accepts(&mut self, term: u64) -> bool {
        let is_current = term == 0 || term >= self.term;
        self.term = self.term.max(term);
        is_current
    }

    /// Returns the highest term of a leading master that was heard of.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Puts the member of this incarnation first, because it is the master now. Returns whether that
    /// changed the order.
    pub(crate) fn lead_by(&mut self, incarnation: u64) -> bool {
        let leads = |entry: &Member| !entry.is_basic() && entry.incarnation() == incarnation;
        match self.entries.iter().position(leads) {
            None | Some(0) => false,
            Some(at) => {
                self.entries[..=at].rotate_right(1);
                true
            }
        }
    }

    /// Returns the address of the member of this incarnation.
    pub(crate) fn address_of(&self, incarnation: u64) -> Option<&str> {
        let member = self
            .entries
            .iter()
            .find(|entry| !entry.is_basic() && entry.incarnation() == incarnation)?;
        Some(member.address())
    }

    /// Applies a join announced by the master.
    ///
    /// Known members and older incarnations are ignored; a newer incarnation replaces the entry.
    /// Basic members carry no incarnation, so the announcement always wins.
    pub(crate) fn join(&mut self, member: Member) -> Vec<Change> {
        self.note_announcement(member.address());
        // A basic master announces registrations only, and a basic member registers when it starts:
        // the same entry announced again is a restarted node.
        if member.is_basic() && self.has_basic_master() && self.entries.contains(&member) {
            return vec![Change::Left(member.clone()), Change::Joined(member)];
        }
        self.add(member)
    }

    fn has_basic_master(&self) -> bool {
        self.entries.first().is_some_and(Member::is_basic)
    }

    /// Applies a leave announced by the master. Ignored if a later incarnation has the address.
    pub(crate) fn leave(&mut self, address: &str, incarnation: u64) -> Option<Change> {
        self.note_announcement(address);
        let meant = |known: u64| {
            incarnation == 0 || known == incarnation || (1..incarnation).contains(&known)
        };
        let at = self
            .entries
            .iter()
            .position(|entry| entry.address() == address && meant(entry.incarnation()))?;
        let left = self.entries.remove(at);
        Some(Change::Left(left))
    }

    /// Notes that a call begins whose reply is a table: announcements from now on are newer than
    /// that table. [`merge`](Self::merge) or [`replace`](Self::replace) ends it.
    pub(crate) fn begin_sync(&mut self) {
        self.announced = Some(BTreeSet::new());
    }

    /// Adds the members of the master's table and takes over its order. Addresses announced since
    /// [`begin_sync`](Self::begin_sync) stay as they are.
    pub(crate) fn merge(&mut self, table: Vec<Member>) -> Vec<Change> {
        self.reconcile(table, false)
    }

    /// Makes this table the master's. Addresses announced since
    /// [`begin_sync`](Self::begin_sync) stay as they are.
    pub(crate) fn replace(&mut self, table: Vec<Member>) -> Vec<Change> {
        self.reconcile(table, true)
    }

    pub(crate) fn list(&self) -> Vec<Member> {
        self.entries.clone()
    }

    /// Returns a hash of the entries that does not depend on their order. Never 0.
    pub(crate) fn digest(&self) -> u64 {
        digest(self.entries.iter())
    }

    fn note_announcement(&mut self, address: &str) {
        if let Some(announced) = &mut self.announced {
            announced.insert(address.to_owned());
        }
    }

    fn reconcile(&mut self, table: Vec<Member>, exact: bool) -> Vec<Change> {
        let announced = self.announced.take().unwrap_or_default();
        // A table contains the master at least. An empty one means that the digests match.
        if table.is_empty() {
            return Vec::new();
        }
        let place: BTreeMap<_, _> = table
            .iter()
            .enumerate()
            .map(|(at, member)| (member.address().to_owned(), at))
            .collect();
        let mut changes = Vec::new();
        if exact {
            let gone = |entry: &mut Member| {
                !place.contains_key(entry.address()) && !announced.contains(entry.address())
            };
            changes.extend(self.entries.extract_if(.., gone).map(Change::Left));
        }
        for member in table {
            if !announced.contains(member.address()) {
                changes.extend(self.add(member));
            }
        }
        self.entries
            .sort_by_key(|entry| place.get(entry.address()).copied().unwrap_or(usize::MAX));
        changes
    }

    fn add(&mut self, member: Member) -> Vec<Change> {
        if member.address() == self.own {
            return Vec::new();
        }
        let Some(entry) = self
            .entries
            .iter_mut()
            .find(|entry| entry.address() == member.address())
        else {
            self.entries.push(member.clone());
            return vec![Change::Joined(member)];
        };
        if *entry == member || (!member.is_basic() && entry.incarnation() > member.incarnation()) {
            return Vec::new();
        }
        let old = std::mem::replace(entry, member.clone());
        vec![Change::Left(old), Change::Joined(member)]
    }
}

/// Returns a hash of a set of members. Never 0, which stands for "no digest".
///
/// A sum of fingerprints, so that the order of the members does not matter. The algorithm is part
/// of the protocol: nodes of different versions that disagree would exchange tables with every
/// heartbeat.
pub(super) fn digest<'a>(members: impl Iterator<Item = &'a Member>) -> u64 {
    members
        .map(fingerprint)
        .fold(0_u64, u64::wrapping_add)
        .max(1)
}

/// FNV-1a over every field, each preceded by its length, then [`mix`], so that the sums of similar
/// members differ.
fn fingerprint(member: &Member) -> u64 {
    let mut hash = Fnv1a::default();
    let mut write = |bytes: &[u8]| {
        hash.write(&(bytes.len() as u64).to_le_bytes());
        hash.write(bytes);
    };
    write(member.address().as_bytes());
    write(member.label().as_bytes());
    write(&member.incarnation().to_le_bytes());
    write(&[u8::from(member.info().link)]);
    write(&(member.services().len() as u64).to_le_bytes());
    member
        .services()
        .iter()
        .for_each(|service| write(service.as_bytes()));
    member.metadata().iter().for_each(|(key, value)| {
        write(key.as_bytes());
        write(value.as_bytes());
    });
    if !member.info().unknown.is_empty() {
        write(&member.info().unknown);
    }
    mix(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Info;

    #[test]
    fn announced_addresses_are_remembered_only_during_a_sync() {
        let mut members = MemberTable::new("me:1");
        let member = |address: &str| {
            Member::new(Info {
                address: address.to_owned(),
                ..Info::default()
            })
        };
        let come_and_go = |members: &mut MemberTable| {
            for number in 0..100 {
                members.join(member(&format!("a:{number}")));
                members.leave(&format!("a:{number}"), 0);
            }
        };
        come_and_go(&mut members);
        assert_eq!(members.announced, None);

        members.begin_sync();
        come_and_go(&mut members);
        assert_eq!(members.announced.as_ref().map(BTreeSet::len), Some(100));
        members.replace(vec![member("a:1"), member("b:1")]);
        assert_eq!(
            (members.list(), &members.announced),
            (vec![member("b:1")], &None)
        );
    }
}
