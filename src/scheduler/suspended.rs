//! The suspended async tasks of a pool.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

/// An async task that can be cancelled while it is suspended.
pub(super) trait Cancel: Send + Sync {
    /// Drops the future; it is never polled again.
    fn cancel(&self);
}

/// The suspended async tasks of a pool, cancelled when it ends.
///
/// Without this table a future that owns its own waker would never be dropped.
pub(super) struct Suspended {
    /// By address. `None` once the pool has ended. No user code runs under this lock: tasks are
    /// cancelled after it is released.
    tasks: Mutex<Option<HashMap<usize, Weak<dyn Cancel>>>>,
}

impl Suspended {
    /// Adds the task at `address`. Returns `false` when the pool has ended.
    pub(super) fn insert(&self, address: usize, task: Weak<dyn Cancel>) -> bool {
        let mut tasks = self.tasks.lock();
        let Some(tasks) = tasks.as_mut() else {
            return false;
        };
        tasks.insert(address, task);
        true
    }

    pub(super) fn remove(&self, address: usize) {
        if let Some(tasks) = self.tasks.lock().as_mut() {
            tasks.remove(&address);
        }
    }

    /// Cancels all suspended tasks, and refuses those that come later.
    pub(super) fn cancel(&self) {
        let tasks = self.tasks.lock().take();
        let tasks = tasks.into_iter().flatten();
        let tasks: Vec<Arc<dyn Cancel>> = tasks.filter_map(|(_, task)| task.upgrade()).collect();
        tasks.iter().for_each(|task| task.cancel());
    }
}

impl Default for Suspended {
    fn default() -> Self {
        Self {
            tasks: Mutex::new(Some(HashMap::new())),
        }
    }
}
