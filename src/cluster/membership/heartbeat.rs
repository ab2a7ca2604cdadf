//! How often members call the master, and how long each side waits for the other. `registry` evicts
//! a member that is silent for longer.

use std::time::Duration;

use crate::member::Member;

/// Missed heartbeats after which a member is evicted; all masters of one cluster must use the same
/// number, basic ones too.
const MISSED_HEARTBEATS: u32 = 4;

/// How long the master remembers members that left, in heartbeat intervals of basic members.
const REMEMBERED_HEARTBEATS: u32 = 20;

/// The heartbeat intervals of a cluster and the timeouts that follow from them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeartbeatConfig {
    /// The interval of basic members, and of any member towards a basic master.
    pub(crate) basic_interval: Duration,
    /// The interval between members of this crate: at most one second, so that a dead member is
    /// noticed within seconds.
    pub(crate) interval: Duration,
}

impl HeartbeatConfig {
    pub(crate) fn new(basic_interval: Duration) -> Self {
        Self {
            basic_interval,
            interval: basic_interval.min(Duration::from_secs(1)),
        }
    }

    /// Returns how often the master looks for silent members.
    pub(crate) fn tick_interval(&self) -> Duration {
        (self.interval / 2).max(Duration::from_millis(1))
    }

    /// Returns how long `member` may be silent before the master evicts it.
    pub(crate) fn eviction_timeout(&self, member: &Member) -> Duration {
        if member.is_basic() {
            self.basic_eviction_timeout()
        } else {
            MISSED_HEARTBEATS * self.interval
        }
    }

    /// Returns how long a basic master lets any member be silent.
    pub(crate) fn basic_eviction_timeout(&self) -> Duration {
        MISSED_HEARTBEATS * self.basic_interval
    }

    /// Returns how long a master that has just started may not have heard of members that live:
    /// until their next heartbeat, and the attempt after a lost one.
    pub(crate) fn startup_grace(&self) -> Duration {
        self.basic_interval + MISSED_HEARTBEATS * self.interval
    }

    /// Returns how long the master remembers a member that left.
    pub(crate) fn retention(&self) -> Duration {
        REMEMBERED_HEARTBEATS * self.basic_interval
    }
}

/// The master's reply to a heartbeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HeartbeatReply {
    /// All members but the caller, or empty if the caller's digest matches.
    pub(crate) table: Vec<Member>,
    /// Whether members that are not in `table` have left. False while the master has just started
    /// and cannot know.
    pub(crate) replace: bool,
    /// The state of the master's table.
    pub(crate) view: ViewStamp,
    /// How long the member may be silent before it is evicted; zero if the master does not say.
    pub(crate) eviction: Duration,
    /// Whether the member was evicted, and joins again by this heartbeat.
    pub(crate) returns: bool,
}

/// Names one state of the master's table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ViewStamp {
    /// Grows with every change; 0 for none.
    pub(crate) number: u64,
    /// The digest of the table of a member that has this state.
    pub(crate) digest: u64,
}
