//! The spans of all nodes of this process, as a subscriber sees them.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, LazyLock},
};

use nano::testing::eventually;
use parking_lot::Mutex;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

static SPANS: LazyLock<Spans> = LazyLock::new(|| {
    let spans = Spans::default();
    tracing_subscriber::registry().with(spans.clone()).init();
    spans
});

/// A span and its fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) name: &'static str,
    /// The name of the span it was made in, in this process.
    pub(crate) inside: Option<&'static str>,
    pub(crate) closed: bool,
    fields: BTreeMap<&'static str, String>,
}

impl Recorded {
    /// A field; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

#[derive(Clone, Default)]
pub(crate) struct Spans(Arc<Mutex<BTreeMap<u64, Recorded>>>);

impl Spans {
    /// Begins to record, if no test has yet.
    pub(crate) fn recorded() -> Self {
        SPANS.clone()
    }

    /// The spans of a trace that have ended, in the order of their begin.
    pub(crate) fn of(&self, trace_id: &str) -> Vec<Recorded> {
        let spans = self.0.lock();
        let of_trace = spans
            .values()
            .filter(|span| span.closed && span.field("trace_id") == trace_id);
        of_trace.cloned().collect()
    }

    /// Waits until so many spans of a trace have ended.
    pub(crate) async fn wait(&self, trace_id: &str, count: usize) -> Vec<Recorded> {
        eventually("the spans of a trace", || self.of(trace_id).len() >= count).await;
        let spans = self.of(trace_id);
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// The spans with a value in a field, ended or not.
    pub(crate) fn with(&self, field: &str, value: &str) -> Vec<Recorded> {
        let spans = self.0.lock();
        let found = spans.values().filter(|span| span.field(field) == value);
        found.cloned().collect()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut span = Recorded {
            name: attributes.metadata().name(),
            inside: context
                .span(id)
                .and_then(|span| Some(span.parent()?.name())),
            ..Recorded::default()
        };
        attributes.record(&mut Fields(&mut span.fields));
        // Registries use ids again.
        let mut spans = self.0.lock();
        let key = spans.len() as u64 + 1;
        spans.insert(key, span);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Key(key));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.change(id, &context, |span| {
            values.record(&mut Fields(&mut span.fields));
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.change(&id, &context, |span| span.closed = true);
    }
}

struct Key(u64);

impl Spans {
    fn change<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        id: &Id,
        context: &Context<'_, S>,
        change: impl FnOnce(&mut Recorded),
    ) {
        let span = context.span(id).unwrap();
        let extensions = span.extensions();
        if let Some(Key(key)) = extensions.get() {
            change(self.0.lock().get_mut(key).unwrap());
        }
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}
