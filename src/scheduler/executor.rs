//! The run queue of a pool: runnables in line for a turn, and the threads that give turns.

use std::{
    any::Any,
    collections::VecDeque,
    hint, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::SystemTime,
};

use metrics::{Counter, Histogram};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::{
    clock::Clock,
    runnable::{Runnable, Task},
    suspended::Suspended,
    timer_queue::TimerQueue,
    watch::Watch,
};

/// How often an idle thread polls the run queue before it parks: first after busy waits that double
/// in length, then after yields.
///
/// Under load the next task comes within these few microseconds, and a wake-up costs both sides
/// more. Measured with four yields: 14 to 18 % less CPU time per message at 100 and 1,000 clients,
/// 20 % for a single client. Two yields do as well since [`RunQueue::wants_thread`].
const SPINS: u32 = 7;
const YIELDS: u32 = 2;

/// Gives turns to runnables, on threads of its own or as tasks of a runtime.
pub(super) struct Executor {
    pub(super) runtime: Handle,
    pub(super) timers: Arc<TimerQueue>,
    pub(super) suspended: Suspended,
    pub(super) watch: Arc<Watch>,
    /// Notified when the executor closes, ends, or a thread of it ends.
    pub(super) changed: Notify,
    clock: Clock,
    /// There are no threads: turns are tasks of the runtime.
    simulated: bool,
    /// Guards the run queue and the thread counts. Turns, and every drop of a runnable that may run
    /// user code, happen after it is released. No other lock is taken under it.
    run_queue: Mutex<RunQueue>,
    /// Parks idle threads; waits on `run_queue`.
    parked: Condvar,
    /// New tasks are refused; queued ones still run.
    closing: AtomicBool,
    /// Nothing runs any more. Set under the lock of `run_queue`; read without it between tasks,
    /// where a late read runs one more task.
    ended: AtomicBool,
    panics: AtomicU64,
    pub(super) metrics: PoolMetrics,
}

/// What a pool records; nothing by default.
pub(crate) struct PoolMetrics {
    /// Takes the duration of each turn.
    pub(crate) turn_seconds: Option<Histogram>,
    /// Counts panics of tasks, futures and timers.
    pub(crate) panics: Counter,
}

impl Default for PoolMetrics {
    fn default() -> Self {
        Self {
            turn_seconds: None,
            panics: Counter::noop(),
        }
    }
}

#[derive(Default)]
struct RunQueue {
    ready: VecDeque<Arc<dyn Runnable>>,
    /// Runnables that wait for a turn or are in one.
    busy: usize,
    /// Threads that have not ended.
    threads: usize,
    /// Threads that are parked.
    parked: usize,
    /// Threads that spin, and will read `ready` again before they park.
    spinning: usize,
}

impl RunQueue {
    /// Returns whether to wake a parked thread for the runnable that was just queued.
    ///
    /// Spinning threads take queued work without a wake-up: with one busy scheduler, waking a
    /// second thread for nothing took 3 to 12 % more CPU time per message.
    ///
    /// No wake-up is lost: `ready`, `parked` and `spinning` change under one lock, and a thread
    /// reads `ready` under that lock after its last spin and parks without releasing it.
    fn wants_thread(&self) -> bool {
        self.parked > 0 && self.ready.len() > self.spinning
    }
}

impl Executor {
    /// Makes an executor without threads; `simulated` ones get none.
    pub(super) fn new(simulated: bool, runtime: Handle, metrics: PoolMetrics) -> Self {
        Self {
            clock: if simulated {
                Clock::simulated(&runtime)
            } else {
                Clock::System
            },
            simulated,
            run_queue: Mutex::default(),
            parked: Condvar::new(),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            changed: Notify::new(),
            timers: Arc::new(TimerQueue::new(runtime.clone())),
            suspended: Suspended::default(),
            watch: Arc::default(),
            panics: AtomicU64::new(0),
            metrics,
            runtime,
        }
    }

    /// Starts a thread that gives turns until the executor ends.
    pub(super) fn start_thread(self: &Arc<Self>, name: String) -> io::Result<()> {
        let executor = self.clone();
        self.run_queue.lock().threads += 1;
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || executor.run_thread());
        if started.is_err() {
            self.run_queue.lock().threads -= 1;
        }
        started.map(drop)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Returns the present time of the runtime's clock, which tests may pause.
    pub(super) fn now(&self) -> Instant {
        let _entered = self.runtime.enter();
        Instant::now()
    }

    /// Returns the time of day at `now`.
    pub(super) fn wall_clock(&self, now: Instant) -> SystemTime {
        self.clock.wall(now)
    }

    /// Puts an idle runnable in line for a turn. Returns `false` when the executor has ended.
    pub(super) fn submit(self: &Arc<Self>, runnable: Arc<dyn Runnable>) -> bool {
        let mut queue = self.run_queue.lock();
        if self.has_ended() {
            return false;
        }
        queue.busy += 1;
        if self.simulated {
            drop(queue);
            self.spawn_turn(runnable);
        } else {
            queue.ready.push_back(runnable);
            let wake = queue.wants_thread();
            drop(queue);
            if wake {
                self.parked.notify_one();
            }
        }
        true
    }

    fn run_thread(self: Arc<Self>) {
        let _entered = self.runtime.enter();
        let mut batch = Vec::new();
        while let Some(runnable) = self.next() {
            self.run_turn(runnable, &mut batch);
        }
        self.run_queue.lock().threads -= 1;
        self.changed.notify_waiters();
    }

    /// Waits for the next runnable in line. Returns `None` when the executor has ended.
    fn next(&self) -> Option<Arc<dyn Runnable>> {
        let mut polls = 0;
        let mut queue = self.run_queue.lock();
        loop {
            if self.has_ended() {
                return None;
            }
            if let Some(runnable) = queue.ready.pop_front() {
                return Some(runnable);
            }
            if polls < SPINS + YIELDS {
                queue.spinning += 1;
                MutexGuard::unlocked(&mut queue, || spin_or_yield(polls));
                queue.spinning -= 1;
                polls += 1;
                continue;
            }
            queue.parked += 1;
            self.parked.wait(&mut queue);
            queue.parked -= 1;
            polls = 0;
        }
    }

    fn run_turn(self: &Arc<Self>, runnable: Arc<dyn Runnable>, batch: &mut Vec<Task>) {
        if !runnable.clone().turn(batch) {
            // Dropped before the turn counts as over: this may be the last handle, and dropping
            // what it owns is part of the turn.
            drop(runnable);
            self.leave();
        } else if self.simulated {
            self.spawn_turn(runnable);
        } else {
            let mut queue = self.run_queue.lock();
            if self.has_ended() {
                drop(queue);
                runnable.abandon();
            } else {
                queue.ready.push_back(runnable);
            }
        }
    }

    fn spawn_turn(self: &Arc<Self>, runnable: Arc<dyn Runnable>) {
        let turn = SpawnedTurn {
            executor: self.clone(),
            runnable: Some(runnable),
        };
        self.runtime.spawn(async move { turn.run() });
    }

    /// Counts a runnable as idle.
    fn leave(&self) {
        let mut queue = self.run_queue.lock();
        queue.busy -= 1;
        self.end_if_idle(queue);
    }

    /// Stops timers and refuses new tasks; ends when the last queued task has run.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.timers.close();
        self.changed.notify_waiters();
        self.end_if_idle(self.run_queue.lock());
    }

    fn end_if_idle(&self, queue: MutexGuard<'_, RunQueue>) {
        if queue.busy == 0 && self.is_closing() {
            self.end_locked(queue);
        }
    }

    /// Ends at once: waiting tasks are dropped unrun.
    pub(super) fn end(&self) {
        self.end_locked(self.run_queue.lock());
    }

    fn end_locked(&self, mut queue: MutexGuard<'_, RunQueue>) {
        self.ended.store(true, Ordering::Release);
        let left = std::mem::take(&mut queue.ready);
        drop(queue);
        self.parked.notify_all();
        self.watch.stop();
        for runnable in left {
            runnable.abandon();
        }
        self.suspended.cancel();
        self.changed.notify_waiters();
    }

    /// Waits until the executor and all its threads have ended.
    pub(super) async fn stopped(&self) {
        loop {
            let changed = self.changed.notified();
            if self.has_ended() && self.run_queue.lock().threads == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Calls user code of the named scheduler. A panic is logged and counted, and gives `None`.
    pub(super) fn guard<R>(&self, scheduler: &str, call: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(call))
            .map_err(|payload| {
                self.panics.fetch_add(1, Ordering::Relaxed);
                self.metrics.panics.increment(1);
                tracing::error!(scheduler, panic = panic_message(&*payload), "task panicked");
            })
            .ok()
    }
}

/// Waits for a moment: longer with each poll, then a yield.
fn spin_or_yield(polls: u32) {
    if polls < SPINS {
        (0..1 << polls).for_each(|_| hint::spin_loop());
    } else {
        thread::yield_now();
    }
}

/// A turn that waits in the runtime. A runtime that shuts down drops it unrun.
struct SpawnedTurn {
    executor: Arc<Executor>,
    runnable: Option<Arc<dyn Runnable>>,
}

impl SpawnedTurn {
    fn run(mut self) {
        if let Some(runnable) = self.runnable.take() {
            self.executor.run_turn(runnable, &mut Vec::new());
        }
    }
}

impl Drop for SpawnedTurn {
    fn drop(&mut self) {
        if let Some(runnable) = self.runnable.take() {
            runnable.abandon();
            self.executor.leave();
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a string")
}
