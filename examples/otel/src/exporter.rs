//! Prints spans as a tree.

use std::{fmt, sync::Arc};

use opentelemetry::SpanId;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use parking_lot::Mutex;

/// All spans that have ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(Arc<Mutex<Vec<SpanData>>>);

impl Tree {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl SpanExporter for Tree {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = self.0.lock();
        for root in spans.iter() {
            let is_root = spans
                .iter()
                .all(|span| span.span_context.span_id() != root.parent_span_id);
            if is_root {
                let trace = root.span_context.trace_id();
                writeln!(f, "trace {trace}, child of {}", root.parent_span_id)?;
                write_span(f, &spans, root, 1)?;
            }
        }
        Ok(())
    }
}

fn write_span(
    f: &mut fmt::Formatter<'_>,
    spans: &[SpanData],
    span: &SpanData,
    depth: usize,
) -> fmt::Result {
    write!(f, "{:indent$}{}", "", span.name, indent = 2 * depth)?;
    for field in ["route", "outcome", "node"] {
        let attributes = &mut span.attributes.iter();
        if let Some(attribute) = attributes.find(|it| it.key.as_str() == field) {
            write!(f, " {}={}", field, attribute.value)?;
        }
    }
    writeln!(f)?;
    let own: SpanId = span.span_context.span_id();
    let mut children: Vec<_> = spans.iter().filter(|it| it.parent_span_id == own).collect();
    children.sort_by_key(|child| child.start_time);
    children
        .into_iter()
        .try_for_each(|child| write_span(f, spans, child, depth + 1))
}
