//! Gates that shut down: their sessions are waited for, although they leave the view.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::cluster::directory::{message::Holding, view::NodeId};

/// How long an owner waits for a gate that shuts down to release its sessions.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The gates that are leaving.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    until: BTreeMap<NodeId, Instant>,
    /// What they have in slots that come here with a later view.
    sessions: Vec<(NodeId, Holding)>,
}

impl Leaving {
    pub(super) fn add(&mut self, gate: &NodeId, holdings: Vec<Holding>, now: Instant) {
        self.until.insert(gate.clone(), now + LEAVE_TIMEOUT);
        let sessions = holdings.into_iter();
        self.sessions
            .extend(sessions.map(|holding| (gate.clone(), holding)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    pub(super) fn contains(&self, gate: &NodeId) -> bool {
        self.until.contains_key(gate)
    }

    pub(super) fn sessions(&self) -> Vec<(NodeId, Holding)> {
        self.sessions.clone()
    }

    /// Notes that a session has ended.
    pub(super) fn released(&mut self, gate: &NodeId, session: i64) {
        self.sessions
            .retain(|(known, holding)| (known, holding.session) != (gate, session));
    }

    /// Whether a gate is waited for no longer.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.until.values().any(|until| *until <= now)
    }

    /// Forgets the gates that are waited for no longer.
    pub(super) fn expire(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        let until = &self.until;
        self.sessions.retain(|(gate, _)| until.contains_key(gate));
    }
}
