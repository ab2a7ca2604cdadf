//! The gate's options, resolved.

use std::{fmt, pin::Pin, time::Duration};

use super::{
    handshake_check::{CheckHandshake, OnHandshake},
    rate_limit::RateLimit,
};
use crate::{
    error::{Error, Result},
    net::machine_memory::machine_memory,
    packet,
    session::Session,
    trace::Sampling,
};

/// Sees a session that opens, and may refuse it.
pub(crate) enum OpenHook {
    /// On the connection's thread.
    Sync(Box<dyn Fn(&Session) -> Result + Send + Sync>),
    /// On the application's runtime.
    Async(Box<OpenAsync>),
}

type OpenAsync = dyn Fn(Session) -> Pin<Box<dyn Future<Output = Result> + Send>> + Send + Sync;

/// Sees a session whose client is away, or has returned.
pub(crate) type OnResume = Box<dyn Fn(&Session) + Send + Sync>;

/// Decides whether a session that this node has served may move to another gate.
pub(crate) type OnMigrate = Box<dyn Fn(&Session) -> bool + Send + Sync>;

/// What the gate does with a client whose send queue is full.
///
/// ```
/// use nano::{App, Limits, SlowClient};
///
/// // A game state that the next push replaces may be lost.
/// let app = App::new().limits(Limits::new().slow_client(SlowClient::DropPushes));
/// # let _ = app;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowClient {
    /// Closes the connection; close callbacks see
    /// [`CloseReason::SlowClient`](crate::CloseReason::SlowClient).
    #[default]
    Disconnect,
    /// Drops and counts pushes, and fails the sender's call with `TOO_MANY`. A response that finds
    /// no room still disconnects, because every request must end.
    DropPushes,
}

/// The options of a gate; sizes in bytes where not said otherwise.
pub(crate) struct GateConfig {
    /// The longest packet body a client may send.
    pub(crate) max_packet: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_address: Option<usize>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) handshake_timeout: Duration,
    /// Idle time of a client's socket after which the system probes it, and the time between probes.
    pub(crate) tcp_keepalive: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    /// The most unanswered requests of one client, and the most messages of one client between
    /// decoding and the end of their handler.
    pub(crate) max_in_flight: usize,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) slow_client: SlowClient,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_messages: usize,
    /// What is kept for a client that may return; `None` is as much as its queue takes.
    pub(crate) unacknowledged_bytes: Option<usize>,
    pub(crate) unacknowledged_messages: Option<usize>,
    /// What may be queued on the node, for clients and for other nodes.
    pub(crate) memory: Option<usize>,
    /// Over which time the clients of a stopping node spread their return.
    pub(crate) reconnect_window: Option<Duration>,
    /// Whether failed requests get no reply, as in nano.
    pub(crate) silent: bool,
    pub(crate) on_handshake: Option<OnHandshake>,
    /// Runs behind `on_handshake`, on the application's runtime.
    pub(crate) check_handshake: Option<CheckHandshake>,
    pub(crate) on_session_open: Option<OpenHook>,
    /// How long a check or a hook on the application's runtime may take.
    pub(crate) check_timeout: Duration,
    /// How long a session may stay unbound after its handshake.
    pub(crate) login_timeout: Option<Duration>,
    /// How long a client that asks for it may stay away; `None` if sessions end with their connection.
    pub(crate) resume_window: Option<Duration>,
    pub(crate) on_detached: Option<OnResume>,
    pub(crate) on_resumed: Option<OnResume>,
    /// Which messages of clients are sampled.
    pub(crate) sampling: Sampling,
    pub(crate) on_migrate: Option<OnMigrate>,
}

impl GateConfig {
    /// Validates the limits.
    ///
    /// # Errors
    /// Names the invalid one.
    pub(crate) fn check_limits(&self) -> Result {
        let zero_rate = self.rate_limit.is_some_and(|limit| !limit.is_valid());
        for (name, is_zero) in [
            ("max_connections", self.max_connections == 0),
            (
                "max_connections_per_address",
                self.max_connections_per_address == Some(0),
            ),
            ("max_in_flight", self.max_in_flight == 0),
            ("send_queue_bytes", self.queue_bytes == 0),
            ("send_queue_messages", self.queue_messages == 0),
            ("unacknowledged_bytes", self.unacknowledged_bytes == Some(0)),
            (
                "unacknowledged_messages",
                self.unacknowledged_messages == Some(0),
            ),
            ("rate_limit", zero_rate),
        ] {
            if is_zero {
                let message = format!("limits.{name} must not be zero");
                return Err(Error::bad_request(message));
            }
        }
        if !(1..=packet::MAX_BODY).contains(&self.max_packet) {
            return Err(Error::bad_request(format!(
                "limits.max_packet must be from 1 to {}, not {}",
                packet::MAX_BODY,
                self.max_packet
            )));
        }
        if let Some(memory) = self.memory.filter(|memory| *memory < self.queue_bytes) {
            return Err(Error::bad_request(format!(
                "limits.memory is {memory}, less than one client's send queue may have: {}",
                self.queue_bytes
            )));
        }
        Ok(())
    }
}

/// A quarter of the memory there is, and at least that of one queue.
pub(crate) fn default_memory(queue_bytes: usize) -> Option<usize> {
    machine_memory().map(|bytes| (bytes / 4).max(queue_bytes))
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            max_packet: 64 * 1024,
            max_connections: usize::MAX,
            max_connections_per_address: None,
            heartbeat: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(10),
            tcp_keepalive: Some(Duration::from_secs(30)),
            request_timeout: Some(Duration::from_secs(30)),
            max_in_flight: 1024,
            rate_limit: None,
            slow_client: SlowClient::default(),
            queue_bytes: 4 * 1024 * 1024,
            queue_messages: 64 * 1024,
            unacknowledged_bytes: None,
            unacknowledged_messages: None,
            memory: default_memory(4 * 1024 * 1024),
            reconnect_window: Some(Duration::from_secs(5)),
            silent: false,
            on_handshake: None,
            check_handshake: None,
            on_session_open: None,
            check_timeout: Duration::from_secs(5),
            login_timeout: None,
            resume_window: Some(Duration::from_secs(60)),
            on_detached: None,
            on_resumed: None,
            sampling: Sampling::default(),
            on_migrate: None,
        }
    }
}

impl fmt::Debug for GateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateConfig")
            .field("max_packet", &self.max_packet)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
