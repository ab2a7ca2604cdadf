//! When a member calls its master, with what, and what the answer means. No I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    registry::{Pulse, Rhythm},
    table::{Change, Members},
};
use crate::member::Member;

/// What a member says to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Register,
    Heartbeat { digest: u64 },
}

/// A master's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Everybody else, the master first.
    Registered(Vec<Member>),
    /// Alive; and which run of the master says so, 0 for Go nano's.
    Beaten { pulse: Pulse, master: u64 },
}

/// A member's standing with its master.
#[derive(Debug)]
pub(crate) struct Standing {
    rhythm: Rhythm,
    retry: Duration,
    joined: bool,
    /// The run of the master that answered last; 0 for Go nano's.
    master: u64,
    /// How many calls in a row failed.
    failures: u32,
    /// Whether to register again.
    ///
    /// A master of Go nano takes a heartbeat as a sign of life, but tells the others of
    /// registrations only. If it has been started again in the meantime, those who joined since
    /// would never hear of this node. If this node has slept, it was taken for dead, and nobody
    /// else would hear that it is not.
    introduce: bool,
    due: Instant,
}

impl Standing {
    pub(crate) fn new(rhythm: Rhythm, retry: Duration, now: Instant) -> Self {
        Self {
            rhythm,
            retry,
            joined: false,
            master: 0,
            failures: 0,
            introduce: false,
            due: now,
        }
    }

    /// When to call next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    pub(crate) fn joined(&self) -> bool {
        self.joined
    }

    /// Whether the master that answered last is one of Go nano.
    pub(crate) fn has_go_master(&self) -> bool {
        self.joined && self.master == 0
    }

    /// How many calls in a row failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The call to make now; exactly one at a time, and one of the two below must follow.
    pub(crate) fn call(&mut self, members: &mut Members) -> Call {
        members.mark();
        if self.joined && !self.introduce {
            Call::Heartbeat {
                digest: members.digest(),
            }
        } else {
            Call::Register
        }
    }

    pub(crate) fn answered(
        &mut self,
        answer: Answer,
        members: &mut Members,
        now: Instant,
    ) -> Vec<Change> {
        let lost = std::mem::take(&mut self.failures) > 0;
        let slept = now.duration_since(self.due) > self.rhythm.patience_of_go();
        let changes = match answer {
            // Nobody is gone for not being in it: a master that has just started does not know
            // everybody yet.
            Answer::Registered(table) => {
                self.master = table.first().map_or(0, Member::incarnation);
                (self.joined, self.introduce) = (true, false);
                members.merge(table)
            }
            Answer::Beaten { pulse, master } => {
                self.master = master;
                self.introduce = (lost || slept) && master == 0;
                if pulse.replace {
                    members.replace(pulse.table)
                } else {
                    members.merge(pulse.table)
                }
            }
        };
        self.due = if self.introduce {
            now
        } else {
            now + self.interval()
        };
        changes
    }

    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.due = now
            + if self.joined {
                self.interval()
            } else {
                self.retry
            };
        // Once is enough: a Go master that cannot reach a member fails every registration, and
        // announces it to the others each time.
        self.introduce = false;
    }

    /// The master says that somebody else has this node's address. That may have been before: then
    /// a registration takes it back.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.failed(now);
        self.introduce = true;
    }

    fn interval(&self) -> Duration {
        if self.master == 0 {
            self.rhythm.heartbeat
        } else {
            self.rhythm.pulse
        }
    }
}
