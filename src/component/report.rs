//! What becomes of a message that fails: mapped, logged, counted, and answered if it is a request.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tracing::{debug, warn};

use crate::{
    error::{Error, code},
    metrics::Metrics,
    session::Session,
};

type OnError = Box<dyn Fn(&Session, &str, Error) -> Error + Send + Sync>;

/// The one place through which a node's messages fail.
pub(crate) struct ErrorReporter {
    pub(crate) on_error: Option<OnError>,
    pub(crate) metrics: Arc<Metrics>,
}

impl ErrorReporter {
    /// Ends a message with an error. `session` carries the request, if it is one.
    pub(crate) fn fail(&self, session: &Session, route: &str, error: Error) {
        let error = match &self.on_error {
            Some(map) => catch_unwind(AssertUnwindSafe(|| map(session, route, error)))
                .unwrap_or_else(|_| {
                    self.metrics.panics.increment(1);
                    Error::new(code::INTERNAL, "the error hook panicked")
                }),
            None => error,
        };
        let (id, uid, request) = (session.id(), session.uid(), session.request_id());
        // What clients can provoke at will stays out of the log at its usual level.
        if error.code() == code::INTERNAL {
            warn!(session = id, uid, route, request, %error, "message failed");
        } else {
            debug!(session = id, uid, route, request, %error, "message refused");
        }
        if request != 0
            && let Err(error) = session.respond_error(error)
        {
            debug!(session = id, uid, route, request, %error, "error reply not sent");
        }
    }
}

impl fmt::Debug for ErrorReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorReporter")
            .field("on_error", &self.on_error.is_some())
            .finish_non_exhaustive()
    }
}
