//! What each member saw, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::Member;
use crate::{channel::Position, cluster::channels::message::Publication};

pub(super) const ALL_EVENTS: [&str; 19] = [
    "broken link",
    "crash",
    "dropped by a gate",
    "epoch changed",
    "given up",
    "handed over",
    "join failed",
    "leave",
    "lost history",
    "moved",
    "partition",
    "pause",
    "recovered",
    "recovered after a move",
    "recovered many",
    "session closed",
    "session left",
    "session moved",
    "session stayed",
];

/// A node and its incarnation.
pub(super) type Owner = (usize, u64);

/// The publisher and its number.
pub(super) type Payload = (u64, u64);

#[derive(Default)]
pub(super) struct Oracle {
    /// What each place in the order of a channel holds.
    order: BTreeMap<(String, Position), Payload>,
    pub(super) sessions: BTreeMap<Member, Seen>,
    /// Sessions that have left their channel, or failed to join.
    ended: BTreeSet<Member>,
    /// The owner of each place, and the last place that each owner has given in a channel, while it
    /// owns it.
    published: BTreeMap<(String, Position), Owner>,
    pub(super) last_of: BTreeMap<(String, Owner), Position>,
    /// The last place of each channel, when all was calm.
    pub(super) last: BTreeMap<String, Position>,
    pub(super) events: BTreeMap<&'static str, u64>,
    pub(super) trace: u64,
}

/// One session, in one channel.
pub(super) struct Seen {
    pub(super) channel: String,
    pub(super) node: usize,
    /// Where it left off as another session.
    pub(super) since: Option<Position>,
    pub(super) joined: bool,
    pub(super) received: Vec<(Position, Payload)>,
    /// The last number of each publisher.
    pub(super) publishers: BTreeMap<u64, u64>,
}

impl Oracle {
    pub(super) fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(super) fn note(&mut self, text: &str) {
        self.trace = text
            .bytes()
            .fold(self.trace ^ 0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
    }

    /// A session gets nothing from now on.
    pub(super) fn left(&mut self, member: Member) -> Seen {
        self.ended.insert(member);
        self.sessions.remove(&member).unwrap()
    }

    /// Checks that no place is given twice, and that an owner gives larger ones. `behind` is what was
    /// published before the publication began: it comes behind that if all is `settled`.
    pub(super) fn published(
        &mut self,
        channel: &str,
        by: Owner,
        at: Position,
        behind: Position,
        settled: bool,
    ) {
        let other = self.published.insert((channel.to_owned(), at), by);
        assert_eq!(other, None, "two publications at {at:?} of {channel}");
        let before = self.last_of.insert((channel.to_owned(), by), at);
        assert!(before < Some(at), "{channel}: {at:?} behind {before:?}");
        // What an owner reports that does not know yet that there is another one can be larger.
        if settled {
            assert!(behind < at, "{channel}: {at:?} is not behind {behind:?}");
            let last = self.last.entry(channel.to_owned()).or_default();
            *last = at.max(*last);
        }
    }

    /// Checks that a publication is the one at its place, and comes behind what each member has.
    pub(super) fn received(&mut self, members: &[Member], publication: &Publication) {
        let at = publication.position;
        let number = |range: std::ops::Range<usize>| {
            u64::from_le_bytes(publication.body[range].try_into().unwrap())
        };
        let payload = (number(0..8), number(8..16));
        let mut known = members.iter().filter_map(|it| self.sessions.get(it));
        let Some(channel) = known.next().map(|seen| seen.channel.clone()) else {
            return;
        };
        let known = *self.order.entry((channel.clone(), at)).or_insert(payload);
        assert_eq!(known, payload, "two publications at {at:?}");
        for member in members {
            assert!(!self.ended.contains(member), "session {member} has left");
            let Some(seen) = self.sessions.get_mut(member) else {
                continue;
            };
            let last = seen.received.last().map(|(position, _)| *position);
            assert!(
                last.is_none_or(|last| last < at),
                "session {member}: {at:?} behind {last:?}"
            );
            let before = seen.publishers.insert(payload.0, payload.1);
            assert!(
                before.is_none_or(|before| before < payload.1),
                "session {member}: {payload:?} behind {before:?}"
            );
            let changed = last.is_some_and(|last| last.epoch != at.epoch);
            seen.received.push((at, payload));
            if changed {
                *self.events.entry("epoch changed").or_default() += 1;
            }
        }
    }

    /// Checks that a member which returned got all that it missed.
    pub(super) fn joined(&mut self, member: Member, position: Position, recovered: bool) {
        let Some(seen) = self.sessions.get_mut(&member) else {
            return;
        };
        seen.joined = true;
        let Some(since) = seen.since else {
            return;
        };
        let channel = seen.channel.clone();
        if !recovered {
            // What came ahead of the answer would be a part of what was missed.
            assert!(seen.received.is_empty(), "session {member} got a part");
            return self.count("lost history");
        }
        if received_many(seen) {
            *self.events.entry("recovered many").or_default() += 1;
        }
        let places = (since.offset..=position.offset).map(|offset| Position { offset, ..since });
        let owners = places.filter_map(|at| self.published.get(&(channel.clone(), at)));
        if owners.collect::<BTreeSet<_>>().len() > 1 {
            *self.events.entry("recovered after a move").or_default() += 1;
        }
        let received: BTreeSet<_> = seen.received.iter().map(|(at, _)| *at).collect();
        let missed =
            (since.offset + 1..=position.offset).map(|offset| Position { offset, ..since });
        assert_eq!(since.epoch, position.epoch);
        assert_eq!(
            received,
            missed.collect(),
            "session {member} since {since:?}"
        );
        self.count("recovered");
    }
}

fn received_many(seen: &Seen) -> bool {
    seen.received.len() > 1
}
