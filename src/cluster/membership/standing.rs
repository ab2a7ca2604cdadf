//! The view that a node is in, and the one its master has stated.

use std::sync::Arc;

use crate::member::MemberSet;

/// The latest view of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// The latest view the master has told this node of; the node may not be in it yet. 0 for none.
    pub(crate) heard: u64,
    /// The latest view that this node was in.
    pub(crate) view: Option<NumberedView>,
    /// The incarnation of the master that this node heard of last; 0 before the first heartbeat.
    pub(crate) master: u64,
    /// Whether the master is one of Go nano, which numbers no views.
    pub(crate) go_master: bool,
}

/// A state of the member table with a number.
#[derive(Debug, Clone)]
pub(crate) struct NumberedView {
    pub(crate) number: u64,
    /// The incarnation of the master.
    pub(crate) master: u64,
    /// The other members.
    pub(crate) members: Arc<MemberSet>,
}
