//! What a gate keeps of the sessions that come from other gates, and go there.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::member::Member;

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
    /// The gates that take sessions. A leaf lock.
    ready: Mutex<Vec<Member>>,
}

impl Default for Migrations {
    fn default() -> Self {
        Self {
            listening: AtomicBool::new(false),
            leaving: Arc::new(Semaphore::new(MAX_MIGRATING)),
            arriving: Mutex::default(),
            ready: Mutex::default(),
        }
    }
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
            .max_by_key(|member| weight(session, member.address()));
        chosen.cloned()
    }
}

fn weight(session: i64, address: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (session, address).hash(&mut hasher);
    hasher.finish()
}
