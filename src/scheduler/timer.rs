//! Timers: callbacks that are due at an instant and run on a scheduler.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Scheduler, cron::CronSchedule, pool::Shared, strand::Strand};
use crate::error::{Error, Result, code};

type Callback = Box<dyn FnMut() + Send>;

/// Timers. All of them run their callback on this scheduler and are exact to the millisecond: fire
/// `k` is due at creation plus `k` intervals, without drift. If the scheduler falls behind, at most
/// one fire of a timer waits in its queue; ticks that fall due meanwhile are skipped. Timers wait
/// in the queue even if it is full.
///
/// A panic in a callback ends that call alone; the timer goes on. All methods fail with
/// [`code::UNAVAILABLE`] when the pool is shut down.
impl Scheduler {
    /// Calls `callback` every `interval`, the first time after one interval, until it is stopped.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when the interval is zero or beyond what the clock can hold.
    #[doc(alias = "NewTimer")]
    pub fn interval(
        &self,
        interval: Duration,
        callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        self.every(interval, None, Box::new(callback))
    }

    /// Calls `callback` every `interval`, `count` times in all; never if `count` is 0. Skipped
    /// ticks do not count.
    ///
    /// # Errors
    /// As [`interval`](Self::interval).
    #[doc(alias = "NewCountTimer")]
    pub fn interval_n(
        &self,
        interval: Duration,
        count: u64,
        callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        self.every(interval, Some(count), Box::new(callback))
    }

    /// Calls `callback` once, after `delay`. Without a delay it is queued at once.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when the delay is beyond what the clock can hold.
    #[doc(alias = "NewAfterTimer")]
    pub fn delay(
        &self,
        delay: Duration,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<Timer> {
        let mut callback = Some(callback);
        let callback: Callback = Box::new(move || {
            if let Some(callback) = callback.take() {
                callback();
            }
        });
        let now = self.0.pool.now();
        self.add(
            now,
            later(now, delay, "delay")?,
            Schedule::Once,
            Some(1),
            callback,
        )
    }

    /// Looks at `check` once per precision of the pool
    /// ([`Pool::with_precision`](super::Pool::with_precision)), on this scheduler, with the time of
    /// day, and calls `callback` each time it is true. A check that panics counts as false.
    ///
    /// # Errors
    /// Only when the pool is shut down.
    #[doc(alias = "NewCondTimer")]
    pub fn poll_until(
        &self,
        mut check: impl FnMut(SystemTime) -> bool + Send + 'static,
        mut callback: impl FnMut() + Send + 'static,
    ) -> Result<Timer> {
        let pool = self.0.pool.clone();
        let tick = move || {
            if check(pool.wall_clock(Instant::now())) {
                callback();
            }
        };
        self.every(self.0.precision, None, Box::new(tick))
    }

    /// Calls `callback` at the times a cron expression names, in the local time zone:
    /// `sec min hour dom mon dow`, or five fields without seconds. When the clock is set over
    /// occurrences, or the machine slept through them, they count as one, noticed within a minute.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when the expression cannot be read or never occurs.
    pub fn cron(&self, expression: &str, callback: impl FnMut() + Send + 'static) -> Result<Timer> {
        let pool = &self.0.pool;
        let now = pool.now();
        let wall = pool.wall_clock(now);
        let cron = CronSchedule::new(expression, wall)?;
        self.add(
            now,
            cron.look_at(now, wall),
            Schedule::Cron(Box::new(cron)),
            None,
            Box::new(callback),
        )
    }

    fn every(&self, interval: Duration, left: Option<u64>, callback: Callback) -> Result<Timer> {
        if interval.is_zero() {
            return Err(Error::new(
                code::BAD_REQUEST,
                "the timer's interval is zero",
            ));
        }
        let now = self.0.pool.now();
        self.add(
            now,
            later(now, interval, "interval")?,
            Schedule::Every(interval),
            left,
            callback,
        )
    }

    fn add(
        &self,
        now: Instant,
        due: Instant,
        schedule: Schedule,
        left: Option<u64>,
        callback: Callback,
    ) -> Result<Timer> {
        let (strand, timers) = (self.0.clone(), &self.0.pool.timers);
        let progress = Progress {
            due,
            schedule,
            left,
            queued: false,
            stopped: false,
            callback: Some(callback),
        };
        let entry = Arc::new(Entry {
            id: timers.next_id(),
            strand,
            progress: Mutex::new(progress),
        });
        if self.0.pool.is_closing() {
            return Err(Error::new(code::UNAVAILABLE, "the scheduler is shut down"));
        }
        if left == Some(0) {
            entry.stop();
        } else if due <= now {
            // Not by way of the driver: it would come after tasks that are pushed later.
            entry.advance(now);
        } else {
            timers.insert(&entry, due);
        }
        Ok(Timer(entry))
    }
}

fn later(now: Instant, by: Duration, what: &str) -> Result<Instant> {
    now.checked_add(by).ok_or_else(|| {
        Error::new(
            code::BAD_REQUEST,
            format!("the timer's {what} of {by:?} is too long"),
        )
    })
}

/// A timer of a scheduler. A handle, cheap to clone: dropping it does not stop the timer.
#[derive(Clone)]
pub struct Timer(Arc<Entry>);

impl Timer {
    /// Its number, unique in the pool, counted from 1.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Stops it: the callback is not started again. For any thread, also inside the callback
    /// itself; a second stop does nothing. The callback is dropped at once, or when its running
    /// call returns.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Whether the callback will never start again: stopped, done, or the pool shut down.
    pub fn is_stopped(&self) -> bool {
        self.0.progress.lock().stopped || self.0.strand.pool.has_ended()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("id", &self.id())
            .field("scheduler", &self.0.strand.name)
            .field("stopped", &self.is_stopped())
            .finish()
    }
}

/// A timer, as its handles, the table of timers and a queued fire know it.
pub(super) struct Entry {
    pub(super) id: u64,
    strand: Arc<Strand>,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Its place in the table of timers.
    due: Instant,
    schedule: Schedule,
    /// Fires to go, of a timer that ends by itself.
    left: Option<u64>,
    /// A fire waits in the scheduler's queue.
    queued: bool,
    stopped: bool,
    /// Taken out while it runs.
    callback: Option<Callback>,
}

enum Schedule {
    Once,
    Every(Duration),
    Cron(Box<CronSchedule>),
}

impl Entry {
    /// Queues a fire if one is due; whether the timer is due again.
    pub(super) fn advance(self: &Arc<Self>, now: Instant) -> bool {
        let Step { fire, again } = self.progress.lock().advance(now, &self.strand.pool);
        if fire {
            let entry = self.clone();
            if self
                .strand
                .push_always(Box::new(move || entry.fire()))
                .is_err()
            {
                self.stop();
            }
        }
        again
    }

    fn fire(&self) {
        let callback = {
            let mut progress = self.progress.lock();
            progress.queued = false;
            progress.callback.take()
        };
        let Some(mut callback) = callback else { return };
        self.strand.guard(&mut callback);
        let mut progress = self.progress.lock();
        if progress.left == Some(0) && !progress.queued {
            progress.stopped = true;
        }
        if progress.stopped {
            drop(progress);
            self.strand.guard(|| drop(callback));
        } else {
            progress.callback = Some(callback);
        }
    }

    /// When it is due next, unless it was stopped.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let progress = self.progress.lock();
        (!progress.stopped).then_some(progress.due)
    }

    pub(super) fn pool(&self) -> &Arc<Shared> {
        &self.strand.pool
    }

    pub(super) fn stop(&self) {
        let (due, callback) = {
            let mut progress = self.progress.lock();
            progress.stopped = true;
            (progress.due, progress.callback.take())
        };
        self.strand.pool.timers.remove(due, self.id);
        self.strand.guard(|| drop(callback));
    }
}

impl Progress {
    /// Moves on to the next due instant.
    fn advance(&mut self, now: Instant, pool: &Shared) -> Step {
        if self.stopped {
            return Step {
                fire: false,
                again: false,
            };
        }
        let due = match &mut self.schedule {
            Schedule::Once => true,
            Schedule::Every(interval) => {
                self.due = next_tick(self.due, *interval, now);
                true
            }
            Schedule::Cron(cron) => {
                let wall = pool.wall_clock(now);
                let due = cron.take_due(wall);
                self.due = cron.look_at(now, wall);
                due
            }
        };
        let fire = due && !self.queued;
        if fire {
            self.queued = true;
            self.left = self.left.map(|left| left - 1);
        }
        Step {
            fire,
            again: self.left != Some(0),
        }
    }
}

struct Step {
    /// Queue a fire now.
    fire: bool,
    /// The timer is due again, at its new instant.
    again: bool,
}

/// The first tick after `now` of those that are whole intervals from `due`.
fn next_tick(due: Instant, interval: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due);
    if late < interval {
        return due + interval;
    }
    let past = late.as_nanos() % interval.as_nanos();
    now - Duration::new((past / 1_000_000_000) as u64, (past % 1_000_000_000) as u32) + interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_tick_is_on_the_grid_and_after_now() {
        let due = Instant::now();
        let after = |late| {
            next_tick(
                due,
                Duration::from_millis(100),
                due + Duration::from_millis(late),
            ) - due
        };
        assert_eq!(after(0), Duration::from_millis(100));
        assert_eq!(after(99), Duration::from_millis(100));
        assert_eq!(after(100), Duration::from_millis(200));
        assert_eq!(after(100_000_050), Duration::from_millis(100_000_100));
    }
}
