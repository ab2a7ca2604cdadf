//! Sessions of one gate that have ended, so that a late message of a node of Go nano does not bring
//! them back. No I/O.

use std::collections::{HashSet, VecDeque};

/// So many are remembered.
const LIMIT: usize = 4096;

/// The last sessions that ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    ids: HashSet<i64>,
    /// The same in the order they ended.
    order: VecDeque<i64>,
}

impl Ended {
    pub(super) fn contains(&self, id: i64) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn insert(&mut self, id: i64) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Its gate says that it is there after all.
    pub(super) fn remove(&mut self, id: i64) {
        if self.ids.remove(&id) {
            self.order.retain(|ended| *ended != id);
        }
    }
}
