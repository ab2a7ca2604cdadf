//! What is queued for all clients of a node, against one budget. No I/O.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use metrics::Gauge;
use tokio::sync::Notify;

/// The budget of a node, and what its clients have queued.
///
/// Each connection is charged in steps, so that those whose queues stay short never write to the
/// common counter.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    /// `usize::MAX` without a budget.
    pub(super) limit: usize,
    /// 80 % of it.
    pub(super) mark: usize,
    used: AtomicUsize,
    /// The bytes above which a client counts as slow.
    slow_above: AtomicUsize,
    /// Notified when `used` passes the mark.
    pub(super) pressed: Arc<Notify>,
    gauge: Gauge,
}

impl MemoryBudget {
    /// What a connection may have queued uncharged, and what its charge is a multiple of.
    pub(super) const STEP: usize = 4 * 1024;

    pub(super) fn new(limit: Option<usize>, gauge: Gauge) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        Self {
            limit,
            mark: limit / 5 * 4,
            used: AtomicUsize::new(0),
            slow_above: AtomicUsize::new(usize::MAX),
            pressed: Arc::default(),
            gauge,
        }
    }

    /// The bytes that are charged.
    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Changes a connection's charge to what it has queued now.
    pub(super) fn charge(&self, charged: &mut usize, queued: usize) {
        let target = queued - queued % Self::STEP;
        if target == *charged {
            return;
        }
        if target > *charged {
            self.gauge.increment((target - *charged) as f64);
            let used = self.used.fetch_add(target - *charged, Relaxed) + (target - *charged);
            if used >= self.mark {
                if used >= self.limit {
                    // Until the queues have been looked at, only those that read get more.
                    self.slow_above.store(Self::STEP, Relaxed);
                }
                self.pressed.notify_one();
            }
        } else {
            self.gauge.decrement((*charged - target) as f64);
            self.used.fetch_sub(*charged - target, Relaxed);
        }
        *charged = target;
    }

    /// Sets the bytes above which a client counts as slow; `usize::MAX` for none.
    pub(super) fn set_share(&self, bytes: usize) {
        self.slow_above.store(bytes, Relaxed);
    }

    /// Whether any client may count as slow.
    pub(super) fn is_pressed(&self) -> bool {
        self.slow_above.load(Relaxed) != usize::MAX
    }

    /// Whether a client with so many bytes queued gets no more pushes.
    pub(super) fn is_slow(&self, queued: usize) -> bool {
        queued > self.slow_above.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_queues_are_not_charged_and_long_ones_in_steps() {
        let (memory, mut charged) = (
            MemoryBudget::new(Some(100 * MemoryBudget::STEP), Gauge::noop()),
            0,
        );
        for (queued, expected) in [
            (100, 0),
            (4095, 0),
            (4096, 4096),
            (9000, 8192),
            (5000, 4096),
        ] {
            memory.charge(&mut charged, queued);
            assert_eq!((charged, memory.used()), (expected, expected), "{queued}");
        }
        let mut other = 0;
        memory.charge(&mut other, 4096);
        memory.charge(&mut charged, 0);
        assert_eq!((charged, memory.used()), (0, 4096));
    }

    #[test]
    fn at_the_budget_clients_that_have_more_than_a_step_count_as_slow_at_once() {
        let (memory, mut charged) = (
            MemoryBudget::new(Some(10 * MemoryBudget::STEP), Gauge::noop()),
            0,
        );
        memory.charge(&mut charged, 9 * MemoryBudget::STEP);
        assert!(!memory.is_slow(9 * MemoryBudget::STEP));
        memory.charge(&mut charged, 10 * MemoryBudget::STEP);
        assert!(memory.is_slow(9 * MemoryBudget::STEP) && !memory.is_slow(MemoryBudget::STEP));
    }
}
