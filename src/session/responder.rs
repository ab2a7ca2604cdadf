//! Answers a request later.

use std::fmt;

use tracing::warn;

use super::handle::Session;
use crate::{
    error::{Error, Result, code},
    scheduler::{Scheduler, TaskLabel},
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
    /// The route of the handler that made it, for the log.
    label: TaskLabel,
    answered: bool,
}

impl<S: Serializer> Responder<S> {
    fn new(session: Session<S>) -> Self {
        Self {
            session,
            label: Scheduler::task_label(),
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

    /// Gives the request up without an answer, for code that answers it in another way.
    fn release(mut self) {
        self.answered = true;
    }
}

impl<S: Serializer> Drop for Responder<S> {
    fn drop(&mut self) {
        let session = &self.session;
        let request = session.request_id();
        if self.answered || request == 0 {
            return;
        }
        let error = Error::new(code::INTERNAL, "the request was dropped without an answer");
        // Fails when the connection is gone, or the request has timed out or was answered.
        if session.respond_error(error).is_ok()
            && let Some(table) = session.inner().table()
            && let Some(held_back) = table.log_dropped()
        {
            let route = self.label.text();
            warn!(
                session = session.id(),
                user = session.logged_user(),
                route = route.as_deref().unwrap_or_default(),
                request,
                held_back,
                "request dropped without an answer"
            );
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

impl<S: Serializer> Session<S> {
    /// A handle that answers this request later, from anywhere.
    ///
    /// Dropped unused, it answers with an error.
    pub fn responder(&self) -> Responder<S> {
        Responder::new(self.clone())
    }

    /// Runs `future` on the runtime's threads, then `then` with its output on the current scheduler.
    ///
    /// A sync handler waits this way without holding up its scheduler, and continues where no other
    /// handler runs beside it. An error that `then` returns answers the request, as a handler's
    /// does.
    ///
    /// ```
    /// # use nano::{Result, Session};
    /// # async fn load(uid: i64) -> String { String::new() }
    /// fn profile(session: &Session) {
    ///     session.spawn(load(session.uid()), |session, profile| session.respond(&profile));
    /// }
    /// ```
    ///
    /// `then` does not run outside of a scheduler, when the future panics, or when the node has
    /// stopped. The request is then answered with an error.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&Self, T) -> Result + Send + 'static,
    ) {
        let responder = self.responder();
        let then = move |output| match then(responder.session(), output) {
            Ok(()) => responder.release(),
            // Fails when the request is answered already or the connection is gone.
            Err(error) => drop(responder.respond_error(error)),
        };
        match Scheduler::current() {
            Some(scheduler) => scheduler.offload(future, then),
            None => self
                .inner()
                .sink
                .spawn(Box::pin(async move { then(future.await) })),
        }
    }
}
