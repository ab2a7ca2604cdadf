//! One call of a handler that has filters.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{invocation::Invocation, signature::HandlerCall};
use crate::{
    error::{Error, Result, code},
    filter::{Chain, Context, Ended, Flow, Outcome, Took},
    metrics::Refusal,
    scheduler::Scheduler,
    serialize::Serializer,
    session::Session,
    trace::within,
};

/// A message for a handler that has filters.
pub(super) struct FilteredCall<S: Serializer, M> {
    invocation: Invocation<S>,
    message: M,
}

/// What the filters decided, and how long the handler may run.
type Entered = (Result<Flow>, Option<Duration>);

impl<S: Serializer, M: Send + 'static> FilteredCall<S, M> {
    pub(super) fn new(invocation: Invocation<S>, message: M) -> Self {
        Self {
            invocation,
            message,
        }
    }

    /// Runs the filters and the handler, and finishes the request with the encoded reply.
    ///
    /// Without anything that waits, all of it happens here and now, in the order of [`Stage`].
    pub(super) fn run<R, Output, Work>(
        self,
        call: impl FnOnce(&Session<S>, M) -> HandlerCall<Output, Work> + Send + 'static,
        reply: fn(Output) -> Result<R>,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) where
        R: 'static,
        Output: 'static,
        Work: Future<Output = Output> + Send + 'static,
    {
        if self.invocation.handler.chain.waits() {
            return self.run_waiting(call, reply, encode);
        }
        let Self {
            mut invocation,
            message,
        } = self;
        Scheduler::label_task(invocation.handler.label, invocation.session().id());
        let span = invocation.span();
        let trace = invocation.trace().cloned();
        let mut stage = Stage::Before;
        let run = || invocation.run_filtered(&mut stage, message, call, reply, encode);
        let run = || within(trace.as_ref(), || span.in_scope(run));
        // One for filters, handler and encoding: each takes 130 instructions.
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Progress::Ended(result)) => invocation.finish(result),
            Ok(Progress::Pending { work, begun, limit }) => {
                Invocation::<S>::start((span, trace), async move {
                    let result = invocation.drive(begun, limit, work).await;
                    invocation.complete(result.and_then(reply), begun, encode);
                });
            }
            Err(_) => invocation.panicked_in(stage),
        }
    }

    /// [`run`](FilteredCall::run) with filters that may wait.
    fn run_waiting<R, Output, Work>(
        mut self,
        call: impl FnOnce(&Session<S>, M) -> HandlerCall<Output, Work> + Send + 'static,
        reply: fn(Output) -> Result<R>,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) where
        R: 'static,
        Output: 'static,
        Work: Future<Output = Output> + Send + 'static,
    {
        let span = self.invocation.span();
        let trace = self.invocation.trace().cloned();
        let task = async move {
            let (flow, limit) = self.enter_waiting().await;
            let Self {
                mut invocation,
                message,
            } = self;
            if let Err(result) = passed(flow) {
                return invocation.refuse(result, encode);
            }
            let begun = Instant::now();
            invocation.begin(begun);
            let work = match invocation.call(message, call, reply) {
                Ok(HandlerCall::Pending(work)) => work,
                Ok(HandlerCall::Ready(result)) => {
                    return invocation.returned(result, begun, encode);
                }
                Err(error) => return invocation.complete(Err(error), begun, encode),
            };
            let result = invocation.drive(begun, limit, work).await;
            invocation.complete(result.and_then(reply), begun, encode);
        };
        Invocation::<S>::start((span, trace), task);
    }

    /// Runs `before` of the filters, which wait for the request timeout at most.
    async fn enter_waiting(&mut self) -> Entered {
        let (invocation, message) = (&mut self.invocation, &mut self.message);
        let mut copy = None;
        let session = invocation.ticket.session().in_default_format(&mut copy);
        let handler = &invocation.handler;
        let queue_time = invocation.queue_time().map(|(_, waited)| waited);
        let mut call = context(session, handler.route(), message, queue_time);
        let reporter = &handler.service.reporter;
        let flow = {
            let entered = &mut invocation.entered;
            let chain = &handler.chain;
            let enter = chain.enter_waiting(entered, &mut call, &reporter.metrics.panics);
            let mut enter = pin!(enter);
            let id = session.id();
            let labelled = poll_fn(|cx| {
                Scheduler::label_task(handler.label, id);
                enter.as_mut().poll(cx)
            });
            let timeout = reporter.request_timeout;
            match timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
                Some(deadline) => timeout_at(deadline, labelled)
                    .await
                    .unwrap_or_else(|_| Err(Error::new(code::TIMEOUT, "a filter took too long"))),
                None => labelled.await,
            }
        };
        (flow, call.time_limit())
    }
}

#[inline]
fn context<'a>(
    session: &'a Session,
    route: &'a str,
    message: &'a mut (dyn Any + Send),
    queue_time: Option<Duration>,
) -> Context<'a> {
    Context::new(session, route).with_message(message, queue_time)
}

/// How far a message without anything that waits has come: what has panicked if it goes no further.
#[derive(Clone, Copy)]
enum Stage {
    /// `before` of the filters.
    Before,
    /// The handler, since then.
    Handler(Instant),
    /// `after` of the filters. The time is that of the handler.
    After(Took),
    /// The reply is encoded.
    Encode,
}

/// What became of a message whose filters and handler were called.
enum Progress<Work> {
    Ended(Result<Option<Bytes>>),
    /// An async handler runs since `begun`, for `limit` at most.
    Pending {
        work: Work,
        begun: Instant,
        limit: Option<Duration>,
    },
}

/// The end of a message that does not reach its handler is the error.
fn passed(flow: Result<Flow>) -> Result<(), Result<Flow>> {
    match flow {
        Ok(Flow::Continue) => Ok(()),
        ended => Err(ended),
    }
}

impl<S: Serializer> Invocation<S> {
    /// Calls the filters and the handler, and encodes the reply. Panics with any of them; `stage` says
    /// with which.
    fn run_filtered<M: Send + 'static, R: 'static, Output, Work>(
        &mut self,
        stage: &mut Stage,
        mut message: M,
        call: impl FnOnce(&Session<S>, M) -> HandlerCall<Output, Work>,
        reply: fn(Output) -> Result<R>,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) -> Progress<Work> {
        // One copy, if its format needs one, for all filters.
        let mut copy = None;
        let (entering, queue_time) = self.queue_time().unzip();
        let (flow, limit) = {
            let session = self.ticket.session().in_default_format(&mut copy);
            let handler = &self.handler;
            let mut call = context(session, handler.route(), &mut message, queue_time);
            let flow = handler.chain.enter(&mut self.entered, &mut call);
            (flow, call.time_limit())
        };
        let (result, took) = match flow {
            Ok(Flow::Continue) => {
                // What one filter takes is less than what it takes to read the clock again.
                let begun = entering
                    .filter(|_| self.handler.chain.is_single())
                    .unwrap_or_else(Instant::now);
                *stage = Stage::Handler(begun);
                self.begin(begun);
                let output = match call(self.session(), message) {
                    HandlerCall::Ready(output) => output,
                    HandlerCall::Pending(work) => {
                        return Progress::Pending { work, begun, limit };
                    }
                };
                let result = reply(output).map(Ended::Reply);
                let took = begun.elapsed();
                let metrics = &self.handler.service.reporter.metrics;
                metrics.handler_seconds.record(took);
                (result, Took::Known(took))
            }
            Ok(Flow::Answer(answer)) => (answer.for_handler(), Took::Nothing),
            Err(error) => {
                let metrics = &self.handler.service.reporter.metrics;
                metrics.refused.count(Refusal::Filter);
                (Err(error), Took::Nothing)
            }
        };
        *stage = Stage::After(took);
        let mut ended = None;
        let mut outcome = Outcome::new(result, &mut ended, took);
        let session = self.ticket.session().in_default_format(&mut copy);
        let call = Context::new(session, self.handler.route());
        let chain = &self.handler.chain;
        chain.leave(&mut self.entered, &call, &mut outcome);
        *stage = Stage::Encode;
        let failed = outcome.into_result();
        Progress::Ended(failed.and_then(|()| encoded(ended, encode)))
    }

    /// Ends a message of which something panicked.
    #[cold]
    fn panicked_in(mut self, stage: Stage) {
        let (error, took) = match stage {
            Stage::Before => {
                let metrics = &self.handler.service.reporter.metrics;
                metrics.refused.count(Refusal::Filter);
                (self.filter_panicked(), Took::Nothing)
            }
            Stage::Handler(begun) => (self.panicked(), Took::Known(begun.elapsed())),
            Stage::After(took) => (self.filter_panicked(), took),
            Stage::Encode => (self.panicked(), Took::Nothing),
        };
        let mut outcome = Outcome::failed(error, took);
        self.leave(&mut outcome);
        self.finish(outcome.into_result());
    }

    fn filter_panicked(&self) -> Error {
        Chain::panicked(&self.handler.service.reporter.metrics.panics)
    }

    /// Calls the handler.
    ///
    /// # Errors
    /// It panicked.
    fn call<M, R, Output, Work>(
        &mut self,
        message: M,
        call: impl FnOnce(&Session<S>, M) -> HandlerCall<Output, Work>,
        reply: fn(Output) -> Result<R>,
    ) -> Result<HandlerCall<Result<R>, Work>> {
        let call = || match call(self.session(), message) {
            HandlerCall::Ready(output) => HandlerCall::Ready(reply(output)),
            HandlerCall::Pending(work) => HandlerCall::Pending(work),
        };
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| self.panicked())
    }

    /// Ends a message that a filter refused or answered.
    fn refuse<R: 'static>(self, flow: Result<Flow>, encode: fn(&R) -> Result<Option<Bytes>>) {
        let result = match flow {
            Ok(Flow::Answer(answer)) => answer.for_handler(),
            Ok(Flow::Continue) => return,
            Err(error) => {
                let metrics = &self.handler.service.reporter.metrics;
                metrics.refused.count(Refusal::Filter);
                Err(error)
            }
        };
        self.end(result, Took::Nothing, encode);
    }

    /// Ends a message whose sync handler has returned.
    fn returned<R: 'static>(
        self,
        result: Result<R>,
        begun: Instant,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) {
        let took = begun.elapsed();
        let metrics = &self.handler.service.reporter.metrics;
        metrics.handler_seconds.record(took);
        self.end(result.map(Ended::Reply), Took::Known(took), encode);
    }

    /// Ends a message whose handler ran since `begun`.
    fn complete<R: 'static>(
        self,
        result: Result<R>,
        begun: Instant,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) {
        self.end(result.map(Ended::Reply), Took::Since(begun), encode);
    }

    /// Runs `after` of the filters, and finishes the request.
    fn end<R: 'static>(
        mut self,
        result: Result<Ended<R>>,
        took: Took,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) {
        let mut ended = None;
        let mut outcome = Outcome::new(result, &mut ended, took);
        self.leave(&mut outcome);
        let failed = outcome.into_result();
        self.finish(failed.and_then(|()| encoded(ended, encode)));
    }
}

/// The body of an answer; `None` without a reply.
fn encoded<R>(
    ended: Option<Ended<R>>,
    encode: fn(&R) -> Result<Option<Bytes>>,
) -> Result<Option<Bytes>> {
    match ended {
        Some(Ended::Reply(reply)) => encode(&reply),
        Some(Ended::Raw(body)) => Ok(Some(body)),
        None => Ok(None),
    }
}
