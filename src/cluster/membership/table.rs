//! The member table of one node: everybody else. No I/O.

use std::collections::{HashMap, HashSet};

use crate::member::Member;

/// What happened to the table, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Joined(Member),
    Left(Member),
}

/// Everybody else, the master first, then in the order they joined.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// This node's own address, which is never in the table.
    own: String,
    entries: Vec<Member>,
    /// Of whom the master told while a call is under way whose answer is a table. The master itself
    /// makes no such calls.
    told: Option<HashSet<String>>,
}

impl Members {
    pub(crate) fn new(own: impl Into<String>) -> Self {
        Self {
            own: own.into(),
            ..Self::default()
        }
    }

    /// The master, or this node as master, says that somebody joined. Who is known already changes
    /// nothing, and so does an older run of it; a newer run replaces it. A node of Go nano has no
    /// runs: the word counts.
    pub(crate) fn join(&mut self, member: Member) -> Vec<Change> {
        self.hear(member.address());
        // A node of Go nano registers when it starts, and a master of Go nano tells of that alone:
        // nothing else shows that this is another run.
        if member.is_go() && self.has_go_master() && self.entries.contains(&member) {
            return vec![Change::Left(member.clone()), Change::Joined(member)];
        }
        self.add(member)
    }

    fn has_go_master(&self) -> bool {
        self.entries.first().is_some_and(Member::is_go)
    }

    /// The master, or this node as master, says that somebody left. If another, later run has the
    /// address already, nothing changes.
    pub(crate) fn leave(&mut self, address: &str, incarnation: u64) -> Option<Change> {
        self.hear(address);
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

    /// A call begins whose answer is a table. What the master tells from now on is newer than that.
    pub(crate) fn mark(&mut self) {
        self.told = Some(HashSet::new());
    }

    /// Adds who is in the master's table, except those of whom it told since the call began, and
    /// takes over its order.
    pub(crate) fn merge(&mut self, table: Vec<Member>) -> Vec<Change> {
        self.reconcile(table, false)
    }

    /// Makes this the master's table, except for those of whom it told since the call began.
    pub(crate) fn replace(&mut self, table: Vec<Member>) -> Vec<Change> {
        self.reconcile(table, true)
    }

    pub(crate) fn list(&self) -> Vec<Member> {
        self.entries.clone()
    }

    /// The same for tables of the same members, in whatever order. Never 0.
    pub(crate) fn digest(&self) -> u64 {
        digest(self.entries.iter())
    }

    fn hear(&mut self, address: &str) {
        if let Some(told) = &mut self.told {
            told.insert(address.to_owned());
        }
    }

    fn reconcile(&mut self, table: Vec<Member>, exact: bool) -> Vec<Change> {
        let told = self.told.take().unwrap_or_default();
        // A table has the master in it at least, so this is none.
        if table.is_empty() {
            return Vec::new();
        }
        let place: HashMap<_, _> = table
            .iter()
            .enumerate()
            .map(|(at, member)| (member.address().to_owned(), at))
            .collect();
        let mut changes = Vec::new();
        if exact {
            let gone = |entry: &mut Member| {
                !place.contains_key(entry.address()) && !told.contains(entry.address())
            };
            changes.extend(self.entries.extract_if(.., gone).map(Change::Left));
        }
        for member in table {
            if !told.contains(member.address()) {
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
        if *entry == member || (!member.is_go() && entry.incarnation() > member.incarnation()) {
            return Vec::new();
        }
        let old = std::mem::replace(entry, member.clone());
        vec![Change::Left(old), Change::Joined(member)]
    }
}

/// A hash over a set of members: a sum, so that their order does not matter. It must not change
/// between versions of this crate, or nodes of different versions would call_router their tables for
/// ever; 0 is for "none".
pub(in crate::cluster) fn digest<'a>(members: impl Iterator<Item = &'a Member>) -> u64 {
    members
        .map(fingerprint)
        .fold(0_u64, u64::wrapping_add)
        .max(1)
}

/// FNV-1a over every field, each after its length, and a mix of the bits, so that sums of similar
/// members differ.
fn fingerprint(member: &Member) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut write = |bytes: &[u8]| {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
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
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Info;

    #[test]
    fn what_the_master_told_is_kept_only_while_a_table_is_under_way() {
        let mut members = Members::new("me:1");
        let member = |address: &str| {
            Member::new(Info {
                address: address.to_owned(),
                ..Info::default()
            })
        };
        let come_and_go = |members: &mut Members| {
            for number in 0..100 {
                members.join(member(&format!("a:{number}")));
                members.leave(&format!("a:{number}"), 0);
            }
        };
        come_and_go(&mut members);
        assert_eq!(members.told, None);

        members.mark();
        come_and_go(&mut members);
        assert_eq!(members.told.as_ref().map(HashSet::len), Some(100));
        members.replace(vec![member("a:1"), member("b:1")]);
        assert_eq!(
            (members.list(), &members.told),
            (vec![member("b:1")], &None)
        );
    }
}
