//! The ids that OpenTelemetry gives to spans, for the other nodes.

use nano::trace::TraceContext;
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Names the parent of a span to the SDK, and returns what the SDK calls the span.
pub(crate) fn of_sdk(span: &Span, parent: Option<&TraceContext>) -> Option<TraceContext> {
    if let Some(parent) = parent {
        let state: Option<TraceState> = parent.tracestate().and_then(|state| state.parse().ok());
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace_id()),
            SpanId::from_bytes(parent.span_id()),
            TraceFlags::SAMPLED,
            true,
            state.unwrap_or_default(),
        );
        let parent = Context::new().with_remote_span_context(parent);
        span.set_parent(parent).ok()?;
    }
    let context = span.context();
    let span = context.span();
    let own = span.span_context();
    let context = TraceContext::new(own.trace_id().to_bytes(), own.span_id().to_bytes(), true)?;
    Some(context.with_state(&own.trace_state().header()))
}
