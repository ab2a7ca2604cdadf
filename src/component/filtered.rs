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
    filter::{Context, Ended, Flow, Outcome},
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
    /// Since when it waits for its turn, if a filter wants to know.
    queued: Option<Instant>,
}

/// What the filters decided, and how long the handler may run.
type Entered = (Result<Flow>, Option<Duration>);

impl<S: Serializer, M: Send + 'static> FilteredCall<S, M> {
    pub(super) fn new(invocation: Invocation<S>, message: M) -> Self {
        let queued = invocation.handler.chain.measures_queue();
        Self {
            invocation,
            message,
            queued: queued.then(Instant::now),
        }
    }

    /// Runs the filters and the handler, and finishes the request with the encoded reply.
    ///
    /// Without anything that waits, all of it happens here and now.
    pub(super) fn run<R, Output, Work>(
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
        if self.invocation.handler.chain.waits() {
            let task = async move {
                let (flow, limit) = self.enter_waiting().await;
                let Self {
                    mut invocation,
                    message,
                    ..
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
            return Invocation::<S>::start((span, trace), task);
        }
        Scheduler::label_task(self.invocation.handler.label);
        let (flow, limit) = within(trace.as_ref(), || span.in_scope(|| self.enter()));
        let Self {
            mut invocation,
            message,
            ..
        } = self;
        if let Err(result) = passed(flow) {
            return invocation.refuse(result, encode);
        }
        let begun = Instant::now();
        invocation.begin(begun);
        let called = within(trace.as_ref(), || {
            span.in_scope(|| invocation.call(message, call, reply))
        });
        match called {
            Ok(HandlerCall::Ready(result)) => invocation.returned(result, begun, encode),
            Ok(HandlerCall::Pending(work)) => Invocation::<S>::start((span, trace), async move {
                let result = invocation.drive(begun, limit, work).await;
                invocation.complete(result.and_then(reply), begun, encode);
            }),
            Err(error) => invocation.complete(Err(error), begun, encode),
        }
    }

    fn enter(&mut self) -> Entered {
        let (invocation, message) = (&mut self.invocation, &mut self.message);
        let session = invocation.ticket.session().typed();
        let handler = &invocation.handler;
        let mut call = context(&session, handler.route(), message, self.queued);
        let panics = &handler.service.reporter.metrics.panics;
        let chain = &handler.chain;
        let flow = chain.enter(&mut invocation.entered, &mut call, panics);
        (flow, call.time_limit())
    }

    /// [`enter`](FilteredCall::enter) for filters that wait, at most for the request timeout.
    async fn enter_waiting(&mut self) -> Entered {
        let (invocation, message) = (&mut self.invocation, &mut self.message);
        let session = invocation.ticket.session().typed();
        let handler = &invocation.handler;
        let mut call = context(&session, handler.route(), message, self.queued);
        let reporter = &handler.service.reporter;
        let flow = {
            let entered = &mut invocation.entered;
            let chain = &handler.chain;
            let enter = chain.enter_waiting(entered, &mut call, &reporter.metrics.panics);
            let mut enter = pin!(enter);
            let labelled = poll_fn(|cx| {
                Scheduler::label_task(handler.label);
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

fn context<'a>(
    session: &'a Session,
    route: &'a str,
    message: &'a mut (dyn Any + Send),
    queued: Option<Instant>,
) -> Context<'a> {
    Context::new(session, route).with_message(message, queued.map(|queued| queued.elapsed()))
}

/// The end of a message that does not reach its handler is the error.
fn passed(flow: Result<Flow>) -> Result<(), Result<Flow>> {
    match flow {
        Ok(Flow::Continue) => Ok(()),
        ended => Err(ended),
    }
}

impl<S: Serializer> Invocation<S> {
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
        self.end(result, None, encode);
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
        self.end(result.map(Ended::Reply), Some(took), encode);
    }

    /// Ends a message whose handler ran since `begun`.
    fn complete<R: 'static>(
        self,
        result: Result<R>,
        begun: Instant,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) {
        self.end(result.map(Ended::Reply), Some(begun.elapsed()), encode);
    }

    /// Runs `after` of the filters, and finishes the request.
    fn end<R: 'static>(
        mut self,
        result: Result<Ended<R>>,
        took: Option<Duration>,
        encode: fn(&R) -> Result<Option<Bytes>>,
    ) {
        let mut ended = None;
        let mut outcome = match result {
            Ok(value) => Outcome::of(ended.insert(value), took),
            Err(error) => Outcome::failed(error, took),
        };
        self.leave(&mut outcome);
        let result = outcome.into_result().and_then(|()| match ended {
            Some(Ended::Reply(reply)) => encode(&reply),
            Some(Ended::Raw(body)) => Ok(Some(body)),
            None => Ok(None),
        });
        self.finish(result);
    }
}
