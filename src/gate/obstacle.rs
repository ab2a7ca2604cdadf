//! Why sessions do not move from a gate that drains. No I/O.

use std::{collections::BTreeMap, fmt};

use super::departure::Step;
use crate::session::Kept;

/// What keeps a session on a gate that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It has not been looked at yet.
    Waiting,
    /// It moves.
    Moving,
    /// Its client has not asked for resume, or the node has no resume window.
    NotResumable,
    /// Its client has not acknowledged the handshake.
    Handshake,
    /// It ends.
    Closing,
    /// More waits for its client than fits in one call.
    Queue,
    /// This node has to answer a request of it.
    Requests,
    /// A part of it is on this node.
    Kept(Kept),
    /// A node of Go nano serves it.
    BasicMember,
    /// A handler of this node has served it, and there is no `App::on_migrate`.
    Served,
    /// As before, and `App::on_migrate` does not let it go.
    Refused,
    /// Its login is under way.
    Login,
    /// The node is in no cluster.
    NoCluster,
    /// The last attempt has failed, or would fail.
    Attempt(Step),
}

impl Obstacle {
    /// The name in logs and metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Moving => "moving",
            Self::NotResumable => "not_resumable",
            Self::Handshake => "handshake",
            Self::Closing => "closing",
            Self::Queue => "queue",
            Self::Requests => "requests",
            Self::Kept(part) => part.label(),
            Self::BasicMember => "basic_member",
            Self::Served => "no_hook",
            Self::Refused => "hook",
            Self::Login => "login",
            Self::NoCluster => "no_cluster",
            Self::Attempt(step) => step.label(),
        }
    }
}

/// How many sessions stay on a gate that drains, by what keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Staying(BTreeMap<&'static str, usize>);

impl Staying {
    pub(super) fn add(&mut self, obstacle: Obstacle, sessions: usize) {
        if sessions != 0 {
            *self.0.entry(obstacle.label()).or_default() += sessions;
        }
    }

    /// How many sessions stay. Those on their way do not count.
    pub(crate) fn sessions(&self) -> usize {
        self.0.values().sum::<usize>() - self.kept_by(Obstacle::Moving.label())
    }

    pub(super) fn kept_by(&self, obstacle: &str) -> usize {
        self.0.get(obstacle).copied().unwrap_or_default()
    }

    /// Those that keep a session.
    pub(super) fn obstacles(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

/// The most frequent first: `3 not_resumable, 1 data`.
impl fmt::Display for Staying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: Vec<_> = self.0.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (at, (label, count)) in counts.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{count} {label}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_obstacle_is_named_first() {
        let mut staying = Staying::default();
        staying.add(Obstacle::Moving, 5);
        staying.add(Obstacle::Closing, 0);
        assert_eq!(staying.sessions(), 0);
        staying.add(Obstacle::Kept(Kept::Data), 1);
        for _ in 0..3 {
            staying.add(Obstacle::Attempt(Step::Gates), 1);
        }
        assert_eq!(staying.sessions(), 4);
        assert_eq!(staying.to_string(), "5 moving, 3 gates, 1 data");
    }
}
