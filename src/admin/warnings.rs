//! The latest warnings of the program.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::Serialize;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Warnings that are kept, the latest.
const KEPT: usize = 256;

/// Bytes of a message, and of all fields of one warning, that are kept.
const MAX_TEXT: usize = 1024;

/// Keeps the latest 256 warnings and errors that the program logs, for the admin server.
///
/// A handle: add one clone to the subscriber as a layer, and give another to
/// [`Admin::warnings`](crate::Admin::warnings).
///
/// ```
/// use nano::{Admin, App, WarningLog};
/// use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
///
/// let warnings = WarningLog::new();
/// tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(warnings.clone()).init();
/// let app = App::new().admin(Admin::new("127.0.0.1:9470").warnings(&warnings));
/// # let _ = app;
/// ```
///
/// The lock guards the list alone; no other lock is taken while it is held.
#[derive(Clone, Debug, Default)]
pub struct WarningLog(Arc<Mutex<Warnings>>);

#[derive(Debug, Default)]
struct Warnings {
    latest: VecDeque<Warning>,
    count: u64,
}

/// One warning.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Warning {
    /// Counts from 1.
    number: u64,
    /// Milliseconds since 1970.
    at_ms: u64,
    level: &'static str,
    target: String,
    message: String,
    /// The fields of the event as `name=value`, separated by spaces, but `held_back`.
    fields: String,
    /// Lines about the same cause that were not written since the one before, which bounds their rate.
    held_back: u64,
}

impl WarningLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The warnings with a number above `after`, the latest first.
    pub(super) fn after(&self, after: u64) -> Vec<Warning> {
        let log = self.0.lock();
        let later = log.latest.iter().rev();
        later
            .take_while(|warning| warning.number > after)
            .cloned()
            .collect()
    }

    fn add(&self, mut warning: Warning) {
        let mut log = self.0.lock();
        log.count += 1;
        warning.number = log.count;
        if log.latest.len() == KEPT {
            log.latest.pop_front();
        }
        log.latest.push_back(warning);
    }
}

impl<S: Subscriber> Layer<S> for WarningLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.add(Warning {
            number: 0,
            at_ms: now.map_or(0, |since| since.as_millis() as u64),
            level,
            target: metadata.target().to_owned(),
            message: cut(text.message),
            fields: cut(text.fields),
            held_back: text.held_back,
        });
    }
}

/// Writes the fields of an event.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    held_back: u64,
}

impl Visit for Text {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "held_back" => self.held_back = value,
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A write to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            _ if self.fields.len() > MAX_TEXT => Ok(()),
            name => {
                let space = if self.fields.is_empty() { "" } else { " " };
                write!(self.fields, "{space}{name}={value:?}")
            }
        };
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use tracing::{debug, error, subscriber::with_default, warn};
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    #[test]
    fn the_latest_warnings_are_kept_with_their_fields() {
        let log = WarningLog::new();
        with_default(registry().with(log.clone()), || {
            warn!(
                session = 7,
                route = "Room.Join",
                held_back = 3_u64,
                "handler still running"
            );
            debug!("not kept");
            error!("failed");
        });
        let kept = log.after(0);
        assert_eq!(kept.len(), 2);
        assert_eq!((kept[0].level, &*kept[0].message), ("error", "failed"));
        assert_eq!(kept[1].message, "handler still running");
        assert_eq!(kept[1].fields, "session=7 route=\"Room.Join\"");
        assert_eq!((kept[0].held_back, kept[1].held_back), (0, 3));
        assert_eq!(log.after(1).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let log = WarningLog::new();
        let long = "é".repeat(10_000);
        with_default(registry().with(log.clone()), || {
            for _ in 0..KEPT + 10 {
                warn!(long, "{long}");
            }
        });
        let kept = log.after(0);
        assert_eq!((kept.len(), kept[0].number), (KEPT, KEPT as u64 + 10));
        assert!(kept[0].message.len() <= MAX_TEXT && kept[0].fields.len() <= MAX_TEXT);
    }
}
