//! How long leases last, and what follows from that.

use std::time::Duration;

/// The shortest lease: below it a busy machine would lose its lease without a fault.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// The times of an election. All masters must agree on them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseConfig {
    /// How long a master supports no other leader after it has granted a lease.
    pub(crate) lease: Duration,
}

impl LeaseConfig {
    /// Creates the times from the heartbeat interval of members of this crate.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            lease: (2 * interval).max(SHORTEST_LEASE),
        }
    }

    /// Returns how long a leader relies on a lease, counted from when it asked for it.
    ///
    /// Shorter than the lease of the masters that granted it, which count from a later moment: the
    /// clocks of two masters may differ in speed by a fifth.
    pub(crate) fn reliance(&self) -> Duration {
        self.lease * 4 / 5
    }

    /// Returns how often a leader renews its lease, and how long a candidate waits for votes.
    pub(crate) fn renewal(&self) -> Duration {
        self.lease / 4
    }

    /// Returns the longest random delay of an attempt to be elected, so that masters seldom try at
    /// the same moment.
    pub(crate) fn spread(&self) -> Duration {
        self.lease / 8
    }
}
