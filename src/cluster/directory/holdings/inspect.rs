//! What the simulation looks at.

use super::{Holdings, record::State};
use crate::{
    cluster::directory::{
        message::{CallId, Holding, Place},
        slots::slot_of,
    },
    session::UserId,
};

impl Holdings {
    /// Returns the sessions that have claims.
    pub(crate) fn granted(&self) -> impl Iterator<Item = (&UserId, i64)> {
        let sessions = self.sessions.iter();
        let granted = sessions.filter(|(_, record)| matches!(record.state, State::Granted { .. }));
        granted.map(|(session, record)| (&record.user, session))
    }

    /// Returns the first call that has no reply yet.
    pub(crate) fn first_call(&self) -> Option<CallId> {
        self.calls.keys().next().copied()
    }

    /// Returns the user of a session.
    pub(crate) fn user_of(&self, session: i64) -> Option<&UserId> {
        self.sessions.get(session).map(|record| &record.user)
    }

    /// Returns the earliest view whose grants of a user are accepted.
    pub(crate) fn earliest(&self, user: &UserId) -> u64 {
        self.promises.earliest(slot_of(user))
    }

    /// Returns the session whose login a session of the gate makes way for.
    pub(crate) fn claimant(&self, session: i64) -> Option<&Place> {
        match &self.sessions.get(session)?.state {
            State::Closing(closing) => closing.claimant.as_ref(),
            _ => None,
        }
    }

    /// Returns what the gate has.
    pub(crate) fn all(&self) -> Vec<Holding> {
        super::held(self.sessions.iter())
    }
}
