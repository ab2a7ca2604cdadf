//! The requests of one client that nobody has answered yet.

use std::collections::VecDeque;

use tokio::time::Instant;

/// In the order of arrival, which with one timeout for all is the order of their deadlines. Answers
/// mostly come in that order too, so the search for an id ends at the front.
#[derive(Debug, Default)]
pub(super) struct Pending(VecDeque<(u64, Instant)>);

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, id: u64, arrived: Instant) {
        self.0.push_back((id, arrived));
    }

    /// Whether the request waited for an answer; from now on it does not.
    pub(super) fn take(&mut self, id: u64) -> bool {
        match self.0.iter().position(|(waiting, _)| *waiting == id) {
            Some(at) => self.0.remove(at).is_some(),
            None => false,
        }
    }

    /// The ids of all requests that arrived at or before `then`; they stay until they are
    /// [taken](Pending::take).
    pub(super) fn before(&self, then: Instant) -> Vec<u64> {
        self.0
            .iter()
            .take_while(|(_, arrived)| *arrived <= then)
            .map(|(id, _)| *id)
            .collect()
    }

    /// When the oldest arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.front().map(|(_, arrived)| *arrived)
    }
}
