//! Why a session ended.

use std::fmt;

use crate::kick::Kick;

/// Why a session ended.
///
/// ```
/// use nano::{App, CloseReason};
///
/// let app = App::new().on_session_closed(|session, reason| match reason {
///     CloseReason::Client | CloseReason::Shutdown => {}
///     other => println!("player {} was cut off: {other}", session.uid()),
/// });
/// # let _ = app;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed the connection.
    Client,
    /// The application closed it, with a reason of its own (empty from
    /// [`Session::close`](crate::Session::close)).
    Closed(String),
    /// The application kicked it; the client was sent this reason.
    Kicked(String),
    /// The application kicked it with a code; the client was sent this.
    KickedWith(Kick),
    /// The client sent nothing for two heartbeat intervals.
    HeartbeatTimeout,
    /// The client did not finish its handshake in time.
    HandshakeTimeout,
    /// The session was not bound to a user in time.
    LoginTimeout,
    /// The application refused the handshake, with this message.
    HandshakeRefused(String),
    /// The client broke the protocol, or sent something too large.
    Protocol(String),
    /// The client sent messages faster than the node allows.
    RateLimit,
    /// The client reads too slowly: its send queue is full.
    SlowClient,
    /// Its address is in the node's [deny list](crate::DenyList).
    Denied,
    /// The node is shutting down.
    Shutdown,
    /// The connection broke.
    Broken(String),
}

impl CloseReason {
    /// A short fixed name, for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Closed(_) => "closed",
            Self::Kicked(_) | Self::KickedWith(_) => "kicked",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::LoginTimeout => "login_timeout",
            Self::HandshakeRefused(_) => "handshake_refused",
            Self::Protocol(_) => "protocol",
            Self::RateLimit => "rate_limit",
            Self::SlowClient => "slow_client",
            Self::Denied => "denied",
            Self::Shutdown => "shutdown",
            Self::Broken(_) => "broken",
        }
    }

    /// The label and the detail, as they travel between nodes.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        let detail = match self {
            Self::Closed(detail)
            | Self::Kicked(detail)
            | Self::HandshakeRefused(detail)
            | Self::Protocol(detail)
            | Self::Broken(detail) => detail,
            Self::KickedWith(kick) => &kick.reason,
            _ => "",
        };
        (self.label(), detail)
    }

    /// Reads the [parts](CloseReason::parts). An unknown label is a broken connection.
    pub(crate) fn of(label: &str, detail: String) -> Self {
        match label {
            "client" => Self::Client,
            "closed" => Self::Closed(detail),
            "kicked" => Self::Kicked(detail),
            "heartbeat_timeout" => Self::HeartbeatTimeout,
            "handshake_timeout" => Self::HandshakeTimeout,
            "login_timeout" => Self::LoginTimeout,
            "handshake_refused" => Self::HandshakeRefused(detail),
            "protocol" => Self::Protocol(detail),
            "rate_limit" => Self::RateLimit,
            "slow_client" => Self::SlowClient,
            "denied" => Self::Denied,
            "shutdown" => Self::Shutdown,
            _ => Self::Broken(detail),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (label, "") => f.write_str(label),
            (label, detail) => write!(f, "{label}: {detail}"),
        }
    }
}
