//! What a gate keeps of the sessions that come from other gates, and go there.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use crate::{cluster::rendezvous_score, member::Member};

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
    ids: HashSet<i64>,
    until: VecDeque<(Instant, i64)>,
}

/// A session that arrives.
pub(super) struct Arriving<'a> {
    migrations: &'a Migrations,
    id: i64,
}

impl Drop for Arriving<'_> {
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

    /// Notes that a session arrives, until the value is dropped; `None` if it does already.
    pub(super) fn arrive(&self, id: i64) -> Option<Arriving<'_>> {
        let new = self.arriving.lock().insert(id);
        new.then_some(Arriving {
            migrations: self,
            id,
        })
    }

    /// Notes that a session has arrived, and remembers it for a while.
    pub(super) fn arrived(&self, id: i64, remember: Duration, now: Instant) {
        let mut arrived = self.arrived.lock();
        while let Some((until, old)) = arrived.until.front().copied()
            && until <= now
        {
            arrived.until.pop_front();
            arrived.ids.remove(&old);
        }
        if arrived.ids.insert(id) {
            arrived.until.push_back((now + remember, id));
        }
    }

    /// Whether a session has arrived, also if it has ended or moved on since. A gate has a session once:
    /// the call which brings it may be repeated, and must not revive it.
    pub(super) fn has_arrived(&self, id: i64) -> bool {
        self.arrived.lock().ids.contains(&id)
    }

    pub(super) fn set_ready(&self, ready: Vec<Member>) {
        *self.ready.lock() = ready;
    }

    /// Notes that a gate has refused a session.
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
    fn a_session_that_has_arrived_is_remembered_for_a_while() {
        let (migrations, now) = (Migrations::default(), Instant::now());
        let remember = Duration::from_secs(60);
        assert!(!migrations.has_arrived(7));
        migrations.arrived(7, remember, now);
        migrations.arrived(8, remember, now + remember / 2);
        assert!(migrations.has_arrived(7) && migrations.has_arrived(8));
        migrations.arrived(9, remember, now + remember);
        assert!(!migrations.has_arrived(7) && migrations.has_arrived(8));
    }
}
