//! The fields `sys.resume` of the handshake.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::lost::Lost;

/// What a client asks for: `sys.resume` of its handshake request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A new session that can be resumed: `{}`.
    Open,
    /// Its session back: `{"token": .., "received": ..}`.
    Return {
        /// The token of the last handshake reply.
        token: String,
        /// The data packets received since the session's first handshake; `None` if the field is
        /// missing or no whole number.
        received: Option<u64>,
    },
}

impl Ask {
    /// Reads the field. Anything but an object counts as missing.
    pub fn decode(field: &Value) -> Option<Self> {
        let fields = field.as_object()?;
        let Some(token) = fields.get("token") else {
            return Some(Self::Open);
        };
        Some(Self::Return {
            token: token.as_str().unwrap_or_default().to_owned(),
            received: fields.get("received").and_then(Value::as_u64),
        })
    }

    /// The value of the field.
    pub fn encode(&self) -> Value {
        match self {
            Self::Open => Value::Object(Map::new()),
            Self::Return {
                token,
                received: None,
            } => json!({ "token": token }),
            Self::Return {
                token,
                received: Some(received),
            } => json!({ "token": token, "received": received }),
        }
    }
}

/// What a server grants: `sys.resume` of its handshake reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Names the session once, after the next lost connection. Secret.
    pub token: String,
    /// How long the client may stay away. In seconds on the wire.
    pub window: Duration,
    /// The data packets the server has received since the session's first handshake.
    pub received: u64,
    /// Why the session the client asked for is gone. The grant is for a new one then.
    pub lost: Option<Lost>,
}

impl Grant {
    /// Creates the grant of a new session.
    pub fn new(token: impl Into<String>, window: Duration) -> Self {
        Self {
            token: token.into(),
            window,
            received: 0,
            lost: None,
        }
    }

    /// Sets the count of data packets received.
    #[must_use]
    pub fn with_received(mut self, received: u64) -> Self {
        self.received = received;
        self
    }

    /// Sets why the session the client asked for is gone.
    #[must_use]
    pub fn with_lost(mut self, lost: impl Into<Option<Lost>>) -> Self {
        self.lost = lost.into();
        self
    }

    /// Reads the field; `None` without a token. A missing count is 0, a missing or invalid window is
    /// zero.
    pub fn decode(field: &Value) -> Option<Self> {
        let window = field["window"].as_f64().unwrap_or_default();
        Some(Self {
            token: field["token"].as_str()?.to_owned(),
            window: Duration::try_from_secs_f64(window).unwrap_or_default(),
            received: field["received"].as_u64().unwrap_or_default(),
            lost: field["lost"].as_str().map(Lost::of),
        })
    }

    /// The value of the field.
    pub fn encode(&self) -> Value {
        let window = self.window.as_secs_f64();
        // Whole seconds without a fraction, as the heartbeat interval.
        let window = if self.window.subsec_nanos() == 0 {
            Value::from(self.window.as_secs())
        } else {
            Value::from(window)
        };
        let mut field = json!({ "token": self.token, "window": window, "received": self.received });
        if let Some(lost) = self.lost {
            field["lost"] = lost.as_str().into();
        }
        field
    }
}
