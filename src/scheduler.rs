//! Serial executors for user code: tasks, async tasks and timers that never overlap.
//!
//! Files, from the bottom up: `runnable`, `capacity`, `clock`, `timer_queue`, `suspended`, `progress`, and
//! `long_turns` and `watch`, which report tasks that block: when they have ended, and while they run. `executor` gives turns to runnables, and `pool` is its public
//! handle. `strand` is the queue behind a scheduler; `task` and `timer` queue on a strand.
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

mod capacity;
mod clock;
#[cfg(feature = "cron")]
mod cron;
mod executor;
mod long_turns;
mod pool;
mod progress;
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
use crate::{
    error::Result,
    trace::{current_trace, propagate, within, within_span},
};

pub(crate) use self::{capacity::Capacity, executor::PoolMetrics, progress::TaskLabel};
pub use self::{
    long_turns::LongTask,
    pool::Pool,
    runnable::{PushError, Task},
    timer::Timer,
    watch::{HeldBy, SchedulerStatus},
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
///
/// ```
/// use nano::{Handle, Result};
/// use std::time::Duration;
///
/// fn open_room(node: &Handle) -> Result {
///     let room = node.new_scheduler("room-42");
///     room.push_task(|| println!("runs alone on the room's scheduler"))?;
///     room.delay(Duration::from_secs(60), || println!("so does this, a minute later"));
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Scheduler(Arc<Strand>);

impl Scheduler {
    /// Returns the scheduler whose task the calling thread runs; in a handler, its scheduler.
    ///
    /// `None` outside of tasks.
    pub fn current() -> Option<Self> {
        Strand::current().map(Self)
    }

    /// Returns the name given at creation, which logs show.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the number of tasks that have not started yet.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every task has started.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of waiting tasks at which [`push_task`](Self::push_task) refuses more.
    ///
    /// A reload of the node's configuration may change it, for schedulers that the node makes.
    pub fn capacity(&self) -> usize {
        self.0.capacity.get()
    }

    /// Whether [`push_task`](Self::push_task) would refuse a task now.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity()
    }

    /// Whether the calling thread is running a task of this scheduler now.
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Labels the task that the calling thread runs, for reports of tasks that block for long.
    pub(crate) fn label_task(label: TaskLabel, session: i64) {
        Strand::label_task(label, session);
    }

    /// Says how long the task took that the calling thread runs, for reports of turns that took long.
    #[inline]
    pub(crate) fn task_took(took: Duration) {
        Strand::task_took(took);
    }

    /// The label of the task that the calling thread runs; none outside of tasks.
    pub(crate) fn task_label() -> TaskLabel {
        Strand::task_label()
    }

    /// Queues a task.
    ///
    /// Never blocks. May be called on any thread, also in a task of this scheduler.
    ///
    /// # Errors
    /// [`PushError::Full`] when the queue is at its capacity, [`PushError::Closed`] when the pool
    /// is shut down. Both hold the task.
    #[doc(alias = "PushTask")]
    pub fn push_task(&self, task: impl FnOnce() + Send + 'static) -> Result<(), PushError> {
        let Some(trace) = current_trace() else {
            return self.0.push(Box::new(task));
        };
        let scheduler = self.0.name.clone();
        let task = move || within_span(trace.task(&scheduler), task);
        self.0.push(Box::new(task))
    }

    /// Queues a task that is boxed already; see [`push_task`](Self::push_task).
    pub(crate) fn push(&self, task: Task) -> Result<(), PushError> {
        self.0.push(task)
    }

    /// Queues a task beyond the capacity, for work that is bounded elsewhere, such as timers.
    ///
    /// Returns the task when the pool has ended. A pool that is shutting down still accepts it, so
    /// that work in flight can finish.
    pub(crate) fn push_always(&self, task: Task) -> Result<(), Task> {
        self.0.push_always(task)
    }

    /// Waits until the scheduler accepts tasks.
    ///
    /// Returns at once if the queue is not full, else when it has drained to half or the pool is
    /// shut down. Another thread may fill the queue first, so push and wait in a loop.
    pub async fn ready(&self) {
        let strand = &*self.0;
        loop {
            // Created before the queue is read: a notification after the read is not lost.
            let drained = strand.drained.notified();
            let changed = strand.executor.changed.notified();
            if strand.is_ready() {
                return;
            }
            tokio::select! {
                () = drained => {}
                () = changed => {}
            }
        }
    }

    /// Queues an async task.
    ///
    /// Each poll, the first one and every one after a wake, is queued as a task; other tasks run in
    /// between. The future is dropped unfinished when the pool shuts down, or when no waker of it
    /// is left.
    ///
    /// # Errors
    /// As [`push_task`](Self::push_task). The returned task starts the future and must run on this
    /// scheduler.
    pub fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), PushError> {
        let scheduler = self.clone();
        self.push_task(move || {
            scheduler.start(future);
        })
    }

    /// Polls a future at once, as part of the running task, and goes on as [`spawn`](Self::spawn).
    ///
    /// Must be called in a task of this scheduler. Returns whether the future has finished; a panic
    /// finishes it too.
    pub(crate) fn start(&self, future: impl Future<Output = ()> + Send + 'static) -> bool {
        debug_assert!(self.is_current(), "a future starts on its own scheduler");
        AsyncTask::start(&self.0, Box::pin(future))
    }

    /// Runs `future` on the tokio runtime, then `then` with its output on this scheduler.
    ///
    /// `then` is queued even if the scheduler is full, so bound the number of futures in flight. If
    /// the future panics, or the pool has ended by then, `then` is dropped unrun.
    pub fn offload<F, T>(&self, future: F, then: impl FnOnce(T) + Send + 'static)
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let scheduler = self.clone();
        let trace = current_trace();
        let future = propagate(future);
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
                let then = move || within(trace.as_ref(), || then(output));
                drop(scheduler.push_always(Box::new(then)));
            }
        });
    }
}

/// Timers: callbacks that run on this scheduler, exact to the millisecond.
///
/// Fire `k` is due at creation plus `k` intervals, without drift. If the scheduler falls behind, at
/// most one fire of a timer is queued; ticks that are due meanwhile are skipped. Fires are queued
/// even if the scheduler is full.
///
/// A panic in a callback ends that call alone; the timer goes on. All methods fail with
/// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) when the pool is shut down.
impl Scheduler {
    /// Calls `callback` every `interval` until it is stopped, the first time after one interval.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the interval is zero or exceeds the
    /// range of the clock.
    #[doc(alias = "NewTimer")]
    pub fn interval(
        &self,
        interval: Duration,
        callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        Timer::every(&self.0, interval, None, Box::new(callback))
    }

    /// Calls `callback` every `interval`, `count` times in all; never if `count` is 0.
    ///
    /// Skipped ticks do not count.
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

    /// Calls `callback` once, after `delay`; a zero delay queues it at once.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the delay exceeds the range of the
    /// clock.
    #[doc(alias = "NewAfterTimer")]
    pub fn delay(
        &self,
        delay: Duration,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<Timer> {
        let mut callback = Some(callback);
        let trace = current_trace();
        let name = self.0.name.clone();
        let callback = Box::new(move || {
            let Some(callback) = callback.take() else {
                return;
            };
            match &trace {
                None => callback(),
                Some(trace) => within_span(trace.timer(&name), callback),
            }
        });
        Timer::once(&self.0, delay, callback)
    }

    /// Calls `callback` each time that `check` returns true for the time of day.
    ///
    /// `check` runs on this scheduler, once per [`Pool::with_precision`]. A panic in it counts as
    /// false.
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

    /// Calls `callback` at the occurrences of a cron expression, in the local time zone.
    ///
    /// The fields are `sec min hour dom mon dow`, or five without seconds. Occurrences that are
    /// missed because the clock was set or the machine was suspended count as one, which fires
    /// within a minute.
    ///
    /// Times that are named (values, lists and ranges, as in `0 9,18 * * *`) run once when the local
    /// time repeats an hour, and once at its end when it skips the hour they lie in; a clock that is
    /// set back by up to three hours does not repeat them. An expression with `*` or a step in its
    /// seconds, minutes or hours follows the clock through both hours, and through none; a clock
    /// that is set back by up to a minute repeats none of its occurrences.
    ///
    /// Needs the feature `cron`, which is on by default.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the expression is invalid or never
    /// occurs.
    #[cfg(feature = "cron")]
    pub fn cron(&self, expression: &str, callback: impl FnMut() + Send + 'static) -> Result<Timer> {
        Timer::cron(&self.0, expression, Box::new(callback))
    }
}

impl Pool {
    /// Makes a scheduler whose queue holds up to `capacity` tasks, at least one.
    ///
    /// The name appears in logs.
    pub fn scheduler(&self, name: impl Into<Arc<str>>, capacity: usize) -> Scheduler {
        self.sharing(name, Capacity::new(capacity))
    }

    /// Makes a scheduler whose capacity is that of others.
    pub(crate) fn sharing(&self, name: impl Into<Arc<str>>, capacity: Capacity) -> Scheduler {
        Scheduler(Strand::new(
            name.into(),
            capacity,
            self.precision(),
            self.executor().clone(),
        ))
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
            .field("capacity", &self.capacity())
            .finish()
    }
}
