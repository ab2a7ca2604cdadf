//! The simulated members: ours, and what is known of Go nano's.

use std::time::Duration;

use tokio::time::Instant;

use super::{Announcement, Answer, Call, HEARTBEAT, Members, Refusal, Run};
use crate::{
    cluster::membership::{registration::Standing, registry::Rhythm},
    member::Member,
};

pub(super) const RETRY: Duration = Duration::from_secs(3);

pub(super) enum Node {
    Rust(Rust),
    Go(Go),
}

pub(super) struct Rust {
    own: Member,
    run: Run,
    expected: u64,
    standing: Standing,
    pub(super) members: Members,
}

/// Registers once, then only shows signs of life; appends what it is told is new, and removes one
/// entry when told that somebody left.
pub(super) struct Go {
    pub(super) own: Member,
    run: Run,
    expected: u64,
    pub(super) joined: bool,
    pub(super) last_arrival: Instant,
    table: Vec<Member>,
}

impl Rust {
    pub(super) fn new(own: Member, run: Run, now: Instant) -> Self {
        let members = Members::new(own.address());
        Self {
            own,
            run,
            expected: 0,
            standing: Standing::new(Rhythm::new(HEARTBEAT), RETRY, now),
            members,
        }
    }
}

impl Go {
    pub(super) fn run(&self) -> Run {
        self.run
    }

    pub(super) fn new(own: Member, run: Run, now: Instant) -> Self {
        Self {
            own,
            run,
            expected: 0,
            joined: false,
            last_arrival: now,
            table: Vec::new(),
        }
    }

    /// It has everybody who lives, once. Those who died while there was no master nobody can name
    /// to it.
    pub(super) fn converged(
        &self,
        expected: &[Member],
        master_restarted: bool,
    ) -> Result<(), String> {
        let count = |address: &str| {
            self.table
                .iter()
                .filter(|entry| entry.address() == address)
                .count()
        };
        for member in expected {
            if count(member.address()) != 1 {
                return Err(format!(
                    "{} has {} times {member:?}",
                    self.own.address(),
                    count(member.address())
                ));
            }
        }
        if self.table.len() != expected.len() && !master_restarted {
            return Err(format!(
                "{} has {:#?}\ninstead of {expected:#?}",
                self.own.address(),
                self.table
            ));
        }
        Ok(())
    }
}

impl Node {
    pub(super) fn member(&self) -> &Member {
        match self {
            Self::Rust(rust) => &rust.own,
            Self::Go(go) => &go.own,
        }
    }

    pub(super) fn run(&self) -> Run {
        match self {
            Self::Rust(rust) => rust.run,
            Self::Go(go) => go.run,
        }
    }

    /// The run that takes announcements. A node of Go nano takes them before it has registered as
    /// well, and then has twice whom its registration names again; the moment is short, and there
    /// is no help for it, so it is left out here.
    pub(super) fn listens(&self) -> Option<Run> {
        match self {
            Self::Go(go) if !go.joined => None,
            _ => Some(self.run()),
        }
    }

    pub(super) fn call(&mut self) -> Call {
        match self {
            Self::Rust(rust) => rust.standing.call(&mut rust.members),
            Self::Go(go) if go.joined => Call::Heartbeat { digest: 0 },
            Self::Go(_) => Call::Register,
        }
    }

    pub(super) fn expect(&mut self, call: u64) {
        match self {
            Self::Rust(rust) => rust.expected = call,
            Self::Go(go) => go.expected = call,
        }
    }

    pub(super) fn expects(&self, call: u64) -> bool {
        match self {
            Self::Rust(rust) => rust.expected == call,
            Self::Go(go) => go.expected == call,
        }
    }

    /// Takes the answer, if there was one, and says when to call next.
    pub(super) fn answered(
        &mut self,
        answer: Option<Result<Answer, Refusal>>,
        now: Instant,
    ) -> Instant {
        match self {
            Self::Rust(rust) => {
                match answer {
                    Some(Ok(answer)) => {
                        drop(rust.standing.answered(answer, &mut rust.members, now))
                    }
                    Some(Err(_)) => rust.standing.refused(now),
                    None => rust.standing.failed(now),
                }
                rust.standing.due()
            }
            Self::Go(go) => {
                if let Some(Ok(Answer::Registered(table))) = answer {
                    go.joined = true;
                    go.table.extend(table);
                }
                now + if go.joined { HEARTBEAT } else { RETRY }
            }
        }
    }

    pub(super) fn told(&mut self, news: &Announcement) {
        match (self, news) {
            (Self::Rust(rust), Announcement::New(member)) => {
                drop(rust.members.join(member.clone()))
            }
            (
                Self::Rust(rust),
                Announcement::Del {
                    address,
                    incarnation,
                },
            ) => drop(rust.members.leave(address, *incarnation)),
            (Self::Go(go), Announcement::New(member)) => go.table.push(member.clone()),
            (Self::Go(go), Announcement::Del { address, .. }) => {
                if let Some(at) = go.table.iter().position(|entry| entry.address() == address) {
                    go.table.remove(at);
                }
            }
        }
    }
}
