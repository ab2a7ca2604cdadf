//! Calls that wait for another node's reply.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    error::{Error, code},
    session::ReplyTo,
};

#[derive(Default)]
pub(super) struct Calls {
    last_id: AtomicU64,
    waiting: Mutex<HashMap<u64, (Way, Arc<ReplyTo>)>>,
}

/// The stream that a call went out on, and that its reply's stream stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) incarnation: u64,
    pub(super) shard: usize,
}

impl Calls {
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn insert(&self, id: u64, way: Way, caller: Arc<ReplyTo>) {
        self.waiting.lock().insert(id, (way, caller));
    }

    /// Forgets those whose caller has stopped waiting.
    pub(super) fn expire(&self, now: Instant) {
        let late = |_: &u64, (_, caller): &mut (Way, Arc<ReplyTo>)| is_late(caller, now);
        let expired: Vec<_> = self
            .waiting
            .lock()
            .extract_if(late)
            .map(|(_, waiting)| waiting)
            .collect();
        fail(expired, || {
            Error::new(code::TIMEOUT, "nobody answered the call in time")
        });
    }

    pub(super) fn take(&self, id: u64) -> Option<Arc<ReplyTo>> {
        self.waiting.lock().remove(&id).map(|(_, caller)| caller)
    }

    /// The stream is gone, and the replies with it.
    pub(super) fn lost(&self, way: Way) {
        let lost: Vec<_> = self
            .waiting
            .lock()
            .extract_if(|_, (taken, _)| *taken == way)
            .map(|(_, waiting)| waiting)
            .collect();
        fail(lost, || {
            Error::new(code::UNAVAILABLE, "the member went away before it answered")
        });
    }

    /// How many wait for their reply, and their caller with them.
    pub(super) fn waiting(&self, now: Instant) -> usize {
        self.waiting
            .lock()
            .values()
            .filter(|(_, caller)| !is_late(caller, now))
            .count()
    }
}

fn is_late(caller: &ReplyTo, now: Instant) -> bool {
    caller.deadline().is_some_and(|deadline| deadline <= now)
}

fn fail(calls: Vec<(Way, Arc<ReplyTo>)>, error: impl Fn() -> Error) {
    for (_, caller) in calls {
        // An answer that came first wins.
        let _ = caller.answer(Err(error()));
    }
}
