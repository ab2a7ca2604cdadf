//! What was counted so far, and the series of a node.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use nano::Node;

use crate::support::eventually;

/// The recorder of this process. One test at a time uses it.
static RECORDER: tokio::sync::Mutex<Option<Snapshotter>> = tokio::sync::Mutex::const_new(None);

/// What was counted so far, by name and labels. A histogram counts its samples.
pub(crate) struct Counts {
    snapshotter: Snapshotter,
    totals: BTreeMap<String, f64>,
    _alone: tokio::sync::MutexGuard<'static, Option<Snapshotter>>,
}

impl Counts {
    pub(crate) async fn start() -> Self {
        let mut recorder = RECORDER.lock().await;
        let snapshotter = recorder.get_or_insert_with(|| {
            let recorder = DebuggingRecorder::new();
            let snapshotter = recorder.snapshotter();
            recorder.install().unwrap();
            snapshotter
        });
        // Drops what an earlier test counted.
        snapshotter.snapshot();
        Self {
            snapshotter: snapshotter.clone(),
            totals: BTreeMap::new(),
            _alone: recorder,
        }
    }

    pub(crate) fn update(&mut self) {
        // A snapshot takes what it shows, so each is the difference to the one before.
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{{{}={}}}", label.key(), label.value()))
                .collect();
            *self
                .totals
                .entry(format!("{}{}", key.name(), labels.concat()))
                .or_default() += match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.0,
                DebugValue::Histogram(samples) => samples.len() as f64,
            };
        }
    }

    pub(crate) fn total(&self, name: &str) -> usize {
        self.totals.get(name).copied().unwrap_or_default() as usize
    }

    pub(crate) async fn expect_at_least(&mut self, name: &str, count: usize) {
        eventually(&format!("{name} is at least {count}"), || {
            self.update();
            self.total(name) >= count
        })
        .await;
    }

    pub(crate) async fn expect(&mut self, name: &str, count: usize) {
        eventually(&format!("{name} is {count}"), || {
            self.update();
            self.total(name) == count
        })
        .await;
    }
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

    pub(crate) fn because(&self, name: &str, reason: &str) -> String {
        format!("{name}{}{{reason={reason}}}", self.0)
    }

    pub(crate) fn of_master(&self, name: &str, master: &str) -> String {
        format!("{name}{}{{master={master}}}", self.0)
    }
}
