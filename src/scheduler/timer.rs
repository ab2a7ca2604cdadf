//! Timers: callbacks that a scheduler runs when they are due.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

#[cfg(feature = "cron")]
use super::cron::CronSchedule;
use super::{executor::Executor, strand::Strand, timer_queue::QueuedTimer};
use crate::error::{Error, Result, code};

pub(super) type Callback = Box<dyn FnMut() + Send>;

/// A timer of a scheduler. A handle, cheap to clone: dropping it does not stop the timer.
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> nano::Result {
/// # let pool = nano::scheduler::Pool::new("game", 0, tokio::runtime::Handle::current())?;
/// let room = pool.scheduler("room-42", 256);
/// let tick = room.interval(Duration::from_millis(50), || println!("tick"))?;
/// room.delay(Duration::from_secs(1), move || tick.stop())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Timer(Arc<Entry>);

impl Timer {
    /// Returns the timer's number, unique in its pool, counted from 1.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Stops the timer: its callback does not start again.
    ///
    /// May be called on any thread, also in the callback, and more than once. The callback is
    /// dropped at once, or when its running call has returned.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Whether the callback cannot start again: stopped, finished, or the pool has shut down.
    pub fn is_stopped(&self) -> bool {
        self.0.progress.lock().stopped || self.0.strand.executor.has_ended()
    }
}

impl Timer {
    /// Starts a timer of `strand` that fires every `interval`, `left` times or until it is stopped.
    pub(super) fn every(
        strand: &Arc<Strand>,
        interval: Duration,
        left: Option<u64>,
        callback: Callback,
    ) -> Result<Self> {
        if interval.is_zero() {
            return Err(Error::new(
                code::BAD_REQUEST,
                "the timer's interval is zero",
            ));
        }
        let now = strand.executor.now();
        let due = later(now, interval, "interval")?;
        Self::start(strand, now, due, Schedule::Every(interval), left, callback)
    }

    /// Starts a timer of `strand` that fires once, after `delay`.
    pub(super) fn once(strand: &Arc<Strand>, delay: Duration, callback: Callback) -> Result<Self> {
        let now = strand.executor.now();
        let due = later(now, delay, "delay")?;
        Self::start(strand, now, due, Schedule::Once, Some(1), callback)
    }

    /// Starts a timer of `strand` that fires when the cron `expression` is due.
    #[cfg(feature = "cron")]
    pub(super) fn cron(strand: &Arc<Strand>, expression: &str, callback: Callback) -> Result<Self> {
        let now = strand.executor.now();
        let wall = strand.executor.wall_clock(now);
        let cron = CronSchedule::new(expression, wall)?;
        let due = cron.next_check(now, wall);
        let schedule = Schedule::Cron(Box::new(cron));
        Self::start(strand, now, due, schedule, None, callback)
    }

    fn start(
        strand: &Arc<Strand>,
        now: Instant,
        due: Instant,
        schedule: Schedule,
        left: Option<u64>,
        callback: Callback,
    ) -> Result<Self> {
        let timers = &strand.executor.timers;
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
            strand: strand.clone(),
            progress: Mutex::new(progress),
        });
        if strand.executor.is_closing() {
            return Err(Error::new(code::UNAVAILABLE, "the scheduler is shut down"));
        }
        if left == Some(0) {
            entry.stop();
        } else if due <= now {
            // Queued directly: the timer task would queue it after tasks that are pushed later.
            entry.clone().advance(now);
        } else {
            timers.insert(entry.clone(), due);
        }
        Ok(Self(entry))
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

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("id", &self.id())
            .field("scheduler", &self.0.strand.name)
            .field("stopped", &self.is_stopped())
            .finish()
    }
}

/// The state that a timer's handles, the timer queue and a queued fire share.
struct Entry {
    id: u64,
    strand: Arc<Strand>,
    /// Guards the schedule and the callback. The callback is taken out to be called or dropped, so
    /// user code never runs under this lock. The timer queue's lock is taken before this one, never
    /// while it is held.
    progress: Mutex<Progress>,
}

struct Progress {
    /// The next due instant, by which the timer queue finds the timer.
    due: Instant,
    schedule: Schedule,
    /// Fires that are left; `None` for a timer that ends only when it is stopped.
    left: Option<u64>,
    /// Whether a fire waits in the scheduler's queue.
    queued: bool,
    stopped: bool,
    /// Taken out while it runs.
    callback: Option<Callback>,
}

enum Schedule {
    Once,
    Every(Duration),
    #[cfg(feature = "cron")]
    Cron(Box<CronSchedule>),
}

impl Entry {
    /// Calls the callback, as a task of the scheduler.
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
}

impl QueuedTimer for Entry {
    fn id(&self) -> u64 {
        self.id
    }

    fn advance(self: Arc<Self>, now: Instant) -> bool {
        let Step { fire, again } = self.progress.lock().advance(now, &self.strand.executor);
        if fire {
            let entry = self.clone();
            let task = Box::new(move || entry.fire());
            if self.strand.push_always(task).is_err() {
                self.stop();
            }
        }
        again
    }

    fn next_due(&self) -> Option<Instant> {
        let progress = self.progress.lock();
        (!progress.stopped).then_some(progress.due)
    }

    fn stop(&self) {
        let (due, callback) = {
            let mut progress = self.progress.lock();
            progress.stopped = true;
            (progress.due, progress.callback.take())
        };
        self.strand.executor.timers.remove(due, self.id);
        self.strand.guard(|| drop(callback));
    }
}

impl Progress {
    /// Moves on to the next due instant.
    #[cfg_attr(
        not(feature = "cron"),
        expect(unused_variables, reason = "only cron timers read the wall clock")
    )]
    fn advance(&mut self, now: Instant, executor: &Executor) -> Step {
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
            #[cfg(feature = "cron")]
            Schedule::Cron(cron) => {
                let wall = executor.wall_clock(now);
                let due = cron.take_due(wall);
                self.due = cron.next_check(now, wall);
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
    /// A fire is to be queued now.
    fire: bool,
    /// The timer is due again, at its new instant.
    again: bool,
}

/// Returns the first instant after `now` that is a whole number of intervals after `due`.
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
    fn next_tick_is_on_the_grid_and_after_now() {
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
