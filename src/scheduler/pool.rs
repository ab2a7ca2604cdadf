//! The public handle of the threads that schedulers share.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{
    executor::{Executor, PoolMetrics},
    watch::SchedulerStatus,
};
use crate::error::{Error, Result, code};

/// Default interval between the checks of `poll_until` timers; see [`Pool::with_precision`].
const PRECISION: Duration = Duration::from_secs(1);

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
/// A handle, cheap to clone. Schedulers take turns: a busy one runs up to 256 tasks, then the next
/// in line has its turn. A task that blocks holds up its own scheduler and one thread. While all
/// threads are blocked, every scheduler of the pool waits.
///
/// Dropping the last handle starts a [`shutdown`](Pool::shutdown) in the background.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
    precision: Duration,
}

impl Pool {
    /// Starts a pool of `threads` threads called `name`.
    ///
    /// Timers and the futures of [`Scheduler::offload`](super::Scheduler::offload) run on
    /// `runtime`; `tokio::spawn` in a task uses it too. One more thread samples the schedulers once
    /// a second, and logs a task that blocks its scheduler for more than 5 seconds.
    ///
    /// With 0 threads, turns run as tasks of the runtime, and user code that blocks blocks the
    /// runtime. The wall clock of cron and condition timers then starts at the time of this call
    /// and follows tokio's clock. This is meant for simulations and for tests with paused time.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn new(name: impl Into<String>, threads: usize, runtime: Handle) -> io::Result<Self> {
        Self::with_metrics(name, threads, runtime, PoolMetrics::default())
    }

    /// A [`new`](Self::new) pool that records its turns and panics.
    pub(crate) fn with_metrics(
        name: impl Into<String>,
        threads: usize,
        runtime: Handle,
        metrics: PoolMetrics,
    ) -> io::Result<Self> {
        // If a thread fails to start, dropping the pool ends those that did.
        let pool = Self {
            owner: Arc::new(Owner {
                name: name.into(),
                threads,
                executor: Arc::new(Executor::new(threads == 0, runtime, metrics)),
            }),
            precision: PRECISION,
        };
        let watch = format!("{}-watch", pool.owner.name);
        pool.executor().watch.start_thread(watch)?;
        for index in 0..threads {
            let name = format!("{}-{index}", pool.owner.name);
            pool.executor().start_thread(name)?;
        }
        Ok(pool)
    }

    /// Sets the interval between the checks of `poll_until` timers; the default is one second.
    ///
    /// Applies to schedulers made from now on through this handle and its clones. Other timers are
    /// exact to the millisecond, whatever the precision.
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

    /// The runtime that polls futures: the application's.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.executor().runtime
    }

    /// Returns how many tasks, timer callbacks and futures have panicked so far.
    pub fn panics(&self) -> u64 {
        self.executor().panics()
    }

    /// Stops timers, refuses new tasks, runs the queued ones and ends the threads. Returns whether
    /// that was done `within` the time, which is measured on tokio's clock.
    ///
    /// Async tasks go on as long as tasks are queued; those suspended after the last one are
    /// dropped. At the deadline, waiting tasks are dropped unrun, and a thread in a running task
    /// is detached. Must not be awaited on a scheduler of this pool.
    pub async fn shutdown(&self, within: Duration) -> bool {
        let executor = self.executor();
        executor.close();
        let stopped = timeout(within, executor.stopped()).await.is_ok();
        if !stopped {
            executor.end();
        }
        stopped
    }

    /// Returns what each scheduler of the pool does now: its queue, its turns, and the task that
    /// holds it. Answers also while all threads are blocked.
    pub fn schedulers(&self) -> Vec<SchedulerStatus> {
        self.executor().watch.statuses(Instant::now())
    }

    pub(super) fn precision(&self) -> Duration {
        self.precision
    }

    pub(super) fn executor(&self) -> &Arc<Executor> {
        &self.owner.executor
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

/// What the handles of a pool share. Schedulers and threads hold the [`Executor`] alone, so the
/// pool closes when its handles are gone.
struct Owner {
    name: String,
    threads: usize,
    executor: Arc<Executor>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.executor.close();
    }
}
