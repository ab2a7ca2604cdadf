//! How many messages one client may send (no I/O, takes `now`).

use std::time::Duration;

use tokio::time::Instant;

/// A limit on the messages of one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
    pub(crate) disconnect: bool,
}

impl RateLimit {
    /// At most `per_second` messages a second over time, and `burst` at once. What comes faster is
    /// read later: nothing is lost, TCP slows the client down.
    pub fn throttle(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: burst.into(),
            disconnect: false,
        }
    }

    /// The same limit, but a client that breaks it is kicked; close callbacks see
    /// [`CloseReason::RateLimit`](crate::CloseReason::RateLimit).
    pub fn disconnect(per_second: u32, burst: u32) -> Self {
        Self {
            disconnect: true,
            ..Self::throttle(per_second, burst)
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.per_second > 0.0 && self.burst >= 1.0
    }
}

/// A token bucket: one token a message.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(limit: &RateLimit, now: Instant) -> Self {
        Self {
            tokens: limit.burst,
            filled: now,
        }
    }

    /// Takes a token. If there was none it is owed, and the error is how long it takes to pay that
    /// back.
    pub(crate) fn take(&mut self, limit: &RateLimit, now: Instant) -> Result<(), Duration> {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * limit.per_second;
        self.tokens = (self.tokens + gained).min(limit.burst);
        self.filled = now;
        self.tokens -= 1.0;
        if self.tokens < 0.0 {
            return Err(Duration::from_secs_f64(-self.tokens / limit.per_second));
        }
        Ok(())
    }
}
