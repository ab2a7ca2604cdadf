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
    session::Caller,
};

/// From how many on it looks for those whose caller has stopped waiting.
const SWEEP: usize = 256;

#[derive(Default)]
pub(super) struct Calls {
    last_id: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, (Way, Arc<Caller>)>,
    sweep_at: usize,
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

    pub(super) fn insert(&self, id: u64, way: Way, caller: Arc<Caller>) {
        let expired: Vec<_> = {
            let mut table = self.table.lock();
            let mut expired = Vec::new();
            if table.waiting.len() >= table.sweep_at.max(SWEEP) {
                let now = Instant::now();
                let late = |_: &u64, (_, caller): &mut (Way, Arc<Caller>)| caller.deadline().is_some_and(|deadline| deadline <= now);
                expired.extend(table.waiting.extract_if(late).map(|(_, waiting)| waiting));
                table.sweep_at = table.waiting.len() * 2;
            }
            table.waiting.insert(id, (way, caller));
            expired
        };
        fail(expired, || Error::new(code::TIMEOUT, "nobody answered the call in time"));
    }

    pub(super) fn take(&self, id: u64) -> Option<Arc<Caller>> {
        self.table.lock().waiting.remove(&id).map(|(_, caller)| caller)
    }

    /// The stream is gone, and the replies with it.
    pub(super) fn lost(&self, way: Way) {
        let lost: Vec<_> = self.table.lock().waiting.extract_if(|_, (taken, _)| *taken == way).map(|(_, waiting)| waiting).collect();
        fail(lost, || Error::new(code::UNAVAILABLE, "the member went away before it answered"));
    }

    pub(super) fn len(&self) -> usize {
        self.table.lock().waiting.len()
    }
}

fn fail(calls: Vec<(Way, Arc<Caller>)>, error: impl Fn() -> Error) {
    for (_, caller) in calls {
        // An answer that came first wins.
        let _ = caller.answer(Err(error()));
    }
}
