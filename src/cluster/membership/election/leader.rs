//! What a candidate and a leader have been granted. `election` decides when one becomes the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::message::Purpose;

/// How many numbers a leader reserves ahead of its view.
///
/// More changes than a table sees between two renewals, and about a second's worth of terms, which
/// are counted in microseconds.
pub(super) const AHEAD: u64 = 1 << 20;

/// What a master is at the moment.
#[derive(Debug)]
pub(super) enum Role {
    Follower,
    /// It asks whether it could be elected, and then for votes.
    Candidate(Candidate),
    Leader(Lead),
    /// It is about to stop, and asks for nothing.
    Retired,
}

/// A candidate for a term.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) term: u64,
    pub(super) asks_for: Purpose,
    /// Whether the request has been sent.
    pub(super) has_asked: bool,
    /// The masters that granted it.
    pub(super) granted: BTreeSet<String>,
}

impl Candidate {
    pub(super) fn new(term: u64, asks_for: Purpose) -> Self {
        Self {
            term,
            asks_for,
            has_asked: false,
            granted: BTreeSet::new(),
        }
    }
}

/// A leader in its term.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) term: u64,
    /// The highest number it has asked to reserve.
    pub(super) asked: u64,
    elected: Instant,
    /// By master: when the latest request was sent that it granted, and what that reserves.
    grants: BTreeMap<String, (Instant, u64)>,
}

impl Lead {
    pub(super) fn new(term: u64, now: Instant) -> Self {
        Self {
            term,
            asked: term + AHEAD,
            elected: now,
            grants: BTreeMap::new(),
        }
    }

    /// Notes that a master granted a request sent at `sent`.
    pub(super) fn granted(&mut self, by: &str, sent: Instant, reserved: u64) {
        let grant = self.grants.entry(by.to_owned()).or_insert((sent, reserved));
        *grant = (grant.0.max(sent), grant.1.max(reserved));
    }

    /// Returns until when it waits for its first lease.
    pub(super) fn gives_up(&self, lease: Duration) -> Instant {
        self.elected + lease
    }

    /// Returns until when it may rely on its lease, and the last number that it may use; `None` while
    /// no majority has granted it any.
    pub(super) fn lease(&self, majority: usize, reliance: Duration) -> Option<(Instant, u64)> {
        let (mut sent, mut reserved): (Vec<_>, Vec<_>) = self.grants.values().copied().unzip();
        sent.sort_by(|a, b| b.cmp(a));
        reserved.sort_by(|a, b| b.cmp(a));
        // What the last one of a majority has granted, all of it have.
        let last = majority - 1;
        Some((*sent.get(last)? + reliance, *reserved.get(last)?))
    }
}
