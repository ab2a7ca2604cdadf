//! What is queued on a node, for its clients and for other nodes, against one budget. No I/O.

use std::sync::{
    Arc, Weak,
    atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The budget of a node, and what is queued on it.
///
/// Each queue is charged in steps, so that those that stay short never write to the common counter.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// `usize::MAX` without a budget. Written with the mark by [`set_limit`](Self::set_limit) alone;
    /// during a change a reader may see one of the two.
    limit: AtomicUsize,
    mark: AtomicUsize,
    used: AtomicUsize,
    /// The bytes above which a queue takes no more of what it may refuse.
    share: AtomicUsize,
    /// Notified when `used` passes the mark.
    pub(crate) pressed: Arc<Notify>,
    queued_gauge: Gauge,
    limit_gauge: Gauge,
    /// What the queues to other nodes are charged. A leaf lock, taken when a queue begins, and by who
    /// looks for the fullest.
    peers: Mutex<Vec<Weak<AtomicUsize>>>,
}

impl MemoryBudget {
    /// What a connection may have queued uncharged, and what its charge is a multiple of.
    pub(crate) const STEP: usize = 4 * 1024;

    /// Makes a budget, of which nothing is used. The gauges show what is, and the limit.
    pub(crate) fn new(limit: Option<usize>, queued_gauge: Gauge, limit_gauge: Gauge) -> Arc<Self> {
        let budget = Self {
            limit: AtomicUsize::default(),
            mark: AtomicUsize::default(),
            used: AtomicUsize::new(0),
            share: AtomicUsize::new(usize::MAX),
            pressed: Arc::default(),
            queued_gauge,
            limit_gauge,
            peers: Mutex::default(),
        };
        budget.set_limit(limit);
        Arc::new(budget)
    }

    /// Changes the limit; `None` for none. What is queued already counts: with more than the new mark
    /// the budget is pressed at once. Pressure ends when the queues are looked at next.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        self.limit_gauge.set(limit.unwrap_or(0) as f64);
        let limit = limit.unwrap_or(usize::MAX);
        self.limit.store(limit, Relaxed);
        self.mark.store(limit / 5 * 4, Relaxed);
        // Adds nothing. A charge is either in what this reads, or reads `used` behind this, and with it
        // the new mark: none passes the mark unseen.
        let used = self.used.fetch_add(0, Release);
        self.press_if_over(used);
    }

    /// The bytes that may be queued; `usize::MAX` without a limit.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// 80 % of the limit.
    pub(crate) fn mark(&self) -> usize {
        self.mark.load(Relaxed)
    }

    /// The bytes that are charged.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Changes a connection's charge to what it has queued now.
    pub(crate) fn charge(&self, charged: &mut usize, queued: usize) {
        let target = queued - queued % Self::STEP;
        self.change(*charged, target);
        *charged = target;
    }

    fn change(&self, charged: usize, target: usize) {
        if target > charged {
            self.queued_gauge.increment((target - charged) as f64);
            // Pairs with the release of `set_limit`.
            let used = self.used.fetch_add(target - charged, Acquire) + (target - charged);
            self.press_if_over(used);
        } else if target < charged {
            self.queued_gauge.decrement((charged - target) as f64);
            self.used.fetch_sub(charged - target, Relaxed);
        }
    }

    /// Lets the queues be looked at, if so much is used that it passes the mark.
    fn press_if_over(&self, used: usize) {
        if used >= self.mark() {
            if used >= self.limit() {
                // Until the queues have been looked at, only those that are read get more.
                self.share.store(Self::STEP, Relaxed);
            }
            self.pressed.notify_one();
        }
    }

    /// Sets the bytes above which a queue takes no more of what it may refuse; `usize::MAX` for none.
    pub(crate) fn set_share(&self, bytes: usize) {
        self.share.store(bytes, Relaxed);
    }

    /// Whether any queue may be above its share.
    pub(crate) fn is_pressed(&self) -> bool {
        self.share.load(Relaxed) != usize::MAX
    }

    /// Whether a client with so many bytes queued gets no more pushes.
    pub(crate) fn is_slow(&self, queued: usize) -> bool {
        queued > self.share.load(Relaxed)
    }

    /// What each queue to another node is charged.
    pub(crate) fn peers(&self) -> Vec<usize> {
        let mut charges = Vec::new();
        self.peers.lock().retain(|charge| match charge.upgrade() {
            Some(charge) => {
                charges.push(charge.load(Relaxed));
                true
            }
            None => false,
        });
        charges
    }
}

/// The charge of one queue to another node. Given back when dropped.
#[derive(Debug)]
pub(crate) struct PeerCharge {
    budget: Arc<MemoryBudget>,
    charged: Arc<AtomicUsize>,
}

impl PeerCharge {
    /// What a queue may hold uncharged, and what its charge is a multiple of: twice a batch, so that
    /// the queue of a peer that reads is not charged.
    pub(crate) const STEP: usize = 64 * 1024;

    pub(crate) fn new(budget: &Arc<MemoryBudget>) -> Self {
        let charged = Arc::<AtomicUsize>::default();
        let mut peers = budget.peers.lock();
        if peers.len() == peers.capacity() {
            // Those that are gone make room first, so that the list is at most twice what it was.
            peers.retain(|charge| charge.strong_count() > 0);
        }
        peers.push(Arc::downgrade(&charged));
        drop(peers);
        Self {
            budget: budget.clone(),
            charged,
        }
    }

    /// Changes the charge to what is queued now, and returns it.
    pub(crate) fn set(&self, queued: usize) -> usize {
        let target = queued - queued % Self::STEP;
        let charged = self.charged.load(Relaxed);
        if target != charged {
            self.charged.store(target, Relaxed);
            self.budget.change(charged, target);
        }
        target
    }

    /// The bytes above which the queue takes no more of what it may refuse; at least a step.
    pub(crate) fn share(&self) -> usize {
        self.budget.share.load(Relaxed).max(Self::STEP)
    }
}

impl Drop for PeerCharge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn budget(limit: usize) -> Arc<MemoryBudget> {
        MemoryBudget::new(Some(limit), Gauge::noop(), Gauge::noop())
    }

    #[test]
    fn short_queues_are_not_charged_and_long_ones_in_steps() {
        let (memory, mut charged) = (budget(100 * MemoryBudget::STEP), 0);
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
        let (memory, mut charged) = (budget(10 * MemoryBudget::STEP), 0);
        memory.charge(&mut charged, 9 * MemoryBudget::STEP);
        assert!(!memory.is_slow(9 * MemoryBudget::STEP));
        memory.charge(&mut charged, 10 * MemoryBudget::STEP);
        assert!(memory.is_slow(9 * MemoryBudget::STEP) && !memory.is_slow(MemoryBudget::STEP));
    }

    #[tokio::test]
    async fn a_lower_limit_presses_at_once_and_counts_what_was_queued_without_one() {
        let memory = MemoryBudget::new(None, Gauge::noop(), Gauge::noop());
        let mut charged = 0;
        memory.charge(&mut charged, 10 * MemoryBudget::STEP);
        for (limit, pressed, refuses) in [
            (Some(13), false, false),
            (Some(12), true, false),
            (Some(10), true, true),
            (None, false, false),
            (Some(1), true, true),
        ] {
            memory.set_share(usize::MAX);
            memory.set_limit(limit.map(|steps| steps * MemoryBudget::STEP));
            let notified = memory.pressed.notified().now_or_never().is_some();
            let is_slow = memory.is_slow(2 * MemoryBudget::STEP);
            assert_eq!((notified, is_slow), (pressed, refuses), "{limit:?}");
        }
        memory.set_share(usize::MAX);
        memory.set_limit(Some(20 * MemoryBudget::STEP));
        memory.charge(&mut charged, 16 * MemoryBudget::STEP);
        assert!(memory.pressed.notified().now_or_never().is_some());
    }

    #[test]
    fn queues_to_other_nodes_are_charged_in_larger_steps_and_give_back_what_they_have() {
        let memory = budget(10 * PeerCharge::STEP);
        let (first, second) = (PeerCharge::new(&memory), PeerCharge::new(&memory));
        first.set(PeerCharge::STEP - 1);
        second.set(3 * PeerCharge::STEP + 1);
        assert_eq!(memory.used(), 3 * PeerCharge::STEP);
        assert_eq!(memory.peers(), [0, 3 * PeerCharge::STEP]);
        memory.set_share(MemoryBudget::STEP);
        assert_eq!(first.share(), PeerCharge::STEP);
        second.set(PeerCharge::STEP);
        assert_eq!(memory.used(), PeerCharge::STEP);
        drop(second);
        assert_eq!((memory.used(), memory.peers()), (0, vec![0]));
    }
}
