//! A client's message for another member.

use std::sync::Arc;

use super::cluster_router::{Capacity, ClusterRouter, ForwardError};
use crate::{
    component::ErrorReporter,
    error::Result,
    message::Message,
    metrics::Refusal,
    session::Session,
    trace::{Trace, current_trace, within},
};

/// A message as it arrived, and the router that knows its member.
pub(crate) struct RemoteCall {
    session: Session,
    message: Message,
    router: Arc<dyn ClusterRouter>,
    reporter: Arc<ErrorReporter>,
    /// The trace that the message is part of, if it is sampled.
    trace: Option<Arc<Trace>>,
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
            trace: current_trace(),
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
            trace,
        } = self;
        let route = message.route.clone();
        match within(trace.as_ref(), || router.forward(&session, message)) {
            Ok(()) => Ok(()),
            Err(ForwardError::Full(message, capacity)) => {
                let blocked = Box::new(Self {
                    session,
                    message,
                    router,
                    reporter,
                    trace,
                });
                Err((blocked, capacity))
            }
            Err(ForwardError::Error(error)) => {
                reporter.metrics.refused.count(Refusal::Member);
                reporter.fail(&session, &route, error, None);
                Ok(())
            }
        }
    }
}
