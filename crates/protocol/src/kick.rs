//! The JSON body of a kick packet: why the server closes a connection, and what the client does next.
//!
//! ```
//! use std::time::Duration;
//! use nano::kick::{Kick, Reconnect};
//!
//! let kick = Kick::new("NANO-503", "server is shutting down")
//!     .with_reconnect(Reconnect::Elsewhere)
//!     .with_retry_after(Duration::from_secs(5));
//! let body = br#"{"reason":"server is shutting down","code":"NANO-503","reconnect":"elsewhere","retryAfter":5000}"#;
//! assert_eq!(kick.encode(), body);
//! assert_eq!(Kick::decode(body), kick);
//! ```

use std::time::Duration;

use serde_json::{Map, Value};

use crate::handshake::{object, text, to_json};

/// A longer window, which a client could hardly mean to wait, counts as none.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a server closes a connection, and what the client should do then.
///
/// Clients of nano and pomelo know the reason alone and ignore the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kick {
    /// Why, as text for people.
    pub reason: String,
    /// Why, for programs: a code as in error replies; empty if the server gives none.
    pub code: String,
    /// Whether and where to connect again; `None` leaves it to the client.
    pub reconnect: Option<Reconnect>,
    /// The window over which clients spread their return: each waits a random time within it. In
    /// milliseconds on the wire.
    pub retry_after: Option<Duration>,
}

/// Whether and where a kicked client should connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reconnect {
    /// To the same address; `"here"` on the wire.
    Here,
    /// To another address if the client knows one, else to the same; `"elsewhere"` on the wire.
    Elsewhere,
    /// Not by itself: the player has to act first; `"never"` on the wire.
    Never,
}

impl Kick {
    /// Creates a kick with a code and a reason.
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
            ..Self::default()
        }
    }

    /// Creates a kick with a reason only, as nano sends it.
    pub fn because(reason: impl Into<String>) -> Self {
        Self::new("", reason)
    }

    /// Sets whether and where the client should connect again.
    #[must_use]
    pub fn with_reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = Some(reconnect);
        self
    }

    /// Sets the window over which clients spread their return. At most a day.
    #[must_use]
    pub fn with_retry_after(mut self, window: Duration) -> Self {
        self.retry_after = Some(window.min(MAX_RETRY_AFTER));
        self
    }

    /// Encodes the body of a kick packet. What is not set is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = format!(r#"{{"reason":{}"#, to_json(&self.reason[..].into()));
        if !self.code.is_empty() {
            body.push_str(&format!(r#","code":{}"#, to_json(&self.code[..].into())));
        }
        if let Some(reconnect) = self.reconnect {
            body.push_str(&format!(r#","reconnect":"{}""#, reconnect.as_str()));
        }
        if let Some(window) = self.retry_after {
            body.push_str(&format!(r#","retryAfter":{}"#, window.as_millis()));
        }
        body.push('}');
        body.into_bytes()
    }

    /// Decodes the body of a kick packet. A body of another form is the reason itself; a field of the
    /// wrong type counts as missing.
    pub fn decode(body: &[u8]) -> Self {
        let mut kick: Map<String, Value> = object(body);
        let Some(reason) = kick.remove("reason") else {
            return Self::because(String::from_utf8_lossy(body));
        };
        Self {
            reason: text(Some(reason)),
            code: text(kick.remove("code")),
            reconnect: kick
                .get("reconnect")
                .and_then(Value::as_str)
                .and_then(Reconnect::of),
            retry_after: kick
                .get("retryAfter")
                .and_then(Value::as_f64)
                .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok())
                .filter(|window| *window <= MAX_RETRY_AFTER),
        }
    }
}

impl Reconnect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Elsewhere => "elsewhere",
            Self::Never => "never",
        }
    }

    fn of(text: &str) -> Option<Self> {
        [Self::Here, Self::Elsewhere, Self::Never]
            .into_iter()
            .find(|reconnect| reconnect.as_str() == text)
    }
}
