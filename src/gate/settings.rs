//! What an application may choose about its gate, resolved.

use std::{fmt, time::Duration};

use serde_json::Value;

use super::rate::RateLimit;
use crate::{error::Result, handshake::Request, session::Session};

/// Looks at a client's handshake: `Ok` with the user data for the reply, or a refusal.
pub(crate) type OnHandshake =
    Box<dyn Fn(&Session, &Request, &[u8]) -> Result<Option<Value>> + Send + Sync>;

/// What happens to a client that does not read what it is sent, once its queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlowClient {
    /// Its connection is closed, and close callbacks see
    /// [`CloseReason::SlowClient`](crate::CloseReason::SlowClient).
    #[default]
    Disconnect,
    /// Pushes that find no room are dropped and counted, and the sender gets an error. A response
    /// that finds no room still disconnects: a request must end.
    DropPushes,
}

pub(crate) struct Settings {
    /// The longest packet body a client may send, in bytes.
    pub(crate) max_packet: usize,
    pub(crate) max_connections: usize,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) request_timeout: Option<Duration>,
    /// Unanswered requests of one client, and messages of one client on their way to a handler.
    pub(crate) max_in_flight: usize,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) slow_client: SlowClient,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_messages: usize,
    /// Whether failed requests get no answer, as in nano.
    pub(crate) silent: bool,
    pub(crate) on_handshake: Option<OnHandshake>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_packet: 64 * 1024,
            max_connections: usize::MAX,
            heartbeat: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Some(Duration::from_secs(30)),
            max_in_flight: 1024,
            rate_limit: None,
            slow_client: SlowClient::default(),
            queue_bytes: 4 * 1024 * 1024,
            queue_messages: 64 * 1024,
            silent: false,
            on_handshake: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("max_packet", &self.max_packet)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
