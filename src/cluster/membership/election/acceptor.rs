//! What a master grants to others, and to itself.

use std::time::Duration;

use tokio::time::Instant;

use super::message::{LeaseReply, LeaseRequest, MasterId, Purpose};

/// Numbers above are refused: they would leave no room for later terms. A term is about the time in
/// microseconds, so this is reached in 146,000 years.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

/// Grants votes and leases: at most one lease at any time.
#[derive(Debug)]
pub(super) struct Acceptor {
    lease: Duration,
    /// Until then it grants nothing: an earlier run may have granted a lease that still lasts.
    mute_until: Instant,
    /// The highest number seen. A vote needs a term above it.
    floor: u64,
    /// The latest term it voted or granted a lease in.
    promised: u64,
    grant: Option<Grant>,
}

/// A lease of a leader.
#[derive(Debug)]
struct Grant {
    leader: MasterId,
    until: Instant,
}

impl Acceptor {
    pub(super) fn new(lease: Duration, now: Instant) -> Self {
        Self {
            lease,
            mute_until: now + lease,
            floor: 0,
            promised: 0,
            grant: None,
        }
    }

    pub(super) fn on_request(&mut self, request: &LeaseRequest, now: Instant) -> LeaseReply {
        let granted = self.grants(request, now);
        if granted && request.purpose != Purpose::Probe {
            self.promised = request.term;
            self.raise_floor(request.term.max(request.reserved));
            self.grant = (request.purpose == Purpose::Renew).then(|| Grant {
                leader: request.from.clone(),
                until: now + self.lease,
            });
        }
        LeaseReply {
            granted,
            floor: self.floor,
            promised: self.promised,
        }
    }

    fn grants(&self, request: &LeaseRequest, now: Instant) -> bool {
        let is_taken = self
            .leader(now)
            .is_some_and(|(leader, _)| *leader != request.from);
        let is_sane = request.term.max(request.reserved) <= MAX_NUMBER;
        let is_current = match request.purpose {
            Purpose::Probe | Purpose::Vote => request.term > self.floor,
            Purpose::Renew => request.term >= self.promised,
            Purpose::Resign => request.term == self.promised,
        };
        !self.is_mute(now) && !is_taken && is_sane && is_current
    }

    /// Notes a number that has been used: later terms begin above it.
    pub(super) fn raise_floor(&mut self, number: u64) {
        if number <= MAX_NUMBER {
            self.floor = self.floor.max(number);
        }
    }

    /// Gives up the lease of this leader.
    pub(super) fn release(&mut self, leader: &MasterId) {
        self.grant = self.grant.take().filter(|grant| grant.leader != *leader);
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn is_mute(&self, now: Instant) -> bool {
        now < self.mute_until
    }

    pub(super) fn mute_until(&self) -> Instant {
        self.mute_until
    }

    /// Returns the master that has a lease, and until when.
    pub(super) fn leader(&self, now: Instant) -> Option<(&MasterId, Instant)> {
        let grant = self.grant.as_ref().filter(|grant| now < grant.until)?;
        Some((&grant.leader, grant.until))
    }
}
