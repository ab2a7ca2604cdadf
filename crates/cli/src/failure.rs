//! How a command fails, and its exit code.

use std::{io, process::ExitCode};

use crate::table::printable;

/// Why a command failed; each kind has an exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was carried out and did not succeed: 1.
    Failed(String),
    /// The arguments or a file that they name are not valid: 2, as for unknown arguments.
    Usage(String),
    /// No answer from the other side: 3.
    Unreachable(String),
    /// The token is missing, wrong, or not enough: 4.
    Refused(String),
    /// Ctrl-C or SIGTERM ended it before its time: 130, as of a process that SIGINT has ended.
    Interrupted,
    /// The reader of the standard output has left, which is no failure: 0.
    NoReader,
}

impl Failure {
    /// Says why on the standard error, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (code, message) = match self {
            Self::Failed(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::Unreachable(message) => (3, message),
            Self::Refused(message) => (4, message),
            Self::Interrupted => (130, &"interrupted".to_owned()),
            Self::NoReader => return ExitCode::SUCCESS,
        };
        eprintln!("nano: {}", printable(message));
        ExitCode::from(code)
    }
}

/// Of writes to the standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NoReader,
            _ => Self::Failed(format!("cannot write: {error}")),
        }
    }
}
