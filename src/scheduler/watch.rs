//! Reports tasks that block their scheduler for long, while they still run.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;
use tracing::warn;

use super::{
    long_turns::LongTask,
    progress::{Progress, RunningTask},
};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// A task that is seen to run for this long is reported, so up to one interval later.
const REPORT_AFTER: Duration = Duration::from_secs(5);

/// The tasks that wait for a scheduler.
pub(super) trait Queue: Send + Sync {
    fn len(&self) -> usize;

    fn capacity(&self) -> usize;

    fn long_tasks(&self, now: Instant) -> Vec<LongTask>;
}

/// A scheduler at one moment: [`Pool::schedulers`](super::Pool::schedulers).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerStatus {
    /// The name it was made with. Several may have the same.
    pub name: Arc<str>,
    /// Tasks that have not started.
    pub waiting: usize,
    /// How many may wait.
    pub capacity: usize,
    /// Turns that have ended.
    pub turns: u64,
    /// How long all turns took together.
    pub busy: Duration,
    /// How long the longest turn took.
    pub longest_turn: Duration,
    /// Tasks that have held it for more than 100 ms in the last five minutes: eight at most, the last one first.
    pub long_tasks: Vec<LongTask>,
    /// The task that runs now, if it has run since an earlier sample. One is taken every second.
    pub held: Option<HeldBy>,
}

/// A task that has held its scheduler since a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBy {
    /// The route, if the task is a handler.
    pub route: Option<Arc<str>>,
    /// The id of the session whose message the handler has, if the task is a handler.
    pub session: Option<i64>,
    /// How long it has run, at least: it started up to a second before it was first seen.
    pub running: Duration,
}

/// Samples the schedulers of a pool on a thread of its own, by the clock of the system.
///
/// The thread is needed since blocked tasks may hold every other thread of the pool, and of the
/// runtime too if turns run there. Turns pay nothing but the stores in [`Progress`].
#[derive(Default)]
pub(super) struct Watch {
    /// Guards the samples. A leaf lock: reports are logged after it is released.
    state: Mutex<State>,
    /// Wakes the thread when the watch stops; waits on `state`.
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    watched: Vec<Watched>,
    stopped: bool,
}

struct Watched {
    progress: Weak<Progress>,
    queue: Weak<dyn Queue>,
    /// The task of the last sample.
    task: Option<Sample>,
}

struct Sample {
    task: RunningTask,
    first_seen: Instant,
    reported: bool,
}

/// A task that has blocked its scheduler for long.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    scheduler: Arc<str>,
    handler: Option<(Arc<str>, i64)>,
    /// At least so long; the task started up to one interval before it was first seen.
    running: Duration,
}

impl Watch {
    /// Starts the thread, which ends with [`stop`](Self::stop).
    pub(super) fn start_thread(self: &Arc<Self>, name: String) -> io::Result<()> {
        let watch = self.clone();
        let thread = thread::Builder::new().name(name);
        thread.spawn(move || watch.run_thread()).map(drop)
    }

    /// Watches a scheduler for as long as it lives.
    pub(super) fn add(&self, progress: &Arc<Progress>, queue: Weak<dyn Queue>) {
        self.state.lock().watched.push(Watched {
            progress: Arc::downgrade(progress),
            queue,
            task: None,
        });
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.stopped.notify_all();
    }

    /// Looks at all schedulers, without waiting for any of them.
    pub(super) fn statuses(&self, now: Instant) -> Vec<SchedulerStatus> {
        let watched = |watched: &Watched| {
            let (progress, queue) = (watched.progress.upgrade()?, watched.queue.upgrade()?);
            let running = progress.running();
            let sample = watched.task.as_ref();
            let held = sample
                .filter(|sample| running == Some(sample.task))
                .map(|sample| now.saturating_duration_since(sample.first_seen));
            Some((progress, queue, held))
        };
        // Read, and dropped, without the lock.
        let all: Vec<_> = {
            let state = self.state.lock();
            state.watched.iter().filter_map(watched).collect()
        };
        let status =
            |(progress, queue, held): (Arc<Progress>, Arc<dyn Queue>, Option<Duration>)| {
                let (turns, busy, longest_turn) = progress.turns();
                SchedulerStatus {
                    name: progress.scheduler.clone(),
                    waiting: queue.len(),
                    capacity: queue.capacity(),
                    turns,
                    busy,
                    longest_turn,
                    long_tasks: queue.long_tasks(now),
                    held: held.map(|running| {
                        let (route, session) = progress.handler().unzip();
                        HeldBy {
                            route,
                            session,
                            running,
                        }
                    }),
                }
            };
        all.into_iter().map(status).collect()
    }

    fn run_thread(&self) {
        while self.wait() {
            // Outside of a runtime this is the clock of the system, also when tests pause tokio's.
            for report in self.sample(Instant::now()) {
                report.log();
            }
        }
    }

    /// Waits for the time of the next sample. Returns `false` when the watch has stopped.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        let next = |state: &mut State| !state.stopped;
        self.stopped.wait_while_for(&mut state, next, INTERVAL);
        !state.stopped
    }

    /// Returns the tasks that are due to be reported, each once, and forgets ended schedulers.
    fn sample(&self, now: Instant) -> Vec<Report> {
        let mut reports = Vec::new();
        self.state.lock().watched.retain_mut(|watched| {
            let Some(progress) = watched.progress.upgrade() else {
                return false;
            };
            reports.extend(watched.sample(&progress, now));
            true
        });
        reports
    }
}

impl Watched {
    fn sample(&mut self, progress: &Progress, now: Instant) -> Option<Report> {
        let running = progress.running();
        let same = self.task.take().filter(|last| running == Some(last.task));
        let Some(mut last) = same else {
            self.task = running.map(|task| Sample {
                task,
                first_seen: now,
                reported: false,
            });
            return None;
        };
        let running = now.saturating_duration_since(last.first_seen);
        let due = running >= REPORT_AFTER && !last.reported;
        last.reported |= due;
        self.task = Some(last);
        due.then(|| Report {
            scheduler: progress.scheduler.clone(),
            handler: progress.handler(),
            running,
        })
    }
}

impl Report {
    fn log(&self) {
        let (scheduler, running_ms) = (&*self.scheduler, self.running.as_millis() as u64);
        match &self.handler {
            Some((route, session)) => {
                let route = &**route;
                warn!(
                    scheduler,
                    session, route, running_ms, "handler still running"
                );
            }
            None => warn!(scheduler, running_ms, "task still running"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::progress::TaskLabel;

    struct Empty;

    impl Queue for Empty {
        fn len(&self) -> usize {
            0
        }

        fn capacity(&self) -> usize {
            1
        }

        fn long_tasks(&self, _: Instant) -> Vec<LongTask> {
            Vec::new()
        }
    }

    fn watched() -> (Watch, Arc<Progress>, Instant) {
        let (watch, progress) = (Watch::default(), Arc::new(Progress::new("room".into())));
        watch.add(&progress, Weak::<Empty>::new());
        (watch, progress, Instant::now())
    }

    fn report(handler: Option<(&str, i64)>, running: Duration) -> Report {
        Report {
            scheduler: "room".into(),
            handler: handler.map(|(route, session)| (route.into(), session)),
            running,
        }
    }

    #[test]
    fn blocked_task_is_reported_once_with_its_label_and_session() {
        let (watch, progress, start) = watched();
        let label = TaskLabel::new("Room.Block");
        progress.begin_turn(2);
        progress.start_task(1);
        progress.label(label, 7);
        assert_eq!(progress.waiting(), 1);
        for seconds in 0..5 {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(watch.sample(now), []);
        }
        let expected = report(Some(("Room.Block", 7)), REPORT_AFTER);
        assert_eq!(watch.sample(start + REPORT_AFTER), [expected]);
        assert_eq!(watch.sample(start + 2 * REPORT_AFTER), []);

        // The next task of the same turn is another occurrence, and has no label.
        progress.start_task(0);
        assert_eq!(watch.sample(start + 3 * REPORT_AFTER), []);
        let expected = report(None, REPORT_AFTER);
        assert_eq!(watch.sample(start + 4 * REPORT_AFTER), [expected]);
    }

    #[test]
    fn idle_or_busy_scheduler_is_not_reported() {
        let (watch, progress, start) = watched();
        progress.begin_turn(1);
        progress.start_task(0);
        assert_eq!(watch.sample(start), []);
        progress.end_turn(Duration::ZERO);
        progress.begin_turn(1);
        progress.start_task(0);
        assert_eq!(watch.sample(start + REPORT_AFTER), []);
        progress.end_turn(Duration::ZERO);
        assert_eq!(watch.sample(start + 2 * REPORT_AFTER), []);
        assert_eq!(watch.sample(start + 3 * REPORT_AFTER), []);
    }

    #[test]
    fn status_names_the_task_that_holds_a_scheduler() {
        let (watch, progress) = (Watch::default(), Arc::new(Progress::new("room".into())));
        let (queue, start) = (Arc::new(Empty), Instant::now());
        let weak: Weak<Empty> = Arc::downgrade(&queue);
        watch.add(&progress, weak);
        progress.begin_turn(1);
        progress.start_task(0);
        progress.end_turn(Duration::from_millis(3));
        progress.begin_turn(1);
        progress.start_task(0);
        progress.label(TaskLabel::new("Room.Hold"), 7);
        assert!(watch.statuses(start)[0].held.is_none());
        watch.sample(start);
        let second = Duration::from_secs(1);
        let status = watch.statuses(start + second).remove(0);
        let expected = HeldBy {
            route: Some("Room.Hold".into()),
            session: Some(7),
            running: second,
        };
        assert_eq!(status.held, Some(expected));
        assert_eq!((&*status.name, status.turns), ("room", 1));
        assert_eq!(status.longest_turn, Duration::from_millis(3));
        progress.end_turn(second);
        assert!(watch.statuses(start + second)[0].held.is_none());
    }

    #[test]
    fn dropped_scheduler_is_forgotten() {
        let (watch, progress, start) = watched();
        drop(progress);
        assert_eq!(watch.sample(start), []);
        assert!(watch.state.lock().watched.is_empty());
    }
}
