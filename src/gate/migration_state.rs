//! What a gate keeps of the sessions that come from other gates, and go there.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use super::resume::{registry::Registry, token::Secret};
use crate::{
    cluster::rendezvous_score,
    error::{Error, Result, code},
    member::Member,
};

/// The sessions of a gate that move at a time.
const MAX_MIGRATING: usize = 64;

/// The migrations of one gate.
pub(super) struct Migrations {
    /// Whether clients can come here.
    listening: AtomicBool,
    /// One permit for each session that leaves.
    pub(super) leaving: Arc<Semaphore>,
    /// The sessions that arrive. A leaf lock.
    arriving: Mutex<HashSet<i64>>,
    /// The sessions that have arrived. A leaf lock.
    arrived: Mutex<Remembered>,
    /// The gates that take sessions. A leaf lock.
    ready: Mutex<Vec<Member>>,
}

impl Default for Migrations {
    fn default() -> Self {
        Self {
            listening: AtomicBool::new(false),
            leaving: Arc::new(Semaphore::new(MAX_MIGRATING)),
            arriving: Mutex::default(),
            arrived: Mutex::default(),
            ready: Mutex::default(),
        }
    }
}

/// Sessions that have arrived, and until when they are remembered.
#[derive(Default)]
struct Remembered {
    /// With the secret that each came with.
    ids: HashMap<i64, Secret>,
    until: VecDeque<(Instant, i64)>,
}

/// A session that arrives. Until it is dropped, the same session does not arrive again.
pub(super) struct Arriving {
    migrations: Arc<Migrations>,
    id: i64,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.migrations.arriving.lock().remove(&self.id);
    }
}

impl Migrations {
    pub(super) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Decides about a call that brings a session, which may be a repeated one. `None` if this gate has
    /// the session, or has had it: a gate has a session once, and the call must not revive it.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] while the same call is under way, [`code::CONFLICT`] if another session
    /// has the id.
    pub(super) fn admit(
        self: &Arc<Self>,
        id: i64,
        secret: &Secret,
        sessions: &Registry,
    ) -> Result<Option<Arriving>> {
        if !self.arriving.lock().insert(id) {
            return Err(Error::new(code::UNAVAILABLE, "under way"));
        }
        let arriving = Arriving {
            migrations: self.clone(),
            id,
        };
        // With the secret that it came with: its client may have been here since, and have another.
        let known = self.arrived.lock().ids.get(&id).copied();
        let known = known.or_else(|| sessions.secrets(id).map(|secrets| secrets.current));
        match known {
            Some(known) if known.is(secret) => Ok(None),
            Some(_) => Err(Error::new(code::CONFLICT, "another session has this id")),
            None => Ok(Some(arriving)),
        }
    }

    /// Whether a call is under way that brings this session.
    pub(super) fn is_arriving(&self, id: i64) -> bool {
        self.arriving.lock().contains(&id)
    }

    /// Notes that a session has arrived with this secret, and remembers it for a while, also if it ends
    /// or moves on.
    pub(super) fn arrived(&self, id: i64, secret: Secret, remember: Duration, now: Instant) {
        let mut arrived = self.arrived.lock();
        while let Some((until, old)) = arrived.until.front().copied()
            && until <= now
        {
            arrived.until.pop_front();
            arrived.ids.remove(&old);
        }
        if arrived.ids.insert(id, secret).is_none() {
            arrived.until.push_back((now + remember, id));
        }
    }

    pub(super) fn set_ready(&self, ready: Vec<Member>) {
        *self.ready.lock() = ready;
    }

    /// Notes that a gate has refused a session, or has not answered.
    pub(super) fn refused(&self, gate: &Member) {
        let mut ready = self.ready.lock();
        ready.retain(|member| member.address() != gate.address());
    }

    /// Chooses the next gate of a session: by rendezvous, among those that take one.
    pub(super) fn choose(&self, session: i64) -> Option<Member> {
        let ready = self.ready.lock();
        let chosen = ready
            .iter()
            .max_by_key(|member| rendezvous_score(session.unsigned_abs(), member.address()));
        chosen.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_arrives_once_and_is_remembered_for_a_while() {
        let (migrations, now) = (Arc::<Migrations>::default(), Instant::now());
        let remember = Duration::from_secs(60);
        let [secret, other] = [[7; 16], [8; 16]].map(|bytes| Secret::of(&bytes).unwrap());
        let sessions = Registry::default();
        let admit = |id, secret| migrations.admit(id, secret, &sessions);
        let arriving = admit(7, &secret).unwrap().unwrap();
        let under_way = admit(7, &secret).err().unwrap();
        assert_eq!(under_way.code(), code::UNAVAILABLE);
        migrations.arrived(7, secret, remember, now);
        drop(arriving);
        assert!(admit(7, &secret).unwrap().is_none(), "it was repeated");
        let conflict = admit(7, &other).err().unwrap();
        assert_eq!(conflict.code(), code::CONFLICT);
        assert!(admit(8, &secret).unwrap().is_some());
        migrations.arrived(9, secret, remember, now + remember);
        assert!(admit(7, &secret).unwrap().is_some(), "long ago");
        assert!(admit(9, &secret).unwrap().is_none());
    }
}
