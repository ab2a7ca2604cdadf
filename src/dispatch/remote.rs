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

/// A message whose member could not take it.
pub(crate) struct RemoteCall {
    session: Session,
    message: Message,
    router: Arc<dyn ClusterRouter>,
    reporter: Arc<ErrorReporter>,
    /// The trace that the message is part of, if it is sampled.
    trace: Option<Arc<Trace>>,
}

/// Sends a message to its member. Any failure but a full queue ends the request.
///
/// # Errors
/// Returns the message when the way to the member is full.
pub(super) fn forward(
    router: &Arc<dyn ClusterRouter>,
    reporter: &Arc<ErrorReporter>,
    session: Session,
    message: Message,
) -> Result<(), (Box<RemoteCall>, Capacity)> {
    let route = message.route.clone();
    match router.forward(&session, message) {
        Ok(()) => Ok(()),
        Err(ForwardError::Full(message, capacity)) => {
            let blocked = Box::new(RemoteCall {
                session,
                message,
                router: router.clone(),
                reporter: reporter.clone(),
                trace: current_trace(),
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

impl RemoteCall {
    /// [`forward`]s the message again.
    ///
    /// # Errors
    /// Returns it when the way to the member is still full.
    pub(super) fn submit(self) -> Result<(), (Box<Self>, Capacity)> {
        let Self {
            session,
            message,
            router,
            reporter,
            trace,
        } = self;
        within(trace.as_ref(), || {
            forward(&router, &reporter, session, message)
        })
    }
}
