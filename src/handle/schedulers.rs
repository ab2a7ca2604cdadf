//! Where a node's schedulers come from.

use std::sync::Arc;

use crate::scheduler::{Capacity, Pool, Scheduler};

/// The pool of a node, its default scheduler, and the capacity of those it makes.
#[derive(Clone)]
pub(crate) struct Schedulers {
    pool: Pool,
    default: Scheduler,
    capacity: Capacity,
}

impl Schedulers {
    pub(crate) fn new(pool: Pool, capacity: usize) -> Self {
        let capacity = Capacity::new(capacity);
        Self {
            default: pool.sharing("node", capacity.clone()),
            pool,
            capacity,
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The default scheduler.
    pub(crate) fn default(&self) -> &Scheduler {
        &self.default
    }

    /// Makes a scheduler on the node's threads.
    pub(crate) fn create(&self, name: impl Into<Arc<str>>) -> Scheduler {
        self.pool.sharing(name, self.capacity.clone())
    }

    /// Changes how many tasks may wait on each scheduler, also on those that were made before.
    #[cfg(feature = "config")]
    pub(super) fn set_capacity(&self, tasks: usize) {
        self.capacity.set(tasks);
    }
}
