//! Bounds log lines that clients can cause at will.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The least time between two lines, unless another is given.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one line pass in a time, and counts the others.
#[derive(Debug)]
pub(crate) struct LogLimit {
    begun: Instant,
    interval: Duration,
    /// When the next line passes, in milliseconds since `begun`.
    next: AtomicU64,
    /// Lines held back since the last one that passed.
    held_back: AtomicU64,
}

impl LogLimit {
    /// Whether a line may be written now. Returns how many were held back since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_after(self.begun.elapsed())
    }

    fn pass_after(&self, elapsed: Duration) -> Option<u64> {
        let now = milliseconds(elapsed);
        let passed = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (next <= now).then(|| now + milliseconds(self.interval))
            });
        if passed.is_err() {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

impl LogLimit {
    /// Lets one line pass in each `interval`.
    pub(crate) fn every(interval: Duration) -> Self {
        Self {
            begun: Instant::now(),
            interval,
            next: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }
}

/// One line a second.
impl Default for LogLimit {
    fn default() -> Self {
        Self::every(INTERVAL)
    }
}

/// 584 million years fit.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_with_the_number_of_those_held_back() {
        let limit = LogLimit::default();
        let passed: Vec<_> = [0, 1, 999, 1000, 1001, 5000, 5500]
            .into_iter()
            .map(|at| limit.pass_after(Duration::from_millis(at)))
            .collect();
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1), None]);
    }
}
