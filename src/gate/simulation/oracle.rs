//! What clients, gates and backends saw, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::At;
use crate::session::{Session, SessionKey};

/// What happens in a hundred seeds.
pub(super) const ALL_EVENTS: [&str; 21] = [
    "adopt repeated",
    "answered after a move",
    "closed when it has moved",
    "closed while it moves",
    "connection lost",
    "crash",
    "expired or lost",
    "gate restarted",
    "held for a move",
    "kicked",
    "link broken",
    "lost with the next gate",
    "moved",
    "not attached",
    "request failed",
    "returned",
    "returned while it moves",
    "returned twice",
    "searched",
    "stayed",
    "tunnelled",
];

/// What happens in thousands of seeds, and where the defect `AsksNoOthers` is found.
pub(super) const RARE_EVENTS: [&str; 1] = ["moved on by a gate that died"];

/// What a gate has accepted for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    Push { instance: usize, number: u64 },
    Response(u64),
}

#[derive(Default)]
pub(super) struct Oracle {
    /// Whether nothing may be lost.
    pub(super) quiet: bool,
    pub(super) events: BTreeMap<&'static str, u64>,
    /// What gates have accepted for each session's client, and the client has not got.
    accepted: BTreeMap<i64, VecDeque<Accepted>>,
    /// The messages of each session that gates have taken.
    taken: BTreeMap<i64, u64>,
    /// Served sessions, which last until their number is no longer of use.
    pub(super) instances: Vec<Instance>,
    /// The last message of a session that arrived at a backend.
    delivered: BTreeMap<(i64, usize), u64>,
    /// Sessions that may be lost: a gate that had one has crashed.
    pub(super) may_be_lost: BTreeSet<i64>,
    /// Sessions that have been kicked.
    pub(super) kicked: BTreeSet<i64>,
    /// Sessions that have ended at a gate.
    ended: BTreeSet<i64>,
    pub(super) closes: Closes,
}

/// How often sessions are closed.
#[derive(Default)]
pub(super) struct Closes {
    /// By backends and applications.
    pub(super) kicks: BTreeMap<i64, usize>,
    /// By gates at which they were, at other gates: by gate, its incarnation and session.
    sent: BTreeMap<(usize, u64, i64), usize>,
}

impl Closes {
    /// A gate closes a session that has moved at another gate.
    pub(super) fn sent(&mut self, at: At) -> Result<(), String> {
        let sent = self
            .sent
            .entry((at.gate, at.incarnation, at.id))
            .or_default();
        *sent += 1;
        let kicks = self.kicks.get(&at.id).copied().unwrap_or_default();
        // One goes to the others, which may pass it on to this gate.
        if *sent > kicks + 2 {
            return Err(format!(
                "session {}: {sent} closes of gate {} after {kicks} kicks",
                at.id, at.gate
            ));
        }
        Ok(())
    }
}

/// A session that a backend serves, or has served.
pub(super) struct Instance {
    pub(super) session: Session,
    pub(super) sent: u64,
    /// The last push that arrived at a gate.
    pushed: u64,
    pub(super) ended: bool,
}

impl Oracle {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    /// A push has arrived at a gate.
    pub(super) fn pushed(&mut self, id: i64, instance: usize, number: u64) -> Result<(), String> {
        let last = std::mem::replace(&mut self.instances[instance].pushed, number);
        if number <= last || self.quiet && number != last + 1 {
            return Err(format!(
                "session {id}: push {number} of {instance} behind {last}"
            ));
        }
        Ok(())
    }

    /// A gate has accepted something for a client.
    pub(super) fn accepted(&mut self, id: i64, what: Accepted) {
        self.accepted.entry(id).or_default().push_back(what);
    }

    /// A client has got something. What a gate has accepted is missed only with the session, also if the
    /// gate crashes.
    pub(super) fn got(&mut self, id: i64, got: Accepted) -> Result<(), String> {
        let next = self.accepted.entry(id).or_default().pop_front();
        if next != Some(got) {
            return Err(format!("session {id}: {got:?}, not {next:?}"));
        }
        Ok(())
    }

    /// What has not arrived of a session.
    pub(super) fn missing(&self, id: i64) -> Option<Accepted> {
        self.accepted.get(&id)?.front().copied()
    }

    /// A gate has taken a message of a client.
    pub(super) fn took(&mut self, id: i64, number: u64) -> Result<(), String> {
        let taken = self.taken.entry(id).or_default();
        *taken += 1;
        if *taken != number {
            return Err(format!(
                "session {id}: message {number} is taken as {taken}"
            ));
        }
        Ok(())
    }

    pub(super) fn taken(&self, id: i64) -> u64 {
        self.taken.get(&id).copied().unwrap_or(0)
    }

    /// The instance of a session at a backend.
    pub(super) fn instance(&mut self, session: &Session) -> usize {
        let key: SessionKey = session.key();
        let mut instances = self.instances.iter();
        instances
            .position(|it| it.session.key() == key)
            .unwrap_or_else(|| {
                self.instances.push(Instance {
                    session: session.clone(),
                    sent: 0,
                    pushed: 0,
                    ended: false,
                });
                self.instances.len() - 1
            })
    }

    /// A message has arrived at a backend; `number` counts those of the session to it.
    pub(super) fn delivered(
        &mut self,
        at: usize,
        session: &Session,
        number: u64,
    ) -> Result<(), String> {
        let instance = self.instance(session);
        let id = session.id();
        if self.instances[instance].ended {
            return Err(format!("session {id}: a message behind the end at {at}"));
        }
        let last = self.delivered.insert((id, at), number).unwrap_or(0);
        if number <= last || self.quiet && number != last + 1 {
            return Err(format!(
                "session {id}: message {number} behind {last} at {at}"
            ));
        }
        Ok(())
    }

    pub(super) fn last_delivered(&self, id: i64, at: usize) -> u64 {
        self.delivered.get(&(id, at)).copied().unwrap_or(0)
    }

    /// A backend sees the end of a session.
    pub(super) fn ended_at(&mut self, at: usize, session: &Session) -> Result<(), String> {
        let (instance, id) = (self.instance(session), session.id());
        if std::mem::replace(&mut self.instances[instance].ended, true) {
            return Err(format!("session {id}: ends twice at {at}"));
        }
        if self.quiet && !self.ended.contains(&id) {
            return Err(format!("session {id}: ends at {at}, and is open"));
        }
        Ok(())
    }

    /// A gate has crashed that knew of a kick: the session may be lost, or go on.
    pub(super) fn forget_kick(&mut self, id: i64) {
        if self.kicked.remove(&id) {
            self.may_be_lost.insert(id);
        }
    }

    /// A gate ends a session.
    pub(super) fn ended(&mut self, id: i64) -> Result<(), String> {
        if !self.ended.insert(id) {
            return Err(format!("session {id}: ends at two gates"));
        }
        Ok(())
    }

    /// Whether a session may end.
    pub(super) fn may_end(&self, id: i64) -> bool {
        self.may_be_lost.contains(&id) || self.kicked.contains(&id)
    }

    /// A client learns that its session is lost.
    pub(super) fn lost(&mut self, id: i64, why: &str) -> Result<(), String> {
        self.count("expired or lost");
        if !self.may_end(id) {
            return Err(format!("session {id}: lost, {why}"));
        }
        Ok(())
    }
}
