//! A message on its way to the scheduler or the member it belongs to.

use std::{pin::Pin, sync::Arc};

use super::{Forward, Refused};
use crate::{
    component::Failure,
    error::{Error, Result, code},
    message::Message,
    scheduler::{Full, Scheduler, Task},
    session::Session,
};

/// Decoded, with its scheduler; or as it came, for a member.
pub(crate) enum Job {
    Here(Prepared),
    Away(Box<Parcel>),
}

/// A message that waits for its place in the session's lane. Dropped before it has one, it answers
/// for itself.
pub(crate) struct Prepared {
    session: Session,
    scheduler: Scheduler,
    task: Option<Task>,
}

/// A message for a member.
pub(crate) struct Parcel {
    session: Session,
    message: Message,
    forward: Arc<dyn Forward>,
    failure: Arc<Failure>,
}

/// A job that has to wait, and what for.
pub(crate) struct Held {
    pub(crate) job: Job,
    /// Ready when there may be room.
    pub(crate) room: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Job {
    pub(super) fn here(session: Session, scheduler: Scheduler, task: Task) -> Self {
        Self::Here(Prepared {
            session,
            scheduler,
            task: Some(task),
        })
    }

    pub(super) fn away(
        session: Session,
        message: Message,
        forward: Arc<dyn Forward>,
        failure: Arc<Failure>,
    ) -> Self {
        Self::Away(Box::new(Parcel {
            session,
            message,
            forward,
            failure,
        }))
    }

    /// Queues it behind the session's earlier messages. Gives it back when its scheduler, or the
    /// way to its member, is full. On a scheduler that has been shut down it ends at once.
    pub(crate) fn submit(self) -> Result<(), Held> {
        match self {
            Self::Here(prepared) => prepared.submit(),
            Self::Away(parcel) => parcel.submit(),
        }
    }

    /// Queues it now or never.
    ///
    /// # Errors
    /// The scheduler, or the way to the member, is full.
    pub(crate) fn try_submit(self) -> Result {
        // Those that wait for another scheduler are not in its queue yet.
        if let Self::Here(prepared) = &self
            && prepared.session.core().lane.waiting() >= prepared.scheduler.capacity()
        {
            return Err(prepared.full());
        }
        self.submit().map_err(|held| match &held.job {
            Self::Here(prepared) => prepared.full(),
            Self::Away(_) => Error::new(code::TOO_MANY, "the member cannot take more"),
        })
    }

    /// Queues it past the scheduler's capacity: for what is bounded by credit.
    pub(super) fn submit_always(self) {
        match self {
            Self::Here(prepared) => prepared.submit_always(),
            Self::Away(parcel) => drop(parcel.submit()),
        }
    }
}

impl Prepared {
    fn full(&self) -> Error {
        Error::new(
            code::TOO_MANY,
            format!("the scheduler {} is full", self.scheduler.name()),
        )
    }

    fn submit(mut self) -> Result<(), Held> {
        let Some(task) = self.task.take() else {
            return Ok(());
        };
        match self.session.core().lane.enter(&self.scheduler, task) {
            Ok(()) => Ok(()),
            Err(Full::Closed(task)) => {
                self.session.core().lane.refuse(task);
                Ok(())
            }
            Err(Full::Queue(task)) => {
                self.task = Some(task);
                let scheduler = self.scheduler.clone();
                Err(Held {
                    job: Job::Here(self),
                    room: Box::pin(async move { scheduler.room().await }),
                })
            }
        }
    }

    fn submit_always(mut self) {
        if let Some(task) = self.task.take() {
            self.session
                .core()
                .lane
                .enter_or_drop(&self.scheduler, task);
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.session.core().lane.refuse(task);
        }
    }
}

impl Parcel {
    fn submit(self) -> Result<(), Held> {
        let Self {
            session,
            message,
            forward,
            failure,
        } = self;
        let route = message.route.clone();
        match forward.forward(&session, message) {
            Ok(()) => Ok(()),
            Err(Refused::Full(message, room)) => Err(Held {
                job: Job::away(session, message, forward, failure),
                room,
            }),
            Err(Refused::Error(error)) => {
                failure.metrics.refused.increment(1);
                failure.fail(&session, &route, error);
                Ok(())
            }
        }
    }
}
