//! Async tasks: futures whose every poll is a turn of their scheduler.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;

use super::{strand::Strand, suspended::Cancel};
use crate::trace::{Trace, current_trace, within};

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

/// A future and the strand that polls it.
///
/// Only its wakers and its queued poll keep it alive: a future that nothing can wake is dropped.
///
/// `state` alone decides which thread may poll. Its transitions acquire and release, so a poll sees
/// everything that happened before the wake that queued it.
pub(super) struct AsyncTask {
    strand: Arc<Strand>,
    state: AtomicU8,
    /// Guards the future. A leaf lock: the future is taken out for each poll, so no user code runs
    /// under it and a cancellation never waits for a poll.
    future: Mutex<Option<BoxFuture>>,
    /// Whether the pool's table of suspended tasks holds this one. Relaxed: set by the first poll
    /// that is pending; later polls and the drop, which read it, are ordered after that poll.
    listed: AtomicBool,
    /// The trace of the code that started it, for all polls.
    trace: Option<Arc<Trace>>,
}

impl AsyncTask {
    /// Polls the future for the first time. Returns whether it has finished.
    pub(super) fn start(strand: &Arc<Strand>, future: BoxFuture) -> bool {
        let task = Self {
            strand: strand.clone(),
            state: AtomicU8::new(QUEUED),
            future: Mutex::new(Some(future)),
            listed: AtomicBool::new(false),
            trace: current_trace(),
        };
        Arc::new(task).poll()
    }

    /// Runs one queued poll. Returns whether the task needs no other: finished or cancelled.
    fn poll(self: Arc<Self>) -> bool {
        if !self.advance(QUEUED, RUNNING) {
            return true;
        }
        let Some(mut future) = self.future.lock().take() else {
            return true;
        };
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let poll = || within(self.trace.as_ref(), || future.as_mut().poll(&mut context));
        if self.strand.guard(poll) != Some(Poll::Pending) {
            self.state.store(DONE, Ordering::Release);
            self.strand.guard(|| drop(future));
            return true;
        }
        // The future is back before the state lets a wake queue the next poll.
        *self.future.lock() = Some(future);
        if !self.list() {
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

    /// Queues a poll on the strand; cancels the task when the pool has ended.
    fn queue(self: Arc<Self>) {
        let task = self.clone();
        let turn = Box::new(move || {
            task.poll();
        });
        if self.strand.push_always(turn).is_err() {
            self.cancel();
        }
    }

    /// Adds the task to the pool's table, once. Returns `false` when the pool has ended.
    fn list(self: &Arc<Self>) -> bool {
        if self.listed.load(Ordering::Relaxed) {
            return true;
        }
        let task: Arc<dyn Cancel> = self.clone();
        let listed = self
            .strand
            .executor
            .suspended
            .insert(self.address(), Arc::downgrade(&task));
        self.listed.store(listed, Ordering::Relaxed);
        listed
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn drop_future(&self) {
        let future = self.future.lock().take();
        self.strand.guard(|| drop(future));
    }

    /// Changes the state if it is `from`. Returns whether it was.
    fn advance(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Cancel for AsyncTask {
    fn cancel(&self) {
        self.state.store(DONE, Ordering::Release);
        self.drop_future();
    }
}

impl Wake for AsyncTask {
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

impl Drop for AsyncTask {
    fn drop(&mut self) {
        if self.listed.load(Ordering::Relaxed) {
            self.strand.executor.suspended.remove(self.address());
        }
        self.drop_future();
    }
}
