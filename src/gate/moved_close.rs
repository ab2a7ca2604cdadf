//! The decisions of a gate about closes of a session that has moved to another gate. No I/O.
//!
//! ```text
//! Look --> Next --> Look     closed there, or it is known that it is nowhere
//!  |        +-----> Others --> Look
//!  +-----> End
//! ```
//!
//! The next gate may have died when it had moved the session on. Then any other gate may have it, and all
//! are asked, once for a move: one of them may have had the session before, and passes the close on to
//! this gate, which would ask it again without an end.

use super::close_code::Ending;
use crate::{error::Result, session::CloseReason};

/// The closes of one session that has moved.
#[derive(Default)]
pub(super) struct MovedClose {
    /// Why the session is to be closed, while the next gate is asked.
    reason: Option<CloseReason>,
    others_asked: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// Look whether the session was closed here since: [`MovedClose::noted`].
    Look,
    /// Close it at the next gate: [`MovedClose::answered`].
    Next(CloseReason),
    /// Close it at all other gates, then look again.
    Others(CloseReason),
    /// Nothing: no close is left.
    End,
}

impl MovedClose {
    /// The session was closed since it was looked at, or was not.
    pub(super) fn noted(&mut self, closed: Option<Ending>) -> Follow {
        match closed.map(|closed| closed.reason) {
            None => Follow::End,
            // The node stops; the session does not.
            Some(CloseReason::Shutdown) => Follow::Look,
            Some(reason) => {
                self.reason = Some(reason.clone());
                Follow::Next(reason)
            }
        }
    }

    /// The next gate has closed the session, or has not.
    pub(super) fn answered(&mut self, closed: &Result) -> Follow {
        match self.reason.take() {
            Some(reason) if closed.is_err() && !self.others_asked => {
                self.others_asked = true;
                Follow::Others(reason)
            }
            _ => Follow::Look,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, code};

    fn kicked() -> CloseReason {
        CloseReason::Kicked("out".to_owned())
    }

    fn gone() -> Result {
        Err(Error::new(code::NOT_FOUND, "no such session"))
    }

    #[test]
    fn a_close_that_fails_at_the_next_gate_asks_the_others_once_for_a_move() {
        let mut closes = MovedClose::default();
        assert_eq!(
            closes.noted(Some(kicked().into())),
            Follow::Next(kicked()),
            "the next gate first"
        );
        assert_eq!(closes.answered(&gone()), Follow::Others(kicked()));
        // One of them has passed it on to this gate.
        assert_eq!(closes.noted(Some(kicked().into())), Follow::Next(kicked()));
        assert_eq!(closes.answered(&gone()), Follow::Look, "they were asked");
        assert_eq!(closes.noted(None), Follow::End);
    }

    #[test]
    fn the_others_are_asked_after_closes_that_did_not_fail() {
        let mut closes = MovedClose::default();
        closes.noted(Some(kicked().into()));
        assert_eq!(closes.answered(&Ok(())), Follow::Look, "it is closed");
        let shutdown = Ending::from(CloseReason::Shutdown);
        assert_eq!(closes.noted(Some(shutdown)), Follow::Look, "not passed on");
        closes.noted(Some(CloseReason::Denied.into()));
        assert_eq!(
            closes.answered(&gone()),
            Follow::Others(CloseReason::Denied)
        );
    }
}
