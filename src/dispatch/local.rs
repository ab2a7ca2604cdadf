//! A message for a handler of this node.

use super::cluster_router::Capacity;
use crate::{
    error::{Error, Result, code},
    scheduler::Scheduler,
    session::{Sequenced, SequencedTask, Session},
};

/// A decoded message with its scheduler and its place in the session's order.
///
/// Its task answers the request when it is dropped unrun.
pub(crate) struct LocalCall {
    session: Session,
    scheduler: Scheduler,
    task: SequencedTask,
}

impl LocalCall {
    pub(super) fn new(session: Session, scheduler: Scheduler, task: SequencedTask) -> Self {
        Self {
            session,
            scheduler,
            task,
        }
    }

    /// Queues the message behind the session's earlier ones. A scheduler that is shut down drops
    /// it.
    ///
    /// # Errors
    /// Returns the message when the scheduler's queue is full.
    pub(super) fn submit(self) -> Result<(), (Self, Capacity)> {
        let Self {
            session,
            scheduler,
            task,
        } = self;
        let Err(task) = session.sequencer().submit(&scheduler, task) else {
            return Ok(());
        };
        let full = scheduler.clone();
        let capacity = Box::pin(async move { full.ready().await });
        Err((Self::new(session, scheduler, task), capacity))
    }

    /// Queues the message past the scheduler's capacity.
    pub(super) fn submit_always(self) {
        self.session
            .sequencer()
            .submit_always(&self.scheduler, self.task);
    }

    /// Whether so many messages of the session wait for another scheduler that they would fill this
    /// one's queue.
    pub(super) fn is_congested(&self) -> bool {
        self.session
            .sequencer()
            .is_congested(&self.task, self.scheduler.capacity())
    }

    /// The error for a sender that does not wait for capacity.
    pub(super) fn full(&self) -> Error {
        Error::new(
            code::TOO_MANY,
            format!("the scheduler {} is full", self.scheduler.name()),
        )
    }
}
