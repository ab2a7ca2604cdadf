//! The occurrences of a cron expression.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, DurationRound, Local, NaiveDateTime, TimeDelta, TimeZone};
use croner::{
    Cron,
    parser::{CronParser, Year},
};
use tokio::time::Instant;

use crate::error::{Error, Result, code};

/// Longest time until the wall clock is read again, since it may be set, and the monotonic clock
/// stops while a machine is suspended.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How far the clock may be set back without an occurrence being repeated, of an expression that
/// names its times, and of one with a wildcard or a step in them. As in Vixie cron, a larger step is
/// a correction: the new time counts.
const HELD_BACK: [TimeDelta; 2] = [TimeDelta::hours(3), TimeDelta::minutes(1)];

/// The longest gap of a local time: a zone that moves across the date line skips a day.
const LONGEST_GAP: TimeDelta = TimeDelta::hours(25);

/// A cron expression in the time zone `Tz`, and its next occurrence, if the calendar still has one.
pub(super) struct CronSchedule<Tz: TimeZone = Local> {
    cron: Cron,
    /// The latest time of day that was seen, since the clock was last corrected.
    latest: DateTime<Tz>,
    next: Option<DateTime<Tz>>,
}

impl CronSchedule {
    pub(super) fn new(expression: &str, wall: SystemTime) -> Result<Self> {
        Self::starting(expression, DateTime::<Local>::from(wall))
    }

    /// Returns whether an occurrence is due, and moves on to the first occurrence after `wall`.
    ///
    /// Missed occurrences count as one.
    pub(super) fn take_due(&mut self, wall: SystemTime) -> bool {
        self.take_due_at(wall.into())
    }

    /// Returns when to read the wall clock again, at the next occurrence at the latest.
    pub(super) fn next_check(&self, now: Instant, wall: SystemTime) -> Instant {
        now + self.pause(&wall.into())
    }
}

impl<Tz: TimeZone> CronSchedule<Tz> {
    fn starting(expression: &str, wall: DateTime<Tz>) -> Result<Self> {
        let cron = parse(expression)?;
        let next = next_after(&cron, &wall);
        if next.is_none() {
            return Err(invalid(expression, "it never occurs"));
        }
        Ok(Self {
            cron,
            latest: wall,
            next,
        })
    }

    fn take_due_at(&mut self, wall: DateTime<Tz>) -> bool {
        let due = self.next.as_ref().is_some_and(|next| wall >= *next);
        let set_back = self.latest.clone() - &wall;
        let [of_named_times, of_others] = HELD_BACK;
        let limit = match names_its_times(&self.cron) {
            true => of_named_times,
            false => of_others,
        };
        if set_back > TimeDelta::zero() && set_back <= limit {
            return due;
        }
        self.next = next_after(&self.cron, &wall);
        self.latest = wall;
        due
    }

    fn pause(&self, wall: &DateTime<Tz>) -> Duration {
        let ahead = self
            .next
            .clone()
            .map(|next| (next - wall).to_std().unwrap_or_default());
        ahead.unwrap_or(MAX_WAIT).min(MAX_WAIT)
    }
}

fn parse(expression: &str) -> Result<Cron> {
    let parser = CronParser::builder().year(Year::Disallowed).build();
    parser
        .parse(expression)
        .map_err(|error| invalid(expression, error))
}

/// Whether the times of day are values, lists and ranges, without a wildcard or a step.
fn names_its_times(cron: &Cron) -> bool {
    let pattern = &cron.pattern;
    [&pattern.seconds, &pattern.minutes, &pattern.hours]
        .iter()
        .all(|field| field.step == 1 && !field.from_wildcard)
}

/// Returns the first occurrence later than `after`.
///
/// Where the local time repeats an hour, named times occur in the first one only; those of an hour
/// that it skips occur once, at its end. An expression with a wildcard or a step goes through both
/// hours, and through none.
fn next_after<Tz: TimeZone>(cron: &Cron, after: &DateTime<Tz>) -> Option<DateTime<Tz>> {
    if !names_its_times(cron) {
        return cron.find_next_occurrence(after, false).ok();
    }
    let mut civil = after.naive_local();
    loop {
        // A time zone without changes stands for the calendar.
        civil = cron
            .find_next_occurrence(&civil.and_utc(), false)
            .ok()?
            .naive_utc();
        let at = resolve(&after.timezone(), civil)?;
        if at > *after {
            return Some(at);
        }
    }
}

/// Returns the first instant with this local time, or the end of the gap that it lies in.
fn resolve<Tz: TimeZone>(zone: &Tz, civil: NaiveDateTime) -> Option<DateTime<Tz>> {
    if let Some(at) = zone.from_local_datetime(&civil).earliest() {
        return Some(at);
    }
    let minute = TimeDelta::minutes(1);
    let start = civil.duration_trunc(minute).ok()?;
    let minutes = (1..=LONGEST_GAP.num_minutes()).map(|count| start + minute * count as i32);
    minutes
        .filter_map(|civil| zone.from_local_datetime(&civil).earliest())
        .next()
}

fn invalid(expression: &str, why: impl std::fmt::Display) -> Error {
    Error::new(
        code::BAD_REQUEST,
        format!("cron expression {expression:?}: {why}"),
    )
}

#[cfg(test)]
mod tests;
