//! The nodes, what travels between them, and what happens to them.

use tokio::time::Instant;

use crate::cluster::channels::{
    gate::Gate,
    message::{ToGate, ToOwner},
    owner::{Owner, Publish},
    view::{Address, View},
};

/// A member: a session, unique for ever.
pub(super) type Member = u64;

pub(super) struct Node {
    pub(super) address: Address,
    pub(super) incarnation: u64,
    pub(super) alive: bool,
    /// Nothing is done before.
    pub(super) paused: Instant,
    pub(super) owner: Owner<Call>,
    pub(super) gate: Gate<Member, Member>,
    pub(super) view: View,
    /// The number of the view in the master's order.
    pub(super) view_number: u64,
}

/// A publication that waits for its answer: the publisher, and the number of its attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) publisher: usize,
    pub(super) attempt: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Packet {
    ToOwner(ToOwner),
    ToGate(ToGate),
    Publish(Call, Publish),
    /// The position, or `None` if the node is not the owner.
    Published(Call, Option<()>),
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Act,
    Packet {
        from: usize,
        to: usize,
        /// Lost if the link broke meanwhile.
        link: u64,
        packet: Packet,
    },
    /// A node learns of a view of the master.
    View {
        node: usize,
        incarnation: u64,
        number: u64,
        view: View,
    },
    Tick {
        node: usize,
    },
    /// A publisher makes its next attempt.
    Attempt {
        publisher: usize,
        attempt: u64,
    },
    /// The publisher stops waiting.
    GiveUp(Call),
    /// The master notices that a node is gone, or is there again.
    Membership,
    Restart {
        node: usize,
    },
}

/// Publishes numbered messages, one after the other.
pub(super) struct Publisher {
    pub(super) node: usize,
    pub(super) channel: usize,
    pub(super) number: u64,
    pub(super) attempt: u64,
    pub(super) kept: bool,
}

impl Node {
    pub(super) fn new(index: usize, incarnation: u64, now: Instant) -> Self {
        let address = Address::from(format!("node {index}"));
        Self {
            owner: Owner::new(address.clone(), 1_000 * incarnation),
            gate: Gate::new(),
            address,
            incarnation,
            alive: true,
            paused: now,
            view: View::default(),
            view_number: 0,
        }
    }
}
