//! How many requests stay unanswered.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long requests are counted, and the least time between two counts.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(1);

/// Earlier counts of the requests that have timed out. The lock guards them alone.
#[derive(Debug, Default)]
pub(super) struct Timeouts(Mutex<VecDeque<(Instant, u64)>>);

impl Timeouts {
    /// Takes the count of now. Returns the time-outs per second since the first count of the last ten
    /// seconds, or since the last count if that is longer ago.
    pub(super) fn rate(&self, total: u64, now: Instant) -> f64 {
        let mut counts = self.0.lock();
        let age = |at: Instant| now.saturating_duration_since(at);
        while counts.len() > 1 && counts.front().is_some_and(|(at, _)| age(*at) > WINDOW) {
            counts.pop_front();
        }
        let rate = counts.front().map_or(0.0, |(at, before)| {
            // A shorter time says little.
            let over = age(*at).max(INTERVAL);
            total.saturating_sub(*before) as f64 / over.as_secs_f64()
        });
        if counts.back().is_none_or(|(at, _)| age(*at) >= INTERVAL) {
            counts.push_back((now, total));
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_time_out_are_seen_for_ten_seconds() {
        let (timeouts, start) = (Timeouts::default(), Instant::now());
        let rate = |seconds, total| timeouts.rate(total, start + Duration::from_secs(seconds));
        assert_eq!(rate(0, 100), 0.0, "those of before");
        assert_eq!(rate(2, 120), 10.0);
        assert_eq!(rate(8, 120), 2.5);
        assert_eq!(rate(13, 120), 0.0);
        assert_eq!(rate(100, 207), 1.0, "no request for long");
    }
}
