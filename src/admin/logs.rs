//! The program's log: where it goes, and what operators may change about it.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    fmt,
    layer::SubscriberExt,
    registry,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

use super::warnings::WarningLog;
use crate::{
    error::{Error, Result, code},
    log_format::LogFormat,
};

/// As in [`EnvFilter`], which also takes the numbers from 0 to 5.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The wrong letters of a word that is taken for a misspelt level.
const MAX_DISTANCE: usize = 2;

/// The log of the program: lines on the standard error, by a filter that can change while it runs,
/// and its latest warnings.
///
/// A handle: give it to [`Admin::logs`](crate::Admin::logs), and operators see the warnings and
/// change the filter. With a configuration, [`Config::start_logs`](crate::Config::start_logs) does
/// both. A program that writes its log elsewhere, or exports spans, has a subscriber of its own
/// instead, with a [`WarningLog`] in it.
///
/// ```no_run
/// use nano::{Admin, App, LogFormat, Logs, Result};
///
/// #[tokio::main]
/// async fn main() -> Result {
///     let logs = Logs::start("info,nano::gate=debug", LogFormat::Text)?;
///     let admin = Admin::new("127.0.0.1:9470").logs(&logs);
///     App::new().tcp("0.0.0.0:3250").admin(admin).run().await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Logs {
    warnings: WarningLog,
    filter: Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Begins to log, for the whole program. The filter is that of [`EnvFilter`], such as
    /// `info,nano::gate=debug`; warnings are collected whatever it says.
    ///
    /// Text has colours on a terminal only, and none where the variable `NO_COLOR` is set.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] if the filter is not valid or names no level, [`code::CONFLICT`] if the
    /// program has a subscriber already.
    pub fn start(filter: &str, format: LogFormat) -> Result<Self> {
        let (filter, handle) = reload::Layer::new(with_level(filter)?);
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(has_colours());
        let lines = match format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => {
                let lines = lines.json().flatten_event(true);
                lines.with_current_span(false).boxed()
            }
        };
        let warnings = WarningLog::new();
        let started = registry()
            .with(lines.with_filter(filter))
            .with(warnings.clone().with_filter(LevelFilter::WARN))
            .try_init();
        let logs = Self {
            warnings,
            filter: handle,
        };
        match started {
            Ok(()) => Ok(logs),
            Err(error) => {
                Err(Error::new(code::CONFLICT, "the program logs already").with_source(error))
            }
        }
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        // The subscriber is the program's, which lives as long as the program.
        self.filter
            .with_current(ToString::to_string)
            .unwrap_or_default()
    }

    /// Changes the filter.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] if it is not valid; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result {
        self.replace(parse(filter)?)
    }

    /// Checks the filter of a configuration.
    ///
    /// # Errors
    /// As [`set_filter`](Logs::set_filter), and if it names no level.
    #[cfg(feature = "config")]
    pub(crate) fn check(filter: &str) -> Result<EnvFilter> {
        with_level(filter)
    }

    /// Changes the filter to one that is valid.
    pub(crate) fn replace(&self, filter: EnvFilter) -> Result {
        let replaced = self.filter.reload(filter);
        replaced.map_err(|error| Error::new(code::INTERNAL, "log filter").with_source(error))
    }

    /// The latest warnings, for [`Admin::warnings`](crate::Admin::warnings).
    pub fn warnings(&self) -> &WarningLog {
        &self.warnings
    }
}

fn parse(filter: &str) -> Result<EnvFilter> {
    // The parser takes it for a filter that lets nothing through.
    if filter.trim().is_empty() {
        let text = "log: the filter is empty; to log nothing, give \"off\"";
        return Err(Error::bad_request(text));
    }
    EnvFilter::try_new(filter).map_err(|error| Error::bad_request(format!("log: {error}")))
}

/// A filter that is not typed by an operator, who is asked whether it is meant.
///
/// # Errors
/// It is not valid, or names no level. A word alone is a target: a misspelt level is a filter that lets
/// nothing through.
fn with_level(filter: &str) -> Result<EnvFilter> {
    let parsed = parse(filter)?;
    let is_level = |level: &str| {
        let named = LEVELS.iter().any(|it| it.eq_ignore_ascii_case(level));
        named || matches!(level.as_bytes(), [b'0'..=b'5'])
    };
    let mut levels = filter
        .split(',')
        .filter_map(|part| part.split('=').next_back());
    if levels.any(|level| is_level(level.trim())) {
        return Ok(parsed);
    }
    let filter = filter.trim();
    let distance = |level: &&&str| strsim::damerau_levenshtein(&filter.to_lowercase(), level);
    let nearest = LEVELS.iter().min_by_key(distance);
    let meant = match nearest.filter(|level| distance(level) <= MAX_DISTANCE) {
        Some(level) => format!("did you mean {level}?"),
        None => format!("for all of a target, give \"{filter}=trace\""),
    };
    let levels = LEVELS.join(", ");
    let text = format!("log: {filter:?} names no level ({levels}): {meant}");
    Err(Error::bad_request(text))
}

fn has_colours() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_subscriber_and_none_is_empty() {
        for filter in ["info", "off", "info,nano::gate=debug", "nano=trace"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
        for filter in ["", " ", "=,=", "nano=loud"] {
            let error = parse(filter).unwrap_err();
            assert_eq!(error.code(), code::BAD_REQUEST, "{filter}");
            assert!(error.message().starts_with("log: "), "{error}");
        }
    }

    #[test]
    fn a_filter_without_a_level_is_taken_for_a_misspelt_one() {
        for filter in [
            "info",
            "INFO",
            "3",
            "nano, info",
            "nano=debug",
            "[{a=1}]=trace",
        ] {
            assert!(with_level(filter).is_ok(), "{filter}");
        }
        for (filter, expected) in [
            ("inof", "did you mean info?"),
            ("DEBGU", "did you mean debug?"),
            (
                "nano::gate",
                "for all of a target, give \"nano::gate=trace\"",
            ),
            ("bogus,", "for all of a target"),
            ("[{a=1}]", "for all of a target"),
        ] {
            let error = with_level(filter).unwrap_err();
            assert!(error.message().starts_with("log: "), "{error}");
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
