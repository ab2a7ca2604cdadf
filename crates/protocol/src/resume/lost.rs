//! Why a session cannot be resumed.

use std::{error, fmt};

/// Why a session cannot be resumed. On the wire it is the text of [`as_str`](Lost::as_str).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lost {
    /// No session has this token: it was used before, never granted, or by a server that has
    /// restarted.
    Unknown,
    /// The client stayed away for longer than the resume window.
    Expired,
    /// More was unacknowledged than the server keeps.
    Overflow,
    /// The session was closed or kicked while the client was away.
    Closed,
    /// The count of received packets is missing, larger than what was sent, or smaller than what was
    /// acknowledged.
    Invalid,
    /// The server does not resume sessions.
    Unsupported,
}

impl Lost {
    const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Expired,
        Self::Overflow,
        Self::Closed,
        Self::Invalid,
        Self::Unsupported,
    ];

    /// The reason as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Closed => "closed",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
        }
    }

    /// Reads a reason; one that this version does not know is [`Unknown`](Lost::Unknown).
    pub fn of(text: &str) -> Self {
        let known = Self::ALL.into_iter().find(|lost| lost.as_str() == text);
        known.unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl error::Error for Lost {}
