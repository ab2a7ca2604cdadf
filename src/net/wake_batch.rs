//! Wakes many connection tasks of another runtime with one wake-up.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Weak},
    task::{Poll, Waker},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};

/// Collects wakers and lets one task of their runtime wake them.
///
/// Waking a task of another runtime costs a system call; waking one of the same runtime costs next
/// to nothing. Schedulers run outside of the connections' runtime when the network has threads of
/// its own, so a turn that answers many clients would pay one system call per client. Here they pay
/// one per batch.
pub(crate) struct WakeBatcher {
    runtime: runtime::Id,
    /// Wakers since the driver's last poll. Held for a push or a swap; no lock is taken inside.
    waiting: Mutex<Vec<Waker>>,
    driver: AtomicWaker,
}

impl WakeBatcher {
    /// Spawns the driver task on the current runtime, which must be that of the connections.
    pub(crate) fn new() -> Arc<Self> {
        let batcher = Arc::new(Self {
            runtime: Handle::current().id(),
            waiting: Mutex::default(),
            driver: AtomicWaker::new(),
        });
        tokio::spawn(drive(Arc::downgrade(&batcher)));
        batcher
    }

    /// Wakes a connection's task: at once on its own runtime, else with the next batch.
    pub(crate) fn wake(&self, connection: Waker) {
        if Handle::try_current().is_ok_and(|here| here.id() == self.runtime) {
            return connection.wake();
        }
        let first = {
            let mut waiting = self.waiting.lock();
            waiting.push(connection);
            waiting.len() == 1
        };
        // The driver takes the whole batch, so only the first waker has to wake it.
        if first {
            self.driver.wake();
        }
    }
}

/// Ends the driver task.
impl Drop for WakeBatcher {
    fn drop(&mut self) {
        self.driver.wake();
    }
}

async fn drive(batcher: Weak<WakeBatcher>) {
    let mut woken = Vec::new();
    poll_fn(|cx| {
        let Some(batcher) = batcher.upgrade() else {
            return Poll::Ready(());
        };
        // Registered before the swap: a waker that comes after it wakes this task again.
        batcher.driver.register(cx.waker());
        mem::swap(&mut *batcher.waiting.lock(), &mut woken);
        woken.drain(..).for_each(Waker::wake);
        Poll::Pending
    })
    .await;
}
