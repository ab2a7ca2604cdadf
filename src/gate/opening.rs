//! A connection before its session.

use std::sync::Arc;

use tokio::time::Instant;

use super::upgrade_request::UpgradeRequest;
use crate::packet::Decoder;

/// What has happened on a connection before its session was opened.
pub(super) struct Opening {
    /// When the connection was ready for packets; starts the handshake timeout.
    pub(super) begun: Instant,
    /// The bytes read so far.
    pub(super) decoder: Decoder,
    /// How many these are.
    pub(super) read: u64,
    /// The request that opened the WebSocket; `None` on other transports.
    pub(super) request: Option<Arc<UpgradeRequest>>,
}

impl Opening {
    pub(super) fn new(max_packet: usize) -> Self {
        Self {
            begun: Instant::now(),
            decoder: Decoder::new(max_packet),
            read: 0,
            request: None,
        }
    }
}
