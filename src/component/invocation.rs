//! One message on its way through its handler: whatever happens, its request ends and its session's
//! next message goes on.

use std::{fmt, marker::PhantomData, panic::AssertUnwindSafe, sync::Arc, thread};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, debug_span};

use super::{service::Setup, signature::Called};
use crate::{
    error::{Error, Result, code},
    scheduler::Scheduler,
    serialize::Serializer,
    session::{Session, SessionInner},
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
    session: Session<S>,
    bound: Arc<BoundHandler<C, S, F, H, Shape>>,
    finished: bool,
    /// Whether the session's next message still waits for this one. If not it counts as unfinished
    /// until it ends.
    in_lane: bool,
}

impl<C, S: Serializer, F, H, Shape> Invocation<C, S, F, H, Shape> {
    pub(super) fn new(session: Session<S>, bound: Arc<BoundHandler<C, S, F, H, Shape>>) -> Self {
        Self {
            session,
            bound,
            finished: false,
            in_lane: true,
        }
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
        let returned = span.in_scope(|| match handler(&self.bound, &self.session) {
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
        let core = self.session.core().clone();
        core.sequencer.begin();
        self.in_lane = false;
        let _lane = InLane(&core);
        let work = async move {
            let result = AssertUnwindSafe(work).catch_unwind().await;
            self.finish(result.unwrap_or_else(|_| Err(self.panicked())));
        };
        // Without one there is nobody to run it: dropping it answers.
        if let Some(scheduler) = Scheduler::current() {
            scheduler.start(work.instrument(span));
        }
    }

    fn finish(&mut self, result: Result<Option<Bytes>>) {
        self.finished = true;
        let request = self.session.request_id();
        match result {
            Ok(None) => {}
            // As in nano, whatever the handler of a notify returns goes nowhere.
            Ok(Some(_)) if request == 0 => {}
            Ok(Some(body)) => {
                if let Err(error) = self.session.answer(Ok(body)) {
                    debug!(session = self.session.id(), uid = self.session.uid(), route = self.bound.route, request, %error, "reply dropped");
                }
            }
            Err(error) => {
                self.bound
                    .setup
                    .reporter
                    .fail(&self.session.typed(), &self.bound.route, error)
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
            session = self.session.id(),
            uid = self.session.uid(),
            route = self.bound.route,
            request = self.session.request_id()
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
        let core = self.session.core();
        if self.in_lane {
            core.sequencer.done()
        } else {
            core.sequencer.end()
        }
        core.sink.done();
    }
}

/// A place in a session's sequencer that is given up even if the handler panics.
struct InLane<'a>(&'a SessionInner);

impl Drop for InLane<'_> {
    fn drop(&mut self) {
        self.0.sequencer.done();
    }
}
