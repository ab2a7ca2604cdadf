//! Sessions of one peer that have ended, so that a late message cannot reopen them. No I/O.

use std::collections::{HashSet, VecDeque};

/// Sessions remembered at most.
const LIMIT: usize = 4096;

/// The sessions that ended last.
#[derive(Debug, Default)]
pub(in crate::cluster) struct ClosedSessions {
    ids: HashSet<i64>,
    /// The same ids, in the order in which they ended.
    order: VecDeque<i64>,
}

impl ClosedSessions {
    pub(in crate::cluster) fn contains(&self, id: i64) -> bool {
        self.ids.contains(&id)
    }

    /// Remembers that a session has ended. Above the limit the oldest is forgotten.
    pub(in crate::cluster) fn insert(&mut self, id: i64) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Forgets a session that its gate has opened again.
    pub(in crate::cluster) fn remove(&mut self, id: i64) {
        if self.ids.remove(&id) {
            self.order.retain(|closed| *closed != id);
        }
    }
}
