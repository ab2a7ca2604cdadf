//! Wakes the tasks of many connections for the price of one.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Weak},
    task::{Poll, Waker},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};

/// Waking a task of another runtime costs a system call; waking one of its own costs next to
/// nothing. So who comes from elsewhere, as schedulers do when the network has threads of its own,
/// leaves its wakers here, and one task of the connections' runtime is woken to wake them all.
pub(super) struct Bell {
    runtime: runtime::Id,
    waiting: Mutex<Vec<Waker>>,
    ringer: AtomicWaker,
}

impl Bell {
    /// Made on the runtime of the connections.
    pub(super) fn new() -> Arc<Self> {
        let bell = Arc::new(Self {
            runtime: Handle::current().id(),
            waiting: Mutex::default(),
            ringer: AtomicWaker::new(),
        });
        tokio::spawn(ring(Arc::downgrade(&bell)));
        bell
    }

    /// Wakes the task of a connection, soon.
    pub(super) fn wake(&self, connection: Waker) {
        if Handle::try_current().is_ok_and(|here| here.id() == self.runtime) {
            return connection.wake();
        }
        let first = {
            let mut waiting = self.waiting.lock();
            waiting.push(connection);
            waiting.len() == 1
        };
        if first {
            self.ringer.wake();
        }
    }
}

/// The task ends with the bell.
impl Drop for Bell {
    fn drop(&mut self) {
        self.ringer.wake();
    }
}

async fn ring(bell: Weak<Bell>) {
    let mut woken = Vec::new();
    poll_fn(|cx| {
        let Some(bell) = bell.upgrade() else {
            return Poll::Ready(());
        };
        bell.ringer.register(cx.waker());
        mem::swap(&mut *bell.waiting.lock(), &mut woken);
        woken.drain(..).for_each(Waker::wake);
        Poll::Pending
    })
    .await;
}
