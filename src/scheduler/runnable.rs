//! The interface between a pool and its schedulers, and the tasks they queue.

use std::{fmt, sync::Arc};

use crate::error::{Error, code};

/// A unit of work of a scheduler.
pub type Task = Box<dyn FnOnce() + Send>;

/// A queue of tasks that a pool gives turns to.
///
/// The pool never gives one runnable two turns at once, so its tasks never overlap.
pub(super) trait Runnable: Send + Sync {
    /// Runs one batch of tasks. Returns whether more tasks wait for another turn.
    ///
    /// `batch` is scratch space that turns of a thread share, empty before and after.
    fn turn(self: Arc<Self>, batch: &mut Vec<Task>) -> bool;

    /// Drops waiting tasks and refuses more, after the pool has ended.
    fn abandon(&self);
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
    /// The queue is at its capacity; [`Scheduler::ready`](super::Scheduler::ready) waits until the
    /// scheduler accepts tasks again.
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
