//! The decisions of a gate about one session that moves to another gate. No I/O, takes `now`.
//!
//! ```text
//! Hold --> Leave --> Take --> Adopt --> Forget
//!  | ^ new nodes       |       | ^ unanswered
//!  +-+------+----------+-------+-+----> Stay
//! ```
//!
//! A step that fails is taken back, unless the next gate may have the session: then only that gate can
//! say that it does not. If it leaves the cluster before it has answered, the session is forgotten here: it
//! may have moved on, and what backends have sent it there is not known here. So no session is at two
//! gates, and none goes on with a part of what it was sent.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result, code};

/// The pause before a call is repeated that was not answered.
pub(super) const REPEAT: Duration = Duration::from_millis(100);

/// The longest pause after a session could not move for the first time, and after any failure. Each
/// attempt costs its client the connection.
const RETRY: Duration = Duration::from_secs(2);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// How often the nodes that serve a session are asked to hold it, at most.
const ROUNDS: usize = 8;

/// How often a node is asked to release a session, or the next gate to close it, at most.
const REPEATS: usize = 20;

/// One session on its way to another gate.
pub(super) struct Departure {
    /// How long the next gate may leave the call unanswered, while it is a member.
    window: Duration,
    rounds: usize,
    /// The nodes that may hold the session.
    held: Vec<String>,
    left: bool,
    /// When the client's state was taken.
    taken: Option<Instant>,
    /// Whether the next gate was called and it is unknown what has become of the call.
    unanswered: bool,
}

/// What is to be done next. The result of each step is an input.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask all nodes that serve the session to hold it: [`Departure::held`].
    Hold,
    /// Leave its channels: [`Departure::left`].
    Leave,
    /// Take the client's state: [`Departure::taken`].
    Take,
    /// After a pause, call the next gate with what was taken: [`Departure::adopted`].
    Adopt(Duration),
    /// Forget the session: the next gate has it, or may have had it.
    Forget(Outcome),
    /// Take back what was done: the session stays.
    Stay(Stay),
}

/// Why a session stays, and what is to be taken back.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) step: Step,
    pub(super) error: Error,
    /// The nodes that may hold it.
    pub(super) held: Vec<String>,
    /// Whether it has left its channels.
    pub(super) left: bool,
}

/// Why a session is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The next gate has it.
    Moved,
    /// The next gate has not answered, and has left or cannot be waited for any longer.
    Unanswered,
}

impl Outcome {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Where a session's way to another gate has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// No gate takes it.
    Gates,
    /// A message of its client waits for room.
    Deferred,
    /// A node that serves it does not hold it.
    Hold,
    /// The next gate cannot enter its channels, or they change.
    Channels,
    /// A part of it is on this gate.
    Kept,
    /// The next gate does not take it.
    Refused,
}

impl Step {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Gates => "gates",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Channels => "channels",
            Self::Kept => "kept",
            Self::Refused => "refused",
        }
    }
}

impl Departure {
    /// Begins with [`Next::Hold`].
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            rounds: 0,
            held: Vec::new(),
            left: false,
            taken: None,
            unanswered: false,
        }
    }

    /// The nodes that serve the session have been asked to hold it.
    ///
    /// They are asked again until no other node serves it: of the round before, everything has been
    /// handled then, so nothing is under way in either direction.
    pub(super) fn held(&mut self, asked: Result<Vec<(String, Result)>>) -> Next {
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return self.stay(Step::Hold, error),
        };
        let (known, mut failed) = (self.held.len(), None);
        for (node, result) in asked {
            // Also one that has not answered may hold it.
            if !self.held.contains(&node) {
                self.held.push(node);
            }
            failed = failed.or(result.err());
        }
        self.rounds += 1;
        match failed {
            Some(error) => self.stay(Step::Hold, error),
            None if known == self.held.len() => Next::Leave,
            None if self.rounds < ROUNDS => Next::Hold,
            None => self.stay(Step::Hold, stays("more and more nodes serve it")),
        }
    }

    /// The session has left its channels, or stays in them.
    pub(super) fn left(&mut self, left: Result) -> Next {
        match left {
            Ok(()) => {
                self.left = true;
                Next::Take
            }
            Err(error) => self.stay(Step::Channels, error),
        }
    }

    /// The client's state was taken, or a part of the session is on this gate. `is_available` says whether
    /// the next gate is a member still, in the same incarnation, that can be reached and takes sessions.
    pub(super) fn taken(&mut self, taken: Result, is_available: bool, now: Instant) -> Next {
        match taken {
            Ok(()) if is_available => {
                self.taken = Some(now);
                Next::Adopt(Duration::ZERO)
            }
            // It was not called, so it cannot have the session.
            Ok(()) => self.stay(Step::Refused, stays("the next gate is not there any more")),
            Err(error) => self.stay(Step::Kept, error),
        }
    }

    /// The next gate has answered, or has not. `is_member` says whether it is a member still, in the
    /// same incarnation; `stops`, whether this node cannot wait any longer.
    pub(super) fn adopted(
        &mut self,
        adopted: Result,
        (is_member, stops): (bool, bool),
        now: Instant,
    ) -> Next {
        let Err(error) = adopted else {
            return Next::Forget(Outcome::Moved);
        };
        self.unanswered |= is_unanswered(&error);
        // Of a gate that may have the session, only an answer that says no does; other errors may be of
        // the call itself.
        if !self.unanswered || says_no(&error) {
            return self.stay(Step::Refused, error);
        }
        let since = self.taken.map(|at| now.saturating_duration_since(at));
        let is_late = since.is_none_or(|since| since >= self.window);
        if !is_member || stops || is_late {
            return Next::Forget(Outcome::Unanswered);
        }
        Next::Adopt(REPEAT)
    }

    fn stay(&mut self, step: Step, error: Error) -> Next {
        Next::Stay(Stay {
            step,
            error,
            held: std::mem::take(&mut self.held),
            left: self.left,
        })
    }
}

/// The pause before a session that has stayed after so many `failures` before is tried again. The limit
/// doubles with each; `random`, from 0 to 1, keeps sessions that fail together from being tried together.
pub(super) fn retry_pause(failures: u32, random: f64) -> Duration {
    let longest = RETRY.saturating_mul(1 << failures.min(10)).min(MAX_RETRY);
    longest.mul_f64(0.5 + random / 2.0)
}

/// Whether a node that was asked `times` to release or to close a session is to be asked again.
pub(super) fn is_repeated(times: usize, result: &Result) -> bool {
    times < REPEATS && result.as_ref().is_err_and(is_unanswered)
}

/// Whether the next gate has answered that it does not have the session.
fn says_no(error: &Error) -> bool {
    matches!(error.code(), code::CONFLICT | code::BAD_REQUEST)
}

/// Whether it is unknown what has become of a call.
fn is_unanswered(error: &Error) -> bool {
    matches!(error.code(), code::UNAVAILABLE | code::TIMEOUT)
}

/// Why a session stays where it is.
pub(super) fn stays(why: &str) -> Error {
    Error::new(code::CONFLICT, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(begun: Instant) -> Departure {
        Departure {
            taken: Some(begun),
            ..Departure::new(Duration::from_secs(60))
        }
    }

    fn next(departure: &mut Departure, code: crate::ErrorCode<'static>, is_member: bool) -> Next {
        let failed = Err(Error::new(code, ""));
        let now = departure.taken.unwrap() + Duration::from_secs(1);
        departure.adopted(failed, (is_member, false), now)
    }

    #[tokio::test]
    async fn a_gate_that_may_have_the_session_keeps_it_unless_it_says_no() {
        for code in [code::TOO_MANY, code::INTERNAL, code::UNSUPPORTED] {
            let mut departure = called(Instant::now());
            assert!(matches!(
                next(&mut departure, code, true),
                Next::Stay(Stay {
                    step: Step::Refused,
                    ..
                })
            ));
            let mut departure = called(Instant::now());
            for code in [code::TIMEOUT, code, code::UNAVAILABLE, code] {
                assert!(matches!(next(&mut departure, code, true), Next::Adopt(_)));
            }
            assert!(matches!(
                next(&mut departure, code::CONFLICT, true),
                Next::Stay(_)
            ));
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let longest = |failures| retry_pause(failures, 1.0).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 99].map(longest), [2, 4, 8, 16, 30, 30]);
        assert_eq!(retry_pause(1, 0.0), Duration::from_secs(2));
    }

    fn is_forgotten(next: &Next, outcome: Outcome) -> bool {
        matches!(next, Next::Forget(it) if *it == outcome)
    }

    #[tokio::test]
    async fn without_an_answer_the_session_is_forgotten_when_none_can_be_waited_for() {
        let begun = Instant::now();
        let timeout = || Err(Error::new(code::TIMEOUT, ""));
        let late = begun + Duration::from_secs(60);
        for (is_member, stops, now) in [
            (false, false, begun),
            (true, true, begun),
            (true, false, late),
        ] {
            let mut departure = called(begun);
            let next = departure.adopted(timeout(), (is_member, stops), now);
            assert!(is_forgotten(&next, Outcome::Unanswered), "{next:?}");
        }
        let mut departure = called(begun);
        let answered = departure.adopted(Ok(()), (false, true), begun);
        assert!(is_forgotten(&answered, Outcome::Moved));
    }

    #[tokio::test]
    async fn only_the_incarnation_that_was_called_says_no() {
        let mut departure = called(Instant::now());
        next(&mut departure, code::TIMEOUT, true);
        // As the next incarnation answers, before and after it is the member.
        let before = next(&mut departure, code::NOT_FOUND, true);
        assert!(matches!(before, Next::Adopt(_)));
        let after = next(&mut departure, code::NOT_FOUND, false);
        assert!(is_forgotten(&after, Outcome::Unanswered));
        let mut first = called(Instant::now());
        let first = next(&mut first, code::NOT_FOUND, false);
        assert!(matches!(first, Next::Stay(_)), "it was asked first");
    }

    #[tokio::test]
    async fn a_session_stays_if_the_next_gate_is_gone_before_it_is_called() {
        let now = Instant::now();
        let mut departure = Departure::new(Duration::from_secs(60));
        let next = departure.taken(Ok(()), false, now);
        assert!(matches!(next, Next::Stay(_)), "{next:?}");
        let next = departure.taken(Ok(()), true, now);
        assert!(matches!(next, Next::Adopt(Duration::ZERO)));
    }
}
