//! What happens to a message that fails: map the error, log it, answer the request.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::{debug, warn};

use crate::{
    error::{Error, code},
    metrics::Metrics,
    panic::catch_panic,
    session::Session,
    trace::Tracer,
};

/// Encodes the body of an error reply; `None` for JSON.
pub(crate) type EncodeError = fn(&Error) -> Option<Bytes>;

type OnError = Box<dyn Fn(&Session, &str, Error) -> Error + Send + Sync>;

/// Ends the failed messages of a node.
pub(crate) struct ErrorReporter {
    /// The application's hook: may replace the error.
    pub(crate) on_error: Option<OnError>,
    /// Clients get the text of foreign errors.
    pub(crate) expose_errors: bool,
    /// How long a request waits for its answer.
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) metrics: Arc<Metrics>,
    /// Makes the spans of sampled messages.
    pub(crate) tracer: Arc<Tracer>,
}

impl ErrorReporter {
    /// Ends a message that no handler of this node sees, with the error of what carried it.
    pub(crate) fn fail_unhandled(&self, session: &Session, error: Error) {
        self.fail(session, "", error, None);
    }

    /// Ends a message with an error, and answers the request that `session` carries, if any.
    ///
    /// [`code::INTERNAL`] is logged as a warning. All other codes are logged at debug level, since
    /// a client could fill the log with them. `encode` is that of the handler's
    /// [format](crate::Serializer::encode_error), where a handler is known.
    pub(crate) fn fail(
        &self,
        session: &Session,
        route: &str,
        error: Error,
        encode: Option<EncodeError>,
    ) {
        let error = match &self.on_error {
            Some(hook) => catch_panic(&self.metrics.panics, "the error hook panicked", || {
                Ok(hook(session, route, error))
            })
            .unwrap_or_else(|error| error),
            None => error,
        };
        let error = if self.expose_errors {
            error.expose()
        } else {
            error
        };
        let (id, request) = (session.id(), session.request_id());
        if error.code() == code::INTERNAL {
            warn!(session = id, user = session.logged_user(), route, request, %error, "message failed");
        } else {
            debug!(session = id, user = session.logged_user(), route, request, %error, "message refused");
        }
        let error = match encode {
            Some(encode) => error.encoded_by(encode),
            None => error,
        };
        if request != 0
            && let Err(error) = session.respond_error(error)
        {
            debug!(session = id, user = session.logged_user(), route, request, %error, "error reply not sent");
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
