//! One session of a gate.

use tokio::time::Instant;

use crate::{
    cluster::directory::message::{CallerId, Holding, Policy},
    session::UserId,
};

/// A session with a user.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) user: UserId,
    pub(super) state: State,
}

/// How far a session is. What passes is boxed, so that the many that stay are small.
#[derive(Debug)]
pub(super) enum State {
    /// Bound, perhaps one of several.
    Bound,
    /// A claim is under way.
    Claiming(Box<Claiming>),
    /// The user's only session.
    Granted { claim: u64 },
    /// The session has ended, and its close callbacks run.
    Closing(Box<Closing>),
}

/// A claim that is under way, or due again at `retry`.
#[derive(Debug)]
pub(super) struct Claiming {
    pub(super) policy: Policy,
    pub(super) retry: Option<Instant>,
    pub(super) until: Instant,
}

/// A session that has ended.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) claim: u64,
    /// When the session is forgotten, and waiting owners learn that the callbacks are late.
    pub(super) until: Instant,
    pub(super) waiting: Vec<CallerId>,
    /// Whether it was ended for an owner.
    pub(super) replaced: bool,
    /// Whether the gate waits for the callbacks. It does so for the first owner that asks.
    pub(super) awaited: bool,
}

impl Record {
    /// Returns the number of its claim; 0 if it has none.
    pub(super) fn claim(&self) -> u64 {
        match &self.state {
            State::Granted { claim } => *claim,
            State::Closing(closing) => closing.claim,
            State::Bound | State::Claiming(_) => 0,
        }
    }

    /// Whether owners should know it: a claim under way is not decided.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self.state, State::Claiming(_))
    }

    /// Returns what owners know of it.
    pub(super) fn holding(&self, session: i64) -> Holding {
        Holding {
            user: self.user.clone(),
            session,
            claim: self.claim(),
        }
    }
}
