//! What is remembered of turns that took long: which handler it was, and whether that is logged.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::progress::TaskLabel;

/// A turn longer than this counts as long: players notice it.
pub(super) const LONG: Duration = Duration::from_millis(100);

/// How long a task is remembered after its last long turn.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// The time between two log lines of a task, unless it takes twice as long.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Tasks of a scheduler that are remembered at once: those whose last long turn was last.
const TASKS: usize = 8;

/// A task that has held its scheduler for more than 100 ms: nothing else ran on it meanwhile.
///
/// It is remembered for five minutes after the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongTask {
    /// The route, if the task was a handler.
    ///
    /// Of the first long turn of a scheduler with several tasks this is known only of a handler that did not
    /// wait. After that its tasks are timed one by one.
    pub route: Option<Arc<str>>,
    /// The id of the session whose message the handler had, the longest time.
    pub session: Option<i64>,
    /// How often.
    pub times: u64,
    /// How long the first time is ago.
    pub first: Duration,
    /// How long the last time is ago.
    pub last: Duration,
    /// How long its turn took, the longest time.
    pub longest: Duration,
}

/// A task as its turn knows it: the label, and the session of a task with a label.
pub(super) type TaskName = (TaskLabel, i64);

/// A turn that has ended.
pub(super) struct EndedTurn {
    pub(super) took: Duration,
    pub(super) ended: Instant,
    /// The task that took longest, if that is known.
    pub(super) slowest: Option<TaskName>,
}

impl EndedTurn {
    pub(super) fn is_long(&self) -> bool {
        self.took > LONG
    }

    /// The route and the session, if the slowest task was a handler.
    pub(super) fn handler(&self) -> Option<(Arc<str>, i64)> {
        handler(self.slowest?)
    }
}

fn handler((label, session): TaskName) -> Option<(Arc<str>, i64)> {
    Some((label.text()?, session))
}

/// The tasks of one scheduler that took long, the last one last.
#[derive(Default)]
pub(super) struct LongTurns(Vec<Known>);

struct Known {
    label: TaskLabel,
    /// The task that took longest.
    slowest: TaskName,
    times: u64,
    first: Instant,
    last: Instant,
    longest: Duration,
    logged: Instant,
    logged_took: Duration,
    held_back: u64,
}

impl LongTurns {
    /// Takes a turn [that is long](EndedTurn::is_long). If it is to be logged, returns how many were not since the
    /// last one that was.
    pub(super) fn add(&mut self, turn: &EndedTurn) -> Option<u64> {
        let (took, now) = (turn.took, turn.ended);
        let slowest = turn.slowest.unwrap_or((TaskLabel::NONE, 0));
        let known = self.0.iter().position(|known| known.label == slowest.0);
        let known = known.map(|index| self.0.remove(index));
        let known = known.filter(|known| known.is_remembered(now));
        let Some(mut known) = known else {
            if self.0.len() == TASKS {
                self.0.remove(0);
            }
            self.0.push(Known {
                label: slowest.0,
                slowest,
                times: 1,
                first: now,
                last: now,
                longest: took,
                logged: now,
                logged_took: took,
                held_back: 0,
            });
            return Some(0);
        };
        known.times += 1;
        known.last = now;
        if took > known.longest {
            known.longest = took;
            known.slowest = slowest;
        }
        let is_logged = now.saturating_duration_since(known.logged) >= LOG_AGAIN
            || took > 2 * known.logged_took;
        let held_back = match is_logged {
            true => {
                known.logged = now;
                known.logged_took = took;
                Some(std::mem::take(&mut known.held_back))
            }
            false => {
                known.held_back += 1;
                None
            }
        };
        self.0.push(known);
        held_back
    }

    /// The tasks that are remembered, the last one first.
    pub(super) fn tasks(&self, now: Instant) -> Vec<LongTask> {
        let known = self.0.iter().rev();
        let known = known.filter(|known| known.is_remembered(now));
        let task = known.map(|known| {
            let (route, session) = handler(known.slowest).unzip();
            LongTask {
                route,
                session,
                times: known.times,
                first: now.saturating_duration_since(known.first),
                last: now.saturating_duration_since(known.last),
                longest: known.longest,
            }
        });
        task.collect()
    }
}

impl Known {
    fn is_remembered(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn turn(ended: Instant, milliseconds: u64, slowest: Option<TaskName>) -> EndedTurn {
        EndedTurn {
            took: Duration::from_millis(milliseconds),
            ended,
            slowest,
        }
    }

    #[test]
    fn one_turn_a_minute_is_logged_unless_one_is_twice_as_long() {
        let (mut turns, start) = (LongTurns::default(), Instant::now());
        let mut add = |second, milliseconds, slowest| {
            turns.add(&turn(start + second * SECOND, milliseconds, slowest))
        };
        assert_eq!(add(0, 150, None), Some(0));
        assert_eq!(add(1, 300, None), None);
        assert_eq!(add(2, 301, None), Some(1));
        assert_eq!(add(3, 160, None), None);
        // Another task has a minute of its own.
        let other = Some((TaskLabel::new("LongTurns.Other"), 7));
        assert_eq!(add(4, 150, other), Some(0));
        assert_eq!(add(61, 602, None), None);
        assert_eq!(add(62, 150, None), Some(2));
        assert_eq!(add(63, 301, None), Some(0));
        // It was forgotten meanwhile.
        assert_eq!(add(363, 120, None), Some(0));
    }

    #[test]
    fn tasks_are_remembered_with_their_handlers_the_last_one_first() {
        let (mut turns, start) = (LongTurns::default(), Instant::now());
        let slow = TaskLabel::new("LongTurns.Slow");
        for (second, took, slowest) in [
            (0, 1000, Some((slow, 7))),
            (1, 2000, Some((slow, 8))),
            (2, 1999, Some((slow, 9))),
            (3, 200, None),
            // A task without a label has no session either.
            (4, 300, Some((TaskLabel::NONE, 9))),
        ] {
            turns.add(&turn(start + second * SECOND, took, slowest));
        }
        let handler = LongTask {
            route: Some("LongTurns.Slow".into()),
            session: Some(8),
            times: 3,
            first: 5 * SECOND,
            last: 3 * SECOND,
            longest: 2 * SECOND,
        };
        let task = LongTask {
            route: None,
            session: None,
            times: 2,
            first: 2 * SECOND,
            last: SECOND,
            longest: Duration::from_millis(300),
        };
        assert_eq!(turns.tasks(start + 5 * SECOND), [task, handler]);
        let later = turns.tasks(start + 3 * SECOND + REMEMBERED);
        assert_eq!(later.len(), 1);
        assert_eq!(turns.tasks(start + 4 * SECOND + REMEMBERED), []);
    }

    #[test]
    fn few_tasks_of_a_scheduler_are_remembered() {
        let (mut turns, now) = (LongTurns::default(), Instant::now());
        for number in 0..=TASKS {
            let label = TaskLabel::new(&format!("LongTurns.Number{number}"));
            turns.add(&turn(now, 200, Some((label, 1))));
        }
        let tasks = turns.tasks(now);
        assert_eq!(tasks.len(), TASKS);
        assert_eq!(tasks[TASKS - 1].route.as_deref(), Some("LongTurns.Number1"));
    }

    #[test]
    fn turn_is_long_above_a_tenth_of_a_second() {
        let now = Instant::now();
        assert!(!turn(now, 100, None).is_long());
        assert!(turn(now, 101, None).is_long());
    }
}
