//! A client's message for another member.

use std::sync::Arc;

use super::cluster_router::{Capacity, ClusterRouter, ForwardError};
use crate::{
    component::ErrorReporter, error::Result, message::Message, metrics::Refusal, session::Session,
};

/// A message as it arrived, and the router that knows its member.
pub(crate) struct RemoteCall {
    session: Session,
    message: Message,
    router: Arc<dyn ClusterRouter>,
    reporter: Arc<ErrorReporter>,
}

impl RemoteCall {
    pub(super) fn new(
        session: Session,
        message: Message,
        router: Arc<dyn ClusterRouter>,
        reporter: Arc<ErrorReporter>,
    ) -> Box<Self> {
        Box::new(Self {
            session,
            message,
            router,
            reporter,
        })
    }

    /// Sends the message to its member. Any failure but a full queue ends the request.
    ///
    /// # Errors
    /// Returns the message when the way to the member is full.
    pub(super) fn submit(self) -> Result<(), (Box<Self>, Capacity)> {
        let Self {
            session,
            message,
            router,
            reporter,
        } = self;
        let route = message.route.clone();
        match router.forward(&session, message) {
            Ok(()) => Ok(()),
            Err(ForwardError::Full(message, capacity)) => {
                Err((Self::new(session, message, router, reporter), capacity))
            }
            Err(ForwardError::Error(error)) => {
                reporter.metrics.refused.count(Refusal::Member);
                reporter.fail(&session, &route, error, None);
                Ok(())
            }
        }
    }
}
