//! Which messages are traced.

use std::fmt;

use tracing::Span;

use crate::trace::{OnSpan, Sampling, TraceContext};

/// Which messages of clients a gate samples, and what names their spans. See
/// [`trace`](crate::trace).
///
/// ```
/// use nano::{App, Traces};
///
/// let app = App::new().traces(Traces::new().ratio(0.01));
/// # let _ = app;
/// ```
#[must_use = "has no effect until it is given to `App::traces`"]
pub struct Traces {
    ratio: f64,
    follow_parent: bool,
    pub(super) on_span: Option<OnSpan>,
}

impl Traces {
    /// No message is sampled. Messages that another node has sampled have spans here anyway.
    pub fn new() -> Self {
        Self {
            ratio: 0.0,
            follow_parent: false,
            on_span: None,
        }
    }

    /// The part of all traces that is sampled, from 0 to 1; 0 unless set.
    ///
    /// Each message of a client begins a trace of its own, unless the client brings one: then its
    /// messages are all sampled, or none is. OpenTelemetry's sampler by ratio decides alike.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Whether the sampled flag of a client's own trace decides, instead of the ratio; off unless
    /// set.
    ///
    /// With it every client can have all its messages sampled: for gates whose clients are trusted,
    /// or behind a proxy that sets the header.
    pub fn follow_parent(mut self, follow: bool) -> Self {
        self.follow_parent = follow;
        self
    }

    /// Names the spans of this node, for tracing systems that choose ids themselves.
    ///
    /// The hook sees each span when it was made and before it is entered, with the span that it is a
    /// child of, if there is one. What the hook returns is what other nodes refer to as the parent
    /// of theirs; with `None` the span has ids of this crate's. It runs on the threads that serve
    /// clients and must not block. With the crate `tracing-opentelemetry`:
    ///
    /// ```ignore
    /// fn name(span: &Span, parent: Option<&TraceContext>) -> Option<TraceContext> {
    ///     if let Some(parent) = parent {
    ///         let parent = SpanContext::new(
    ///             TraceId::from_bytes(parent.trace_id()),
    ///             SpanId::from_bytes(parent.span_id()),
    ///             TraceFlags::SAMPLED,
    ///             true,
    ///             TraceState::default(),
    ///         );
    ///         span.set_parent(Context::new().with_remote_span_context(parent)).ok()?;
    ///     }
    ///     let context = span.context();
    ///     let own = context.span().span_context().clone();
    ///     TraceContext::new(own.trace_id().to_bytes(), own.span_id().to_bytes(), true)
    /// }
    /// ```
    ///
    /// `examples/otel` is a cluster with it.
    pub fn on_span(
        mut self,
        hook: impl Fn(&Span, Option<&TraceContext>) -> Option<TraceContext> + Send + Sync + 'static,
    ) -> Self {
        self.on_span = Some(Box::new(hook));
        self
    }

    /// Which messages are sampled.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling::new(self.ratio, self.follow_parent)
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces")
            .field("ratio", &self.ratio)
            .field("follow_parent", &self.follow_parent)
            .finish_non_exhaustive()
    }
}
