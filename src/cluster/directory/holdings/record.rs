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

/// How far a session is.
#[derive(Debug)]
pub(super) enum State {
    /// Bound, perhaps one of several.
    Bound,
    /// A claim is under way, or due again at `retry`.
    Claiming {
        policy: Policy,
        retry: Option<Instant>,
        until: Instant,
    },
    /// The user's only session.
    Granted { claim: u64 },
    /// The session has ended, and its close callbacks run.
    Closing {
        claim: u64,
        /// When waiting callers learn that the callbacks are late; `None` after that.
        until: Option<Instant>,
        waiting: Vec<CallerId>,
    },
}

impl Record {
    /// Returns the number of its claim; 0 if it has none.
    pub(super) fn claim(&self) -> u64 {
        match self.state {
            State::Granted { claim } | State::Closing { claim, .. } => claim,
            State::Bound | State::Claiming { .. } => 0,
        }
    }

    /// Whether owners should know it: a claim under way is not decided, and a session whose close
    /// callbacks are late delays no login any more.
    pub(super) fn is_held(&self) -> bool {
        !matches!(
            self.state,
            State::Claiming { .. } | State::Closing { until: None, .. }
        )
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
