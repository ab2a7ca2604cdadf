//! One message on its way through its handler: whatever happens, its request ends and its session's
//! next message goes on.

use std::{
    fmt, future::poll_fn, marker::PhantomData, panic::AssertUnwindSafe, pin::pin, sync::Arc, thread,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, debug_span};

use super::{service::Setup, signature::Called};
use crate::{
    error::{Error, Result, code},
    scheduler::Scheduler,
    serialize::Serializer,
    session::{Place, Session, Ticket},
};

/// A handler together with its component: one route.
pub struct BoundHandler<C, S, F, H, Shape> {
    pub(super) route: String,
    pub(super) setup: Arc<Setup>,
    pub(super) component: Arc<C>,
    pub(super) handler: H,
    pub(super) session: PhantomData<fn() -> S>,
    pub(super) format: PhantomData<fn() -> F>,
    pub(super) shape: PhantomData<fn() -> Shape>,
}

impl<C, S, F, H, Shape> fmt::Debug for BoundHandler<C, S, F, H, Shape> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundHandler")
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

/// A message that waits for its scheduler, or runs on it. Dropped at any point before it has
/// finished it answers its request with an error.
pub(super) struct Invocation<C, S: Serializer, F, H, Shape> {
    /// The session, and the message's place in its order.
    ticket: Ticket<Session<S>>,
    bound: Arc<BoundHandler<C, S, F, H, Shape>>,
    finished: bool,
}

impl<C, S: Serializer, F, H, Shape> Invocation<C, S, F, H, Shape> {
    pub(super) fn new(
        ticket: Ticket<Session<S>>,
        bound: Arc<BoundHandler<C, S, F, H, Shape>>,
    ) -> Self {
        Self {
            ticket,
            bound,
            finished: false,
        }
    }

    /// The place of this message in its session's order.
    pub(super) fn place(&self) -> Place {
        self.ticket.place()
    }

    fn session(&self) -> &Session<S> {
        self.ticket.session()
    }

    /// Runs the handler. One that waits has its first part here and now, the rest as later turns of
    /// the same scheduler; the session's next message starts when it has been suspended for the
    /// first time.
    pub(super) fn run<Output, Work>(
        mut self,
        handler: impl FnOnce(&BoundHandler<C, S, F, H, Shape>, &Session<S>) -> Called<Output, Work>,
        encode: impl FnOnce(Output) -> Result<Option<Bytes>> + Send + 'static,
    ) where
        Work: Future<Output = Output> + Send + 'static,
        Self: Send + 'static,
    {
        let begun = Instant::now();
        let span = self.span();
        let returned = span.in_scope(|| match handler(&self.bound, self.session()) {
            Called::Returned(output) => Called::Returned(encode(output)),
            Called::Waits(work) => Called::Waits(async move { encode(work.await) }),
        });
        match returned {
            Called::Returned(result) => {
                self.bound
                    .setup
                    .reporter
                    .metrics
                    .handler_seconds
                    .record(begun.elapsed());
                self.finish(result);
            }
            Called::Waits(work) => self.start(span, work),
        }
    }

    fn start(
        mut self,
        span: Span,
        work: impl Future<Output = Result<Option<Bytes>>> + Send + 'static,
    ) where
        Self: Send + 'static,
    {
        let work = async move {
            let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
            // The first poll that is pending lets the session's next message start.
            let result = poll_fn(|cx| {
                let poll = work.as_mut().poll(cx);
                if poll.is_pending() {
                    self.ticket.suspend();
                }
                poll
            });
            let result = result.await;
            self.finish(result.unwrap_or_else(|_| Err(self.panicked())));
        };
        // Outside of a scheduler nothing could run the rest: dropping it answers the request.
        if let Some(scheduler) = Scheduler::current() {
            scheduler.start(work.instrument(span));
        }
    }

    fn finish(&mut self, result: Result<Option<Bytes>>) {
        self.finished = true;
        let session = self.ticket.session();
        let request = session.request_id();
        match result {
            Ok(None) => {}
            // As in nano, whatever the handler of a notify returns goes nowhere.
            Ok(Some(_)) if request == 0 => {}
            Ok(Some(body)) => {
                if let Err(error) = session.answer(Ok(body)) {
                    debug!(session = session.id(), uid = session.uid(), route = self.bound.route, request, %error, "reply dropped");
                }
            }
            Err(error) => {
                self.bound
                    .setup
                    .reporter
                    .fail(&session.typed(), &self.bound.route, error)
            }
        }
    }

    fn panicked(&self) -> Error {
        self.bound.setup.reporter.metrics.panics.increment(1);
        Error::new(code::INTERNAL, "the handler panicked")
    }

    fn span(&self) -> Span {
        debug_span!(
            "message",
            session = self.session().id(),
            uid = self.session().uid(),
            route = self.bound.route,
            request = self.session().request_id()
        )
    }
}

impl<C, S: Serializer, F, H, Shape> Drop for Invocation<C, S, F, H, Shape> {
    fn drop(&mut self) {
        if !self.finished {
            let error = if thread::panicking() {
                self.panicked()
            } else {
                Error::new(
                    code::UNAVAILABLE,
                    "the node dropped the message before it was handled",
                )
            };
            self.finish(Err(error));
        }
        // The ticket is released after this, as it drops.
        self.session().sink().done();
    }
}
