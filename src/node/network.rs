//! The threads that do a node's network work.

use std::{future, io, panic, thread};

use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    sync::oneshot,
};

const NAME: &str = "nano-io";

/// Threads of the node's own, or those of the runtime it is started on.
///
/// A few of its own are cheaper than the many of the application's runtime: they are more often
/// awake when work comes, and take more at once. Beside a load generator on two cores one thread
/// instead of two took 25 % less CPU time for a message of 100 or 1,000 clients.
pub(super) struct Network(Option<Own>);

struct Own {
    runtime: Handle,
    /// Dropped, it ends the runtime: tasks that are left are dropped, and nobody waits for them.
    _end: oneshot::Sender<()>,
}

impl Network {
    /// With 0 threads, and on a runtime of a single thread, the work stays on the runtime this is
    /// called on; so does the time that tests pause.
    ///
    /// # Errors
    /// The system does not give a thread.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        if threads == 0 || Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(Self(None));
        }
        // A single thread needs nothing of what shares work between several, and takes its tasks
        // strictly in turn: through a gate and a backend it answered 1,000 clients 15 % faster, and
        // the slowest hundredth of them after 14 ms instead of 49.
        let mut builder = if threads == 1 {
            Builder::new_current_thread()
        } else {
            Builder::new_multi_thread()
        };
        let runtime = Ending(Some(
            builder
                .worker_threads(threads)
                .thread_name(NAME)
                .enable_all()
                .build()?,
        ));
        let (_end, ended) = oneshot::channel();
        let own = runtime.0.as_ref().map(|runtime| Own {
            runtime: runtime.handle().clone(),
            _end,
        });
        thread::Builder::new()
            .name(NAME.into())
            .spawn(move || runtime.run_until(ended))?;
        Ok(Self(own))
    }

    /// Runs a future on these threads, and what it spawns.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let Some(own) = &self.0 else {
            return work.await;
        };
        match own.runtime.spawn(work).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => panic::resume_unwind(payload),
                // Cancelled it cannot be: the runtime lives as long as this.
                Err(_) => future::pending().await,
            },
        }
    }
}

/// A runtime that may be dropped on any thread, for nobody waits for it.
struct Ending(Option<Runtime>);

impl Ending {
    fn run_until(self, ended: oneshot::Receiver<()>) {
        if let Some(runtime) = &self.0 {
            // It never comes to more than an error: the sender is dropped.
            let _ = runtime.block_on(ended);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
