//! Where a node's schedulers come from.

use std::sync::Arc;

use crate::scheduler::{Pool, Scheduler};

/// The pool of a node, its default scheduler, and the capacity of those it makes.
#[derive(Clone)]
pub(crate) struct Schedulers {
    pool: Pool,
    default: Scheduler,
    capacity: usize,
}

impl Schedulers {
    pub(crate) fn new(pool: Pool, capacity: usize) -> Self {
        Self {
            default: pool.scheduler("node", capacity),
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
        self.pool.scheduler(name, self.capacity)
    }
}
