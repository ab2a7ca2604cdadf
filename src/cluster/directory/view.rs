//! One state of the member table, with its number, and the owners that follow from it.

use std::{fmt, sync::Arc};

use super::slots::{SLOTS, node_hash, weight};

/// One run of a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId {
    pub(crate) address: Arc<str>,
    pub(crate) incarnation: u64,
}

/// The nodes of the directory under one view number, and the owner of each slot.
///
/// Cheap to clone. Two nodes with the same view number have the same view; number 0 means that no
/// master has numbered it.
#[derive(Clone)]
pub(crate) struct View(Arc<Inner>);

struct Inner {
    number: u64,
    master: u64,
    /// How many nodes may own slots.
    candidates: usize,
    /// Sorted.
    nodes: Vec<NodeId>,
    /// Those of them that may have sessions, sorted.
    gates: Vec<NodeId>,
    slots: u16,
    /// By slot, places in `nodes`; empty if there are no nodes.
    owners: Vec<u16>,
}

impl View {
    /// Creates a view of at most 65,536 nodes, all of which may have sessions.
    ///
    /// The node with the incarnation `master`, 0 for none, owns no slot unless it is the only node:
    /// no view follows while the master is away, so its users could not log in for as long.
    pub(crate) fn new(number: u64, nodes: Vec<NodeId>, master: u64) -> Self {
        Self::of_slots(SLOTS as u16, number, nodes, master)
    }

    /// Creates a view of the first `slots` only: simulations play many small ones.
    pub(super) fn of_slots(slots: u16, number: u64, mut nodes: Vec<NodeId>, master: u64) -> Self {
        nodes.sort();
        nodes.dedup();
        let is_owner = |node: &NodeId| node.incarnation != master;
        let spared = nodes.iter().any(is_owner);
        let owners = nodes.iter().zip(0_u16..);
        let owners = owners.filter(|(node, _)| !spared || is_owner(node));
        let hashes: Vec<_> = owners
            .map(|(node, at)| (node_hash(&node.address), at))
            .collect();
        let owner = |slot: u16| {
            let weights = hashes.iter().map(|(hash, at)| (weight(*hash, slot), *at));
            let heaviest = weights.max_by_key(|(weight, at)| (*weight, !at));
            heaviest.map(|(_, at)| at)
        };
        let owners = (0..slots).filter_map(owner).collect();
        Self(Arc::new(Inner {
            number,
            master,
            candidates: hashes.len(),
            gates: nodes.clone(),
            nodes,
            slots,
            owners,
        }))
    }

    /// Returns this view with some of its nodes as its gates: the others have no sessions, and are not
    /// asked for any.
    pub(crate) fn with_gates(self, is_gate: impl Fn(&NodeId) -> bool) -> Self {
        let gates = self.nodes().iter().filter(|node| is_gate(node));
        Self(Arc::new(Inner {
            number: self.0.number,
            master: self.0.master,
            candidates: self.0.candidates,
            gates: gates.cloned().collect(),
            nodes: self.0.nodes.clone(),
            slots: self.0.slots,
            owners: self.0.owners.clone(),
        }))
    }

    /// Returns this view without one of its nodes.
    pub(super) fn without(&self, node: &NodeId) -> Self {
        let others = self.nodes().iter().filter(|other| *other != node);
        let others = others.cloned().collect();
        Self::of_slots(self.slots(), self.number(), others, self.0.master)
            .with_gates(|other| self.gates().binary_search(other).is_ok())
    }

    /// How many slots there are: [`SLOTS`] outside simulations.
    pub(super) fn slots(&self) -> u16 {
        self.0.slots
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// The nodes, sorted.
    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.0.nodes
    }

    /// The nodes that may have sessions, sorted.
    pub(crate) fn gates(&self) -> &[NodeId] {
        &self.0.gates
    }

    /// How many of the nodes may own slots: all but the master, unless it is alone.
    pub(crate) fn candidates(&self) -> usize {
        self.0.candidates
    }

    /// Whether this run of the node is in the view.
    pub(crate) fn contains(&self, node: &NodeId) -> bool {
        self.0.nodes.binary_search(node).is_ok()
    }

    /// Whether a later run of the node is in the view.
    pub(crate) fn replaces(&self, node: &NodeId) -> bool {
        let later = self.0.nodes.partition_point(|other| other <= node);
        let later = self.0.nodes.get(later);
        later.is_some_and(|later| later.address == node.address)
    }

    /// The owner of a slot; `None` in a view without nodes.
    pub(crate) fn owner(&self, slot: u16) -> Option<&NodeId> {
        let at = *self.0.owners.get(usize::from(slot))?;
        self.0.nodes.get(usize::from(at))
    }

    /// Whether a node in this view goes on to `next`: it has a later number, or neither has a number
    /// and their nodes or masters differ.
    pub(crate) fn yields_to(&self, next: &Self) -> bool {
        let (number, next_number) = (self.number(), next.number());
        let differs = || (self.nodes(), self.0.master) != (next.nodes(), next.0.master);
        next_number > number || (next_number, number) == (0, 0) && differs()
    }

    /// Whether `next` is the view right after this one, so that no other was in between. Views
    /// without a number are taken to be complete.
    pub(super) fn precedes(&self, next: &Self) -> bool {
        next.number() == self.number() + 1 || next.number() == 0
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.incarnation)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("number", &self.number())
            .field("nodes", &self.nodes())
            .finish()
    }
}
