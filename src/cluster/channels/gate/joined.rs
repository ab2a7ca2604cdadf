//! A channel as a gate has it. No I/O.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use crate::channel::Position;

/// The members of one channel, and the joins that wait for its owner.
#[derive(Debug)]
pub(in crate::cluster::channels) struct Joined<M, T> {
    /// Shared with deliveries under way.
    pub(in crate::cluster::channels) members: Arc<Vec<M>>,
    pub(in crate::cluster::channels) pending: Vec<Pending<M, T>>,
    pub(in crate::cluster::channels) seen: Position,
    /// The sessions that move, and for which publications wait.
    pub(in crate::cluster::channels) holds: BTreeSet<i64>,
    /// Members that had more at their former gate than was delivered here: up to these positions.
    pub(in crate::cluster::channels) ahead: Vec<(M, Position)>,
}

/// A request to the owner that is not answered.
#[derive(Debug)]
pub(in crate::cluster::channels) struct Pending<M, T> {
    pub(in crate::cluster::channels) join: u64,
    pub(in crate::cluster::channels) subject: Subject<M>,
    pub(in crate::cluster::channels) since: Option<Position>,
    /// `None` if nothing waits for the answer.
    pub(in crate::cluster::channels) call: Option<T>,
    pub(in crate::cluster::channels) retry_at: Instant,
    pub(in crate::cluster::channels) deadline: Instant,
}

/// What a request to the owner is for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cluster::channels) enum Subject<M> {
    Member(M),
    /// A session that is to come from another gate.
    Expected(i64),
    /// The position of the channel alone: everything before it has been delivered then, or is lost.
    Position,
}

impl<M, T> Pending<M, T> {
    /// When it is sent again, or ends.
    pub(in crate::cluster::channels) fn due(&self) -> Instant {
        match self.call {
            Some(_) => self.retry_at.min(self.deadline),
            None => self.retry_at,
        }
    }

    /// Whether it has waited too long. One that nothing waits for goes on while a member is ahead.
    pub(in crate::cluster::channels) fn is_over(&self, now: Instant, is_ahead: bool) -> bool {
        match self.call {
            Some(_) => self.deadline <= now,
            None => !is_ahead,
        }
    }
}

impl<M, T> Default for Joined<M, T> {
    fn default() -> Self {
        Self {
            members: Arc::default(),
            pending: Vec::new(),
            seen: Position::default(),
            holds: BTreeSet::new(),
            ahead: Vec::new(),
        }
    }
}

impl<M: Clone + Eq, T> Joined<M, T> {
    /// Whether the owner sends the gate what is published.
    pub(in crate::cluster::channels) fn is_entered(&self) -> bool {
        !self.members.is_empty() || !self.holds.is_empty()
    }

    /// Whether a member has more than was delivered here.
    pub(in crate::cluster::channels) fn is_ahead(&self) -> bool {
        self.ahead.iter().any(|(_, until)| *until > self.seen)
    }

    /// The last position that the gate or one of its members has seen. An owner which learns of it
    /// goes on behind it.
    pub(in crate::cluster::channels) fn known(&self) -> Position {
        let ahead = self.ahead.iter().map(|(_, until)| *until).max();
        ahead.unwrap_or_default().max(self.seen)
    }

    /// Whether nothing of the channel is left.
    pub(in crate::cluster::channels) fn is_unused(&self) -> bool {
        !self.is_entered() && self.pending.is_empty()
    }

    /// Removes a member. Returns the position up to which it has everything; `None` if it is none.
    pub(in crate::cluster::channels) fn remove(&mut self, member: &M) -> Option<Position> {
        let at = self.members.iter().position(|other| other == member)?;
        Arc::make_mut(&mut self.members).swap_remove(at);
        let ahead = self.ahead.iter().position(|(other, _)| other == member);
        let ahead = ahead.map(|at| self.ahead.swap_remove(at).1);
        Some(ahead.unwrap_or_default().max(self.seen))
    }

    /// Adds a member that has everything up to a position.
    pub(in crate::cluster::channels) fn add(&mut self, member: M, position: Position) {
        if position > self.seen {
            self.ahead.push((member.clone(), position));
        }
        Arc::make_mut(&mut self.members).push(member);
    }

    /// The members that do not have the publication at a position yet. It is the next one here.
    pub(in crate::cluster::channels) fn receivers(&mut self, position: Position) -> Arc<Vec<M>> {
        if self.ahead.is_empty() {
            return self.members.clone();
        }
        let have = |member: &M| {
            let mut ahead = self.ahead.iter();
            ahead.any(|(other, until)| other == member && position <= *until)
        };
        let lack = self.members.iter().filter(|member| !have(member));
        let lack = Arc::new(lack.cloned().collect());
        self.ahead.retain(|(_, until)| position < *until);
        lack
    }
}
