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

use super::{Scheduler, Task, driver::Timers, future::Futures, strand::Strand};
use crate::error::{Error, Result, code};

/// How often condition timers look, unless [`Pool::with_precision`] says otherwise.
const PRECISION: Duration = Duration::from_secs(1);

/// How often a thread without work looks again before it sleeps, first after a pause that doubles
/// each time, then after giving way to other threads. Under load the next task comes within these
/// few microseconds, and waking a thread costs both sides more: 14 to 18 % less CPU time for each
/// message at 100 and 1,000 clients, and 20 % for a single one, measured with four that give way;
/// two do as well since no second thread looks for the same work.
const SPINS: u32 = 7;
const YIELDS: u32 = 2;

/// A few threads that run the tasks of many schedulers, so that user code that blocks never stalls
/// the network.
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
    /// [`Scheduler::offload`] run on `runtime`, which also stands behind `tokio::spawn` in tasks.
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
            runtime,
            simulated,
            turns: Mutex::default(),
            parked: Condvar::new(),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            changed: Notify::new(),
            timers: Timers::default(),
            futures: Futures::default(),
            panics: AtomicU64::new(0),
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

    /// Sets how often condition timers look, for the schedulers made through this handle and its
    /// clones from now on. The default is one second. Other timers are exact to the millisecond,
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

    /// Makes a scheduler that holds up to `capacity` waiting tasks (at least one). The name is for
    /// logs.
    pub fn scheduler(&self, name: impl Into<Arc<str>>, capacity: usize) -> Scheduler {
        Scheduler(Arc::new(Strand::new(
            name.into(),
            capacity,
            self.precision,
            self.shared().clone(),
        )))
    }

    /// How many tasks, timer callbacks and futures have panicked so far.
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

    fn shared(&self) -> &Arc<Shared> {
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

/// What all handles share. Schedulers and threads hold only [`Shared`], so the pool closes when its
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
    pub(super) timers: Timers,
    pub(super) futures: Futures,
    /// Notified when the pool closes, ends, or a thread of it ends.
    pub(super) changed: Notify,
    clock: Clock,
    /// No threads: turns are tasks of the runtime.
    simulated: bool,
    turns: Mutex<Turns>,
    parked: Condvar,
    /// No more tasks from outside.
    closing: AtomicBool,
    /// Nothing runs any more. Set under the lock of `turns`.
    ended: AtomicBool,
    panics: AtomicU64,
}

#[derive(Default)]
struct Turns {
    ready: VecDeque<Arc<Strand>>,
    /// Strands that wait for a turn or are in one.
    busy: usize,
    /// Threads that have not ended, those of them that sleep until there is work, and those that
    /// look for it between two looks at `ready`.
    threads: usize,
    parked: usize,
    looking: usize,
}

impl Turns {
    /// Whether a thread is to be woken for the strand that was just put in line. What the threads
    /// that look will find needs nobody else: with one busy scheduler, waking a second thread for
    /// nothing took 3 to 12 % more CPU time for each message.
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

    /// Puts an idle strand in line for a turn; `false` when the pool has ended.
    pub(super) fn submit(self: &Arc<Self>, strand: &Arc<Strand>) -> bool {
        let mut turns = self.turns.lock();
        if self.has_ended() {
            return false;
        }
        turns.busy += 1;
        if self.simulated {
            drop(turns);
            self.spawn_turn(strand.clone());
        } else {
            turns.ready.push_back(strand.clone());
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
        while let Some(strand) = self.next() {
            self.take_turn(strand, &mut batch);
        }
        self.turns.lock().threads -= 1;
        self.changed.notify_waiters();
    }

    fn next(&self) -> Option<Arc<Strand>> {
        let mut looked = 0;
        let mut turns = self.turns.lock();
        loop {
            if self.has_ended() {
                return None;
            }
            if let Some(strand) = turns.ready.pop_front() {
                return Some(strand);
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

    fn take_turn(self: &Arc<Self>, strand: Arc<Strand>, batch: &mut Vec<Task>) {
        if !strand.turn(batch) {
            // Dropped first: it may be the last handle, and what hangs on it belongs to the turn.
            drop(strand);
            self.leave();
        } else if self.simulated {
            self.spawn_turn(strand);
        } else {
            let mut turns = self.turns.lock();
            if self.has_ended() {
                drop(turns);
                strand.abandon();
            } else {
                turns.ready.push_back(strand);
            }
        }
    }

    fn spawn_turn(self: &Arc<Self>, strand: Arc<Strand>) {
        let turn = Turn(Some(strand));
        self.runtime.spawn(async move { turn.run() });
    }

    /// A strand went idle.
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
        for strand in left {
            strand.abandon();
        }
        self.futures.cancel();
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

    /// Calls user code of the scheduler of that name. A panic in it is logged and counted, and the
    /// answer is `None`.
    pub(super) fn guard<R>(&self, scheduler: &str, call: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(call))
            .map_err(|payload| {
                self.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    scheduler,
                    panic = panic_message(&*payload),
                    "a task panicked"
                );
            })
            .ok()
    }
}

fn spin_or_yield(looked: u32) {
    if looked < SPINS {
        (0..1 << looked).for_each(|_| hint::spin_loop());
    } else {
        thread::yield_now();
    }
}

/// What time of day it is.
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
struct Turn(Option<Arc<Strand>>);

impl Turn {
    fn run(mut self) {
        if let Some(strand) = self.0.take() {
            strand.pool.clone().take_turn(strand, &mut Vec::new());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(strand) = self.0.take() {
            strand.abandon();
            strand.pool.leave();
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
