//! Defects that the simulation must find: each breaks one rule of the protocol on all nodes.

use tokio::time::Instant;

use super::{process::lease_config, world::World};
use crate::cluster::membership::election::message::{LeaseRequest, Purpose};

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// A master that has started grants leases although its former run may have granted one.
    GrantsAtOnce,
    /// A leader counts its lease from the answer, not from when it asked.
    LeaseFromAnswer,
    /// A leader relies on its lease to the end, as if all clocks ran at one speed.
    NoMargin,
    /// A master grants every lease that it is asked for.
    GrantsAll,
    /// A new leader begins without the table that it had as a member.
    ForgetsTable,
    /// A master leads with no other grant than its own.
    LeadsAlone,
    /// A master votes although another one has its lease.
    VotesTwice,
    /// Members do not say which numbers they have seen.
    SaysNothing,
    /// Members believe leaders of former terms.
    NoFence,
    /// A new leader does not tell its members that it leads: they look for it.
    LeadsInSilence,
}

/// Found within hundreds of seeds.
pub(super) const FREQUENT: [Defect; 7] = [
    Defect::GrantsAtOnce,
    Defect::GrantsAll,
    Defect::ForgetsTable,
    Defect::LeadsAlone,
    Defect::VotesTwice,
    Defect::SaysNothing,
    Defect::LeadsInSilence,
];

/// Found by one seed of thousands, and a seed that is not far before it.
pub(super) const RARE: [(Defect, u64); 3] = [
    (Defect::LeaseFromAnswer, 200),
    (Defect::NoMargin, 2_100),
    (Defect::NoFence, 15_200),
];

impl World {
    /// Returns the time at which a master takes a request.
    pub(super) fn time_of(&self, request: &LeaseRequest, now: Instant) -> Instant {
        match (self.defect, request.purpose) {
            // The lease of another one has run out by then.
            (Some(Defect::VotesTwice), Purpose::Probe | Purpose::Vote) => {
                now + lease_config().lease
            }
            _ => now,
        }
    }

    /// Returns when a leader believes it sent the request that was granted now.
    pub(super) fn sent(&self, sent: Instant, now: Instant) -> Instant {
        match self.defect {
            Some(Defect::LeaseFromAnswer) => now,
            Some(Defect::NoMargin) => sent + lease_config().lease - lease_config().reliance(),
            _ => sent,
        }
    }
}
