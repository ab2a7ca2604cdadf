//! How long a node waits.

use std::time::Duration;

use crate::node::NodeConfig;

/// The heartbeat interval and the deadlines of a node. `None` switches one off, where that is
/// possible. None may be zero or longer than a year.
///
/// ```
/// use std::time::Duration;
///
/// use nano::{App, Timeouts};
///
/// let app = App::new().timeouts(
///     Timeouts::new()
///         .heartbeat(Duration::from_secs(10))
///         .request(Duration::from_secs(5)),
/// );
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use = "has no effect until it is given to `App::timeouts`"]
pub struct Timeouts {
    heartbeat: Option<Duration>,
    handshake: Duration,
    tcp_keepalive: Option<Duration>,
    handshake_check: Duration,
    login: Option<Duration>,
    request: Option<Duration>,
    shutdown: Duration,
    resume_window: Option<Duration>,
    drain: Option<Duration>,
    shutdown_delay: Option<Duration>,
    reconnect_window: Option<Duration>,
}

impl Timeouts {
    /// The defaults, as each method documents them.
    pub fn new() -> Self {
        Self {
            heartbeat: Some(Duration::from_secs(30)),
            handshake: Duration::from_secs(10),
            tcp_keepalive: Some(Duration::from_secs(30)),
            handshake_check: Duration::from_secs(5),
            login: None,
            request: Some(Duration::from_secs(30)),
            shutdown: Duration::from_secs(10),
            resume_window: Some(Duration::from_secs(60)),
            drain: None,
            shutdown_delay: None,
            reconnect_window: Some(Duration::from_secs(5)),
        }
    }

    /// The interval of heartbeats, which clients learn in the handshake. A client silent for two
    /// intervals is disconnected. 30 s unless set.
    ///
    /// Whole seconds of at least 1 suit every client: pitaya's Go client refuses fractions, and
    /// panics when there are no heartbeats.
    ///
    /// With `None` no heartbeats are sent and silent clients stay: for tests, and where TCP is sure
    /// to report the end of a connection.
    #[doc(alias = "WithHeartbeatInterval")]
    pub fn heartbeat(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.heartbeat = interval.into();
        self
    }

    /// How long a client may take from the connection to the acknowledged handshake. 10 s unless
    /// set.
    ///
    /// HTTP beside a WebSocket has the same limit for the head of a request, and for each KiB of a
    /// body or a response.
    pub fn handshake(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }

    /// How long a client's socket may be idle before the system probes the other end, and the time
    /// between two probes. 30 s unless set, at least 1 s; `None` sends no probes.
    ///
    /// A client whose machine or network vanishes reports no end. The system closes its connection
    /// after some unanswered probes (nine on Linux), also without [heartbeats](Timeouts::heartbeat).
    pub fn tcp_keepalive(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.tcp_keepalive = interval.into();
        self
    }

    /// How long the check of a handshake may take ([`App::on_handshake_async`]), and the hook that
    /// opens a session ([`App::on_session_open_async`]). 5 s unless set. A client whose check takes
    /// longer is refused with the code `504`, one whose session does not open is kicked with
    /// [`code::TIMEOUT`](crate::code::TIMEOUT). The time they take does not count against
    /// [`handshake`](Timeouts::handshake).
    ///
    /// [`App::on_handshake_async`]: crate::App::on_handshake_async
    /// [`App::on_session_open_async`]: crate::App::on_session_open_async
    pub fn handshake_check(mut self, timeout: Duration) -> Self {
        self.handshake_check = timeout;
        self
    }

    /// How long a session may stay without a user id after its handshake. Off unless set.
    ///
    /// A session that is not bound by then is kicked with the code
    /// [`UNAUTHENTICATED`](crate::code::UNAUTHENTICATED), and close callbacks see
    /// [`CloseReason::LoginTimeout`](crate::CloseReason::LoginTimeout).
    pub fn login(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.login = timeout.into();
        self
    }

    /// How long a request may wait for its answer before the node answers it with
    /// [`code::TIMEOUT`](crate::code::TIMEOUT). 30 s unless set; `None` lets requests wait for
    /// ever.
    pub fn request(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.request = timeout.into();
        self
    }

    /// How long a client that asks for it may stay away after a lost connection and find its session
    /// as it was. 60 s unless set; with `None` or zero every session ends with its connection.
    ///
    /// Meanwhile the session stays in its groups, and what is sent to it waits, within the bounds of
    /// [`Limits::unacknowledged_bytes`](crate::Limits::unacknowledged_bytes) and
    /// [`unacknowledged_messages`](crate::Limits::unacknowledged_messages).
    pub fn resume_window(mut self, window: impl Into<Option<Duration>>) -> Self {
        self.resume_window = window.into().filter(|window| !window.is_zero());
        self
    }

    /// How long a shutdown may take. The first half is for requests in flight; what is left at the
    /// end is dropped. 10 s unless set.
    pub fn shutdown(mut self, timeout: Duration) -> Self {
        self.shutdown = timeout;
        self
    }

    /// How long SIGTERM lets players leave by themselves before the node shuts down: as long as games
    /// last. Off unless set: SIGTERM then shuts down at once. See [`Handle::drain`].
    ///
    /// A service manager has to wait at least this long and [`shutdown`](Timeouts::shutdown) before it
    /// kills the process (`terminationGracePeriodSeconds`, `TimeoutStopSec`).
    ///
    /// [`Handle::drain`]: crate::Handle::drain
    pub fn drain(mut self, within: impl Into<Option<Duration>>) -> Self {
        self.drain = within.into();
        self
    }

    /// How long a node that drains, or that SIGTERM stops, keeps accepting clients after it reports
    /// [not ready](crate::Handle::readiness). Off unless set.
    ///
    /// For load balancers, which learn from probes that a node takes no more clients: about two
    /// intervals of a probe. It is part of the time of a [`drain`](Timeouts::drain).
    pub fn shutdown_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.shutdown_delay = delay.into();
        self
    }

    /// The window that a stopping node states in its kicks: each client waits a random time within
    /// it before it connects again, so that not all arrive at once. 5 s unless set; `None` states
    /// none. Clients of nano and pomelo do not read it.
    pub fn reconnect_window(mut self, window: impl Into<Option<Duration>>) -> Self {
        self.reconnect_window = window.into();
        self
    }
}

impl Timeouts {
    pub(super) fn apply_to(&self, config: &mut NodeConfig) {
        let gate = &mut config.settings;
        gate.heartbeat = self.heartbeat;
        gate.handshake_timeout = self.handshake;
        gate.check_timeout = self.handshake_check;
        gate.login_timeout = self.login;
        gate.request_timeout = self.request;
        gate.resume_window = self.resume_window;
        gate.reconnect_window = self.reconnect_window;
        gate.tcp_keepalive = self.tcp_keepalive;
        config.shutdown_timeout = self.shutdown;
        config.drain = self.drain;
        config.shutdown_delay = self.shutdown_delay;
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::new()
    }
}
