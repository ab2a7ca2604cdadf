//! The threads that do a node's network work.

use std::{io, panic};

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

/// Threads of the node's own, or those of the runtime it is started on.
///
/// Few threads of their own are cheaper than the many of the application's runtime: what waits for them is already awake more often, and takes
/// more at once. Beside one load generator on two cores one thread instead of two took 10 to 25 % less CPU time for each message, with 100 or
/// 1,000 clients, through one node or two.
pub(super) struct Network(Option<Runtime>);

impl Network {
    /// With 0 threads, and on a runtime of a single thread, the work stays on the runtime this is called on; so does the time that tests pause.
    ///
    /// # Errors
    /// The system does not give a thread.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        if threads == 0 || Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(Self(None));
        }
        Builder::new_multi_thread().worker_threads(threads).thread_name("nano-io").enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Runs a future on these threads, and what it spawns.
    pub(super) async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let Some(runtime) = &self.0 else { return future.await };
        match runtime.spawn(future).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => panic::resume_unwind(payload),
                // Nobody cancels it, and the runtime lives as long as this.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Tasks that are left are dropped. This does not wait for them, so it may happen on a thread of a runtime.
impl Drop for Network {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
