//! How lines of the log are written.

/// How lines of the program's log are written: the key `log_format` of a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people, in colours on a terminal.
    #[default]
    Text,
    /// One JSON object on each line, for programs: the fields of an event beside `timestamp`, `level`,
    /// `target` and `message`, and its spans.
    Json,
}
