//! How long a session with a claim counts as confirmed: the definition that the oracle uses.

use std::time::Duration;

use tokio::time::Instant;

/// A lease that every answered heartbeat renews.
///
/// It is counted from when the heartbeat was sent, and is shorter than the silence after which the
/// master evicts a member, which the master counts from when a heartbeat arrived. So it has run out
/// before any view lacks this node.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None` for a node that is never evicted.
    length: Option<Duration>,
    /// When it runs out; `None` if it has.
    until: Option<Instant>,
}

impl Lease {
    /// Creates a lease that has yet to begin. `None` for the master, which is never evicted.
    pub(super) fn new(eviction_timeout: Option<Duration>) -> Self {
        Self {
            length: eviction_timeout.map(|timeout| timeout * 7 / 8),
            until: None,
        }
    }

    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.length.is_none() || self.until.is_some_and(|until| now < until)
    }

    /// Extends the lease by a heartbeat sent at `sent`. One that has run out begins anew only if it
    /// `may_begin`.
    pub(super) fn renew(&mut self, sent: Instant, now: Instant, may_begin: bool) {
        let Some(length) = self.length else {
            return;
        };
        let until = sent + length;
        let begins = !self.is_valid(now) && may_begin && now < until;
        let goes_on = self.is_valid(now) && self.until.is_some_and(|old| old < until);
        if begins || goes_on {
            self.until = Some(until);
        }
    }
}
