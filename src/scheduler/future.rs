//! Async tasks: futures whose every poll is a turn of their scheduler.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;

use super::strand::Strand;

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Suspended; the next wake queues a poll.
const IDLE: u8 = 0;
/// A poll is queued; more wakes change nothing.
const QUEUED: u8 = 1;
/// In a poll.
const RUNNING: u8 = 2;
/// In a poll, and woken since it began: one more follows.
const WOKEN: u8 = 3;
/// Finished or cancelled; never polled again.
const DONE: u8 = 4;

/// A future and where it is polled. Its wakers alone keep it alive, so one that nobody can wake any
/// more is dropped.
pub(super) struct Polled {
    strand: Arc<Strand>,
    state: AtomicU8,
    /// Taken out for each poll, so that cancelling never waits for one.
    future: Mutex<Option<BoxFuture>>,
    /// Whether the pool's table has it; only futures that were suspended once get there.
    listed: AtomicBool,
}

impl Polled {
    /// Polls the future for the first time; whether it has finished.
    pub(super) fn start(strand: &Arc<Strand>, future: BoxFuture) -> bool {
        let polled = Self {
            strand: strand.clone(),
            state: AtomicU8::new(QUEUED),
            future: Mutex::new(Some(future)),
            listed: AtomicBool::new(false),
        };
        Arc::new(polled).poll()
    }

    fn poll(self: Arc<Self>) -> bool {
        if !self.advance(QUEUED, RUNNING) {
            return true;
        }
        let Some(mut future) = self.future.lock().take() else {
            return true;
        };
        let waker = Waker::from(self.clone());
        if self
            .strand
            .guard(|| future.as_mut().poll(&mut Context::from_waker(&waker)))
            != Some(Poll::Pending)
        {
            self.state.store(DONE, Ordering::Release);
            self.strand.guard(|| drop(future));
            return true;
        }
        // Back in its place before anyone may queue the next poll.
        *self.future.lock() = Some(future);
        if !self.strand.pool.futures.list(&self) {
            self.cancel();
        } else if !self.advance(RUNNING, IDLE) {
            if self.advance(WOKEN, QUEUED) {
                self.queue();
            } else {
                self.cancel();
            }
        }
        false
    }

    fn queue(self: Arc<Self>) {
        let polled = self.clone();
        let turn = Box::new(move || {
            polled.poll();
        });
        if self.strand.push_always(turn).is_err() {
            self.cancel();
        }
    }

    fn cancel(&self) {
        self.state.store(DONE, Ordering::Release);
        self.drop_future();
    }

    fn drop_future(&self) {
        let future = self.future.lock().take();
        self.strand.guard(|| drop(future));
    }

    fn advance(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for Polled {
    fn wake(self: Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(WOKEN),
            _ => None,
        };
        if self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            == Ok(IDLE)
        {
            self.queue();
        }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if self.listed.load(Ordering::Relaxed) {
            self.strand.pool.futures.forget(self);
        }
        self.drop_future();
    }
}

/// The suspended futures of a pool, to be dropped when it ends: one that waits for itself would
/// otherwise stay for ever.
pub(super) struct Futures {
    /// By address. `None` once the pool has ended.
    suspended: Mutex<Option<HashMap<usize, Weak<Polled>>>>,
}

impl Futures {
    /// Keeps track of a future until it is dropped; `false` when the pool has ended.
    fn list(&self, polled: &Arc<Polled>) -> bool {
        if polled.listed.load(Ordering::Relaxed) {
            return true;
        }
        let mut suspended = self.suspended.lock();
        let Some(suspended) = suspended.as_mut() else {
            return false;
        };
        suspended.insert(Arc::as_ptr(polled).addr(), Arc::downgrade(polled));
        polled.listed.store(true, Ordering::Relaxed);
        true
    }

    fn forget(&self, polled: &Polled) {
        if let Some(suspended) = self.suspended.lock().as_mut() {
            suspended.remove(&std::ptr::from_ref(polled).addr());
        }
    }

    /// Drops all suspended futures, those that come later too.
    pub(super) fn cancel(&self) {
        let suspended = self.suspended.lock().take();
        for polled in suspended
            .into_iter()
            .flatten()
            .filter_map(|(_, polled)| polled.upgrade())
        {
            polled.cancel();
        }
    }
}

impl Default for Futures {
    fn default() -> Self {
        Self {
            suspended: Mutex::new(Some(HashMap::new())),
        }
    }
}
