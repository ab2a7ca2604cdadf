//! The views of the directory, as the metrics of nodes show them.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use nano::{
    metrics::{DIRECTORY_NODES, DIRECTORY_OWNERS, DIRECTORY_VIEW},
    testing::{TestNode, eventually},
};
use parking_lot::Mutex;

/// What all nodes of the process have shown last.
pub(crate) struct Views {
    snapshotter: Snapshotter,
    latest: Mutex<HashMap<String, View>>,
}

#[derive(Clone, Copy, Default)]
struct View {
    number: f64,
    nodes: f64,
    owners: f64,
}

static VIEWS: LazyLock<Views> = LazyLock::new(|| {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    Views {
        snapshotter,
        latest: Mutex::default(),
    }
});

impl Views {
    /// Begins to record, at the latest. Nodes that have started before are not seen.
    pub(crate) fn record() -> &'static Self {
        &VIEWS
    }

    /// Waits until these nodes are in one view of theirs, with a number. The master gives none before
    /// every member may have been heard.
    pub(crate) async fn are_numbered(&self, nodes: &[&TestNode]) {
        self.are_numbered_among(nodes, nodes.len()).await;
    }

    /// The same, of views with so many nodes.
    pub(crate) async fn are_numbered_among(&self, nodes: &[&TestNode], all: usize) {
        eventually("the nodes are in one view with a number", || {
            let latest = self.latest();
            let views: Vec<_> = nodes
                .iter()
                .map(|node| latest.get(&node.address()))
                .collect();
            let numbers: HashSet<_> = views
                .iter()
                .flatten()
                .map(|it| it.number.to_bits())
                .collect();
            let is_whole = |view: &Option<&View>| {
                view.is_some_and(|view| view.number > 0.0 && view.nodes == all as f64)
            };
            numbers.len() == 1 && views.iter().all(is_whole)
        })
        .await;
    }

    /// Waits until these members are in a view of theirs in which their master, which is one more, owns
    /// no user. Its number does not matter.
    pub(crate) async fn spare_the_master(&self, members: &[&TestNode]) {
        eventually("the master owns no user", || {
            let latest = self.latest();
            let owners = members.len() as f64;
            members.iter().all(|node| {
                let view = latest.get(&node.address()).copied().unwrap_or_default();
                (view.nodes, view.owners) == (owners + 1.0, owners)
            })
        })
        .await;
    }

    fn latest(&self) -> HashMap<String, View> {
        let mut latest = self.latest.lock();
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let (key, DebugValue::Gauge(value)) = (key.key(), value) else {
                continue;
            };
            // A snapshot takes what it shows: 0 means no change.
            let node = key.labels().find(|label| label.key() == "node");
            let Some(node) = node.filter(|_| value.0 > 0.0) else {
                continue;
            };
            let view = latest.entry(node.value().to_owned()).or_default();
            match key.name() {
                DIRECTORY_VIEW => view.number = value.0,
                DIRECTORY_NODES => view.nodes = value.0,
                DIRECTORY_OWNERS => view.owners = value.0,
                _ => {}
            }
        }
        latest.clone()
    }
}
