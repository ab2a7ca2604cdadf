//! Answers a request later.

use std::fmt;

use super::Session;
use crate::{
    error::{Error, Result, code},
    serialize::{Encode, Json, Serializer},
};

/// Answers one request, once, from anywhere.
///
/// Keep it in a room, send it to a thread, or move it into a future. Dropped unused, it answers
/// with an error, so that the client does not wait for its timeout. For a notify it does nothing.
///
/// ```
/// use nano::{Result, Session};
/// use std::thread;
///
/// // Returns `()`, so the responder gives the reply.
/// fn report(session: &Session, _: ()) -> Result {
///     let responder = session.responder();
///     thread::spawn(move || responder.respond("a long computation"));
///     Ok(())
/// }
/// ```
pub struct Responder<S: Serializer = Json> {
    session: Session<S>,
    answered: bool,
}

impl<S: Serializer> Responder<S> {
    pub(super) fn new(session: Session<S>) -> Self {
        Self {
            session,
            answered: false,
        }
    }

    /// The session of the request.
    pub fn session(&self) -> &Session<S> {
        &self.session
    }

    /// Answers with a message.
    ///
    /// # Errors
    /// See [`Session::respond`].
    pub fn respond<M: ?Sized>(mut self, message: &M) -> Result
    where
        S: Encode<M>,
    {
        // On an error the drop of `self` answers.
        let body = S::encode(message)?;
        self.answered = true;
        self.session.respond_raw(body)
    }

    /// Answers with an error reply.
    ///
    /// # Errors
    /// See [`Session::respond`].
    pub fn respond_error(mut self, error: Error) -> Result {
        self.answered = true;
        self.session.respond_error(error)
    }
}

impl<S: Serializer> Responder<S> {
    /// Gives the request up without an answer, for code that answers it in another way.
    pub(super) fn release(mut self) {
        self.answered = true;
    }
}

impl<S: Serializer> Drop for Responder<S> {
    fn drop(&mut self) {
        if !self.answered && self.session.request_id() != 0 {
            // Fails when the connection is gone or the request has timed out.
            let _ = self.session.respond_error(Error::new(
                code::INTERNAL,
                "the request was dropped without an answer",
            ));
        }
    }
}

impl<S: Serializer> fmt::Debug for Responder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("session", &self.session)
            .field("answered", &self.answered)
            .finish()
    }
}
