//! The clocks of one machine.

use std::time::Duration;

use tokio::time::Instant;

/// A clock that differs in speed from the others, and does not run while its machine is suspended.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    start: Instant,
    /// Thousandths of the true speed.
    speed: u32,
    /// How long the machine was suspended, in true time.
    pub(super) suspended: Duration,
    /// What the clock on the wall shows at `start`, in microseconds.
    wall: u64,
}

impl Clock {
    pub(super) fn new(start: Instant, speed: u32, wall: u64) -> Self {
        Self {
            start,
            speed,
            suspended: Duration::ZERO,
            wall,
        }
    }

    /// Returns the time of the machine at a true time.
    pub(super) fn local(&self, now: Instant) -> Instant {
        let ran = now
            .duration_since(self.start)
            .saturating_sub(self.suspended);
        self.start + ran * self.speed / 1000
    }

    /// Returns the true time at a time of the machine, and a moment more.
    pub(super) fn global(&self, local: Instant) -> Instant {
        let ran = local.duration_since(self.start) * 1000 / self.speed;
        self.start + ran + self.suspended + Duration::from_micros(1)
    }

    /// Returns what the clock on the wall shows at a true time.
    pub(super) fn wall(&self, now: Instant) -> u64 {
        self.wall + now.duration_since(self.start).as_micros() as u64
    }
}
