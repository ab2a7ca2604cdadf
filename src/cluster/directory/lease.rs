//! How long a gate may believe in its claims.

use std::time::Duration;

use tokio::time::Instant;

/// A lease that every answered heartbeat renews.
///
/// It is counted from when the heartbeat was sent, and is shorter than the silence after which the
/// master evicts a member, which the master counts from when a heartbeat arrived. So it has run out
/// before any view lacks this node.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` for a node that is never evicted.
    length: Option<Duration>,
    /// When it runs out; `None` if it has.
    until: Option<Instant>,
}

impl Lease {
    /// Creates a lease that has yet to begin. The margin, an eighth, is for clocks that run at
    /// different rates and for timers that are late.
    pub(crate) fn new(eviction_timeout: Duration) -> Self {
        Self {
            length: Some(eviction_timeout * 7 / 8),
            until: None,
        }
    }

    /// Creates the lease of a node that is never evicted: a master, or a standalone node.
    pub(crate) fn endless() -> Self {
        Self {
            length: None,
            until: None,
        }
    }

    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.length.is_none() || self.until.is_some_and(|until| now < until)
    }

    /// Extends the lease by a heartbeat sent at `sent`. One that has run out begins anew only if it
    /// `may_begin`. Returns whether it did.
    pub(super) fn renew(&mut self, sent: Instant, now: Instant, may_begin: bool) -> bool {
        let Some(length) = self.length else {
            return false;
        };
        let until = sent + length;
        let begins = self.until.is_none() && may_begin && now < until;
        if begins || self.until.is_some_and(|old| old < until) {
            self.until = Some(until);
        }
        begins
    }

    /// Returns whether the lease has run out since it was last asked.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let ran_out = self.until.is_some_and(|until| until <= now);
        if ran_out {
            self.until = None;
        }
        ran_out
    }
}
