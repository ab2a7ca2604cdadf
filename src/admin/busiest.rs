//! Which clients send most.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::session::Sessions;

/// Sessions that are looked at, and those that are shown.
const SCAN: usize = 100_000;
const SHOWN: usize = 25;

/// The least time between two counts. Requests in between get the answer of the last one.
const INTERVAL: Duration = Duration::from_secs(1);

/// Messages of each client's session at the last count, and what came of it.
///
/// The lock guards the counts. The table of sessions is locked under it.
#[derive(Debug, Default)]
pub(super) struct Busiest(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    at: Option<Instant>,
    messages: HashMap<i64, u64>,
    latest: Rates,
}

/// Sessions and their messages per second, the busiest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// How long the messages were counted.
    pub(super) over: Duration,
    pub(super) sessions: Vec<(i64, f64)>,
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
            let session = sessions.find_local(id)?;
            Some((id, session.inner().messages.load(Ordering::Relaxed)))
        };
        let ids = sessions.ids(0, SCAN).into_iter();
        let messages: HashMap<_, _> = ids.filter_map(total).collect();
        let mut rates = Rates::default();
        if let Some(over) = over {
            let new = |(id, total): (&i64, &u64)| {
                let before = counts.messages.get(id).copied().unwrap_or_default();
                let rate = total.saturating_sub(before) as f64 / over.as_secs_f64();
                (rate > 0.0).then_some((*id, rate))
            };
            let mut busy: Vec<_> = messages.iter().filter_map(new).collect();
            busy.sort_by(|a, b| b.1.total_cmp(&a.1));
            busy.truncate(SHOWN);
            rates = Rates {
                over,
                sessions: busy,
            };
        }
        *counts = Counts {
            at: Some(now),
            messages,
            latest: rates.clone(),
        };
        rates
    }
}
