//! The nodes, what travels between them, and what happens to them.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    channel::Position,
    cluster::channels::{
        gate::Gate,
        message::{Name, ToGate, ToOwner},
        owner::Owner,
        request::Publish,
        view::{Address, View},
    },
};

/// The channels of one owner and of one member: bounds that are not reached.
const MOST: usize = 100;

/// How far the clock of each node is ahead, in milliseconds.
const CLOCKS: [u64; 4] = [0, 9_000, 300, 14_000];

/// A member: a session, unique for ever.
pub(super) type Member = u64;

pub(super) struct Node {
    pub(super) address: Address,
    pub(super) incarnation: u64,
    pub(super) alive: bool,
    /// Whether it is about to leave: no owner in its own view.
    pub(super) leaving: bool,
    /// Nothing is done before.
    pub(super) paused: Instant,
    /// What arrives while it is paused, in order.
    pub(super) inbox: VecDeque<Event>,
    pub(super) owner: Owner<Call>,
    pub(super) gate: Gate<Member, Waits>,
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

/// What waits for the answer of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Join(Member),
    /// A session of another node is to move here.
    Expected {
        member: Member,
        from: usize,
    },
    /// A session is about to leave.
    Located(Member),
}

/// Between the nodes of a session that moves.
#[derive(Clone, Debug)]
pub(super) enum MovePacket {
    Expect(Name),
    Expected(bool),
    /// The number of the attempt, and what the session has.
    Arrive(u64, Vec<(Name, Position)>),
    /// Answers an attempt.
    Arrived(u64, bool),
}

#[derive(Clone, Debug)]
pub(super) enum Packet {
    Move(Member, MovePacket),
    ToOwner(ToOwner),
    ToGate(ToGate),
    Publish(Call, Publish),
    /// The position, or `None` if the node is not the owner.
    Published(Call, Option<Position>),
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
    /// A node may go on after a pause.
    Wake {
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
    /// When all is calm, the next session moves.
    Shift,
    /// A session that moves waits too long for an answer.
    MoveDue(Member),
    /// What is under way between two nodes is lost.
    Cut(usize, usize),
    /// A node that was about to leave is gone.
    Gone {
        node: usize,
        incarnation: u64,
    },
}

/// Publishes numbered messages, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Publisher {
    pub(super) node: usize,
    pub(super) channel: usize,
    pub(super) number: u64,
    pub(super) attempt: u64,
    pub(super) kept: bool,
    /// The last position that was reported in its channel when the attempt began.
    pub(super) behind: Position,
}

impl Node {
    /// `since` is the time that has passed in the world.
    pub(super) fn new(index: usize, incarnation: u64, now: Instant, since: Duration) -> Self {
        let address = Address::from(format!("node {index}"));
        // Clocks differ by many seconds.
        let clock = 1_000_000 + CLOCKS[index] + since.as_millis() as u64;
        Self {
            owner: Owner::new(address.clone(), clock, MOST, now),
            gate: Gate::new(MOST, clock),
            address,
            incarnation,
            alive: true,
            leaving: false,
            paused: now,
            inbox: VecDeque::new(),
            view: View::default(),
            view_number: 0,
        }
    }
}
