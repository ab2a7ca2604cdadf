//! Durations as people write them.

use std::time::Duration;

/// The longest: a week.
const MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Parses a number with a unit, such as `250ms`, `1.5s`, `10m` or `2h`.
///
/// # Errors
/// Says what a duration looks like.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 250ms, 30s, 10m or 2h");
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = text.split_at(unit.ok_or_else(invalid)?);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let duration = Duration::try_from_secs_f64(number * factor).map_err(|_| invalid())?;
    match duration <= MAX {
        true => Ok(duration),
        false => Err(format!("{text} is longer than a week")),
    }
}

/// [`parse`], and not zero.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Writes a duration in its largest unit that leaves a whole number, or nearly so.
pub(crate) fn short(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Writes a latency with three digits: `1.25ms`.
pub(crate) fn latency(seconds: f64) -> String {
    let (number, unit) = match seconds {
        ..0.001 => (seconds * 1e6, "us"),
        ..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    match number {
        ..10.0 => format!("{number:.2}{unit}"),
        ..100.0 => format!("{number:.1}{unit}"),
        _ => format!("{number:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("168h"), Ok(MAX));
        for text in [
            "", "s", "5", "-1s", "5 s", "5d", "1e999s", "nans", "infs", "169h", "5ß", "ßs",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse_positive("1ms"), Ok(Duration::from_millis(1)));
        for text in ["0s", "0.0ms", "0.0000000001s"] {
            assert!(parse_positive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_briefly() {
        let short: Vec<_> = [0.4, 59.9, 61.0, 3661.0, 90_000.0].map(short).to_vec();
        assert_eq!(short, ["0s", "59s", "1m01s", "1h01m", "1d01h"]);
        let latency: Vec<_> = [0.0000015, 0.00125, 0.05, 0.5, 12.34].map(latency).to_vec();
        assert_eq!(latency, ["1.50us", "1.25ms", "50.0ms", "500ms", "12.3s"]);
    }
}
