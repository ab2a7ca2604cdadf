//! Heartbeats in both directions: no I/O, takes `now`.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest interval, whatever the server asks for: a floor against a heartbeat storm.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// Tolerance beyond two intervals before the server counts as dead.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) struct Heartbeat {
    interval: Duration,
    next: Instant,
    last_received: Instant,
}

/// What is due at a point in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    SendHeartbeat,
    Nothing,
    /// The server was silent for too long.
    TimedOut,
}

impl Heartbeat {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        let interval = interval.max(MIN_INTERVAL);
        Self {
            interval,
            next: now + interval,
            last_received: now,
        }
    }

    /// Notes that bytes arrived from the server.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.last_received = now;
    }

    pub(crate) fn tick(&mut self, now: Instant) -> Tick {
        if self.dead_at() <= now {
            return Tick::TimedOut;
        }
        if now < self.next {
            return Tick::Nothing;
        }
        // Missed heartbeats are not made up for.
        self.next = now + self.interval;
        Tick::SendHeartbeat
    }

    /// When [`tick`](Heartbeat::tick) has to be called next.
    pub(crate) fn deadline(&self) -> Instant {
        self.next.min(self.dead_at())
    }

    fn dead_at(&self) -> Instant {
        self.last_received + 2 * self.interval + GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_heartbeat_is_sent_per_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        for beat in 1..10 {
            let now = start + beat * SECOND;
            assert_eq!(heartbeat.deadline(), now);
            assert_eq!(
                heartbeat.tick(now - Duration::from_millis(1)),
                Tick::Nothing
            );
            assert_eq!(heartbeat.tick(now), Tick::SendHeartbeat);
            heartbeat.touch(now);
        }
    }

    #[test]
    fn a_server_silent_for_two_intervals_has_timed_out() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        heartbeat.touch(start + SECOND);
        assert_eq!(heartbeat.tick(start + 3 * SECOND), Tick::SendHeartbeat);
        let dead = start + 3 * SECOND + GRACE;
        assert_eq!(heartbeat.deadline(), dead);
        assert_eq!(
            heartbeat.tick(dead - Duration::from_millis(1)),
            Tick::Nothing
        );
        assert_eq!(heartbeat.tick(dead), Tick::TimedOut);
    }

    #[test]
    fn the_interval_has_a_floor() {
        let start = Instant::now();
        assert_eq!(
            Heartbeat::new(Duration::from_nanos(1), start).deadline(),
            start + MIN_INTERVAL
        );
    }
}
