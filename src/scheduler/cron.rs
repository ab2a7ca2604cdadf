//! The occurrences of a cron expression.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local, TimeZone};
use croner::{
    Cron,
    parser::{CronParser, Year},
};
use tokio::time::Instant;

use crate::error::{Error, Result, code};

/// Longest time until the wall clock is read again, since it may be set, and the monotonic clock
/// stops while a machine is suspended.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A cron expression in the local time zone, and its next occurrence, if the calendar still has
/// one.
pub(super) struct CronSchedule {
    cron: Cron,
    next: Option<DateTime<Local>>,
}

impl CronSchedule {
    pub(super) fn new(expression: &str, wall: SystemTime) -> Result<Self> {
        let cron = parse(expression)?;
        let next = next_after(&cron, &DateTime::<Local>::from(wall));
        if next.is_none() {
            return Err(invalid(expression, "it never occurs"));
        }
        Ok(Self { cron, next })
    }

    /// Returns whether an occurrence is due, and moves on to the first occurrence after `wall`.
    ///
    /// Missed occurrences count as one.
    pub(super) fn take_due(&mut self, wall: SystemTime) -> bool {
        let wall = DateTime::<Local>::from(wall);
        let due = self.next.is_some_and(|next| wall >= next);
        self.next = next_after(&self.cron, &wall);
        due
    }

    /// Returns when to read the wall clock again, at the next occurrence at the latest.
    pub(super) fn next_check(&self, now: Instant, wall: SystemTime) -> Instant {
        let wall = DateTime::<Local>::from(wall);
        let ahead = self
            .next
            .map(|next| (next - wall).to_std().unwrap_or_default());
        now + ahead.unwrap_or(MAX_WAIT).min(MAX_WAIT)
    }
}

fn parse(expression: &str) -> Result<Cron> {
    let parser = CronParser::builder().year(Year::Disallowed).build();
    parser
        .parse(expression)
        .map_err(|error| invalid(expression, error))
}

fn next_after<Tz: TimeZone>(cron: &Cron, after: &DateTime<Tz>) -> Option<DateTime<Tz>> {
    cron.find_next_occurrence(after, false).ok()
}

fn invalid(expression: &str, why: impl std::fmt::Display) -> Error {
    Error::new(
        code::BAD_REQUEST,
        format!("cron expression {expression:?}: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    #[track_caller]
    fn check(expression: &str, after: &str, expected: &str) {
        let after = DateTime::parse_from_rfc3339(after).unwrap();
        let next = next_after(&parse(expression).unwrap(), &after).map(|next| next.to_rfc3339());
        assert_eq!(next.as_deref(), Some(expected), "{expression}");
    }

    #[test]
    fn six_fields_start_with_seconds() {
        check(
            "*/15 * * * * *",
            "2026-03-04T05:06:07+00:00",
            "2026-03-04T05:06:15+00:00",
        );
        check(
            "30 0 4 * * *",
            "2026-03-04T05:06:07+00:00",
            "2026-03-05T04:00:30+00:00",
        );
    }

    #[test]
    fn five_fields_mean_second_zero() {
        check(
            "0 4 * * *",
            "2026-03-04T03:59:59+00:00",
            "2026-03-04T04:00:00+00:00",
        );
        check(
            "0 0 29 2 *",
            "2026-03-04T00:00:00+00:00",
            "2028-02-29T00:00:00+00:00",
        );
        check(
            "0 9 * * 1",
            "2026-03-04T00:00:00+00:00",
            "2026-03-09T09:00:00+00:00",
        );
    }

    #[test]
    fn next_occurrence_is_strictly_later() {
        check(
            "0 4 * * *",
            "2026-03-04T04:00:00+00:00",
            "2026-03-05T04:00:00+00:00",
        );
    }

    #[test]
    fn fields_are_in_the_zone_of_the_clock() {
        check(
            "0 4 * * *",
            "2026-03-04T12:00:00+08:00",
            "2026-03-05T04:00:00+08:00",
        );
        let east = FixedOffset::east_opt(8 * 3600)
            .unwrap()
            .with_ymd_and_hms(2026, 3, 4, 3, 0, 0)
            .unwrap();
        let next = next_after(&parse("0 4 * * *").unwrap(), &east).unwrap();
        assert_eq!(
            next.with_timezone(&Utc).to_rfc3339(),
            "2026-03-03T20:00:00+00:00"
        );
    }

    #[test]
    fn setting_the_clock_moves_the_next_occurrence() {
        let start = SystemTime::from(Local.with_ymd_and_hms(2026, 6, 10, 12, 0, 0).unwrap());
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let mut schedule = CronSchedule::new("0 * * * *", start).unwrap();

        assert!(!schedule.take_due(start + minutes(59)));
        assert!(
            schedule.take_due(start + minutes(61)),
            "set forward over the occurrence"
        );
        assert!(!schedule.take_due(start - minutes(70)), "set back");
        assert!(
            schedule.take_due(start - minutes(60)),
            "the next occurrence of the new time"
        );
    }

    #[test]
    fn far_occurrence_is_checked_every_minute() {
        let wall = SystemTime::from(Local.with_ymd_and_hms(2026, 6, 10, 12, 0, 0).unwrap());
        let schedule = CronSchedule::new("0 13 * * *", wall).unwrap();
        let now = Instant::now();

        assert_eq!(schedule.next_check(now, wall), now + MAX_WAIT);
        assert_eq!(
            schedule.next_check(now, wall + Duration::from_secs(3590)),
            now + Duration::from_secs(10)
        );
    }
}
