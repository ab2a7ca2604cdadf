//! What a filter sees of one call of a handler, and what it decides.

use std::{
    any::{Any, type_name},
    cell::Cell,
    fmt,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    error::{Error, Result, code},
    session::Session,
};

/// One message on its way to its handler.
///
/// In `before` it holds the decoded message; in `after` the handler has taken it.
///
/// ```
/// use nano::{Error, Result, filter::{Context, Flow}};
///
/// fn only_players(call: &mut Context<'_>) -> Result<Flow> {
///     match call.session().uid() {
///         0 => Err(Error::new("401", format!("{} needs a login", call.route()))),
///         _ => Ok(Flow::Continue),
///     }
/// }
/// ```
pub struct Context<'a> {
    session: &'a Session,
    route: &'a str,
    message: Option<&'a mut (dyn Any + Send)>,
    queue_time: Option<Duration>,
    time_limit: Option<Duration>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(session: &'a Session, route: &'a str) -> Self {
        Self {
            session,
            route,
            message: None,
            queue_time: None,
            time_limit: None,
        }
    }

    pub(crate) fn with_message(
        mut self,
        message: &'a mut (dyn Any + Send),
        queue_time: Option<Duration>,
    ) -> Self {
        self.message = Some(message);
        self.queue_time = queue_time;
        self
    }

    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.time_limit
    }

    /// The session, with the id of the request. For a node's own call it has no client.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// The route, as it was sent.
    pub fn route(&self) -> &str {
        self.route
    }

    /// Whether the message waits for an answer: a request or a call, not a notify.
    pub fn is_request(&self) -> bool {
        self.session.request_id() != 0
    }

    /// The message, if its handler takes an `M`.
    pub fn message<M: 'static>(&self) -> Option<&M> {
        self.message.as_deref()?.downcast_ref()
    }

    /// The message to change, if its handler takes an `M`.
    pub fn message_mut<M: 'static>(&mut self) -> Option<&mut M> {
        self.message.as_deref_mut()?.downcast_mut()
    }

    /// How long the message waited for its turn, from its decoding on.
    ///
    /// Known in `before`, and only on routes for which a filter asked with
    /// [`Route::measure_queue_time`](super::Route::measure_queue_time): it costs a clock read per message.
    pub fn queue_time(&self) -> Option<Duration> {
        self.queue_time
    }

    /// Ends the handler when it has run for this long, with
    /// [`code::TIMEOUT`](crate::code::TIMEOUT). The shortest limit counts.
    ///
    /// The future of an async handler is dropped at its next suspension after the limit. A sync
    /// handler cannot be interrupted: it runs to its end, and its reply counts.
    pub fn limit_time(&mut self, limit: Duration) {
        self.time_limit = Some(self.time_limit.map_or(limit, |other| other.min(limit)));
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("session", &self.session)
            .field("route", &self.route)
            .field("queue_time", &self.queue_time)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

/// What becomes of a message after `before`. An error refuses it instead.
#[derive(Debug)]
pub enum Flow {
    /// The next filter, or the handler, gets the message.
    Continue,
    /// The message is answered; its handler does not run.
    Answer(Answer),
}

impl Flow {
    /// Answers with a value of the handler's reply type, encoded as the handler's reply would be.
    ///
    /// Another type is an error [`code::INTERNAL`](crate::code::INTERNAL) of that message.
    pub fn reply<R: Send + 'static>(reply: R) -> Self {
        Self::Answer(Answer(Box::new(AnswerOf {
            type_name: type_name::<R>(),
            reply: Some(Box::new(reply)),
            raw: Bytes::new(),
        })))
    }

    /// Answers with bytes as they are.
    pub fn raw(body: impl Into<Bytes>) -> Self {
        Self::Answer(Answer(Box::new(AnswerOf {
            type_name: type_name::<Bytes>(),
            reply: None,
            raw: body.into(),
        })))
    }
}

/// The answer a filter gives: made by [`Flow::reply`] and [`Flow::raw`].
pub struct Answer(Box<AnswerOf>);

struct AnswerOf {
    type_name: &'static str,
    /// `None` for an answer of bytes.
    reply: Option<Box<dyn Any + Send>>,
    raw: Bytes,
}

impl Answer {
    /// Returns the answer for a handler that replies with an `R`.
    ///
    /// # Errors
    /// [`code::INTERNAL`] when the answer is of another type.
    pub(crate) fn for_handler<R: 'static>(self) -> Result<Ended<R>> {
        let Some(reply) = self.0.reply else {
            return Ok(Ended::Raw(self.0.raw));
        };
        reply
            .downcast()
            .map(|reply| Ended::Reply(*reply))
            .map_err(|_| {
                Error::new(
                    code::INTERNAL,
                    format!(
                        "a filter answered with a {}, the handler replies with a {}",
                        self.0.type_name,
                        type_name::<R>()
                    ),
                )
            })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.0.type_name).finish()
    }
}

/// The answer of a message before it is encoded.
pub(crate) enum Ended<R> {
    Reply(R),
    /// Bytes of a filter.
    Raw(Bytes),
}

impl<R: 'static> Ended<R> {
    fn as_any(&mut self) -> &mut dyn Any {
        match self {
            Self::Reply(reply) => reply,
            Self::Raw(body) => body,
        }
    }
}

/// What became of a message: the reply or the error, and the time the handler took.
///
/// ```
/// use nano::filter::{Context, Outcome};
///
/// fn note_failures(call: &Context<'_>, outcome: &Outcome<'_>) {
///     if let Some(error) = outcome.error() {
///         println!("{} failed after {:?}: {error}", call.route(), outcome.took());
///     }
/// }
/// ```
pub struct Outcome<'a> {
    result: Result<&'a mut dyn Any>,
    took: Cell<Took>,
}

/// How long a handler ran.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Took {
    /// It did not run.
    Nothing,
    Known(Duration),
    /// Since then, up to the first filter that asks: most ask nothing, and to read the clock takes
    /// longer than the filter itself.
    Since(Instant),
}

impl<'a> Outcome<'a> {
    /// The outcome of a result; `ended` keeps its value.
    pub(crate) fn new<R: 'static>(
        result: Result<Ended<R>>,
        ended: &'a mut Option<Ended<R>>,
        took: Took,
    ) -> Self {
        Self {
            result: result.map(|value| ended.insert(value).as_any()),
            took: Cell::new(took),
        }
    }

    pub(crate) fn failed(error: Error, took: Took) -> Self {
        Self {
            result: Err(error),
            took: Cell::new(took),
        }
    }

    /// The error, if the message fails.
    pub(crate) fn into_result<T: Default>(self) -> Result<T> {
        self.result.map(|_| T::default())
    }

    /// How long the handler ran, for an async handler with the time it waited. `None` when it did not
    /// run because a filter refused or answered the message, and when it was dropped with its node.
    pub fn took(&self) -> Option<Duration> {
        match self.took.get() {
            Took::Nothing => None,
            Took::Known(took) => Some(took),
            Took::Since(begun) => {
                let took = begun.elapsed();
                self.took.set(Took::Known(took));
                Some(took)
            }
        }
    }

    /// Why the message failed: the error of a filter or of the handler, a panic, a limit.
    pub fn error(&self) -> Option<&Error> {
        self.result.as_ref().err()
    }

    /// The reply, if it is an `R`. A handler that answers later has the reply `()`; an answer of
    /// [`Flow::raw`] is [`Bytes`].
    pub fn reply<R: 'static>(&self) -> Option<&R> {
        self.result.as_ref().ok()?.downcast_ref()
    }

    /// The reply to change before it is encoded, if it is an `R`.
    pub fn reply_mut<R: 'static>(&mut self) -> Option<&mut R> {
        self.result.as_mut().ok()?.downcast_mut()
    }

    /// Replaces the reply, or the error, with an error.
    pub fn fail(&mut self, error: Error) {
        self.result = Err(error);
    }
}

impl fmt::Debug for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("error", &self.error())
            .field("took", &self.took)
            .finish_non_exhaustive()
    }
}
