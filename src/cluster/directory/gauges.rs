//! What a node reports of its directory.

use metrics::Gauge;

use crate::metrics::{DIRECTORY_NODES, DIRECTORY_OWNERS, DIRECTORY_VIEW, Handles};

/// The view that the directory is in, as metrics.
#[derive(Debug)]
pub(crate) struct DirectoryGauges {
    pub(crate) view: Gauge,
    pub(crate) nodes: Gauge,
    pub(crate) owners: Gauge,
}

impl DirectoryGauges {
    pub(crate) fn new(node: &Handles) -> Self {
        Self {
            view: node.gauge(DIRECTORY_VIEW),
            nodes: node.gauge(DIRECTORY_NODES),
            owners: node.gauge(DIRECTORY_OWNERS),
        }
    }
}
