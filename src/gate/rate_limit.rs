//! The token bucket for one client's messages: no I/O, takes `now`. `connection` waits until it has
//! tokens again.

use std::time::Duration;

use tokio::time::Instant;

/// Limits how many messages one connection may send.
///
/// ```
/// use nano::{App, Limits, RateLimit};
///
/// // 20 messages a second over time, 40 at once; faster clients are slowed down.
/// let app = App::new().limits(Limits::new().rate_limit(RateLimit::throttle(20, 40)));
/// # let _ = app;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
    pub(crate) disconnect: bool,
}

impl RateLimit {
    /// Allows `per_second` messages a second over time and `burst` at once. The gate stops reading
    /// a faster client until it is within the limit: no message is lost, TCP slows the client down.
    pub fn throttle(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: burst.into(),
            disconnect: false,
        }
    }

    /// Allows the same, and kicks a client that exceeds it. Close callbacks see
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

    /// Both numbers in one; 0 for no valid limit only.
    pub(super) fn to_bits(self) -> u64 {
        // Both were made from a u32.
        ((self.per_second as u64) << 32) | self.burst as u64
    }

    pub(super) fn from_bits(bits: u64, disconnect: bool) -> Self {
        let (per_second, burst) = ((bits >> 32) as u32, bits as u32);
        Self {
            disconnect,
            ..Self::throttle(per_second, burst)
        }
    }
}

/// A token bucket that refills over time; a message takes one token.
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

    /// Takes a token.
    ///
    /// # Errors
    /// The bucket was empty: the token is owed, and this is the time after which the debt is paid.
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
