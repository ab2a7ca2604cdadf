//! The curves: what grows, in which steps, and who measures it.

use std::pin::Pin;

use nano::Result;
use serde::{Deserialize, Serialize};

use super::{
    channels, connections, directory, groups,
    handover::{self, Change},
    members, schedulers, stalled, timers, users,
};

/// Measures one size.
type Measures = fn(usize) -> Pin<Box<dyn Future<Output = Result<Point>> + Send>>;

/// One thing whose number grows.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Ascending.
    pub(super) sizes: &'static [usize],
    pub(super) measure: Measures,
}

/// What one size costs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Point(pub(super) Vec<Measure>);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measure {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) value: f64,
}

impl Point {
    pub(super) fn with(mut self, name: &str, unit: &str, value: f64) -> Self {
        self.0.push(Measure {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value,
        });
        self
    }
}

/// A curve with its points, by size.
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) points: Vec<(usize, Vec<Measure>)>,
}

impl Measured {
    pub(super) fn new(curve: &Curve) -> Self {
        Self {
            name: curve.name,
            title: curve.title,
            points: Vec::new(),
        }
    }
}

pub(super) const CURVES: &[Curve] = &[
    Curve {
        name: "members",
        title: "Members of a cluster, idle, all in one process",
        sizes: &[2, 10, 40, 62, 100, 200],
        measure: |size| Box::pin(members::measure(size)),
    },
    Curve {
        name: "connections",
        title: "TCP connections of one node, 20 of which ask",
        sizes: &[100, 1_000, 5_000, 15_000],
        measure: |size| Box::pin(connections::measure(size)),
    },
    Curve {
        name: "stalled",
        title: "TCP clients of one node that do not read, with a memory budget of 256 MiB",
        sizes: &[500, 5_000],
        measure: |size| Box::pin(stalled::measure(size)),
    },
    Curve {
        name: "groups",
        title: "Groups of ten members each, on one node",
        sizes: &[10, 100, 1_000, 10_000],
        measure: |size| Box::pin(groups::measure(size)),
    },
    Curve {
        name: "channels",
        title: "Channels of ten members each, on three nodes",
        sizes: &[10, 100, 1_000, 10_000],
        measure: |size| Box::pin(channels::measure(size)),
    },
    Curve {
        name: "users",
        title: "Users that are logged in, on four nodes",
        sizes: &[1_000, 10_000, 100_000, 1_000_000],
        measure: |size| Box::pin(users::measure(size)),
    },
    Curve {
        name: "directory",
        title: "Users of the directory of four nodes: memory, each node in a process",
        sizes: &[10_000, 100_000, 1_000_000],
        measure: |size| Box::pin(directory::measure(size, false)),
    },
    Curve {
        name: "directory-text",
        title: "The same users with UUIDs for ids",
        sizes: &[10_000, 100_000, 1_000_000],
        measure: |size| Box::pin(directory::measure(size, true)),
    },
    Curve {
        name: "handover-kill",
        title: "Users of a directory when one of four owners is killed",
        sizes: &[1_000, 10_000, 100_000],
        measure: |size| Box::pin(handover::measure(size, Change::Kill)),
    },
    Curve {
        name: "handover-join",
        title: "Users of a directory when one of four owners joins",
        sizes: &[1_000, 10_000, 100_000],
        measure: |size| Box::pin(handover::measure(size, Change::Join)),
    },
    Curve {
        name: "handover-leave",
        title: "Users of a directory when one of four owners leaves in order",
        sizes: &[1_000, 10_000, 100_000],
        measure: |size| Box::pin(handover::measure(size, Change::Leave)),
    },
    Curve {
        name: "schedulers",
        title: "Schedulers of one pool that share the same work",
        sizes: &[1, 10, 100, 1_000, 10_000],
        measure: |size| Box::pin(schedulers::measure(size)),
    },
    Curve {
        name: "timers",
        title: "Timers that fire once a second",
        sizes: &[100, 1_000, 10_000, 100_000],
        measure: |size| Box::pin(timers::measure(size)),
    },
];
