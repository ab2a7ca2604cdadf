//! Waits until the nodes of a case are in one numbered view: before, users are looked for at all
//! gates.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};
use nano::{
    Error, Result, code,
    metrics::{DIRECTORY_NODES, DIRECTORY_VIEW},
};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(60);

/// Records the views of all nodes, and nothing else, so that nothing else costs anything.
#[derive(Clone, Default)]
pub(crate) struct Views(Arc<Mutex<HashMap<Key, Arc<AtomicU64>>>>);

impl Views {
    /// Begins to record: of nodes that start later.
    pub(crate) fn record() -> Self {
        static RECORDER: LazyLock<Views> = LazyLock::new(|| {
            let views = Views::default();
            // An error is another recorder, and there is none.
            let _ = set_global_recorder(views.clone());
            views
        });
        RECORDER.0.lock().clear();
        RECORDER.clone()
    }

    /// Waits until all of so many nodes are in the same view.
    pub(crate) async fn are_of(&self, nodes: usize) -> Result {
        let same = async {
            while !self.are_same(nodes) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = timeout(DEADLINE, same).await;
        waited.map_err(|_| Error::new(code::TIMEOUT, "the nodes are in no view"))
    }

    fn are_same(&self, nodes: usize) -> bool {
        let gauges = self.0.lock();
        let values = |name: &str| {
            let gauges = gauges.iter().filter(|(key, _)| key.name() == name);
            let values = gauges.map(|(_, gauge)| f64::from_bits(gauge.load(Ordering::Relaxed)));
            values.collect::<Vec<_>>()
        };
        let (views, sizes) = (values(DIRECTORY_VIEW), values(DIRECTORY_NODES));
        views.len() == nodes
            && views.iter().all(|view| *view > 0.0 && *view == views[0])
            && sizes.iter().all(|size| *size == nodes as f64)
    }
}

impl Recorder for Views {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if ![DIRECTORY_VIEW, DIRECTORY_NODES].contains(&key.name()) {
            return Gauge::noop();
        }
        let mut gauges = self.0.lock();
        Gauge::from_arc(gauges.entry(key.clone()).or_default().clone())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
