//! What follows from a failed accept. No I/O.

use std::{io, time::Duration};

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What to do after a failed accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptStep {
    /// Accept the next connection at once: the error concerns only the one that failed.
    Continue,
    /// Wait: mostly file descriptors or memory have run out, and connections have to close first.
    /// The connections that arrive meanwhile stay in the listen backlog.
    Pause {
        wait: Duration,
        /// Whether it is the first failure in a row, which is worth a line in the log.
        is_first: bool,
    },
}

/// The failures of one listener since its last success.
#[derive(Debug, Default)]
pub(crate) struct AcceptErrors {
    pause: Option<Duration>,
}

impl AcceptErrors {
    /// Ends a row of failures; returns whether there was one.
    pub(crate) fn accepted(&mut self) -> bool {
        self.pause.take().is_some()
    }

    pub(crate) fn failed(&mut self, error: &io::Error) -> AcceptStep {
        if is_of_one_connection(error) {
            return AcceptStep::Continue;
        }
        let wait = self
            .pause
            .map_or(FIRST_PAUSE, |pause| (2 * pause).min(MAX_PAUSE));
        let is_first = self.pause.replace(wait).is_none();
        AcceptStep::Pause { wait, is_first }
    }
}

/// Whether the error concerns the accepted connection only.
///
/// Linux reports network errors that a connection already has, and a firewall's refusal, as errors
/// of `accept`; its manual asks to treat them like a temporary failure.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, PermissionDenied, TimedOut, WouldBlock,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
            | WouldBlock
    ) || has_code_of_one_connection(error)
}

/// The errors of the manual that have no kind: EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET, EOPNOTSUPP.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_code_of_one_connection(error: &io::Error) -> bool {
    const EPROTO: i32 = 71;
    const ENOPROTOOPT: i32 = 92;
    const EHOSTDOWN: i32 = 112;
    const ENONET: i32 = 64;
    const EOPNOTSUPP: i32 = 95;
    matches!(
        error.raw_os_error(),
        Some(EPROTO | ENOPROTOOPT | EHOSTDOWN | ENONET | EOPNOTSUPP)
    )
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn has_code_of_one_connection(_: &io::Error) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// ECONNABORTED, EINTR, EPERM, EPROTO, ENETDOWN, EHOSTUNREACH, ENETUNREACH.
    const OF_ONE: [i32; 7] = [103, 4, 1, 71, 100, 113, 101];
    /// EMFILE, ENFILE, ENOMEM, ENOBUFS, and one that is no error of accept.
    const OF_ALL: [i32; 5] = [24, 23, 12, 105, 22];

    #[test]
    fn an_error_of_one_connection_never_pauses() {
        for code in OF_ONE {
            let mut errors = AcceptErrors::default();
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(errors.failed(&error), AcceptStep::Continue, "{error}");
        }
    }

    #[test]
    fn exhaustion_pauses_longer_each_time_and_is_logged_once() {
        for code in OF_ALL {
            let error = io::Error::from_raw_os_error(code);
            let mut errors = AcceptErrors::default();
            let mut waits = Vec::new();
            for attempt in 0..7 {
                match errors.failed(&error) {
                    AcceptStep::Continue => panic!("{error} goes on"),
                    AcceptStep::Pause { wait, is_first } => {
                        assert_eq!(is_first, attempt == 0);
                        waits.push(wait.as_millis());
                    }
                }
                // An error of one connection ends no row of failures.
                errors.failed(&io::Error::from_raw_os_error(OF_ONE[0]));
            }
            assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
            assert!(errors.accepted());
            assert!(!errors.accepted());
            let AcceptStep::Pause { wait, is_first } = errors.failed(&error) else {
                panic!("{error} goes on");
            };
            assert_eq!((wait, is_first), (FIRST_PAUSE, true));
        }
    }
}
