//! Spans of sampled traces: made, given their ids, and ended with an outcome.

use std::{fmt, sync::Arc};

use metrics::Counter;
use tokio::time::Instant;
use tracing::{Span, field, info_span};

use super::{
    context::{Hex, TraceContext},
    sampling::Sampling,
};
use crate::{error::Error, panic::catch_panic};

/// Sees a span that was made, with the span it is a child of, and may name it.
pub(crate) type OnSpan =
    Box<dyn Fn(&Span, Option<&TraceContext>) -> Option<TraceContext> + Send + Sync>;

/// What makes a node's spans.
pub(crate) struct Tracer {
    /// The node's address.
    pub(crate) node: String,
    pub(crate) on_span: Option<OnSpan>,
    /// Counts panics of the application's code.
    pub(crate) panics: Counter,
}

/// A span of a sampled trace, as what it causes refers to it.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) context: TraceContext,
    /// That of this node.
    tracer: Arc<Tracer>,
}

/// The message that a span is about.
pub(crate) struct Source<'a> {
    pub(crate) session: i64,
    pub(crate) user: Option<String>,
    pub(crate) route: &'a str,
    pub(crate) request: u64,
}

/// A span that has begun. Dropped without an end, its outcome is `dropped`.
///
/// Ending and dropping it run code of subscribers: never under a lock.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    span: Span,
    trace: Arc<Trace>,
    opened: Instant,
    ended: bool,
}

/// Makes a span with the fields that all have, and those given.
macro_rules! traced_span {
    ($node:expr, $name:literal, $($field:tt)*) => {
        info_span!(
            target: "nano::trace",
            parent: None,
            $name,
            node = $node.as_str(),
            trace_id = field::Empty,
            span_id = field::Empty,
            parent_id = field::Empty,
            $($field)*
        )
    };
}

impl Tracer {
    /// Begins the span of a client's message, if it is sampled. `parent` is the client's own.
    pub(crate) fn sample<'a>(
        self: &Arc<Self>,
        sampling: Sampling,
        parent: Option<&TraceContext>,
        source: impl FnOnce() -> Source<'a>,
    ) -> Option<Box<OpenSpan>> {
        let trace_id = sampling.decide(parent, rand::random)?;
        let source = source();
        let span = traced_span!(
            self.node,
            "gate",
            session = source.session,
            user = source.user.as_deref(),
            route = source.route,
            request = source.request,
            outcome = field::Empty
        );
        Some(Box::new(self.open(span, trace_id, parent)))
    }

    /// What other nodes refer to as their span is the current trace of what it causes here.
    pub(crate) fn remote(self: &Arc<Self>, context: TraceContext) -> Arc<Trace> {
        Arc::new(Trace {
            context,
            tracer: self.clone(),
        })
    }

    fn open(
        self: &Arc<Self>,
        span: Span,
        trace_id: [u8; 16],
        parent: Option<&TraceContext>,
    ) -> OpenSpan {
        let named = self.on_span.as_ref().and_then(|hook| {
            let named = catch_panic(&self.panics, "the span hook panicked", || {
                Ok(hook(&span, parent))
            });
            named.ok().flatten()
        });
        let context = named.unwrap_or_else(|| {
            let own = rand::random::<u64>().max(1).to_be_bytes();
            match parent {
                Some(parent) => parent.child(own),
                None => TraceContext::of_ids(trace_id, own),
            }
        });
        let (trace, own) = (context.trace_id(), context.span_id());
        span.record("trace_id", field::display(Hex(&trace)));
        span.record("span_id", field::display(Hex(&own)));
        if let Some(parent) = parent {
            span.record("parent_id", field::display(Hex(&parent.span_id())));
        }
        OpenSpan {
            span,
            trace: self.remote(context),
            opened: Instant::now(),
            ended: false,
        }
    }
}

impl Trace {
    /// Begins the span of a message's handler.
    pub(crate) fn handler(&self, source: &Source<'_>) -> Box<OpenSpan> {
        Box::new(self.child(traced_span!(
            self.tracer.node,
            "handler",
            session = source.session,
            user = source.user.as_deref(),
            route = source.route,
            request = source.request,
            queue_us = field::Empty,
            outcome = field::Empty
        )))
    }

    /// Begins the span of a call.
    pub(crate) fn call(&self, route: &str) -> Box<OpenSpan> {
        Box::new(self.child(traced_span!(
            self.tracer.node,
            "call",
            route,
            outcome = field::Empty
        )))
    }

    /// Begins the span of a scheduler's task.
    pub(crate) fn task(&self, scheduler: &str) -> OpenSpan {
        self.child(traced_span!(self.tracer.node, "task", scheduler))
            .without_outcome()
    }

    /// Begins the span of a timer's callback.
    pub(crate) fn timer(&self, scheduler: &str) -> OpenSpan {
        self.child(traced_span!(self.tracer.node, "timer", scheduler))
            .without_outcome()
    }

    fn child(&self, span: Span) -> OpenSpan {
        let parent = &self.context;
        self.tracer.open(span, parent.trace_id(), Some(parent))
    }
}

impl OpenSpan {
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The trace of what the span causes.
    pub(crate) fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// Notes that the handler starts `now`.
    pub(crate) fn begin(&self, now: Instant) {
        let queued = now.saturating_duration_since(self.opened);
        self.span.record("queue_us", queued.as_micros() as u64);
    }

    /// Ends the span, with an error or without.
    pub(crate) fn end(mut self, error: Option<&Error>) {
        self.ended = true;
        let outcome = error.map_or("ok", |error| error.code().as_str());
        self.span.record("outcome", outcome);
    }

    fn without_outcome(mut self) -> Self {
        self.ended = true;
        self
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if !self.ended {
            self.span.record("outcome", "dropped");
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
