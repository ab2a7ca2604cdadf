//! The steps of a drain: no I/O, takes `now`.

use std::time::Duration;

use tokio::time::Instant;

/// A drain under way: listeners stay open for a delay, then players leave by themselves until the
/// deadline.
#[derive(Debug)]
pub(super) struct Drain {
    listening_until: Instant,
    listening: bool,
    deadline: Instant,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Take no new connections.
    CloseListeners,
    /// Wait, at most until then; sessions may end before.
    Wait(Instant),
    /// Stop the node: all players have left.
    Left,
    /// Stop the node: the deadline has passed.
    Overdue,
}

impl Drain {
    /// Begins. The delay is cut at the deadline.
    pub(super) fn new(now: Instant, delay: Duration, deadline: Instant) -> Self {
        Self {
            listening_until: now + delay,
            listening: true,
            deadline,
        }
    }

    /// Takes an earlier deadline.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Decides with the number of sessions that are left. Listeners close before the node stops.
    pub(super) fn step(&mut self, now: Instant, sessions: usize) -> Step {
        let overdue = now >= self.deadline;
        if self.listening {
            if now < self.listening_until && !overdue {
                return Step::Wait(self.listening_until.min(self.deadline));
            }
            self.listening = false;
            return Step::CloseListeners;
        }
        match (sessions, overdue) {
            (0, _) => Step::Left,
            (_, true) => Step::Overdue,
            (_, false) => Step::Wait(self.deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn listeners_stay_open_for_the_delay_whether_there_are_sessions_or_not() {
        let now = Instant::now();
        let mut drain = Drain::new(now, 5 * SECOND, now + 60 * SECOND);
        for sessions in [0, 3] {
            assert_eq!(drain.step(now, sessions), Step::Wait(now + 5 * SECOND));
        }
        assert_eq!(drain.step(now + 5 * SECOND, 3), Step::CloseListeners);
        assert_eq!(
            drain.step(now + 5 * SECOND, 3),
            Step::Wait(now + 60 * SECOND)
        );
        assert_eq!(drain.step(now + 6 * SECOND, 0), Step::Left);
    }

    #[test]
    fn the_earliest_deadline_ends_a_drain() {
        let now = Instant::now();
        let mut drain = Drain::new(now, Duration::ZERO, now + 60 * SECOND);
        assert_eq!(drain.step(now, 1), Step::CloseListeners);
        drain.set_deadline(now + 90 * SECOND);
        drain.set_deadline(now + 10 * SECOND);
        assert_eq!(
            drain.step(now + 9 * SECOND, 1),
            Step::Wait(now + 10 * SECOND)
        );
        assert_eq!(drain.step(now + 10 * SECOND, 1), Step::Overdue);
    }

    #[test]
    fn a_deadline_within_the_delay_cuts_it() {
        let now = Instant::now();
        let mut drain = Drain::new(now, 60 * SECOND, now + SECOND);
        assert_eq!(drain.step(now, 1), Step::Wait(now + SECOND));
        assert_eq!(drain.step(now + SECOND, 1), Step::CloseListeners);
        assert_eq!(drain.step(now + SECOND, 1), Step::Overdue);
        let mut none = Drain::new(now, 60 * SECOND, now);
        assert_eq!(none.step(now, 0), Step::CloseListeners);
        assert_eq!(none.step(now, 0), Step::Left);
    }
}
