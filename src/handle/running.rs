//! Whether a node serves, and how it is asked to stop.

use std::time::Duration;

use super::{
    lifecycle::{Lifecycle, Readiness},
    node_handle::Handle,
    start_steps::Step,
};

impl Handle {
    /// Asks the node to let its players leave by themselves for at most this long, and then to stop;
    /// returns at once. With several calls the earliest deadline counts, and
    /// [`shutdown`](Handle::shutdown) ends the wait.
    ///
    /// 1. The node is [not ready](Handle::readiness), and other members choose it for no new session.
    ///    Sessions that it serves stay, and so do calls.
    /// 2. `before_drain` of its [components](crate::Component) runs, while all players are connected.
    /// 3. After [`Timeouts::shutdown_delay`](crate::Timeouts::shutdown_delay) its listeners close.
    /// 4. When no session is left, or at the deadline, it stops as by [`shutdown`](Handle::shutdown):
    ///    clients that are still there are kicked with the advice to connect elsewhere.
    ///
    /// Where the node handles signals, SIGTERM does this with
    /// [`Timeouts::drain`](crate::Timeouts::drain).
    pub fn drain(&self, within: Duration) {
        self.0.lifecycle.drain(within);
    }

    /// Whether the node takes new clients: for probes of load balancers and orchestrators.
    pub fn readiness(&self) -> Readiness {
        let lifecycle = &self.0.lifecycle;
        lifecycle.readiness(self.0.start.missing().next().is_none())
    }

    /// Asks the node to stop, and returns at once. Further calls do nothing.
    pub fn shutdown(&self) {
        self.0.lifecycle.shutdown();
    }

    /// Whether the node is stopping or has stopped.
    pub fn is_shutting_down(&self) -> bool {
        self.readiness() == Readiness::Stopping
    }

    /// Whether the node serves: it has joined its cluster, its listeners are open, and it neither
    /// drains nor stops. What `/readyz` of the [admin address](crate::App::admin) answers.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ready()
    }

    /// What the node still waits for, or why it does not serve any more.
    #[cfg(feature = "admin")]
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let ends = matches!(self.readiness(), Readiness::Draining | Readiness::Stopping);
        let missing = self.0.start.missing();
        missing.chain(ends.then_some("draining")).collect()
    }

    /// Notes that a step of the start is done.
    pub(crate) fn started(&self, step: Step) {
        self.0.start.done(step);
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }
}
