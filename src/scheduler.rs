//! Serial executors for user code: tasks, async tasks and timers that never overlap.
//!
//! Files, from the bottom up: `runnable`, `clock`, `timer_queue`, `suspended` and `watch`, which
//! reports tasks that block for long; `executor` gives turns to runnables, and `pool` is its public handle; `strand` is the queue behind a scheduler;
//! `task` and `timer` queue on a strand.
//!
//! ```
//! use nano::scheduler::Pool;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nano::Result {
//! let pool = Pool::new("game", 2, tokio::runtime::Handle::current())?;
//! let room = pool.scheduler("room-42", 256);
//! room.push_task(|| println!("one"))?;
//! room.push_task(|| println!("two, after one"))?;
//! assert!(pool.shutdown(std::time::Duration::from_secs(5)).await);
//! # Ok(())
//! # }
//! ```

mod clock;
mod cron;
mod executor;
mod pool;
mod runnable;
mod strand;
mod suspended;
mod task;
mod timer;
mod timer_queue;
mod watch;

use std::{
    fmt,
    future::poll_fn,
    hash::{Hash, Hasher},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use self::{strand::Strand, task::AsyncTask};
use crate::error::Result;

pub(crate) use self::watch::TaskLabel;
pub use self::{
    pool::Pool,
    runnable::{PushError, Task},
    timer::Timer,
};

/// A serial executor: its tasks start in FIFO order and never overlap.
///
/// A handle, cheap to clone and usable from any thread. A scheduler has no thread of its own and
/// costs a few hundred bytes, so one per game room is fine; many share the threads of a [`Pool`].
/// It lives as long as a handle, a queued task or a timer refers to it: tasks that were queued
/// still run after the last handle is gone. Two handles are equal if they are the same scheduler.
///
/// A panic in a task, a future or a timer's callback ends that call alone; it is logged and counted
/// in [`Pool::panics`].
#[derive(Clone)]
pub struct Scheduler(Arc<Strand>);

impl Scheduler {
    /// The scheduler whose task the calling thread runs now: in a handler, the one it runs on.
    /// `None` on any other thread.
    pub fn current() -> Option<Self> {
        Strand::current().map(Self)
    }

    /// The name given at its creation, for logs.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The number of tasks that have not started yet.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every task has started.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of waiting tasks from which [`push_task`](Self::push_task) refuses more.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Whether [`push_task`](Self::push_task) would find no room now.
    pub fn is_full(&self) -> bool {
        self.len() >= self.0.capacity
    }

    /// Whether the calling thread is running a task of this scheduler now.
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Labels the task that the calling thread runs, for reports of tasks that block for long.
    pub(crate) fn label_task(label: TaskLabel) {
        Strand::label_task(label);
    }

    /// Queues a task. Never blocks, from whatever thread, also from a task of this scheduler.
    ///
    /// # Errors
    /// [`PushError::Full`] when as many tasks wait as the scheduler may hold, [`PushError::Closed`]
    /// when its pool is shut down. Both hold the task.
    #[doc(alias = "PushTask")]
    pub fn push_task(&self, task: impl FnOnce() + Send + 'static) -> Result<(), PushError> {
        self.0.push(Box::new(task))
    }

    /// [`push_task`](Self::push_task) of a task that has its box already.
    pub(crate) fn push(&self, task: Task) -> Result<(), PushError> {
        self.0.push(task)
    }

    /// Queues a task whatever the queue's length: for what is bounded elsewhere, as timers and
    /// wakers are. Gives the task back when the pool has ended. A pool that is shutting down still
    /// takes it, so that work under way can end.
    pub(crate) fn push_always(&self, task: Task) -> Result<(), Task> {
        self.0.push_always(task)
    }

    /// Waits until the scheduler takes tasks again: at once if it is not full, else when its queue
    /// has drained to half. Also returns when the pool is shut down. Another thread may take the
    /// room first, so push and wait in a loop.
    pub async fn ready(&self) {
        let strand = &*self.0;
        loop {
            // Both are made before the look at the queue, so that no notice falls between the look
            // and the wait.
            let (capacity, changed) = (strand.room.notified(), strand.executor.changed.notified());
            if strand.has_room() {
                return;
            }
            tokio::select! {
                () = capacity => {}
                () = changed => {}
            }
        }
    }

    /// Queues an async task. Its first poll takes its place in the queue; each later poll, after a
    /// wake, is one more turn of this scheduler. Other tasks run in between. The future is dropped
    /// unfinished when the pool shuts down, or when nothing is left that could wake it.
    ///
    /// # Errors
    /// As [`push_task`](Self::push_task); the task that comes back starts the future when it is run
    /// on this scheduler.
    pub fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), PushError> {
        let scheduler = self.clone();
        self.push_task(move || {
            scheduler.start(future);
        })
    }

    /// Polls a future right now, in the place of the running task of this scheduler, and keeps it
    /// if it is pending: see [`spawn`](Self::spawn). Whether it has finished, be it by a panic.
    pub(crate) fn start(&self, future: impl Future<Output = ()> + Send + 'static) -> bool {
        debug_assert!(self.is_current(), "a future starts on its own scheduler");
        AsyncTask::start(&self.0, Box::pin(future))
    }

    /// Runs `future` off the scheduler, on the tokio runtime, and `then` with its output back on
    /// this scheduler.
    ///
    /// `then` is queued even if the scheduler is full, so bound the number of futures in flight. If
    /// the future panics, or if the pool has ended meanwhile, `then` is dropped unrun.
    pub fn offload<F, T>(&self, future: F, then: impl FnOnce(T) + Send + 'static)
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let scheduler = self.clone();
        self.0.executor.runtime.spawn(async move {
            let output = {
                let mut future = pin!(future);
                let guarded =
                    poll_fn(
                        |context| match scheduler.0.guard(|| future.as_mut().poll(context)) {
                            Some(poll) => poll.map(Some),
                            None => Poll::Ready(None),
                        },
                    );
                guarded.await
            };
            if let Some(output) = output {
                drop(scheduler.push_always(Box::new(move || then(output))));
            }
        });
    }
}

/// Timers: callbacks that run on this scheduler, exact to the millisecond.
///
/// Fire `k` is due at creation plus `k` intervals, without drift. If the scheduler falls behind, at most
/// one fire of a timer waits in its queue; ticks that fall due meanwhile are skipped. Timers wait
/// in the queue even if it is full.
///
/// A panic in a callback ends that call alone; the timer goes on. All methods fail with
/// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) when the pool is shut down.
impl Scheduler {
    /// Calls `callback` every `interval`, the first time after one interval, until it is stopped.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the interval is zero or beyond what the clock can hold.
    #[doc(alias = "NewTimer")]
    pub fn interval(
        &self,
        interval: Duration,
        callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        Timer::every(&self.0, interval, None, Box::new(callback))
    }

    /// Calls `callback` every `interval`, `count` times in all; never if `count` is 0. Skipped
    /// ticks do not count.
    ///
    /// # Errors
    /// As [`interval`](Self::interval).
    #[doc(alias = "NewCountTimer")]
    pub fn interval_n(
        &self,
        interval: Duration,
        count: u64,
        callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        Timer::every(&self.0, interval, Some(count), Box::new(callback))
    }

    /// Calls `callback` once, after `delay`. Without a delay it is queued at once.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the delay is beyond what the clock can hold.
    #[doc(alias = "NewAfterTimer")]
    pub fn delay(
        &self,
        delay: Duration,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<Timer> {
        let mut callback = Some(callback);
        let callback = Box::new(move || {
            if let Some(callback) = callback.take() {
                callback();
            }
        });
        Timer::once(&self.0, delay, callback)
    }

    /// Evaluates `check` once per [`Pool::with_precision`], on this scheduler, with the time of day,
    /// and calls `callback` each time it returns true. A check that panics counts as false.
    ///
    /// # Errors
    /// Only when the pool is shut down.
    #[doc(alias = "NewCondTimer")]
    pub fn poll_until(
        &self,
        mut check: impl FnMut(SystemTime) -> bool + Send + 'static,
        mut callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        let executor = self.0.executor.clone();
        let tick = move || {
            if check(executor.wall_clock(Instant::now())) {
                callback();
            }
        };
        Timer::every(&self.0, self.0.precision, None, Box::new(tick))
    }

    /// Calls `callback` at the times a cron expression names, in the local time zone:
    /// `sec min hour dom mon dow`, or five fields without seconds. When the clock is set over
    /// occurrences, or the machine slept through them, they count as one, noticed within a minute.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the expression cannot be read or never occurs.
    pub fn cron(&self, expression: &str, callback: impl FnMut() + Send + 'static) -> Result<Timer> {
        Timer::cron(&self.0, expression, Box::new(callback))
    }
}

impl Pool {
    /// Makes a scheduler that holds up to `capacity` waiting tasks (at least one). The name is for
    /// logs.
    pub fn scheduler(&self, name: impl Into<Arc<str>>, capacity: usize) -> Scheduler {
        Scheduler(Arc::new(Strand::new(
            name.into(),
            capacity,
            self.precision(),
            self.executor().clone(),
        )))
    }
}

impl PartialEq for Scheduler {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Scheduler {}

/// Hashes the identity, as equality compares it.
impl Hash for Scheduler {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("name", &self.name())
            .field("len", &self.len())
            .field("capacity", &self.0.capacity)
            .finish()
    }
}
