//! Why a connection ended.

use std::{fmt, io};

/// Why a client's connection ended.
///
/// ```
/// use nano::client::{Client, DisconnectReason};
///
/// /// Whether to connect again.
/// async fn ended(client: &Client) -> bool {
///     match client.closed().await {
///         DisconnectReason::Local | DisconnectReason::Kicked(_) => false,
///         DisconnectReason::Broken(_) | DisconnectReason::HeartbeatTimeout => true,
///         _ => true,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// [`Client::close`](crate::Client::close) was called, or the last handle dropped.
    Local,
    /// The server closed the connection without a kick.
    Server,
    /// The server kicked this client, with this reason (empty if it gave none).
    Kicked(String),
    /// No bytes arrived for two heartbeat intervals and half a second.
    HeartbeatTimeout,
    /// The server violated the protocol, or sent a packet over the limit.
    Protocol(String),
    /// The connection broke: a network error, an end inside a packet, or a runtime that shut down.
    Broken(String),
}

impl DisconnectReason {
    /// Classifies an error of the socket: invalid data is the server's fault.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Protocol(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this client"),
            Self::Server => f.write_str("closed by the server"),
            Self::Kicked(reason) if reason.is_empty() => f.write_str("kicked"),
            Self::Kicked(reason) => write!(f, "kicked: {reason}"),
            Self::HeartbeatTimeout => f.write_str("heartbeat timeout"),
            Self::Protocol(fault) => write!(f, "protocol violated by the server: {fault}"),
            Self::Broken(fault) => write!(f, "connection broken: {fault}"),
        }
    }
}
