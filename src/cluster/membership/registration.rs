//! A member's registration with its master: which call to make when, and what the reply means. No
//! I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    heartbeat::{HeartbeatConfig, HeartbeatReply},
    table::{Change, MemberTable},
};
use crate::member::Member;

/// A call to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Register,
    Heartbeat { digest: u64 },
}

/// A reply of the master.
#[derive(Debug)]
pub(crate) enum Reply {
    /// All other members, the master first.
    Registered(Vec<Member>),
    /// The heartbeat was accepted. `master` is the master's incarnation, 0 for a basic master.
    Heartbeat { reply: HeartbeatReply, master: u64 },
}

/// Where a member is in joining and staying: registering or registered, and when it calls next.
#[derive(Debug)]
pub(crate) struct RegistrationState {
    heartbeat: HeartbeatConfig,
    /// How long to wait after a failed attempt to join.
    retry: Duration,
    joined: bool,
    /// The incarnation of the master that replied last; 0 for a basic master.
    master: u64,
    /// Calls in a row that failed.
    failures: u32,
    /// Whether the next call registers again.
    ///
    /// A basic master takes a heartbeat as a sign of life, but announces registrations only.
    /// Members that joined after such a master restarted would never learn of this node. The same
    /// holds if this node was suspended and evicted: no other member would learn that it is back.
    reregister: bool,
    due: Instant,
    /// Whether it was noticed that the heartbeats are too slow.
    is_warned: bool,
}

impl RegistrationState {
    pub(crate) fn new(heartbeat: HeartbeatConfig, retry: Duration, now: Instant) -> Self {
        Self {
            heartbeat,
            retry,
            joined: false,
            master: 0,
            failures: 0,
            reregister: false,
            due: now,
            is_warned: false,
        }
    }

    /// Returns when to call the master next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Returns when to call the master next if it has a reason to be called early.
    pub(crate) fn early_due(&self) -> Instant {
        self.due
            .checked_sub(self.interval() * 9 / 10)
            .unwrap_or(self.due)
    }

    /// Returns the incarnation of the master that replied last; 0 for a basic master.
    pub(crate) fn master(&self) -> u64 {
        self.master
    }

    pub(crate) fn joined(&self) -> bool {
        self.joined
    }

    /// Whether the master that replied last is basic.
    pub(crate) fn has_basic_master(&self) -> bool {
        self.joined && self.master == 0
    }

    /// Returns how many calls in a row failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins the call to make now. One of [`replied`](Self::replied), [`failed`](Self::failed)
    /// and [`refused`](Self::refused) must follow before the next one.
    pub(crate) fn begin_call(&mut self, members: &mut MemberTable) -> Call {
        members.begin_sync();
        if self.joined && !self.reregister {
            Call::Heartbeat {
                digest: members.digest(),
            }
        } else {
            Call::Register
        }
    }

    /// Applies a reply to the member table and schedules the next call.
    pub(crate) fn replied(
        &mut self,
        reply: Reply,
        members: &mut MemberTable,
        now: Instant,
    ) -> Vec<Change> {
        let recovered = std::mem::take(&mut self.failures) > 0;
        let suspended = now.duration_since(self.due) > self.heartbeat.basic_eviction_timeout();
        let changes = match reply {
            // Merged, not replaced: a master that has just started does not know all members yet.
            Reply::Registered(table) => {
                self.master = table.first().map_or(0, Member::incarnation);
                (self.joined, self.reregister) = (true, false);
                members.merge(table)
            }
            Reply::Heartbeat { reply, master } => {
                self.master = master;
                self.reregister = (recovered || suspended) && master == 0;
                if reply.replace {
                    members.replace(reply.table)
                } else {
                    members.merge(reply.table)
                }
            }
        };
        self.due = if self.reregister {
            now
        } else {
            now + self.interval()
        };
        changes
    }

    /// Schedules the next call after one that failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.due = now
            + if self.joined {
                self.interval()
            } else {
                self.retry
            };
        // One attempt is enough. A basic master that cannot reach one of its members fails every
        // registration, and announces it to the others each time.
        self.reregister = false;
    }

    /// Schedules the next call at once, because another master may answer it. A call under way is
    /// given up.
    pub(crate) fn call_now(&mut self, now: Instant) {
        self.due = now;
    }

    /// Schedules a new registration: the master says that another node has this node's address.
    /// If that was an earlier incarnation, the registration takes the address back.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.failed(now);
        self.reregister = true;
    }

    /// Notes how long the master lets this node be silent; zero for unknown. Returns the interval of the
    /// heartbeats if that is too long, once.
    ///
    /// An eviction must take two lost heartbeats at least: one may be late.
    pub(crate) fn check_interval(&mut self, eviction: Duration) -> Option<Duration> {
        let interval = self.interval();
        let too_slow = !eviction.is_zero() && 2 * interval > eviction;
        let is_new = too_slow && !std::mem::replace(&mut self.is_warned, true);
        is_new.then_some(interval)
    }

    fn interval(&self) -> Duration {
        if self.master == 0 {
            self.heartbeat.basic_interval
        } else {
            self.heartbeat.interval
        }
    }
}
