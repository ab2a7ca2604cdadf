//! What the simulation looks at.

use super::{Holdings, record::State};
use crate::{cluster::directory::message::Holding, session::UserId};

impl Holdings {
    /// Returns the sessions that have claims, and the latest view the gate has heard of.
    pub(crate) fn granted(&self) -> (Vec<(UserId, i64)>, u64) {
        let sessions = self.sessions.iter();
        let granted = sessions.filter(|(_, record)| matches!(record.state, State::Granted { .. }));
        let granted = granted.map(|(session, record)| (record.user.clone(), *session));
        (granted.collect(), self.promises.joined())
    }

    /// Returns what the gate has.
    pub(crate) fn all(&self) -> Vec<Holding> {
        self.held(|_| true)
    }
}
