//! What was counted so far, and the series of a node.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};
use metrics_util::registry::{AtomicStorage, Registry};
use nano::Node;

use crate::support::eventually;

/// The recorder of this process. One test at a time uses it.
static RECORDER: tokio::sync::Mutex<Option<Values>> = tokio::sync::Mutex::const_new(None);

/// Keeps the values of all series. That of `metrics_util` takes a gauge back to 0 where it is read, so
/// that a gauge which is set to 0 looks like one that is not set again.
#[derive(Clone)]
struct Values(Arc<Registry<Key, AtomicStorage>>);

impl Recorder for Values {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0
            .get_or_create_counter(key, |value| Counter::from_arc(value.clone()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0
            .get_or_create_gauge(key, |value| Gauge::from_arc(value.clone()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0
            .get_or_create_histogram(key, |value| Histogram::from_arc(value.clone()))
    }
}

/// What was counted so far, by name and labels. A histogram counts its samples.
pub(crate) struct Counts {
    values: Values,
    totals: BTreeMap<String, usize>,
    _alone: tokio::sync::MutexGuard<'static, Option<Values>>,
}

impl Counts {
    pub(crate) async fn start() -> Self {
        let mut recorder = RECORDER.lock().await;
        let values = recorder.get_or_insert_with(|| {
            let values = Values(Arc::new(Registry::atomic()));
            set_global_recorder(values.clone()).unwrap();
            values
        });
        // Drops the series of earlier tests. Their nodes may still write to them.
        values.0.clear();
        Self {
            values: values.clone(),
            totals: BTreeMap::new(),
            _alone: recorder,
        }
    }

    pub(crate) fn update(&mut self) {
        let registry = &self.values.0;
        self.totals.clear();
        let mut total = |key: &Key, value| {
            self.totals.insert(series(key), value);
        };
        registry.visit_counters(|key, counter| total(key, counter.load(Ordering::SeqCst) as usize));
        registry.visit_gauges(|key, gauge| {
            let value = f64::from_bits(gauge.load(Ordering::SeqCst));
            assert!(value >= 0.0, "{key}: {value}");
            total(key, value as usize);
        });
        registry.visit_histograms(|key, histogram| {
            let mut samples = 0;
            histogram.data_with(|some| samples += some.len());
            total(key, samples);
        });
    }

    /// The total of a series, which must be there.
    pub(crate) fn total(&self, name: &str) -> usize {
        match self.totals.get(name) {
            Some(total) => *total,
            None => panic!("no series {name}"),
        }
    }

    /// Whether a series with a label that is made when it is first counted is not there.
    pub(crate) fn has_none(&self, name: &str) -> bool {
        !self.totals.contains_key(name)
    }

    pub(crate) async fn expect_at_least(&mut self, name: &str, count: usize) {
        self.expect_that(name, &format!("at least {count}"), |total| total >= count)
            .await;
    }

    pub(crate) async fn expect(&mut self, name: &str, count: usize) {
        self.expect_that(name, &count.to_string(), |total| total == count)
            .await;
    }

    async fn expect_that(&mut self, name: &str, what: &str, is: impl Fn(usize) -> bool) {
        eventually(&format!("{name} is {what}"), || {
            self.update();
            self.totals.get(name).is_some_and(|total| is(*total))
        })
        .await;
    }
}

/// The name and the labels of a series.
fn series(key: &Key) -> String {
    let labels = key.labels();
    let labels = labels.map(|label| format!("{{{}={}}}", label.key(), label.value()));
    format!("{}{}", key.name(), labels.collect::<String>())
}

/// The series of one node: its name with the label of the node.
pub(crate) struct Series(String);

impl Series {
    pub(crate) fn of(node: &Node) -> Self {
        let name = match node.handle().member() {
            Some(member) => member.address().to_owned(),
            None => node.addresses()[0].to_string(),
        };
        Self(format!("{{node={name}}}"))
    }

    pub(crate) fn named(&self, name: &str) -> String {
        format!("{name}{}", self.0)
    }

    /// The series with one more label.
    pub(crate) fn with(&self, name: &str, (label, value): (&str, &str)) -> String {
        format!("{name}{}{{{label}={value}}}", self.0)
    }

    pub(crate) fn because(&self, name: &str, reason: &str) -> String {
        self.with(name, ("reason", reason))
    }

    pub(crate) fn of_master(&self, name: &str, master: &str) -> String {
        self.with(name, ("master", master))
    }
}
