//! The timers of a pool in the order they are due, and the task that drives them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The interface of a timer to its queue.
pub(super) trait QueuedTimer: Send + Sync {
    /// Returns the number from [`TimerQueue::next_id`].
    fn id(&self) -> u64;

    /// Queues a fire if one is due. Returns whether the timer is due again.
    fn advance(self: Arc<Self>, now: Instant) -> bool;

    /// Returns when the timer is due next, unless it was stopped.
    fn next_due(&self) -> Option<Instant>;

    /// Stops the timer and drops its callback.
    fn stop(&self);
}

/// The timers of a pool.
pub(super) struct TimerQueue {
    last_id: AtomicU64,
    runtime: Handle,
    /// Guards the table. [`QueuedTimer::next_due`] takes the timer's own lock under this one; stop
    /// and advance, which may run user code, are called after it is released.
    table: Mutex<Table>,
    /// Wakes the driver when a new timer is due first, or the queue closes. A permit is stored if
    /// the driver does not wait yet, so no wake-up is lost.
    earlier: Notify,
}

#[derive(Default)]
struct Table {
    /// Ordered by the due instant, then by creation: timers of one instant fire in that order.
    by_due: BTreeMap<(Instant, u64), Arc<dyn QueuedTimer>>,
    /// Whether a driver task runs. It starts with the first timer and ends with the last.
    driven: bool,
    closed: bool,
}

impl TimerQueue {
    /// Makes an empty queue whose driver runs on `runtime`.
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            last_id: AtomicU64::new(0),
            runtime,
            table: Mutex::default(),
            earlier: Notify::new(),
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Queues a timer; stops it if the queue is closed.
    pub(super) fn insert(self: &Arc<Self>, timer: Arc<dyn QueuedTimer>, due: Instant) {
        let (first, driven) = {
            let mut table = self.table.lock();
            if table.closed {
                drop(table);
                return timer.stop();
            }
            let first = table
                .by_due
                .first_key_value()
                .is_none_or(|(&(earliest, _), _)| due < earliest);
            table.by_due.insert((due, timer.id()), timer);
            (first, std::mem::replace(&mut table.driven, true))
        };
        if !driven {
            self.runtime.spawn(drive(self.clone()));
        } else if first {
            self.earlier.notify_one();
        }
    }

    pub(super) fn remove(&self, due: Instant, id: u64) {
        let timer = self.table.lock().by_due.remove(&(due, id));
        // Dropped after the lock is released, since it may be the last handle of a scheduler.
        drop(timer);
    }

    /// Takes out the timers that are due at `now`, in their order.
    fn take_due(&self, now: Instant) -> BTreeMap<(Instant, u64), Arc<dyn QueuedTimer>> {
        let mut table = self.table.lock();
        let later = table.by_due.split_off(&(now, u64::MAX));
        std::mem::replace(&mut table.by_due, later)
    }

    /// Puts timers back that are due again. Returns when the earliest timer is due, if any is left.
    fn put_back(&self, timers: &[Arc<dyn QueuedTimer>]) -> Option<Instant> {
        let mut table = self.table.lock();
        if table.closed {
            drop(table);
            timers.iter().for_each(|timer| timer.stop());
            return None;
        }
        for timer in timers {
            // A timer that was stopped while it was out stays out.
            if let Some(due) = timer.next_due() {
                table.by_due.insert((due, timer.id()), timer.clone());
            }
        }
        let next = table.by_due.first_key_value().map(|(&(due, _), _)| due);
        table.driven = next.is_some();
        next
    }

    /// Stops all timers and refuses more.
    pub(super) fn close(&self) {
        let timers = {
            let mut table = self.table.lock();
            table.closed = true;
            std::mem::take(&mut table.by_due)
        };
        timers.values().for_each(|timer| timer.stop());
        self.earlier.notify_one();
    }
}

/// Advances due timers until none is left.
async fn drive(timers: Arc<TimerQueue>) {
    loop {
        let now = Instant::now();
        let mut due: Vec<_> = timers.take_due(now).into_values().collect();
        due.retain(|timer| timer.clone().advance(now));
        let Some(next) = timers.put_back(&due) else {
            return;
        };
        drop(due);
        tokio::select! {
            () = sleep_until(next) => {}
            () = timers.earlier.notified() => {}
        }
    }
}
