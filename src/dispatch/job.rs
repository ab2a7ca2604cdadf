//! A message on its way to the scheduler or the member it belongs to.

use std::{pin::Pin, sync::Arc};

use super::{ClusterRouter, ForwardError};
use crate::{
    component::ErrorReporter,
    error::{Error, Result, code},
    message::Message,
    scheduler::Scheduler,
    session::{Sequenced, SequencedTask, Session},
};

/// Decoded, with its scheduler; or as it came, for a member.
pub(crate) enum Dispatched {
    Here(LocalCall),
    Away(Box<RemoteCall>),
}

/// A message with its place in the session's order. Its task answers the request when it is
/// dropped unrun.
pub(crate) struct LocalCall {
    session: Session,
    scheduler: Scheduler,
    task: SequencedTask,
}

/// A message for a member.
pub(crate) struct RemoteCall {
    session: Session,
    message: Message,
    forward: Arc<dyn ClusterRouter>,
    reporter: Arc<ErrorReporter>,
}

/// A job that has to wait, and what for.
pub(crate) struct Blocked {
    pub(crate) job: Dispatched,
    /// Ready when the scheduler, or the way to the member, may have capacity.
    pub(crate) ready: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Dispatched {
    pub(super) fn here(session: Session, scheduler: Scheduler, task: SequencedTask) -> Self {
        Self::Here(LocalCall {
            session,
            scheduler,
            task,
        })
    }

    pub(super) fn away(
        session: Session,
        message: Message,
        forward: Arc<dyn ClusterRouter>,
        reporter: Arc<ErrorReporter>,
    ) -> Self {
        Self::Away(Box::new(RemoteCall {
            session,
            message,
            forward,
            reporter,
        }))
    }

    /// Queues it behind the session's earlier messages. Gives it back when its scheduler, or the
    /// way to its member, is full. On a scheduler that has been shut down it ends at once.
    pub(crate) fn submit(self) -> Result<(), Blocked> {
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
        // Messages that wait for another scheduler are not in its queue yet.
        if let Self::Here(call) = &self
            && call
                .session
                .sequencer()
                .is_crowded(&call.task, call.scheduler.capacity())
        {
            return Err(call.full());
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

impl LocalCall {
    fn full(&self) -> Error {
        Error::new(
            code::TOO_MANY,
            format!("the scheduler {} is full", self.scheduler.name()),
        )
    }

    fn submit(self) -> Result<(), Blocked> {
        let Self {
            session,
            scheduler,
            task,
        } = self;
        let Err(task) = session.sequencer().submit(&scheduler, task) else {
            return Ok(());
        };
        Err(Blocked {
            ready: {
                let scheduler = scheduler.clone();
                Box::pin(async move { scheduler.room().await })
            },
            job: Dispatched::here(session, scheduler, task),
        })
    }

    fn submit_always(self) {
        self.session
            .sequencer()
            .submit_always(&self.scheduler, self.task);
    }
}

impl RemoteCall {
    fn submit(self) -> Result<(), Blocked> {
        let Self {
            session,
            message,
            forward,
            reporter,
        } = self;
        let route = message.route.clone();
        match forward.forward(&session, message) {
            Ok(()) => Ok(()),
            Err(ForwardError::Full(message, ready)) => Err(Blocked {
                job: Dispatched::away(session, message, forward, reporter),
                ready,
            }),
            Err(ForwardError::Error(error)) => {
                reporter.metrics.refused.increment(1);
                reporter.fail(&session, &route, error);
                Ok(())
            }
        }
    }
}
