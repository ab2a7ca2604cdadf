//! Serial lanes for user code: tasks, async tasks and timers that never run at the same time.
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

mod cron;
mod driver;
mod future;
mod pool;
mod strand;
mod timer;

use std::{
    fmt,
    future::poll_fn,
    hash::{Hash, Hasher},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use self::{future::Polled, strand::Strand};
use crate::error::{Error, code};

pub use self::{pool::Pool, timer::Timer};

/// What a scheduler runs.
pub type Task = Box<dyn FnOnce() + Send>;

/// A serial lane: its tasks start first in, first out, and never run at the same time.
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
            let (capacity, changed) = (strand.room.notified(), strand.pool.changed.notified());
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
        Polled::start(&self.0, Box::pin(future))
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
        self.0.pool.runtime.spawn(async move {
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

/// Why a scheduler did not queue a task; holds the task.
///
/// `?` converts it to a [`nano::Error`](Error) of [`code::TOO_MANY`] or [`code::UNAVAILABLE`], and
/// drops the task.
///
/// ```
/// use nano::scheduler::{Pool, PushError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nano::Result {
/// // No threads: tasks run on this runtime, so none runs before the next await.
/// let pool = Pool::new("game", 0, tokio::runtime::Handle::current())?;
/// let room = pool.scheduler("room-42", 1);
/// room.push_task(|| ())?;
/// if let Err(PushError::Full(task)) = room.push_task(|| println!("second")) {
///     room.ready().await;
///     room.push_task(task)?;
/// }
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub enum PushError {
    /// The queue is at its capacity. [`Scheduler::ready`] waits until it takes tasks again.
    Full(Task),
    /// The pool is shut down; a retry cannot succeed.
    Closed(Task),
}

impl PushError {
    /// Returns the task that was not queued.
    pub fn into_task(self) -> Task {
        match self {
            Self::Full(task) | Self::Closed(task) => task,
        }
    }

    /// Whether the pool is shut down, so that a retry cannot succeed.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the scheduler's queue is full",
            Self::Closed(_) => "the scheduler is shut down",
        })
    }
}

impl fmt::Debug for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_closed() {
            "Closed(..)"
        } else {
            "Full(..)"
        })
    }
}

// Not a `std::error::Error`: that would convert to the code of a foreign error, and the task inside
// is not `Sync`.
impl From<PushError> for Error {
    fn from(error: PushError) -> Self {
        Self::new(
            if error.is_closed() {
                code::UNAVAILABLE
            } else {
                code::TOO_MANY
            },
            error.to_string(),
        )
    }
}
