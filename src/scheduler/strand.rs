//! The queue behind a scheduler, and one turn of it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

use super::{
    capacity::Capacity,
    executor::Executor,
    long_turns::{EndedTurn, LONG, LongTask, LongTurns, TaskName},
    progress::{Progress, TaskLabel},
    runnable::{PushError, Runnable, Task},
    watch::Queue,
};

/// Most tasks of one turn: many share the cost of taking them out, and a busy scheduler does not
/// starve others.
const BATCH: usize = 256;

/// Queue slots that an idle scheduler keeps allocated, so that thousands of rooms do not each keep
/// the memory of their worst burst.
const KEPT: usize = 64;

/// The shortest queue that is logged as long.
const WARN_LENGTH: usize = 2;

/// The time between two warnings of a queue of the same length.
const WARN_AGAIN: Duration = Duration::from_secs(60);

thread_local! {
    /// The strand this thread runs a turn of.
    static CURRENT: RefCell<Option<Arc<Strand>>> = const { RefCell::new(None) };
}

/// The queue behind a scheduler.
pub(super) struct Strand {
    pub(super) name: Arc<str>,
    pub(super) capacity: Capacity,
    /// Interval between the checks of `poll_until` timers.
    pub(super) precision: Duration,
    pub(super) executor: Arc<Executor>,
    /// Notified when the queue has drained to half, if `drain_awaited` is set.
    pub(super) drained: Notify,
    /// Guards the queue and its flags. No user code runs under this lock, and no other lock is
    /// taken while it is held.
    state: Mutex<State>,
    /// The tasks that the current turn has taken out and not started, among others. They count as
    /// waiting. A reader may be late by one task: the queue is then full early, never beyond its
    /// capacity.
    progress: Arc<Progress>,
    /// Whether a caller of [`is_ready`](Self::is_ready) waits for `drained`. Written under the lock
    /// of `state`. A turn reads it between tasks without the lock and may read a set value late, so
    /// [`end_turn`](Self::end_turn) reads it once more under the lock.
    drain_awaited: AtomicBool,
    /// The slowest task of this turn that was measured and took long. Turns alone use it. A leaf lock.
    slowest: Mutex<Option<(Duration, TaskName)>>,
    /// Turns alone write it, those that took long. No lock but that of the labels is taken under it.
    long_turns: Mutex<LongTurns>,
}

struct State {
    queue: VecDeque<Task>,
    /// Whether the strand waits for a turn or is in one.
    scheduled: bool,
    /// Set when the executor has ended: a task queued now would never run.
    closed: bool,
    /// The queue length that is logged next, if it is half of the capacity. Doubles with each warning, and
    /// begins anew when the queue has been emptied and a minute has passed.
    warn_length: usize,
    warned: Option<Instant>,
    /// Since the first turn that took long and had several tasks, each of which then costs one more look at
    /// the clock: what the next one is held up by has a name.
    times_tasks: bool,
}

impl Strand {
    pub(super) fn new(
        name: Arc<str>,
        capacity: Capacity,
        precision: Duration,
        executor: Arc<Executor>,
    ) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            scheduled: false,
            closed: false,
            warn_length: WARN_LENGTH,
            warned: None,
            times_tasks: false,
        };
        let progress = Arc::new(Progress::new(name.clone()));
        let strand = Arc::new(Self {
            name,
            capacity,
            precision,
            executor,
            drained: Notify::new(),
            state: Mutex::new(state),
            progress,
            drain_awaited: AtomicBool::new(false),
            slowest: Mutex::default(),
            long_turns: Mutex::default(),
        });
        let queue: Weak<Self> = Arc::downgrade(&strand);
        strand.executor.watch.add(&strand.progress, queue);
        strand
    }

    pub(super) fn len(&self) -> usize {
        self.waiting(&self.state.lock())
    }

    /// Returns the strand whose turn the calling thread runs.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Labels the task that the calling thread runs for a session, if it runs one.
    pub(super) fn label_task(label: TaskLabel, session: i64) {
        CURRENT.with_borrow(|current| {
            if let Some(strand) = current {
                strand.progress.label(label, session);
            }
        });
    }

    /// Says how long the task took that the calling thread runs, for who measures it anyway.
    #[inline]
    pub(super) fn task_took(took: Duration) {
        if took > LONG {
            Self::long_task(took);
        }
    }

    #[cold]
    fn long_task(took: Duration) {
        CURRENT.with_borrow(|current| {
            if let Some(strand) = current {
                let task = (took, strand.progress.task());
                let mut slowest = strand.slowest.lock();
                *slowest = slowest.filter(|(took, _)| *took >= task.0).or(Some(task));
            }
        });
    }

    /// Returns the label of the task that the calling thread runs.
    pub(super) fn task_label() -> TaskLabel {
        CURRENT.with_borrow(|current| {
            let progress = current.as_ref().map(|strand| &strand.progress);
            progress.map_or(TaskLabel::NONE, |progress| progress.task_label())
        })
    }

    pub(super) fn is_current(&self) -> bool {
        CURRENT.with_borrow(|current| {
            current
                .as_ref()
                .is_some_and(|strand| std::ptr::eq(&**strand, self))
        })
    }

    pub(super) fn push(self: &Arc<Self>, task: Task) -> Result<(), PushError> {
        if self.executor.is_closing() {
            return Err(PushError::Closed(task));
        }
        self.insert(task, self.capacity.get())
    }

    pub(super) fn push_always(self: &Arc<Self>, task: Task) -> Result<(), Task> {
        self.insert(task, usize::MAX).map_err(PushError::into_task)
    }

    /// Queues a task unless `limit` tasks wait, and submits an idle strand to the executor.
    fn insert(self: &Arc<Self>, task: Task, limit: usize) -> Result<(), PushError> {
        let capacity = self.capacity.get();
        let (idle, long) = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(PushError::Closed(task));
            }
            let length = self.waiting(&state);
            if length >= limit {
                return Err(PushError::Full(task));
            }
            state.queue.push_back(task);
            let long = length + 1 >= state.warn_length.max(capacity.div_ceil(2));
            if long {
                state.warn_length = (length + 1).saturating_mul(2);
                state.warned = Some(Instant::now());
            }
            (
                !std::mem::replace(&mut state.scheduled, true),
                long.then_some(length + 1),
            )
        };
        if let Some(length) = long {
            let scheduler = &*self.name;
            warn!(scheduler, length, capacity, "scheduler queue is long");
        }
        if idle && !self.executor.submit(self.clone()) {
            // The executor has ended since the check above. The queue was empty before, so its
            // first task is the one just pushed.
            let mut left = self.close();
            let task = left.pop_front();
            self.discard(left);
            return task.map_or(Ok(()), |task| Err(PushError::Closed(task)));
        }
        Ok(())
    }

    /// Runs one batch of tasks. Returns whether more tasks wait.
    fn run_batch(self: &Arc<Self>, batch: &mut Vec<Task>) -> bool {
        let times_tasks = {
            let mut state = self.state.lock();
            let count = state.queue.len().min(BATCH);
            batch.extend(state.queue.drain(..count));
            self.progress.begin_turn(count);
            state.times_tasks && count > 1
        };
        let began = Instant::now();
        let outer = CURRENT.replace(Some(self.clone()));
        let count = batch.len();
        let (mut task_began, mut slowest) = (began, None);
        for (index, task) in batch.drain(..).enumerate() {
            self.progress.start_task(count - index - 1);
            if self.executor.has_ended() {
                // The shutdown deadline passed while an earlier task of the turn was blocked.
                self.guard(|| drop(task));
                continue;
            }
            if self.drain_awaited.load(Ordering::Relaxed) {
                self.notify_drained();
            }
            self.guard(task);
            if times_tasks {
                let ended = Instant::now();
                let task = (ended.duration_since(task_began), self.progress.task());
                slowest = slowest.filter(|(took, _)| *took >= task.0).or(Some(task));
                task_began = ended;
            }
        }
        CURRENT.set(outer);
        let ended = Instant::now();
        let took = ended.duration_since(began);
        self.progress.end_turn(took);
        if let Some(seconds) = &self.executor.metrics.turn_seconds {
            seconds.record(took);
        }
        let turn = EndedTurn {
            took,
            ended,
            slowest: match count {
                1 => Some(self.progress.task()),
                _ => slowest.map(|(_, task)| task),
            },
        };
        self.end_turn(turn, count)
    }

    /// Marks the strand idle if its queue is empty. Returns whether more tasks wait.
    fn end_turn(&self, turn: EndedTurn, tasks: usize) -> bool {
        if self.executor.has_ended() {
            self.abandon();
            return false;
        }
        // Read under the lock, since the reads between tasks may have missed a waiter.
        self.notify_drained();
        let is_long = turn.is_long();
        let more = {
            let mut state = self.state.lock();
            state.times_tasks |= is_long && tasks > 1;
            if state.queue.is_empty() {
                state.scheduled = false;
                state.queue.shrink_to(KEPT);
                let passed =
                    |warned: &mut Instant| turn.ended.duration_since(*warned) >= WARN_AGAIN;
                if state.warned.take_if(passed).is_some() {
                    state.warn_length = WARN_LENGTH;
                }
            }
            state.scheduled
        };
        if is_long {
            self.report(turn, tasks);
        }
        more
    }

    #[cold]
    fn report(&self, mut turn: EndedTurn, tasks: usize) {
        if let (None, Some((took, task))) = (turn.slowest, self.slowest.lock().take()) {
            turn.slowest = (2 * took > turn.took).then_some(task);
        }
        let took_ms = turn.took.as_millis() as u64;
        let (route, session) = turn.handler().unzip();
        let route = route.as_deref();
        let logged = self.long_turns.lock().add(&turn);
        if let Some(held_back) = logged {
            let scheduler = &*self.name;
            warn!(
                scheduler,
                session, route, took_ms, tasks, held_back, "long turn"
            );
        }
    }

    /// Calls user code. A panic is logged and counted, and gives `None`.
    pub(super) fn guard<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        self.executor.guard(&self.name, call)
    }

    /// Returns whether a push would succeed or fail for good. If neither, `drained` is notified
    /// when the queue has drained to half.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.state.lock();
        if state.closed || self.executor.is_closing() || self.waiting(&state) < self.capacity.get()
        {
            return true;
        }
        self.drain_awaited.store(true, Ordering::Relaxed);
        false
    }

    fn notify_drained(&self) {
        {
            let state = self.state.lock();
            if !self.drain_awaited.load(Ordering::Relaxed)
                || self.waiting(&state) > self.capacity.get() / 2
            {
                return;
            }
            self.drain_awaited.store(false, Ordering::Relaxed);
        }
        self.drained.notify_waiters();
    }

    /// Refuses more tasks and returns those that wait.
    fn close(&self) -> VecDeque<Task> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.queue)
    }

    /// Drops tasks unrun; what they own may run user code when it is dropped.
    fn discard(&self, tasks: VecDeque<Task>) {
        for task in tasks {
            self.guard(|| drop(task));
        }
    }

    /// Returns the number of tasks that have not started.
    fn waiting(&self, state: &State) -> usize {
        state.queue.len() + self.progress.waiting()
    }
}

impl Runnable for Strand {
    fn turn(self: Arc<Self>, batch: &mut Vec<Task>) -> bool {
        self.run_batch(batch)
    }

    fn abandon(&self) {
        let left = self.close();
        self.discard(left);
    }
}

impl Queue for Strand {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity.get()
    }

    fn long_tasks(&self, now: Instant) -> Vec<LongTask> {
        self.long_turns.lock().tasks(now)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::{runtime::Handle, time::timeout};

    use super::*;
    use crate::scheduler::{Pool, Scheduler};

    /// Long enough for anything here on a slow machine.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Runs tasks with these labels in one turn, each for so many milliseconds.
    fn run(scheduler: &Scheduler, tasks: &[(&'static str, u64)]) {
        let (own, tasks) = (scheduler.clone(), tasks.to_vec());
        // From within a turn, so that the next one has them all.
        let queue = move || {
            for (label, milliseconds) in tasks {
                let run = move || {
                    Strand::label_task(TaskLabel::new(label), 7);
                    thread::sleep(Duration::from_millis(milliseconds));
                };
                own.push_task(run).unwrap();
            }
        };
        scheduler.push_task(queue).unwrap();
    }

    #[tokio::test]
    async fn slowest_task_of_a_long_turn_is_named_from_the_second_one_on() {
        let pool = Pool::new("test", 1, Handle::current()).unwrap();
        let scheduler = pool.scheduler("room", 10);
        // The last task that took long, after so many turns.
        let last = async |turns, at_least| {
            let last = async {
                loop {
                    let status = pool.schedulers().remove(0);
                    let task = status.long_tasks.into_iter().next();
                    if status.turns == turns && task.as_ref().map(|task| task.longest) >= at_least {
                        return task.map(|task| (task.route, task.session));
                    }
                    tokio::task::yield_now().await;
                }
            };
            timeout(DEADLINE, last).await.unwrap()
        };
        let at_least = |milliseconds| Some(Duration::from_millis(milliseconds));
        run(&scheduler, &[("Room.Fast", 0), ("Room.Fast", 1)]);
        assert_eq!(last(2, None).await, None);
        run(
            &scheduler,
            &[("Room.Fast", 0), ("Room.Slow", 110), ("Room.Fast", 1)],
        );
        assert_eq!(last(4, at_least(110)).await, Some((None, None)));
        let named = |route: &str| Some((Some(route.into()), Some(7)));
        run(
            &scheduler,
            &[("Room.Fast", 1), ("Room.Slow", 250), ("Room.Fast", 2)],
        );
        assert_eq!(last(6, at_least(250)).await, named("Room.Slow"));
        // The only task of a turn needs no clock.
        run(&scheduler, &[("Room.Alone", 500)]);
        assert_eq!(last(8, at_least(500)).await, named("Room.Alone"));
    }

    #[tokio::test]
    async fn measured_task_is_named_the_first_time() {
        let pool = Pool::new("test", 1, Handle::current()).unwrap();
        let scheduler = pool.scheduler("room", 10);
        let (own, queue) = (scheduler.clone(), |label, milliseconds| {
            move || {
                Strand::label_task(TaskLabel::new(label), 7);
                Strand::task_took(Duration::from_millis(milliseconds));
                thread::sleep(Duration::from_millis(milliseconds));
            }
        });
        let tasks = move || {
            for (label, milliseconds) in [("Room.Slow", 150), ("Room.Slower", 200)] {
                own.push_task(queue(label, milliseconds)).unwrap();
            }
        };
        scheduler.push_task(tasks).unwrap();
        let named = async {
            loop {
                if let Some(task) = pool.schedulers().remove(0).long_tasks.pop() {
                    return task.route;
                }
                tokio::task::yield_now().await;
            }
        };
        let named = timeout(DEADLINE, named).await.unwrap();
        assert_eq!(named.as_deref(), Some("Room.Slower"));
    }
}
