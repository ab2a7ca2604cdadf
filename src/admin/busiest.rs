//! Which clients send most, to this gate or by way of others.

use std::{cmp::Reverse, collections::HashMap, sync::atomic::Ordering, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::session::Sessions;

/// Sessions that are looked at, and those that are shown.
const SCAN: usize = 100_000;
const SHOWN: usize = 25;

/// The least time between two counts. Requests in between get the answer of the last one.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the rate of a session is shown after it was counted.
const FRESH: Duration = Duration::from_secs(10);

/// Messages of each session's client at the last count, and what came of it.
///
/// The lock guards the counts. The table of sessions is locked under it.
#[derive(Debug, Default)]
pub(super) struct Busiest(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    at: Option<Instant>,
    messages: HashMap<i64, u64>,
    /// Messages per second of the sessions that have sent any.
    sending: HashMap<i64, f64>,
    latest: Rates,
}

/// Sessions and their messages per second, the busiest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// How long the messages were counted.
    pub(super) over: Duration,
    /// Sessions that have sent, of which at most 25 are in the list.
    pub(super) sending: usize,
    pub(super) sessions: Vec<(i64, f64)>,
    /// The same of the clients of this node alone, whose messages are counted all.
    pub(super) local: LocalRates,
}

/// The clients of this node that have sent.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalRates {
    /// How many they are, of which at most 25 are in the list.
    pub(super) sending: usize,
    /// What half of them exceed.
    pub(super) median: f64,
    pub(super) sessions: Vec<(i64, f64)>,
}

impl LocalRates {
    pub(super) fn of(sending: &[(i64, f64)]) -> Self {
        let mut rates: Vec<_> = sending.iter().map(|(_, rate)| *rate).collect();
        let middle = rates.len() / 2;
        // Of two, the lower one.
        let compare = |a: &f64, b: &f64| b.total_cmp(a);
        let median = (!rates.is_empty()).then(|| *rates.select_nth_unstable_by(middle, compare).1);
        Self {
            sending: rates.len(),
            median: median.unwrap_or_default(),
            sessions: busiest(sending.iter().copied()),
        }
    }
}

impl Busiest {
    /// Counts the messages since the last count.
    pub(super) fn count(&self, sessions: &Sessions, now: Instant) -> Rates {
        let mut counts = self.0.lock();
        let over = counts.at.map(|at| now.saturating_duration_since(at));
        if over.is_some_and(|over| over < INTERVAL) {
            return counts.latest.clone();
        }
        let total = |id| {
            let session = sessions.find(id)?;
            Some((id, session.inner().messages.load(Ordering::Relaxed)))
        };
        let ids = sessions.ids(0, SCAN).into_iter();
        let messages: HashMap<_, _> = ids.filter_map(total).collect();
        let sending = over.map_or_else(HashMap::new, |over| {
            let new = |(id, total): (&i64, &u64)| {
                let before = counts.messages.get(id).copied().unwrap_or_default();
                let rate = total.saturating_sub(before) as f64 / over.as_secs_f64();
                (rate > 0.0).then_some((*id, rate))
            };
            messages.iter().filter_map(new).collect()
        });
        let local: Vec<_> = sending
            .iter()
            .map(|(id, rate)| (*id, *rate))
            .filter(|(id, _)| sessions.is_local(*id))
            .collect();
        let latest = Rates {
            over: over.unwrap_or_default(),
            sending: sending.len(),
            sessions: busiest(sending.iter().map(|(id, rate)| (*id, *rate))),
            local: LocalRates::of(&local),
        };
        *counts = Counts {
            at: Some(now),
            messages,
            sending,
            latest: latest.clone(),
        };
        latest
    }

    /// The messages per second of one client, if they were counted lately. Counts nothing itself.
    pub(super) fn rate(&self, id: i64, now: Instant) -> Option<f64> {
        let counts = self.0.lock();
        let age = now.saturating_duration_since(counts.at?);
        let known = age <= FRESH && !counts.latest.over.is_zero();
        (known && counts.messages.contains_key(&id))
            .then(|| counts.sending.get(&id).copied().unwrap_or_default())
    }
}

/// The sessions with the highest rates. Those with much the same are in the order of their ids, so
/// that a list keeps its order while nothing of note changes.
fn busiest(sending: impl Iterator<Item = (i64, f64)>) -> Vec<(i64, f64)> {
    let mut busy: Vec<_> = sending.collect();
    busy.sort_by_key(|(id, rate)| (Reverse(magnitude(*rate)), *id));
    busy.truncate(SHOWN);
    busy
}

/// The same for rates that differ by less than about a third.
fn magnitude(rate: f64) -> i64 {
    (rate.log2() * 2.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_with_much_the_same_rates_keep_their_order() {
        let mut sending: Vec<_> = (1..=60)
            .map(|id| (id, [4.0, 4.1, 3.9][id as usize % 3]))
            .collect();
        sending.push((61, 8.0));
        let busy = busiest(sending.into_iter());
        let ids: Vec<_> = busy.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids[..4], [61, 1, 2, 3]);
        assert_eq!(ids.len(), SHOWN);
    }
}
