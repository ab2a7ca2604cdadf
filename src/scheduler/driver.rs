//! The task that waits for the next timer of a pool.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{pool::Shared, timer::Entry};

/// The timers of a pool, and the task that waits for the next one.
#[derive(Default)]
pub(super) struct Timers {
    last_id: AtomicU64,
    table: Mutex<Table>,
    /// Wakes the driver when a timer is due before the one it waits for, or when the pool closes.
    earlier: Notify,
}

#[derive(Default)]
struct Table {
    by_due: BTreeMap<(Instant, u64), Arc<Entry>>,
    /// Whether a driver runs. It starts with the first timer and ends with the last.
    driven: bool,
    closed: bool,
}

impl Timers {
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn insert(&self, entry: &Arc<Entry>, due: Instant) {
        let (first, driven) = {
            let mut table = self.table.lock();
            if table.closed {
                drop(table);
                return entry.stop();
            }
            let first = table
                .by_due
                .first_key_value()
                .is_none_or(|(&(earliest, _), _)| due < earliest);
            table.by_due.insert((due, entry.id), entry.clone());
            (first, std::mem::replace(&mut table.driven, true))
        };
        if !driven {
            let pool = entry.pool();
            pool.runtime.spawn(drive(pool.clone()));
        } else if first {
            self.earlier.notify_one();
        }
    }

    pub(super) fn remove(&self, due: Instant, id: u64) {
        let entry = self.table.lock().by_due.remove(&(due, id));
        drop(entry);
    }

    fn take_due(&self, now: Instant) -> BTreeMap<(Instant, u64), Arc<Entry>> {
        let mut table = self.table.lock();
        let later = table.by_due.split_off(&(now, u64::MAX));
        std::mem::replace(&mut table.by_due, later)
    }

    /// Takes timers back in that are due again; when the next one of all is due, if any.
    fn put_back(&self, entries: &[Arc<Entry>]) -> Option<Instant> {
        let mut table = self.table.lock();
        if table.closed {
            drop(table);
            entries.iter().for_each(|entry| entry.stop());
            return None;
        }
        for entry in entries {
            // Stopped while it was out: it must not come back.
            if let Some(due) = entry.next_due() {
                table.by_due.insert((due, entry.id), entry.clone());
            }
        }
        let next = table.by_due.first_key_value().map(|(&(due, _), _)| due);
        table.driven = next.is_some();
        next
    }

    /// Stops all timers and takes no more.
    pub(super) fn close(&self) {
        let entries = {
            let mut table = self.table.lock();
            table.closed = true;
            std::mem::take(&mut table.by_due)
        };
        entries.values().for_each(|entry| entry.stop());
        self.earlier.notify_one();
    }
}

async fn drive(pool: Arc<Shared>) {
    loop {
        let now = Instant::now();
        let mut due: Vec<_> = pool.timers.take_due(now).into_values().collect();
        due.retain(|entry| entry.advance(now));
        let Some(next) = pool.timers.put_back(&due) else {
            return;
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = pool.timers.earlier.notified() => {}
        }
    }
}
