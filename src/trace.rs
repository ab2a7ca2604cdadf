//! Traces: the path of one message through the nodes of a cluster.
//!
//! A gate decides for each message of a client whether it is sampled: [`Traces`](crate::Traces) sets the ratio, none
//! unless set. What a sampled message causes belongs to its trace: the handler, on whatever node,
//! calls and one-way messages of the handler with their handlers, tasks and single timers. Each has
//! a `tracing` span with the target `nano::trace`, at level info:
//!
//! | span | from, to | fields |
//! |---|---|---|
//! | `gate` | the message's arrival at its gate, its answer | `session`, `user`, `route`, `request` |
//! | `handler` | the message is decoded, its handler ends; entered while the handler runs | the same, and `queue_us`: its wait for the scheduler |
//! | `call` | a call is sent, its reply arrives | `route` |
//! | `task`, `timer` | it runs | `scheduler` |
//!
//! All have `node`, `trace_id`, `span_id`, `parent_id` (unless the trace begins there), and, but for
//! tasks and timers, `outcome`: `ok`, the code of an error, or `dropped`. Spans of the application
//! inside a handler are its children. A message that is not sampled makes none of these spans, and
//! carries nothing.
//!
//! A client's own trace goes on: of a WebSocket with the headers `traceparent` and `tracestate` of
//! its request, of any client with the texts `sys.traceparent` and `sys.tracestate` in its
//! handshake, which count first. Invalid ones are ignored, as the
//! [specification](https://www.w3.org/TR/trace-context/) asks.
//!
//! For OpenTelemetry, [`Traces::on_span`](crate::Traces::on_span) gives spans the ids of its SDK.

mod context;
mod sampling;
mod scope;
mod span;

pub use self::{
    context::TraceContext,
    scope::{current, propagate},
};
pub(crate) use self::{
    sampling::{Gap, Sampling},
    scope::{current_trace, within, within_span},
    span::{OnSpan, OpenSpan, Source, Trace, Tracer},
};
