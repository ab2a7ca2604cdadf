//! Spans of sampled traces: made, given their ids, and ended with an outcome.

use std::{fmt, sync::Arc};

use metrics::Counter;
use tokio::time::Instant;
use tracing::{Span, Value, field, info_span};

use super::{
    context::{Hex, TraceContext},
    sampling::{Gap, Sampling},
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
    /// The session whose message this is about, if this node knows.
    session: Option<i64>,
}

/// The message that a span is about.
pub(crate) struct Source<'a> {
    pub(crate) session: i64,
    pub(crate) user: Option<Box<dyn Value>>,
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

/// The identity of a span that is about to begin.
struct Ids<'a> {
    /// `None` if the application's hook may choose it, which sees the span first.
    own: Option<TraceContext>,
    trace_id: [u8; 16],
    parent: Option<&'a TraceContext>,
}

impl Ids<'_> {
    fn chosen(&self) -> TraceContext {
        let own = rand::random::<u64>().max(1).to_be_bytes();
        match self.parent {
            Some(parent) => parent.child(own),
            None => TraceContext::of_ids(self.trace_id, own),
        }
    }
}

/// Makes a span with the fields that all have, and those given. The ids are among them from the
/// beginning if they are known: a subscriber looks at its filters and fields again for each that is
/// recorded later.
macro_rules! traced_span {
    ($tracer:expr, $ids:expr, $name:literal, $($field:tt)*) => {{
        let own = $ids.own.as_ref();
        info_span!(
            target: "nano::trace",
            parent: None,
            $name,
            node = $tracer.node.as_str(),
            trace_id = own.map(|own| field::display(Hex(own.trace_id()))),
            span_id = own.map(|own| field::display(Hex(own.span_id()))),
            parent_id = $ids.parent.map(|parent| field::display(Hex(parent.span_id()))),
            $($field)*
        )
    }};
}

impl Tracer {
    /// Begins the span of a client's message, if it is sampled. `parent` is the client's own; `gap` is of
    /// clients that name none.
    #[inline]
    pub(crate) fn sample<'a>(
        self: &Arc<Self>,
        sampling: Sampling,
        parent: Option<&TraceContext>,
        gap: &mut Gap,
        source: impl FnOnce() -> Source<'a>,
    ) -> Option<Box<OpenSpan>> {
        let sampled = match parent {
            Some(parent) => sampling.includes(parent),
            None => gap.ends(sampling, || 1.0 - rand::random::<f64>()),
        };
        sampled.then(|| self.begin(sampling, parent, &source()))
    }

    /// Apart from the decision, which is made for every message.
    #[cold]
    fn begin(
        self: &Arc<Self>,
        sampling: Sampling,
        parent: Option<&TraceContext>,
        source: &Source<'_>,
    ) -> Box<OpenSpan> {
        let trace_id = match parent {
            Some(parent) => parent.trace_id(),
            None => sampling.begin(rand::random),
        };
        let ids = self.ids(trace_id, parent);
        let span = traced_span!(
            self,
            ids,
            "gate",
            session = source.session,
            user = source.user.as_deref(),
            route = source.route,
            request = source.request,
            outcome = field::Empty
        );
        Box::new(self.open(span, ids, Some(source.session)))
    }

    /// What other nodes refer to as their span is the current trace of what it causes here.
    pub(crate) fn remote(self: &Arc<Self>, context: TraceContext) -> Arc<Trace> {
        self.trace(context, None)
    }

    fn trace(self: &Arc<Self>, context: TraceContext, session: Option<i64>) -> Arc<Trace> {
        Arc::new(Trace {
            context,
            tracer: self.clone(),
            session,
        })
    }

    fn ids<'a>(&self, trace_id: [u8; 16], parent: Option<&'a TraceContext>) -> Ids<'a> {
        let mut ids = Ids {
            own: None,
            trace_id,
            parent,
        };
        if self.on_span.is_none() {
            ids.own = Some(ids.chosen());
        }
        ids
    }

    fn open(self: &Arc<Self>, span: Span, mut ids: Ids<'_>, session: Option<i64>) -> OpenSpan {
        let context = ids.own.take().unwrap_or_else(|| {
            let named = self.on_span.as_ref().and_then(|hook| {
                let named = catch_panic(&self.panics, "the span hook panicked", || {
                    Ok(hook(&span, ids.parent))
                });
                named.ok().flatten()
            });
            let context = named.unwrap_or_else(|| ids.chosen());
            span.record("trace_id", field::display(Hex(context.trace_id())));
            span.record("span_id", field::display(Hex(context.span_id())));
            context
        });
        OpenSpan {
            span,
            trace: self.trace(context, session),
            opened: Instant::now(),
            ended: false,
        }
    }
}

impl Trace {
    /// Begins the span of a message's handler.
    pub(crate) fn handler(&self, source: &Source<'_>) -> Box<OpenSpan> {
        let ids = self.ids();
        let span = traced_span!(
            self.tracer,
            ids,
            "handler",
            session = source.session,
            user = source.user.as_deref(),
            route = source.route,
            request = source.request,
            queue_us = field::Empty,
            outcome = field::Empty
        );
        Box::new(self.tracer.open(span, ids, Some(source.session)))
    }

    /// Begins the span of a call.
    pub(crate) fn call(&self, route: &str) -> Box<OpenSpan> {
        let ids = self.ids();
        let session = self.session;
        let span = traced_span!(
            self.tracer,
            ids,
            "call",
            session,
            route,
            outcome = field::Empty
        );
        Box::new(self.tracer.open(span, ids, session))
    }

    /// Begins the span of a scheduler's task.
    pub(crate) fn task(&self, scheduler: &str) -> OpenSpan {
        let ids = self.ids();
        let session = self.session;
        let span = traced_span!(self.tracer, ids, "task", session, scheduler);
        self.tracer.open(span, ids, session).without_outcome()
    }

    /// Begins the span of a timer's callback.
    pub(crate) fn timer(&self, scheduler: &str) -> OpenSpan {
        let ids = self.ids();
        let session = self.session;
        let span = traced_span!(self.tracer, ids, "timer", session, scheduler);
        self.tracer.open(span, ids, session).without_outcome()
    }

    fn ids(&self) -> Ids<'_> {
        let parent = &self.context;
        self.tracer.ids(parent.trace_id(), Some(parent))
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
