//! Why a connection ended.

use std::fmt;

/// Why a client's connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`close`](super::Client::close) was called, or the last handle dropped.
    Local,
    /// The server closed it without a word.
    Server,
    /// The server closed it and said why (empty if it gave no reason).
    Kicked(String),
    /// Nothing came from the server for two heartbeat intervals and half a second.
    HeartbeatTimeout,
    /// The server sent something that is not of the protocol, or too large.
    Protocol(String),
    /// The connection broke: an error of the network, the end in the middle of a packet, a runtime
    /// that shut down.
    Broken(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this client"),
            Self::Server => f.write_str("closed by the server"),
            Self::Kicked(reason) if reason.is_empty() => f.write_str("kicked"),
            Self::Kicked(reason) => write!(f, "kicked: {reason}"),
            Self::HeartbeatTimeout => f.write_str("no sign of life from the server"),
            Self::Protocol(fault) => write!(f, "protocol violated by the server: {fault}"),
            Self::Broken(fault) => write!(f, "broken: {fault}"),
        }
    }
}
