//! Signs of life in both directions: no I/O, takes `now`.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest interval, whatever the server asks for.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// How much later than after two intervals a sign of life may come.
const GRACE: Duration = Duration::from_millis(500);

pub(super) struct Heartbeat {
    interval: Duration,
    next: Instant,
    last_seen: Instant,
}

/// What a point in time asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Beat,
    Nothing,
    /// The server is not there any more.
    Gone,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        let interval = interval.max(MIN_INTERVAL);
        Self {
            interval,
            next: now + interval,
            last_seen: now,
        }
    }

    /// Something came from the server.
    pub(super) fn seen(&mut self, now: Instant) {
        self.last_seen = now;
    }

    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        if self.gone_at() <= now {
            return Tick::Gone;
        }
        if now < self.next {
            return Tick::Nothing;
        }
        // Missed beats are not made up for.
        self.next = now + self.interval;
        Tick::Beat
    }

    /// When [`tick`](Heartbeat::tick) may have something to say next.
    pub(super) fn due(&self) -> Instant {
        self.next.min(self.gone_at())
    }

    fn gone_at(&self) -> Instant {
        self.last_seen + 2 * self.interval + GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_beats_once_per_interval_while_the_server_is_there() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        for beat in 1..10 {
            let now = start + beat * SECOND;
            assert_eq!(heartbeat.due(), now);
            assert_eq!(
                heartbeat.tick(now - Duration::from_millis(1)),
                Tick::Nothing
            );
            assert_eq!(heartbeat.tick(now), Tick::Beat);
            heartbeat.seen(now);
        }
    }

    #[test]
    fn a_server_that_is_silent_for_two_intervals_is_gone() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND, start);
        heartbeat.seen(start + SECOND);
        assert_eq!(heartbeat.tick(start + 3 * SECOND), Tick::Beat);
        let gone = start + 3 * SECOND + GRACE;
        assert_eq!(heartbeat.due(), gone);
        assert_eq!(
            heartbeat.tick(gone - Duration::from_millis(1)),
            Tick::Nothing
        );
        assert_eq!(heartbeat.tick(gone), Tick::Gone);
    }

    #[test]
    fn no_server_can_ask_for_a_storm() {
        let start = Instant::now();
        assert_eq!(
            Heartbeat::new(Duration::from_nanos(1), start).due(),
            start + MIN_INTERVAL
        );
    }
}
