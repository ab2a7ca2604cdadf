//! One call of a handler, which ends its request whatever happens.

use std::{
    future::poll_fn, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll, thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, Span, debug, info_span, warn};

use super::{erased::ErasedHandler, signature::HandlerCall};
use crate::{
    error::{Error, Result, code},
    filter::{Context, Outcome, Took},
    scheduler::Scheduler,
    serialize::Serializer,
    session::{Place, Session, Ticket},
    trace::{OpenSpan, Source, Trace, current_trace, within},
};

/// A message that waits for its scheduler, or whose handler runs.
///
/// Dropped unfinished, it answers its request with an error. Its ticket keeps the session's next
/// message waiting: until a sync or sequential handler has ended, until any other async handler is
/// first suspended.
pub(super) struct Invocation<S: Serializer> {
    pub(super) ticket: Ticket<Session<S>>,
    pub(super) handler: Arc<ErasedHandler>,
    state: State,
    /// How many filters let the message pass and wait for its outcome. With the flags it fills one word.
    pub(super) entered: u32,
    /// On a measured route, when the message arrived, and then when its handler started. Where a
    /// filter wants to know the queue time, the first alone.
    since: Option<Instant>,
    /// On a measured route, whether the handler has started and its time is not recorded yet.
    started: bool,
    /// The span of a sampled message, until it ends.
    traced: Option<Box<OpenSpan>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the queue of its scheduler, or in its first poll.
    Queued,
    /// Its future has been suspended.
    Suspended,
    /// Suspended for longer than the request timeout.
    Overdue,
    Finished,
}

impl<S: Serializer> Invocation<S> {
    /// Takes the message's place behind the session's earlier messages. The message waits since it
    /// `arrived`, or since now.
    pub(super) fn new(
        session: Session<S>,
        handler: Arc<ErasedHandler>,
        scheduler: &Scheduler,
        arrived: Option<Instant>,
    ) -> Self {
        let ticket = if handler.sequential || handler.chain.waits() {
            Ticket::exclusive(session, scheduler)
        } else {
            Ticket::new(session, scheduler)
        };
        let is_measured = handler.measured.is_some() || handler.chain.measures_queue();
        let since = is_measured.then(|| arrived.unwrap_or_else(Instant::now));
        let mut invocation = Self {
            ticket,
            handler,
            state: State::Queued,
            entered: 0,
            since,
            started: false,
            traced: None,
        };
        if let Some(trace) = current_trace() {
            invocation.traced = Some(invocation.open_span(&trace));
        }
        invocation
    }

    #[cold]
    fn open_span(&self, trace: &Trace) -> Box<OpenSpan> {
        let session = self.session();
        trace.handler(&Source {
            session: session.id(),
            user: session.logged_user(),
            route: self.handler.route(),
            request: session.request_id(),
        })
    }

    /// The trace of what the handler causes.
    pub(super) fn trace(&self) -> Option<&Arc<Trace>> {
        self.traced.as_ref().map(|traced| traced.trace())
    }

    /// The time now and how long the message has waited for its turn, where a filter wants to know.
    #[inline]
    pub(super) fn queue_time(&self) -> Option<(Instant, Duration)> {
        let since = self.since.filter(|_| self.handler.chain.measures_queue())?;
        let now = Instant::now();
        Some((now, now.saturating_duration_since(since)))
    }

    /// Ends the queue time: the handler starts `now`.
    pub(super) fn begin(&mut self, now: Instant) {
        if let (Some(measured), Some(since)) = (&self.handler.measured, &mut self.since) {
            measured
                .queue_seconds
                .record(now.saturating_duration_since(*since));
            *since = now;
            self.started = true;
        }
        if let Some(traced) = &self.traced {
            traced.begin(now);
        }
    }

    /// Records how long the handler took. The clock was read for all handlers anyway.
    fn record_handler(&mut self, took: Duration) {
        if let Some(measured) = &self.handler.measured
            && std::mem::take(&mut self.started)
        {
            measured.handler_seconds.record(took);
        }
    }

    /// Counts the end of the message, and records how long its handler took unless that was done.
    fn measure(&self, error: Option<&Error>) {
        if let Some(measured) = &self.handler.measured {
            measured.handled.count(error);
            if let Some(since) = self.since.filter(|_| self.started) {
                measured.handler_seconds.record(since.elapsed());
            }
        }
    }

    /// The place of this message in its session's order.
    pub(super) fn place(&self) -> Place {
        self.ticket.place()
    }

    /// Calls the handler and finishes the request with its encoded output.
    ///
    /// The first poll of an async handler happens here and now, each later one in a turn of the
    /// same scheduler.
    pub(super) fn run<Output, Work>(
        mut self,
        call: impl FnOnce(&Session<S>) -> HandlerCall<Output, Work>,
        encode: fn(Output) -> Result<Option<Bytes>>,
    ) where
        Output: 'static,
        Work: Future<Output = Output> + Send + 'static,
    {
        Scheduler::label_task(self.handler.label, self.session().id());
        let begun = Instant::now();
        self.begin(begun);
        let span = self.span();
        let returned = within(self.trace(), || {
            span.in_scope(|| match call(self.session()) {
                HandlerCall::Ready(output) => HandlerCall::Ready(encode(output)),
                HandlerCall::Pending(work) => HandlerCall::Pending(work),
            })
        });
        match returned {
            HandlerCall::Ready(result) => {
                let ended = Instant::now();
                let took = ended.saturating_duration_since(begun);
                let metrics = &self.handler.service.reporter.metrics;
                metrics.handler_seconds.record(took);
                self.record_handler(took);
                Scheduler::task_took(took);
                self.finish_at(result, Some(ended));
            }
            HandlerCall::Pending(work) => {
                let trace = self.trace().cloned();
                Self::start((span, trace), async move {
                    let work = async move { encode(work.await) };
                    let result = self.drive(begun, None, work).await;
                    self.finish(result.and_then(|encoded| encoded));
                });
            }
        }
    }

    /// Starts the task of a message whose handler or filters wait. The first poll happens here and
    /// now.
    pub(super) fn start(
        (span, trace): (Span, Option<Arc<Trace>>),
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        // Outside of a scheduler nothing could poll the rest: the drop answers the request.
        if let Some(scheduler) = Scheduler::current() {
            within(trace.as_ref(), || scheduler.start(task.instrument(span)));
        }
    }

    /// Polls the future of an async handler to its end, or until it has run for `limit`.
    ///
    /// After the first suspension a timer runs. At the request timeout it logs a handler that still
    /// runs, and it keeps a future alive that nothing else could wake, so that its request ends with
    /// a timeout and not earlier.
    ///
    /// # Errors
    /// [`code::TIMEOUT`] at the limit or the caller's deadline, [`code::CLOSED`] when the handler is cancelled,
    /// [`code::INTERNAL`] for a panic.
    pub(super) async fn drive<T>(
        &mut self,
        begun: Instant,
        limit: Option<Duration>,
        work: impl Future<Output = T> + Send,
    ) -> Result<T> {
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        let after = |time: Option<Duration>| time.and_then(|time| begun.checked_add(time));
        let limit = after(limit);
        let overdue = after(self.handler.service.reporter.request_timeout);
        let mut timer = pin!(limit.into_iter().chain(overdue).min().map(sleep_until));
        let mut cancelled = self
            .handler
            .cancellable
            .then(|| Box::pin(self.session().cancelled()));
        poll_fn(|cx| {
            Scheduler::label_task(self.handler.label, self.session().id());
            if let Some(cancelled) = &mut cancelled
                && cancelled.as_mut().poll(cx).is_ready()
            {
                // At its deadline a caller may still wait for a moment.
                let deadline = self.session().deadline();
                let code = match deadline.is_some_and(|at| at <= Instant::now()) {
                    true => code::TIMEOUT,
                    false => code::CLOSED,
                };
                let text = "the caller no longer waits for the answer";
                return Poll::Ready(Err(Error::new(code, text)));
            }
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|_| self.panicked()));
            }
            self.suspend();
            while (self.state == State::Suspended || limit.is_some())
                && let Some(mut timer) = timer.as_mut().as_pin_mut()
                && timer.as_mut().poll(cx).is_ready()
            {
                if limit.is_some_and(|limit| limit <= timer.deadline()) {
                    let error = Error::new(code::TIMEOUT, "the handler took too long");
                    return Poll::Ready(Err(error));
                }
                self.warn_overdue(begun);
                if let Some(limit) = limit {
                    timer.reset(limit);
                }
            }
            Poll::Pending
        })
        .await
    }

    fn suspend(&mut self) {
        if self.state == State::Queued {
            self.state = State::Suspended;
            if !self.handler.sequential {
                self.ticket.suspend();
            }
        }
    }

    fn warn_overdue(&mut self, begun: Instant) {
        self.state = State::Overdue;
        let session = self.session();
        warn!(
            session = session.id(),
            user = session.logged_user(),
            route = self.handler.route(),
            request = session.request_id(),
            running_ms = begun.elapsed().as_millis(),
            "handler still running"
        );
    }

    /// Runs `after` of the filters that let the message pass.
    pub(super) fn leave(&mut self, outcome: &mut Outcome<'_>) {
        if self.entered == 0 {
            return;
        }
        let session = self.ticket.session().typed();
        let call = Context::new(&session, self.handler.route());
        let panics = &self.handler.service.reporter.metrics.panics;
        let chain = &self.handler.chain;
        chain.leave_caught(&mut self.entered, &call, outcome, panics);
    }

    pub(super) fn finish(&mut self, result: Result<Option<Bytes>>) {
        self.finish_at(result, None);
    }

    /// [`finish`](Self::finish), for callers who may know what time it is.
    fn finish_at(&mut self, result: Result<Option<Bytes>>, now: Option<Instant>) {
        self.state = State::Finished;
        self.measure(result.as_ref().err());
        if let Some(traced) = self.traced.take() {
            traced.end(result.as_ref().err());
        }
        let session = self.ticket.session();
        let (route, request) = (self.handler.route(), session.request_id());
        match result {
            // The handler answered, or will answer, itself.
            Ok(None) => {}
            // As in Go nano, the return value of a notify's handler is dropped.
            Ok(Some(_)) if request == 0 => {}
            Ok(Some(body)) => {
                if let Err(error) = session.answer_at(Ok(body), now) {
                    debug!(session = session.id(), user = session.logged_user(), route, request, %error, "reply dropped");
                }
            }
            Err(error) => {
                let reporter = &self.handler.service.reporter;
                reporter.fail(&session.typed(), route, error, Some(S::encode_error));
            }
        }
    }

    pub(super) fn panicked(&self) -> Error {
        self.handler.service.reporter.metrics.panics.increment(1);
        handler_panicked()
    }

    pub(super) fn session(&self) -> &Session<S> {
        self.ticket.session()
    }

    /// The span of the handler's own log lines.
    ///
    /// A target of its own lets an operator switch it off: `RUST_LOG=info,nano::message=off`.
    /// When disabled it costs one atomic load. That of a sampled message is `nano::trace`.
    pub(super) fn span(&self) -> Span {
        if let Some(traced) = &self.traced {
            return traced.span().clone();
        }
        info_span!(
            target: "nano::message",
            "message",
            session = self.session().id(),
            user = self.session().logged_user(),
            route = self.handler.route(),
            request = self.session().request_id()
        )
    }
}

fn handler_panicked() -> Error {
    Error::new(code::INTERNAL, "the handler panicked")
}

impl<S: Serializer> Drop for Invocation<S> {
    fn drop(&mut self) {
        if self.state != State::Finished {
            let error = if thread::panicking() {
                // The scheduler counts it.
                handler_panicked()
            } else {
                self.state.dropped()
            };
            let mut outcome = Outcome::failed(error, Took::Nothing);
            self.leave(&mut outcome);
            self.finish(outcome.into_result());
        }
        // The ticket is released after this, when the fields drop.
        self.session().sink().done();
    }
}

impl State {
    /// The error of an invocation that was dropped in this state.
    fn dropped(self) -> Error {
        match self {
            Self::Overdue => Error::new(code::TIMEOUT, "the request timed out"),
            Self::Suspended => Error::new(
                code::UNAVAILABLE,
                "the node dropped the handler before it had ended",
            ),
            Self::Queued | Self::Finished => Error::new(
                code::UNAVAILABLE,
                "the node dropped the message before it was handled",
            ),
        }
    }
}
