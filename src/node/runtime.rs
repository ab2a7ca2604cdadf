//! The runtime that does a node's network I/O.

use std::{future, io, panic, thread, time::Duration};
#[cfg(feature = "testing")]
use std::{sync::Arc, thread::JoinHandle};

use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    sync::oneshot,
};

const THREAD_NAME: &str = "nano-io";

/// How long the first thread waits for the others at their end, which tasks that block can delay.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A runtime of the node's own for its I/O, or the runtime the node is started on.
///
/// A few dedicated threads are cheaper than the many of the application's runtime: they are more
/// often awake when work comes, and take more of it at once. Beside a load generator on two cores,
/// one thread instead of two took 25 % less CPU time per message at 100 and 1,000 clients.
pub(super) struct IoRuntime(Option<Dedicated>);

struct Dedicated {
    handle: Handle,
    /// Dropping the sender ends the runtime: its tasks are dropped, without a wait for them.
    _shutdown: oneshot::Sender<()>,
    /// The thread that ends last.
    #[cfg(feature = "testing")]
    thread: Arc<JoinHandle<()>>,
}

impl IoRuntime {
    /// Starts a runtime of `threads` threads.
    ///
    /// Uses the current runtime if `threads` is 0 or that runtime is single-threaded, so that tests
    /// with paused time cover the node's I/O too.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        if threads == 0 || Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(Self(None));
        }
        // A single thread needs no work stealing, and runs its tasks strictly in turn. Through a
        // gate and a backend it answered 1,000 clients 15 % faster, and the slowest hundredth of
        // them after 14 ms instead of 49.
        let mut builder = if threads == 1 {
            Builder::new_current_thread()
        } else {
            Builder::new_multi_thread()
        };
        let runtime = builder
            .worker_threads(threads)
            .thread_name(THREAD_NAME)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let runtime = ShutdownOnDrop(Some(runtime));
        let (_shutdown, stopped) = oneshot::channel();
        let _thread = thread::Builder::new()
            .name(THREAD_NAME.into())
            .spawn(move || runtime.run_until(stopped))?;
        Ok(Self(Some(Dedicated {
            handle,
            _shutdown,
            #[cfg(feature = "testing")]
            thread: Arc::new(_thread),
        })))
    }

    /// The thread that ends last, once all tasks have; `None` on the runtime the node is started on.
    #[cfg(feature = "testing")]
    pub(super) fn thread(&self) -> Option<Arc<JoinHandle<()>>> {
        let dedicated = self.0.as_ref()?;
        Some(dedicated.thread.clone())
    }

    /// Runs a future, and the tasks it spawns, on this runtime.
    ///
    /// A panic of the future continues in the caller.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let Some(dedicated) = &self.0 else {
            return work.await;
        };
        match dedicated.handle.spawn(work).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => panic::resume_unwind(payload),
                // Unreachable: a task is cancelled only when its runtime ends, and the runtime
                // lives as long as `self`.
                Err(_) => future::pending().await,
            },
        }
    }
}

/// A runtime whose drop does not block, so that it may happen on any thread.
struct ShutdownOnDrop(Option<Runtime>);

impl ShutdownOnDrop {
    /// Drives a single-threaded runtime, and keeps any other alive, until the sender is dropped; then
    /// waits for its threads. Blocks.
    fn run_until(mut self, stopped: oneshot::Receiver<()>) {
        if let Some(runtime) = self.0.take() {
            // Always an error, since the sender never sends.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(END_TIMEOUT);
        }
    }
}

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
