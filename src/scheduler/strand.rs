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
    runnable::{PushError, Runnable, Task},
    watch::{Progress, Queue, TaskLabel},
};

/// Most tasks of one turn: many share the cost of taking them out, and a busy scheduler does not
/// starve others.
const BATCH: usize = 256;

/// Queue slots that an idle scheduler keeps allocated, so that thousands of rooms do not each keep
/// the memory of their worst burst.
const KEPT: usize = 64;

/// A turn longer than this is logged when it ends; the threshold doubles with each warning.
const LONG_TURN: Duration = Duration::from_millis(100);

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
}

struct State {
    queue: VecDeque<Task>,
    /// Whether the strand waits for a turn or is in one.
    scheduled: bool,
    /// Set when the executor has ended: a task queued now would never run.
    closed: bool,
    /// The queue length that is logged next, if it is half of the capacity; doubles with each warning.
    warn_length: usize,
    /// The duration of a turn that is logged next; doubles with each warning.
    warn_turn: Duration,
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
            warn_length: 2,
            warn_turn: LONG_TURN,
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
        {
            let mut state = self.state.lock();
            let count = state.queue.len().min(BATCH);
            batch.extend(state.queue.drain(..count));
            self.progress.begin_turn(count);
        }
        let began = Instant::now();
        let outer = CURRENT.replace(Some(self.clone()));
        let count = batch.len();
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
        }
        CURRENT.set(outer);
        let took = began.elapsed();
        self.progress.end_turn(took);
        if let Some(seconds) = &self.executor.turn_seconds {
            seconds.record(took);
        }
        self.end_turn(took, count)
    }

    /// Marks the strand idle if its queue is empty. Returns whether more tasks wait.
    fn end_turn(&self, took: Duration, tasks: usize) -> bool {
        if self.executor.has_ended() {
            self.abandon();
            return false;
        }
        // Read under the lock, since the reads between tasks may have missed a waiter.
        self.notify_drained();
        let (more, long) = {
            let mut state = self.state.lock();
            let long = took > state.warn_turn;
            if long {
                state.warn_turn = took.saturating_mul(2);
            }
            if state.queue.is_empty() {
                state.scheduled = false;
                state.queue.shrink_to(KEPT);
            }
            (state.scheduled, long)
        };
        if long {
            warn!(scheduler = %self.name, ?took, tasks, "long turn");
        }
        more
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
}
