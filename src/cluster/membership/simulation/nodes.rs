//! The simulated members: the real state machines of this crate, and a model of a basic
//! member.

use std::time::Duration;

use tokio::time::Instant;

use super::event::Process;
use crate::{
    cluster::membership::{
        heartbeat::HeartbeatConfig,
        registration::{Call, RegistrationState, Reply},
        registry::Refusal,
        table::MemberTable,
        updates::Announcement,
    },
    member::Member,
};

pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
pub(super) const RETRY: Duration = Duration::from_secs(3);

pub(super) enum Node {
    Rust(Rust),
    Basic(Basic),
}

/// A node of this crate.
pub(super) struct Rust {
    own: Member,
    process: Process,
    /// The call whose reply it waits for; 0 for none.
    expected: u64,
    registration: RegistrationState,
    pub(super) members: MemberTable,
}

/// A basic member: registers once, then only sends heartbeats. It appends every join it is sent,
/// and removes one entry for every leave.
pub(super) struct Basic {
    pub(super) own: Member,
    process: Process,
    /// The call whose reply it waits for; 0 for none.
    expected: u64,
    pub(super) joined: bool,
    pub(super) table: Vec<Member>,
}

impl Rust {
    pub(super) fn new(own: Member, process: Process, now: Instant) -> Self {
        Self {
            members: MemberTable::new(own.address()),
            own,
            process,
            expected: 0,
            registration: RegistrationState::new(HeartbeatConfig::new(HEARTBEAT), RETRY, now),
        }
    }
}

impl Basic {
    pub(super) fn new(own: Member, process: Process) -> Self {
        Self {
            own,
            process,
            expected: 0,
            joined: false,
            table: Vec::new(),
        }
    }
}

impl Node {
    pub(super) fn is_basic(&self) -> bool {
        matches!(self, Self::Basic(_))
    }

    pub(super) fn member(&self) -> &Member {
        match self {
            Self::Rust(rust) => &rust.own,
            Self::Basic(basic) => &basic.own,
        }
    }

    pub(super) fn process(&self) -> Process {
        match self {
            Self::Rust(rust) => rust.process,
            Self::Basic(basic) => basic.process,
        }
    }

    /// Returns the process that takes announcements.
    ///
    /// A basic member takes them before it has registered as well, and then has members twice that
    /// the reply to its registration names again. That moment is short and there is no remedy, so
    /// the simulation leaves it out.
    pub(super) fn listening_process(&self) -> Option<Process> {
        match self {
            Self::Basic(basic) if !basic.joined => None,
            _ => Some(self.process()),
        }
    }

    pub(super) fn begin_call(&mut self) -> Call {
        match self {
            Self::Rust(rust) => rust.registration.begin_call(&mut rust.members),
            Self::Basic(basic) if basic.joined => Call::Heartbeat { digest: 0 },
            Self::Basic(_) => Call::Register,
        }
    }

    pub(super) fn expect(&mut self, call: u64) {
        match self {
            Self::Rust(rust) => rust.expected = call,
            Self::Basic(basic) => basic.expected = call,
        }
    }

    pub(super) fn expects(&self, call: u64) -> bool {
        match self {
            Self::Rust(rust) => rust.expected == call,
            Self::Basic(basic) => basic.expected == call,
        }
    }

    /// Takes the outcome of a call, `None` for a timeout, and returns when to call next.
    pub(super) fn on_reply(
        &mut self,
        reply: Option<Result<Reply, Refusal>>,
        now: Instant,
    ) -> Instant {
        match self {
            Self::Rust(rust) => {
                match reply {
                    Some(Ok(reply)) => {
                        drop(rust.registration.replied(reply, &mut rust.members, now));
                    }
                    Some(Err(_)) => rust.registration.refused(now),
                    None => rust.registration.failed(now),
                }
                rust.registration.due()
            }
            Self::Basic(basic) => {
                if let Some(Ok(Reply::Registered(table))) = reply {
                    basic.joined = true;
                    basic.table.extend(table);
                }
                now + if basic.joined { HEARTBEAT } else { RETRY }
            }
        }
    }

    pub(super) fn on_announcement(&mut self, announcement: &Announcement) {
        match (self, announcement) {
            (Self::Rust(rust), Announcement::Join(member)) => {
                drop(rust.members.join(member.clone()));
            }
            (
                Self::Rust(rust),
                Announcement::Leave {
                    address,
                    incarnation,
                    ..
                },
            ) => drop(rust.members.leave(address, *incarnation)),
            (_, Announcement::Lead(_)) => unreachable!("there is one master only"),
            (Self::Basic(basic), Announcement::Join(member)) => basic.table.push(member.clone()),
            (Self::Basic(basic), Announcement::Leave { address, .. }) => {
                if let Some(at) = basic
                    .table
                    .iter()
                    .position(|entry| entry.address() == address)
                {
                    basic.table.remove(at);
                }
            }
        }
    }
}
