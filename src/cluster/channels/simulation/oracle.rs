//! What each member saw, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::Member;
use crate::{channel::Position, cluster::channels::message::Publication};

pub(super) const ALL_EVENTS: [&str; 11] = [
    "broken link",
    "crash",
    "dropped by a gate",
    "epoch changed",
    "given up",
    "join failed",
    "lost history",
    "moved",
    "pause",
    "recovered",
    "session closed",
];

/// The publisher and its number.
pub(super) type Payload = (u64, u64);

#[derive(Default)]
pub(super) struct Oracle {
    /// What each place in the order of a channel holds.
    order: BTreeMap<(String, Position), Payload>,
    pub(super) sessions: BTreeMap<Member, Seen>,
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
        let known = *self.order.entry((channel, at)).or_insert(payload);
        assert_eq!(known, payload, "two publications at {at:?}");
        for member in members {
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
        if !recovered {
            return self.count("lost history");
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
