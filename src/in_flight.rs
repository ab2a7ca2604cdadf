//! The table of unanswered requests.

use std::{collections::VecDeque, mem};

use tokio::time::Instant;

/// Requests in order of arrival, each with an optional deadline and a payload.
///
/// Ids need not be unique or ascending: they may come from a client. Insertion is O(1). Answers
/// mostly come in order of arrival, so [`take`](InFlight::take) tries the oldest request first,
/// then a binary search, which finds ids that ascend in O(log n), and at last a scan. Removal moves
/// at most half of the entries. The rest is O(n), and meant for timers and for the end of a
/// connection. An empty table holds no memory once it has been [drained](InFlight::drain).
///
/// Holds no lock and reads no clock. The owner bounds its length.
#[derive(Debug)]
pub(crate) struct InFlight<T = ()> {
    entries: VecDeque<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    id: u64,
    deadline: Option<Instant>,
    payload: T,
}

impl<T> InFlight<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The ids and deadlines, in the order of their arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Option<Instant>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.id, entry.deadline))
    }

    /// Adds a request; `None` as its deadline is never [expired](InFlight::expired).
    #[inline]
    pub(crate) fn insert(&mut self, id: u64, deadline: Option<Instant>, payload: T) {
        self.entries.push_back(Entry {
            id,
            deadline,
            payload,
        });
    }

    /// Removes a request and returns its payload; `None` if no such request is in flight. Of
    /// several with one id it removes one.
    pub(crate) fn take(&mut self, id: u64) -> Option<T> {
        let at = self.position(id)?;
        self.entries.remove(at).map(|entry| entry.payload)
    }

    /// [`take`](InFlight::take) with the deadline of a request.
    pub(crate) fn take_entry(&mut self, id: u64) -> Option<(Option<Instant>, T)> {
        let at = self.position(id)?;
        let entry = self.entries.remove(at)?;
        Some((entry.deadline, entry.payload))
    }

    /// Returns all requests whose deadline is at or before `now`, in order of arrival. They stay in
    /// flight until they are [taken](InFlight::take), so that a late answer and its timeout cannot
    /// both win.
    pub(crate) fn expired(&self, now: Instant) -> impl Iterator<Item = (u64, &T)> {
        self.entries
            .iter()
            .filter(move |entry| entry.is_expired(now))
            .map(|entry| (entry.id, &entry.payload))
    }

    /// Removes the oldest requests up to the first that has not expired at `now`. With one timeout
    /// for all requests, these are all that have expired.
    pub(crate) fn discard_expired(&mut self, now: Instant) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.is_expired(now))
        {
            self.entries.pop_front();
        }
    }

    /// Returns how many requests have not expired at `now`.
    pub(crate) fn waiting(&self, now: Instant) -> usize {
        let waiting = self.entries.iter().filter(|entry| !entry.is_expired(now));
        waiting.count()
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.deadline).min()
    }

    /// Removes all requests, in order of arrival, and frees the memory.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        mem::take(&mut self.entries)
            .into_iter()
            .map(|entry| (entry.id, entry.payload))
    }

    fn position(&self, id: u64) -> Option<usize> {
        let entries = &self.entries;
        if entries.front()?.id == id {
            return Some(0);
        }
        entries
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()
            .or_else(|| entries.iter().position(|entry| entry.id == id))
    }
}

impl<T> Entry<T> {
    fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn with_ids(ids: &[u64]) -> InFlight<usize> {
        let mut table = InFlight::default();
        for (at, &id) in ids.iter().enumerate() {
            table.insert(id, None, at);
        }
        table
    }

    #[test]
    fn every_request_is_taken_once_in_any_order_of_ids() {
        for ids in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 9, 1, 7, 2]] {
            for first in 0..ids.len() {
                let mut table = with_ids(&ids);
                for step in 0..ids.len() {
                    let at = (first + 2 * step) % ids.len();
                    assert_eq!(table.take(ids[at]), Some(at), "{ids:?}");
                    assert_eq!(table.take(ids[at]), None, "{ids:?}");
                }
                assert!(table.is_empty());
            }
        }
    }

    #[test]
    fn requests_with_one_id_are_taken_one_by_one() {
        let mut table = with_ids(&[7, 7, 8, 7]);
        let mut taken: Vec<_> = (0..3).filter_map(|_| table.take(7)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 3]);
        assert_eq!(table.take(7), None);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn expired_requests_stay_until_they_are_taken() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut table = InFlight::default();
        table.insert(1, Some(at(3)), ());
        table.insert(2, None, ());
        table.insert(3, Some(at(1)), ());
        assert_eq!(table.next_deadline(), Some(at(1)));
        let expired = |table: &InFlight, seconds| -> Vec<u64> {
            table.expired(at(seconds)).map(|(id, ())| id).collect()
        };
        assert_eq!(expired(&table, 0), [0; 0]);
        assert_eq!(expired(&table, 1), [3]);
        assert_eq!(expired(&table, 9), [1, 3]);
        assert_eq!(table.take(3), Some(()));
        assert_eq!(expired(&table, 9), [1]);
        assert_eq!(table.next_deadline(), Some(at(3)));
        table.take(1);
        assert_eq!(table.next_deadline(), None);
    }

    #[test]
    fn discarding_stops_at_the_oldest_request_that_has_not_expired() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut table = InFlight::default();
        for (id, seconds) in [(1, 1), (2, 2), (3, 9), (4, 2)] {
            table.insert(id, Some(at(seconds)), ());
        }
        table.insert(5, None, ());
        assert_eq!(table.waiting(at(2)), 2);
        table.discard_expired(at(2));
        assert_eq!(table.len(), 3, "the fourth is behind the third");
        assert_eq!((table.take(2), table.take(4)), (None, Some(())));
    }

    #[test]
    fn a_drain_keeps_the_order_of_arrival_and_no_memory() {
        let mut table = with_ids(&[3, 1, 2]);
        let drained: Vec<_> = table.drain().collect();
        assert_eq!(drained, [(3, 0), (1, 1), (2, 2)]);
        assert!(table.is_empty());
        assert_eq!(table.entries.capacity(), 0);
    }
}
