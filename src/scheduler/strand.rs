//! The queue behind a scheduler, and one turn of it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    executor::Executor,
    runnable::{PushError, Runnable, Task},
    watch::{Progress, TaskLabel},
};

/// Most tasks of one turn: enough to spread the cost of taking them out, few enough that a busy
/// scheduler does not starve others.
const BATCH: usize = 256;

/// Queue slots that an idle scheduler keeps allocated: thousands of rooms must not each keep the
/// memory of their worst burst.
const KEPT: usize = 64;

/// A turn longer than this is logged; the threshold doubles with each warning.
const LONG_TURN: Duration = Duration::from_millis(100);

thread_local! {
    /// The strand this thread runs a turn of.
    static CURRENT: RefCell<Option<Arc<Strand>>> = const { RefCell::new(None) };
}

/// The queue behind a scheduler.
pub(super) struct Strand {
    pub(super) name: Arc<str>,
    pub(super) capacity: usize,
    /// Interval between the checks of `poll_until` timers.
    pub(super) precision: Duration,
    pub(super) executor: Arc<Executor>,
    /// Notified when the queue has drained to half, if a caller waits for that.
    pub(super) room: Notify,
    /// Guards the queue and its flags. No user code runs under it, and it is never held together
    /// with a lock of the pool.
    state: Mutex<State>,
    /// The tasks that the current turn has taken out and not started, among others. They count as
    /// waiting. A reader may be late by one task: the queue is then full early, never beyond its
    /// capacity.
    progress: Arc<Progress>,
    /// Whether a caller of [`has_room`](Self::has_room) waits for capacity. Set and cleared under the
    /// lock. A turn reads it between tasks without the lock and may see a set late, so
    /// [`end_turn`](Self::end_turn) reads it once more under the lock.
    room_wanted: AtomicBool,
}

struct State {
    queue: VecDeque<Task>,
    /// Whether the pool has it: waiting for a turn or in one.
    scheduled: bool,
    /// Set when the pool has ended: nothing queued from here on would ever run.
    closed: bool,
    /// The length of the queue that earns the next warning; doubles with each.
    warn_length: usize,
    /// The length of a turn that earns the next warning; doubles with each.
    warn_turn: Duration,
}

impl Strand {
    pub(super) fn new(
        name: Arc<str>,
        capacity: usize,
        precision: Duration,
        executor: Arc<Executor>,
    ) -> Self {
        let capacity = capacity.max(1);
        let state = State {
            queue: VecDeque::new(),
            scheduled: false,
            closed: false,
            warn_length: capacity.div_ceil(2).max(2),
            warn_turn: LONG_TURN,
        };
        let progress = Arc::new(Progress::new(name.clone()));
        executor.watch.add(&progress);
        Self {
            name,
            capacity,
            precision,
            executor,
            room: Notify::new(),
            state: Mutex::new(state),
            progress,
            room_wanted: AtomicBool::new(false),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting(&self.state.lock())
    }

    /// The strand whose turn the calling thread runs.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Labels the task that the calling thread runs, if it runs one.
    pub(super) fn label_task(label: TaskLabel) {
        CURRENT.with_borrow(|current| {
            if let Some(strand) = current {
                strand.progress.label(label);
            }
        });
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
        self.insert(task, self.capacity)
    }

    pub(super) fn push_always(self: &Arc<Self>, task: Task) -> Result<(), Task> {
        self.insert(task, usize::MAX).map_err(PushError::into_task)
    }

    fn insert(self: &Arc<Self>, task: Task, limit: usize) -> Result<(), PushError> {
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
            let long = length + 1 >= state.warn_length;
            if long {
                state.warn_length = (length + 1).saturating_mul(2);
            }
            (
                !std::mem::replace(&mut state.scheduled, true),
                long.then_some(length + 1),
            )
        };
        if let Some(length) = long {
            tracing::warn!(scheduler = %self.name, length, capacity = self.capacity, "scheduler queue is long");
        }
        if idle && !self.executor.submit(self.clone()) {
            // The pool has ended since. The queue was empty before, so its first task is the one
            // just pushed.
            let mut left = self.close();
            let task = left.pop_front();
            self.discard(left);
            return task.map_or(Ok(()), |task| Err(PushError::Closed(task)));
        }
        Ok(())
    }

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
                // The deadline of a shutdown passed while a task before this one was stuck.
                self.guard(|| drop(task));
                continue;
            }
            if self.room_wanted.load(Ordering::Relaxed) {
                self.offer_room();
            }
            self.guard(task);
        }
        CURRENT.set(outer);
        self.progress.end_turn();
        self.end_turn(began.elapsed(), count)
    }

    fn end_turn(&self, took: Duration, tasks: usize) -> bool {
        if self.executor.has_ended() {
            self.abandon();
            return false;
        }
        // Once more under the lock: the reads between tasks may have missed a waiter.
        self.offer_room();
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
            tracing::warn!(scheduler = %self.name, ?took, tasks, "long turn");
        }
        more
    }

    /// Calls user code. A panic is logged and counted, and gives `None`.
    pub(super) fn guard<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        self.executor.guard(&self.name, call)
    }

    /// Returns whether a push would succeed or the pool has closed. If not, `room` is notified when
    /// the queue drains to half.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state.lock();
        if state.closed || self.executor.is_closing() || self.waiting(&state) < self.capacity {
            return true;
        }
        self.room_wanted.store(true, Ordering::Relaxed);
        false
    }

    fn offer_room(&self) {
        {
            let state = self.state.lock();
            if !self.room_wanted.load(Ordering::Relaxed) || self.waiting(&state) > self.capacity / 2
            {
                return;
            }
            self.room_wanted.store(false, Ordering::Relaxed);
        }
        self.room.notify_waiters();
    }

    fn close(&self) -> VecDeque<Task> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.queue)
    }

    fn discard(&self, tasks: VecDeque<Task>) {
        for task in tasks {
            self.guard(|| drop(task));
        }
    }

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
