//! Where a node is between its start and its end, and what it was asked for.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Whether a node takes new clients, as its probes report it.
///
/// ```
/// use nano::{Handle, Readiness};
///
/// fn status(node: &Handle) -> u16 {
///     if node.readiness() == Readiness::Ready { 200 } else { 503 }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Readiness {
    /// It has not joined its cluster yet, or does not listen.
    Starting,
    /// It takes clients.
    Ready,
    /// It [drains](crate::Handle::drain): clients that are connected stay, new ones should go to
    /// another node.
    Draining,
    /// It is stopping, or has stopped.
    Stopping,
}

impl Readiness {
    /// Whether it is [`Ready`](Self::Ready).
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }
}

/// One word in lower case.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        })
    }
}

/// How long the parts of a node's end may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StopTimes {
    pub(crate) shutdown: Duration,
    /// How long SIGTERM lets players leave.
    pub(crate) drain: Option<Duration>,
    /// How long a draining node keeps listening.
    pub(crate) delay: Option<Duration>,
}

impl StopTimes {
    /// How long SIGTERM drains; `None` if it stops the node at once. Without a drain there still is the
    /// delay, which ends with the listeners.
    pub(crate) fn on_signal(self) -> Option<Duration> {
        self.drain.or(self.delay).max(self.delay)
    }
}

/// What a running node was asked for.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// A leaf lock. A reload replaces them.
    times: Mutex<StopTimes>,
    /// When a drain ends, once one was asked for.
    drain: watch::Sender<Option<Instant>>,
    shutdown: CancellationToken,
}

impl Lifecycle {
    /// What the node reports, once it has `started` or not.
    pub(super) fn readiness(&self, started: bool) -> Readiness {
        if self.shutdown.is_cancelled() {
            Readiness::Stopping
        } else if self.drain.borrow().is_some() {
            Readiness::Draining
        } else if started {
            Readiness::Ready
        } else {
            Readiness::Starting
        }
    }

    /// How long the node's end may take, for a drain or shutdown that begins now.
    pub(crate) fn stop_times(&self) -> StopTimes {
        *self.times.lock()
    }

    pub(crate) fn set_stop_times(&self, times: StopTimes) {
        *self.times.lock() = times;
    }

    /// Asks for a drain. The earliest deadline counts.
    pub(super) fn drain(&self, within: Duration) {
        let now = Instant::now();
        // For ever, if it cannot be counted.
        let far = Duration::from_secs(365 * 24 * 60 * 60);
        let deadline = now + within.min(far);
        self.drain.send_if_modified(|current| {
            let earlier = current.is_none_or(|current| deadline < current);
            if earlier {
                *current = Some(deadline);
            }
            earlier
        });
    }

    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        *self.drain.borrow()
    }

    /// Waits until a drain is asked for.
    pub(crate) async fn drain_requested(&self) {
        // The sender is part of this, so the wait cannot fail.
        let _ = self.drain.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Waits until a shutdown is asked for.
    pub(crate) async fn shutdown_requested(&self) {
        self.shutdown.cancelled().await;
    }
}
