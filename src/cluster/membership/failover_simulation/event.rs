//! What can happen in the simulation.

use tokio::time::Instant;

use super::oracle::Entry;
use crate::{
    cluster::membership::{
        election::message::{LeaseReply, LeaseRequest},
        registration::{Call, Reply},
        updates::Announcement,
    },
    member::Member,
};

/// A node by its place: masters first.
pub(super) type Node = usize;

#[derive(Debug)]
pub(super) enum Event {
    Fault,
    /// Something is due at a node.
    Wake,
    /// The master looks for silent members.
    Tick,
    Ask {
        from: Node,
        process: u64,
        request: LeaseRequest,
        sent: Instant,
    },
    Answer {
        from: Node,
        request: LeaseRequest,
        sent: Instant,
        reply: LeaseReply,
    },
    /// A member's call, passed on at most once.
    Call {
        from: Node,
        process: u64,
        id: u64,
        member: Member,
        call: Call,
        seen: u64,
        passed_on: bool,
    },
    /// The reply to a call, its term, and the table behind the view that it states; `None` if it was
    /// refused or lost.
    Reply {
        id: u64,
        reply: Option<(Reply, u64, Vec<Entry>)>,
    },
    Announced {
        term: u64,
        announcement: Announcement,
    },
}

impl Event {
    /// Describes it, without the times of a machine.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Ask { from, request, .. } => format!("{from} asks {request:?}"),
            Self::Answer {
                from,
                request,
                reply,
                ..
            } => format!("{from} answers {request:?} {reply:?}"),
            other => format!("{other:?}"),
        }
    }
}

/// An event at one process of a node; a later process does not notice it.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) to: Node,
    /// 0 for any process.
    pub(super) process: u64,
    pub(super) event: Event,
}
