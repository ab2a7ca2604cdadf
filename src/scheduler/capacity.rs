//! The bound of queues, which may change.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many tasks may wait on each of the schedulers that share it; at least one.
#[derive(Clone, Debug)]
pub(crate) struct Capacity(Arc<AtomicUsize>);

impl Capacity {
    pub(crate) fn new(tasks: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(tasks.max(1))))
    }

    /// Changes it. Tasks that wait stay, also beyond a lower one. Those that wait for a full scheduler
    /// go on when half of the new one is left, which is looked at when a task starts.
    #[cfg(feature = "config")]
    pub(crate) fn set(&self, tasks: usize) {
        self.0.store(tasks.max(1), Relaxed);
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}
