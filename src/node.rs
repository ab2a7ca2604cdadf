//! One running node.

#[cfg(feature = "testing")]
use std::thread::JoinHandle;
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{runtime::Handle as RuntimeHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::{
    bound::BoundAddresses,
    running::{FLUSH_TIMEOUT, Running},
    runtime::IoRuntime,
    signals::{Hangups, Interrupts, Signal},
};
use crate::{
    error::{Error, Result},
    handle::Handle,
    metrics::Metrics,
    scheduler::{Pool, PoolMetrics},
};

mod admin;
mod bound;
mod config;
mod drain;
mod draining;
mod hooks;
mod running;
mod runtime;
mod signals;

pub(crate) use self::config::{DictionarySource, NodeConfig};

/// A running node, made by [`App::start`](crate::App::start).
///
/// Dropping it does not stop the node; see [`shutdown`](Node::shutdown).
///
/// ```no_run
/// # async fn example() -> nano::Result {
/// let node = nano::App::new().tcp("127.0.0.1:0").start().await?;
/// println!("listening on {}", node.addresses()[0]);
/// node.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Node {
    handle: Handle,
    addresses: Vec<SocketAddr>,
    /// Cancelled when the node has stopped, or its runtime has ended.
    stopped: CancellationToken,
    /// The last of its own I/O threads, if it has any.
    #[cfg(feature = "testing")]
    io_thread: Option<Arc<JoinHandle<()>>>,
}

impl Node {
    pub(crate) async fn start(mut config: NodeConfig) -> Result<Self> {
        config.check()?;
        let io = IoRuntime::new(config.io_threads)?;
        let bind = async move {
            let bound = BoundAddresses::bind(&mut config).await?;
            Ok::<_, Error>((config, bound))
        };
        let (config, bound) = io.run(bind).await?;
        let metrics = Arc::new(Metrics::new(bound.admin.handles(&bound.name())));
        let pool_metrics = PoolMetrics {
            turn_seconds: metrics.turn_seconds(),
            panics: metrics.panics.clone(),
        };
        let (threads, runtime) = (config.scheduler_threads, RuntimeHandle::current());
        let pool = Pool::with_metrics("nano", threads, runtime, pool_metrics)?
            .with_precision(config.timer_precision)?;
        let times = config.stop_times();
        let start = Running::start(config, bound, metrics, pool.clone());
        match io.run(start).await {
            Ok((running, addresses)) => {
                let stopped = CancellationToken::new();
                let at_end = stopped.clone().drop_guard();
                let handle = running.handle.clone();
                let node = handle.clone();
                node.lifecycle().set_stop_times(times);
                let (gate, admin) = (running.gate.clone(), running.admin.clone());
                let draining = running.draining();
                #[cfg(feature = "testing")]
                let io_thread = io.thread();
                tokio::spawn(async move {
                    tokio::select! {
                        () = node.lifecycle().shutdown_requested() => {}
                        () = draining.run() => {}
                    }
                    let within = node.lifecycle().stop_times().shutdown;
                    stop(&io, running, &node, within).await;
                    admin.stop().await;
                    drop(at_end);
                    // Sockets linger until clients have read the last packets, on the I/O threads.
                    gate.connections_gone().await;
                    drop(io);
                });
                Ok(Self {
                    handle,
                    addresses,
                    stopped,
                    #[cfg(feature = "testing")]
                    io_thread,
                })
            }
            Err(error) => {
                pool.shutdown(times.shutdown).await;
                Err(error)
            }
        }
    }

    /// The handle that components, and the rest of the program, use.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The bound address of each client listener, in the order they were added. Custom transports
    /// without an IP address are left out.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops the node in order and waits until it has stopped.
    ///
    /// It takes no new connections, lets requests in flight end, tells clients why and disconnects
    /// them, runs close callbacks, then the components' hooks. It takes at most
    /// [`Timeouts::shutdown`](crate::Timeouts::shutdown), and a second more if user code blocks the
    /// I/O threads.
    pub async fn shutdown(&self) {
        self.handle.shutdown();
        self.stopped().await;
    }

    /// Waits until SIGINT (Ctrl-C), SIGTERM or SIGQUIT arrives or [`Handle::shutdown`] is called,
    /// and then until the node has stopped in order.
    ///
    /// SIGTERM drains first if [`Timeouts::drain`](crate::Timeouts::drain) or
    /// [`Timeouts::shutdown_delay`](crate::Timeouts::shutdown_delay) is set; a second signal ends the
    /// drain. SIGHUP [reloads](Handle::reload) the configuration of a node that has one.
    ///
    /// Signals count from this call on, not only from the first poll of the future.
    ///
    /// # Errors
    /// The system refuses to register signal handlers.
    ///
    /// # Panics
    /// Called outside of a runtime.
    pub fn run(&self) -> impl Future<Output = Result> {
        let hangups = Hangups::new(self.handle.can_reload());
        let signals = Interrupts::new().and_then(|interrupts| Ok((interrupts, hangups?)));
        async {
            let (mut interrupts, mut hangups) = signals?;
            let reload = async {
                loop {
                    hangups.next().await;
                    if let Err(error) = self.handle.reload().await {
                        error!(%error, "configuration not reloaded, keeping the old one");
                    }
                }
            };
            let interrupted = async {
                let signal = interrupts.next().await;
                let drain = self.handle.lifecycle().stop_times().on_signal();
                if let (Signal::Terminate, Some(within)) = (signal, drain) {
                    self.handle.drain(within);
                    // A second signal of any kind ends the wait.
                    interrupts.next().await;
                }
            };
            tokio::select! {
                () = interrupted => self.handle.shutdown(),
                () = self.stopped() => {}
                () = reload => {}
            }
            self.stopped().await;
            Ok(())
        }
    }

    /// Waits until the node has stopped, for whatever reason.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Whether its own I/O threads have ended, and with them its sockets.
    #[cfg(feature = "testing")]
    pub(crate) fn has_closed(&self) -> bool {
        let thread = self.io_thread.as_ref();
        thread.is_none_or(|thread| thread.is_finished())
    }
}

/// Stops a node on its I/O threads, and keeps the deadline also if user code blocks them.
async fn stop(io: &IoRuntime, running: Running, node: &Handle, within: Duration) {
    let stop = io.run(running.stop(within));
    if timeout(within + FLUSH_TIMEOUT, stop).await.is_err() {
        error!("the I/O threads are blocked, abandoning them");
        node.pool().shutdown(Duration::ZERO).await;
        node.forget_callbacks();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("addresses", &self.addresses)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
