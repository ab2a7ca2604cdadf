//! The bound of what waits for all clients that are away.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many full send queues may wait in all.
const FULL_QUEUES: usize = 64;

/// Counts the bytes that wait for clients that are away.
///
/// Each client gives back what was counted for it when it returns or its session ends.
#[derive(Debug, Default)]
pub(in crate::gate) struct Budget(AtomicUsize);

impl Budget {
    /// Counts `len` more bytes, unless they are too many where a send queue holds `queue_bytes`.
    pub(in crate::gate) fn reserve(&self, len: usize, queue_bytes: usize) -> bool {
        let most = queue_bytes.saturating_mul(FULL_QUEUES);
        let reserve = |used: usize| used.checked_add(len).filter(|used| *used <= most);
        self.0.fetch_update(Relaxed, Relaxed, reserve).is_ok()
    }

    /// Gives bytes back.
    pub(in crate::gate) fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_reserved_up_to_the_bound_and_given_back() {
        let budget = Budget::default();
        assert!(budget.reserve(64 * 100 - 1, 100) && budget.reserve(1, 100));
        assert!(!budget.reserve(1, 100) && !budget.reserve(usize::MAX, 100));
        budget.release(10);
        assert!(budget.reserve(10, 100) && !budget.reserve(1, 100));
        assert!(budget.reserve(1, 200), "the limit may change");
    }
}
