//! Gates that have left the view. What they have sent before may still arrive.

use std::collections::VecDeque;

use crate::cluster::directory::view::{NodeId, View};

/// The most gates that are remembered.
const MAX: usize = 1024;

/// The gates that were in a view and are in it no longer, the latest last.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<NodeId>);

impl Departed {
    /// Goes on from one view to the next.
    pub(super) fn follow(&mut self, before: &View, next: &View) {
        self.0.retain(|gate| !next.contains(gate));
        let nodes = before.nodes().iter();
        self.0
            .extend(nodes.filter(|gate| !next.contains(gate)).cloned());
        let excess = self.0.len().saturating_sub(MAX);
        self.0.drain(..excess);
    }

    pub(super) fn contains(&self, gate: &NodeId) -> bool {
        self.0.contains(gate)
    }
}
