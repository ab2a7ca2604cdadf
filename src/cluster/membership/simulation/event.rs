//! What can happen in the simulation.

use crate::{
    cluster::membership::{
        registration::{Call, Reply},
        registry::Refusal,
        updates::Announcement,
    },
    member::{Info, Member},
};

/// A node or the master, whichever process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Master,
    Node(usize),
    /// The world itself, which is never suspended.
    World,
}

/// One process of a party. An event meant for an earlier process has no effect.
pub(super) type Process = u64;

#[derive(Debug)]
pub(super) enum Event {
    /// The next fault is due.
    Fault,
    /// The master looks for silent members.
    Tick { process: Process },
    /// A member's next call is due.
    CallDue { node: usize, process: Process },
    /// A call reached the master.
    CallArrived {
        from: usize,
        process: Process,
        call: u64,
        member: Member,
        what: MemberCall,
    },
    /// The master's reply reached the member.
    ReplyArrived {
        node: usize,
        process: Process,
        call: u64,
        reply: Result<Reply, Refusal>,
    },
    /// The member waits for a reply no longer.
    CallTimedOut {
        node: usize,
        process: Process,
        call: u64,
    },
    /// An announcement reached a member.
    AnnouncementArrived {
        node: usize,
        process: Process,
        peer: u64,
        sent: u64,
        announcement: Announcement,
    },
    /// The acknowledgement of an announcement reached the master.
    Delivered { peer: u64, sent: u64 },
    /// The master waits for an acknowledgement no longer.
    DeliveryTimedOut { peer: u64, sent: u64 },
    /// The master repeats an announcement.
    DeliveryDue { peer: u64 },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum MemberCall {
    Call(Call),
    Unregister,
}

impl Event {
    /// Returns the party it happens to.
    pub(super) fn party(&self) -> Party {
        match self {
            Self::ReplyArrived { node, .. }
            | Self::CallTimedOut { node, .. }
            | Self::CallDue { node, .. }
            | Self::AnnouncementArrived { node, .. } => Party::Node(*node),
            Self::Fault => Party::World,
            _ => Party::Master,
        }
    }
}

/// Returns the address of a simulated node.
pub(super) fn address(node: usize) -> String {
    format!("node-{node}:1")
}

pub(super) fn member(address: &str, incarnation: u64) -> Member {
    Member::new(Info {
        address: address.to_owned(),
        incarnation,
        ..Info::default()
    })
}
