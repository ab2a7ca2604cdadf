//! The threads that schedulers share.

use std::{
    any::Any,
    collections::VecDeque,
    fmt, hint, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    runnable::{Runnable, Task},
    suspended::Suspended,
    timer_queue::TimerQueue,
};
use crate::error::{Error, Result, code};

/// Default interval between the checks of `poll_until` timers; see [`Pool::with_precision`].
const PRECISION: Duration = Duration::from_secs(1);

/// How often an idle thread polls the queue before it parks: first after busy waits that double in
/// length, then after yields. Under load the next task comes within these few microseconds, and a
/// wake-up costs both sides more. Measured with four yields: 14 to 18 % less CPU time per message at
/// 100 and 1,000 clients, 20 % for a single client. Two yields do as well since no second thread is
/// woken for the same work.
const SPINS: u32 = 7;
const YIELDS: u32 = 2;

/// A few threads that run the tasks of many schedulers, apart from the I/O threads.
///
/// User code that blocks in a task therefore never stalls the network.
///
/// ```
/// use nano::scheduler::Pool;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nano::Result {
/// let pool = Pool::new("game", 2, tokio::runtime::Handle::current())?;
/// let (red, blue) = (pool.scheduler("red", 256), pool.scheduler("blue", 256));
/// red.push_task(|| println!("may run while blue runs"))?;
/// blue.push_task(|| println!("may run while red runs"))?;
/// assert!(pool.shutdown(std::time::Duration::from_secs(5)).await);
/// # Ok(())
/// # }
/// ```
///
/// A handle, cheap to clone. Its schedulers take turns: a busy one runs up to 256 tasks, then the
/// next one in line has its turn. A task that blocks holds up its own scheduler and one thread;
/// with all threads held, every scheduler of the pool waits.
///
/// When the last handle is dropped, the pool shuts down by itself as in
/// [`shutdown`](Pool::shutdown), without anyone waiting for it.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
    precision: Duration,
}

impl Pool {
    /// Starts a pool of `threads` threads called `name`. Timers and the futures of
    /// [`Scheduler::offload`](super::Scheduler::offload) run on `runtime`, which also stands behind `tokio::spawn` in tasks.
    ///
    /// With 0 threads, turns run as tasks of the runtime, and the wall clock of cron and condition
    /// timers starts at the time of this call and then follows tokio's clock: for simulations and
    /// for tests with paused time. User code that blocks then blocks the runtime.
    ///
    /// # Errors
    /// When the system does not give a thread.
    pub fn new(name: impl Into<String>, threads: usize, runtime: Handle) -> io::Result<Self> {
        let (name, simulated) = (name.into(), threads == 0);
        let shared = Arc::new(Shared {
            clock: if simulated {
                Clock::simulated(&runtime)
            } else {
                Clock::System
            },
            simulated,
            turns: Mutex::default(),
            parked: Condvar::new(),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            changed: Notify::new(),
            timers: Arc::new(TimerQueue::new(runtime.clone())),
            suspended: Suspended::default(),
            panics: AtomicU64::new(0),
            runtime,
        });
        // Made first: should a thread fail to start, dropping it ends those that did.
        let pool = Self {
            owner: Arc::new(Owner {
                name,
                threads,
                shared,
            }),
            precision: PRECISION,
        };
        for index in 0..threads {
            let shared = pool.shared().clone();
            pool.shared().turns.lock().threads += 1;
            let started = thread::Builder::new()
                .name(format!("{}-{index}", pool.owner.name))
                .spawn(move || shared.work());
            if let Err(error) = started {
                pool.shared().turns.lock().threads -= 1;
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// Sets the interval between the checks of `poll_until` timers, for the schedulers made through
    /// this handle and its clones from now on. The default is one second. Other timers are exact to the millisecond,
    /// whatever the precision.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] below one millisecond.
    pub fn with_precision(mut self, precision: Duration) -> Result<Self> {
        if precision < Duration::from_millis(1) {
            return Err(Error::new(
                code::BAD_REQUEST,
                format!("timer precision {precision:?} is below one millisecond"),
            ));
        }
        self.precision = precision;
        Ok(self)
    }

    /// Returns how many tasks, timer callbacks and futures have panicked so far.
    pub fn panics(&self) -> u64 {
        self.shared().panics.load(Ordering::Relaxed)
    }

    /// Stops all timers, takes no more tasks, lets the queues run empty and ends the threads;
    /// whether that was done `within` the time.
    ///
    /// Async tasks still run as long as queued ones do; those that are suspended after the last are
    /// dropped. When a task still runs at the deadline, its thread is left to itself, and all that
    /// waits is dropped unrun. Waits on tokio's clock; must not be awaited on one of this pool's
    /// own schedulers.
    pub async fn shutdown(&self, within: Duration) -> bool {
        let shared = self.shared();
        shared.close();
        let stopped = timeout(within, shared.stopped()).await.is_ok();
        if !stopped {
            shared.end();
        }
        stopped
    }

    pub(super) fn precision(&self) -> Duration {
        self.precision
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner { name, threads, .. } = &*self.owner;
        f.debug_struct("Pool")
            .field("name", name)
            .field("threads", threads)
            .field("precision", &self.precision)
            .finish()
    }
}

/// The state that all handles share. Schedulers and threads hold only [`Shared`], so the pool closes when its
/// handles are gone.
struct Owner {
    name: String,
    threads: usize,
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

pub(super) struct Shared {
    pub(super) runtime: Handle,
    pub(super) timers: Arc<TimerQueue>,
    pub(super) suspended: Suspended,
    /// Notified when the pool closes, ends, or a thread of it ends.
    pub(super) changed: Notify,
    clock: Clock,
    /// No threads: turns are tasks of the runtime.
    simulated: bool,
    /// Guards the line of runnables and the thread counts. Turns, and every drop of a runnable that
    /// may run user code, happen after it is released. No other lock is taken under it.
    turns: Mutex<Turns>,
    /// Waits on `turns`.
    parked: Condvar,
    /// No more tasks from outside.
    closing: AtomicBool,
    /// Nothing runs any more. Set under the lock of `turns`; read without it between tasks, where a
    /// late read runs one more task.
    ended: AtomicBool,
    panics: AtomicU64,
}

#[derive(Default)]
struct Turns {
    ready: VecDeque<Arc<dyn Runnable>>,
    /// Runnables that wait for a turn or are in one.
    busy: usize,
    /// Threads that have not ended; those of them that are parked; those that spin, and will read
    /// `ready` again before they park.
    threads: usize,
    parked: usize,
    looking: usize,
}

impl Turns {
    /// Returns whether to wake a parked thread for the runnable that was just queued. Threads that
    /// spin take queued work by themselves: with one busy scheduler, waking a second thread for
    /// nothing took 3 to 12 % more CPU time per message.
    ///
    /// No wake-up is lost: `ready`, `parked` and `looking` change under one lock, and a thread reads
    /// `ready` under that lock after its last spin and parks without releasing it in between.
    fn wants_thread(&self) -> bool {
        self.parked > 0 && self.ready.len() > self.looking
    }
}

impl Shared {
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The time now. Enters the runtime, since only there tokio knows of a paused clock.
    pub(super) fn now(&self) -> Instant {
        let _runtime = self.runtime.enter();
        Instant::now()
    }

    pub(super) fn wall_clock(&self, now: Instant) -> SystemTime {
        match self.clock {
            Clock::System => SystemTime::now(),
            Clock::Simulated { origin, started } => origin + (now - started),
        }
    }

    /// Puts an idle runnable in line for a turn. Returns `false` when the pool has ended.
    pub(super) fn submit(self: &Arc<Self>, runnable: Arc<dyn Runnable>) -> bool {
        let mut turns = self.turns.lock();
        if self.has_ended() {
            return false;
        }
        turns.busy += 1;
        if self.simulated {
            drop(turns);
            self.spawn_turn(runnable);
        } else {
            turns.ready.push_back(runnable);
            let wake = turns.wants_thread();
            drop(turns);
            if wake {
                self.parked.notify_one();
            }
        }
        true
    }

    fn work(self: Arc<Self>) {
        let _runtime = self.runtime.enter();
        let mut batch = Vec::new();
        while let Some(runnable) = self.next() {
            self.take_turn(runnable, &mut batch);
        }
        self.turns.lock().threads -= 1;
        self.changed.notify_waiters();
    }

    fn next(&self) -> Option<Arc<dyn Runnable>> {
        let mut looked = 0;
        let mut turns = self.turns.lock();
        loop {
            if self.has_ended() {
                return None;
            }
            if let Some(runnable) = turns.ready.pop_front() {
                return Some(runnable);
            }
            if looked < SPINS + YIELDS {
                turns.looking += 1;
                MutexGuard::unlocked(&mut turns, || spin_or_yield(looked));
                turns.looking -= 1;
                looked += 1;
                continue;
            }
            turns.parked += 1;
            self.parked.wait(&mut turns);
            turns.parked -= 1;
            looked = 0;
        }
    }

    fn take_turn(self: &Arc<Self>, runnable: Arc<dyn Runnable>, batch: &mut Vec<Task>) {
        if !runnable.clone().turn(batch) {
            // Dropped before the turn counts as over: it may be the last handle, and dropping what
            // it owns is part of the turn.
            drop(runnable);
            self.leave();
        } else if self.simulated {
            self.spawn_turn(runnable);
        } else {
            let mut turns = self.turns.lock();
            if self.has_ended() {
                drop(turns);
                runnable.abandon();
            } else {
                turns.ready.push_back(runnable);
            }
        }
    }

    fn spawn_turn(self: &Arc<Self>, runnable: Arc<dyn Runnable>) {
        let turn = Turn {
            pool: self.clone(),
            runnable: Some(runnable),
        };
        self.runtime.spawn(async move { turn.run() });
    }

    /// Counts a runnable as idle.
    fn leave(&self) {
        let mut turns = self.turns.lock();
        turns.busy -= 1;
        self.end_if_idle(turns);
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.timers.close();
        self.changed.notify_waiters();
        self.end_if_idle(self.turns.lock());
    }

    fn end_if_idle(&self, turns: MutexGuard<'_, Turns>) {
        if turns.busy == 0 && self.is_closing() {
            self.end_locked(turns);
        }
    }

    /// Ends the pool, whatever still waits.
    fn end(&self) {
        self.end_locked(self.turns.lock());
    }

    fn end_locked(&self, mut turns: MutexGuard<'_, Turns>) {
        self.ended.store(true, Ordering::Release);
        let left = std::mem::take(&mut turns.ready);
        drop(turns);
        self.parked.notify_all();
        for runnable in left {
            runnable.abandon();
        }
        self.suspended.cancel();
        self.changed.notify_waiters();
    }

    async fn stopped(&self) {
        loop {
            let changed = self.changed.notified();
            if self.has_ended() && self.turns.lock().threads == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Calls user code of the scheduler of that name. A panic is logged and counted, and gives
    /// `None`.
    pub(super) fn guard<R>(&self, scheduler: &str, call: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(call))
            .map_err(|payload| {
                self.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(scheduler, panic = panic_message(&*payload), "task panicked");
            })
            .ok()
    }
}

/// Waits for a moment: longer with each attempt, then a yield.
fn spin_or_yield(looked: u32) {
    if looked < SPINS {
        (0..1 << looked).for_each(|_| hint::spin_loop());
    } else {
        thread::yield_now();
    }
}

/// The source of the time of day.
enum Clock {
    System,
    Simulated {
        origin: SystemTime,
        started: Instant,
    },
}

impl Clock {
    fn simulated(runtime: &Handle) -> Self {
        let _runtime = runtime.enter();
        Self::Simulated {
            origin: SystemTime::now(),
            started: Instant::now(),
        }
    }
}

/// A turn that waits in the runtime. A runtime that shuts down drops it unrun.
struct Turn {
    pool: Arc<Shared>,
    runnable: Option<Arc<dyn Runnable>>,
}

impl Turn {
    fn run(mut self) {
        if let Some(runnable) = self.runnable.take() {
            self.pool.take_turn(runnable, &mut Vec::new());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(runnable) = self.runnable.take() {
            runnable.abandon();
            self.pool.leave();
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
