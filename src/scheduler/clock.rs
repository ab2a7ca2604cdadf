//! The time of day, as cron and condition timers see it.

use std::time::SystemTime;

use tokio::{runtime::Handle, time::Instant};

/// The source of the time of day.
pub(super) enum Clock {
    /// The clock of the system, which may be set.
    System,
    /// Starts at `origin` and follows tokio's clock, which tests may pause.
    Simulated {
        origin: SystemTime,
        started: Instant,
    },
}

impl Clock {
    /// Makes a clock that starts at the present time and follows the clock of `runtime`.
    pub(super) fn simulated(runtime: &Handle) -> Self {
        // Only inside a runtime does tokio read that runtime's clock.
        let _entered = runtime.enter();
        Self::Simulated {
            origin: SystemTime::now(),
            started: Instant::now(),
        }
    }

    /// Returns the time of day at `now`.
    pub(super) fn wall(&self, now: Instant) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Simulated { origin, started } => *origin + (now - *started),
        }
    }
}
