//! Occurrences, the local time that jumps, and clocks that are set.

use chrono::{FixedOffset, LocalResult, NaiveDate, NaiveDateTime, Offset, Utc};

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

/// The time zone of Berlin in 2026: an hour ahead of UTC, and two from 29 March to 25 October.
#[derive(Debug, Clone, Copy)]
struct Berlin;

impl Berlin {
    fn summer(utc: &NaiveDateTime) -> bool {
        let change = |month, day| {
            let date = NaiveDate::from_ymd_opt(2026, month, day).unwrap();
            date.and_hms_opt(1, 0, 0).unwrap()
        };
        (change(3, 29)..change(10, 25)).contains(utc)
    }
}

impl TimeZone for Berlin {
    type Offset = FixedOffset;

    fn from_offset(_: &FixedOffset) -> Self {
        Self
    }

    fn offset_from_local_date(&self, _: &NaiveDate) -> LocalResult<FixedOffset> {
        LocalResult::None
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<FixedOffset> {
        let [summer, winter] = [2, 1].map(|hours| FixedOffset::east_opt(hours * 3600).unwrap());
        let is_summer = Self::summer(&(*local - summer.fix()));
        let is_winter = !Self::summer(&(*local - winter.fix()));
        match (is_summer, is_winter) {
            (true, true) => LocalResult::Ambiguous(summer, winter),
            (true, false) => LocalResult::Single(summer),
            (false, true) => LocalResult::Single(winter),
            (false, false) => LocalResult::None,
        }
    }

    fn offset_from_utc_date(&self, date: &NaiveDate) -> FixedOffset {
        self.offset_from_utc_datetime(&date.and_hms_opt(12, 0, 0).unwrap())
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
        let hours = if Self::summer(utc) { 2 } else { 1 };
        FixedOffset::east_opt(hours * 3600).unwrap()
    }
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Runs a schedule for `hours` of a monotonic clock, and returns the times of day at which it fired,
/// in Berlin. `wall` is what the wall clock shows after so many monotonic seconds.
fn fires(expression: &str, hours: i64, wall: impl Fn(i64) -> DateTime<Utc>) -> Vec<String> {
    let at = |second: i64| wall(second).with_timezone(&Berlin);
    let mut schedule = CronSchedule::starting(expression, at(0)).unwrap();
    let (mut second, mut fires) = (0, Vec::new());
    loop {
        // A timer fires on the second or later.
        let pause = schedule.pause(&at(second));
        second += i64::try_from(pause.as_secs()).unwrap().max(1);
        if second > hours * 3600 {
            return fires;
        }
        if schedule.take_due_at(at(second)) {
            fires.push(at(second).format("%H:%M:%S%:::z").to_string());
        }
    }
}

/// A clock that runs from `start` as it should.
fn from(start: &str) -> impl Fn(i64) -> DateTime<Utc> {
    let start = utc(start);
    move |second| start + TimeDelta::seconds(second)
}

/// A clock that is set by `by` seconds after an hour.
fn set(start: &str, by: i64) -> impl Fn(i64) -> DateTime<Utc> {
    let clock = from(start);
    move |second| clock(second) + TimeDelta::seconds(if second >= 3600 { by } else { 0 })
}

const AUTUMN: &str = "2026-10-24T22:30:00Z"; // 00:30 in Berlin; 03:00 is 02:00 again at 01:00 UTC.
const SPRING: &str = "2026-03-28T23:30:00Z"; // 00:30 in Berlin; 02:00 is 03:00 at 01:00 UTC.

#[test]
fn named_times_run_once_when_an_hour_is_repeated() {
    for (expression, expected) in [
        ("0 2 * * *", &["02:00:00+02"][..]),
        ("0,30 2 * * *", &["02:00:00+02", "02:30:00+02"]),
        (
            "0 1,2,3 * * *",
            &["01:00:00+02", "02:00:00+02", "03:00:00+01"],
        ),
        (
            "0 1-3 * * *",
            &["01:00:00+02", "02:00:00+02", "03:00:00+01"],
        ),
        ("10,40 15 2 * * *", &["02:15:10+02", "02:15:40+02"]),
    ] {
        assert_eq!(fires(expression, 5, from(AUTUMN)), expected, "{expression}");
    }
    // Also of a schedule that starts in the second of the two hours.
    assert_eq!(
        fires("0,30 2,3 * * *", 3, from("2026-10-25T01:10:00Z")),
        ["03:00:00+01", "03:30:00+01"]
    );
}

#[test]
fn named_times_of_a_skipped_hour_run_once_at_its_end() {
    for (expression, expected) in [
        ("0 2 * * *", &["03:00:00+02"][..]),
        ("15,30,45 2 * * *", &["03:00:00+02"]),
        ("0 1,2,3 * * *", &["01:00:00+01", "03:00:00+02"]),
        ("30 2,3 * * *", &["03:00:00+02", "03:30:00+02"]),
    ] {
        assert_eq!(fires(expression, 4, from(SPRING)), expected, "{expression}");
    }
}

#[test]
fn wildcards_follow_the_clock_through_both_hours() {
    assert_eq!(
        fires("0 * * * *", 4, from(AUTUMN)),
        ["01:00:00+02", "02:00:00+02", "02:00:00+01", "03:00:00+01"]
    );
    assert_eq!(
        fires("0 * * * *", 3, from(SPRING)),
        ["01:00:00+01", "03:00:00+02", "04:00:00+02"]
    );
}

#[test]
fn a_clock_set_back_repeats_no_named_time() {
    let noon = "2026-06-10T09:30:00Z"; // 11:30 in Berlin, so it is set at 12:30.
    for by in [-1, -31 * 60, -2 * 3600, -3 * 3600] {
        assert_eq!(
            fires("0 12,16 * * *", 8, set(noon, by)),
            ["12:00:00+02", "16:00:00+02"],
            "{by}"
        );
    }
    // A correction of four hours: 12:30 is 8:30, and noon comes again.
    assert_eq!(
        fires("0 12 * * *", 8, set(noon, -4 * 3600)),
        ["12:00:00+02", "12:00:00+02"]
    );
    // Set back by two seconds just after an occurrence, as a time server does.
    let just_after =
        |second: i64| from(noon)(second) - TimeDelta::seconds(if second > 30 * 60 { 2 } else { 0 });
    for expression in ["0 12 * * *", "0 * * * *", "0,10 * 12 * * *"] {
        let fired = fires(expression, 1, just_after);
        let first = fired.iter().filter(|at| at.starts_with("12:00:0"));
        assert_eq!(first.count(), 1, "{expression}: {fired:?}");
    }
}

#[test]
fn a_clock_set_forward_over_occurrences_runs_them_once() {
    let noon = "2026-06-10T09:30:00Z";
    for by in [31 * 60, 5 * 3600] {
        let fired = fires("0 13,14,15 * * *", 2, set(noon, by));
        let shown = TimeDelta::seconds(by) + TimeDelta::minutes(60 + 11 * 60 + 30);
        assert_eq!(
            fired[0],
            format!(
                "{:02}:{:02}:00+02",
                shown.num_hours(),
                shown.num_minutes() % 60
            )
        );
        assert_eq!(fired.len(), if by < 3600 { 2 } else { 1 }, "{fired:?}");
    }
}

#[test]
fn a_machine_that_was_suspended_runs_a_missed_occurrence_within_a_minute() {
    // Ten minutes after the start the machine sleeps for an hour, and the monotonic clock stands.
    let clock = |second: i64| {
        from("2026-06-10T09:30:00Z")(second)
            + TimeDelta::seconds(if second >= 600 { 3600 } else { 0 })
    };
    assert_eq!(fires("0 12 * * *", 1, clock), ["12:40:00+02"]);
    let each_minute = fires("* * * * *", 1, clock);
    assert_eq!(each_minute.len(), 60, "no burst: {each_minute:?}");
}
