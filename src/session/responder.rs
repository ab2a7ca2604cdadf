//! A reply to be given later.

use std::fmt;

use super::Session;
use crate::{
    error::{Error, Result, code},
    serialize::{Encode, Json, Serializer},
};

/// Answers one request, once, from anywhere: keep it in a room, send it to a thread, move it into a
/// future. Dropped unused it answers with an error, so that the client is never left waiting. For a
/// notify it does nothing.
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

    /// The session whose request it answers.
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
        // A message that cannot be written leaves the answer to the drop.
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
    /// Lets it go without an answer: somebody else has given one, or will.
    pub(super) fn release(mut self) {
        self.answered = true;
    }
}

impl<S: Serializer> Drop for Responder<S> {
    fn drop(&mut self) {
        if !self.answered && self.session.request_id() != 0 {
            // The connection may be gone or the request timed out: then nobody waits for it.
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
