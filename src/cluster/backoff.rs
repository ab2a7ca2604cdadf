//! Exponential backoff: how long to wait before an attempt is repeated. No I/O, no clock.

use std::time::Duration;

/// The pauses between attempts that fail: each twice as long as the one before, up to a limit.
///
/// Without jitter: every user of it repeats attempts towards one node over a connection of its
/// own, and the limits are seconds, so attempts that coincide cost little.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Creates a backoff whose first pause is `first`. No pause is longer than `longest`.
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Returns the pause before the next attempt. Call it once after each failure.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause
    }

    /// Begins again with the first pause. Call it after a success.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let pauses: Vec<_> = (0..4).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next_pause().as_millis(), 100);
    }
}
