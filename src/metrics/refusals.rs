//! Counters of messages that reached no handler, of frames of other nodes that were dropped, and of
//! input of the application that was refused.

use metrics::Counter;

use super::{handles::Handles, names::INPUTS_REFUSED};
use crate::error::{Error, code};

/// Why a message reached no handler; the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Of a kind that only servers send.
    Kind,
    /// By a step of the pipeline.
    Pipeline,
    /// No handler has the route, or it is closed to clients.
    Route,
    /// The session is pinned to no scheduler, where its service needs one.
    Scheduler,
    /// The body does not decode.
    Body,
    /// By a filter.
    Filter,
    /// No member takes it.
    Member,
    /// Its client has as many requests in flight as it may.
    InFlight,
}

impl Refusal {
    const ALL: [(Self, &str); 8] = [
        (Self::Kind, "kind"),
        (Self::Pipeline, "pipeline"),
        (Self::Route, "route"),
        (Self::Scheduler, "scheduler"),
        (Self::Body, "body"),
        (Self::Filter, "filter"),
        (Self::Member, "member"),
        (Self::InFlight, "in_flight"),
    ];
}

/// One counter for each reason.
#[derive(Debug)]
pub(crate) struct Refusals([Counter; Refusal::ALL.len()]);

impl Refusals {
    /// Creates the counters; `counter` makes the one of a reason.
    pub(crate) fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self(Refusal::ALL.map(|(_, reason)| counter(reason)))
    }

    /// Counts a refused message.
    pub(crate) fn count(&self, reason: Refusal) {
        self.0[reason as usize].increment(1);
    }
}

/// Why frames of other nodes are dropped: one counter for each value of the label `reason`.
#[derive(Debug)]
pub(crate) struct FrameRefusals {
    ended: Counter,
    malformed: Counter,
    limit: Counter,
    other: Counter,
}

impl FrameRefusals {
    /// Creates the counters; `counter` makes the one of a reason.
    pub(crate) fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self {
            ended: counter("ended"),
            malformed: counter("malformed"),
            limit: counter("limit"),
            other: counter("other"),
        }
    }

    /// Counts a frame by the error that it ended with.
    pub(crate) fn count(&self, error: &Error) {
        let is = |codes: &[_]| codes.iter().any(|code| error.code() == *code);
        let counter = if is(&[code::NOT_FOUND, code::CLOSED, code::CONFLICT]) {
            &self.ended
        } else if is(&[code::BAD_REQUEST]) {
            &self.malformed
        } else if is(&[code::TOO_MANY, code::TOO_LARGE]) {
            &self.limit
        } else {
            &self.other
        };
        counter.increment(1);
    }
}

/// Input of the application about players that is refused; the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedInput {
    /// An id that no user can have.
    User,
    /// A name that no channel can have.
    Channel,
    /// A change of shared data.
    Shared,
    /// A binding of a service to a member.
    Binding,
    /// A login of a session that has ended.
    Closed,
}

impl RefusedInput {
    const ALL: [(Self, &str); 5] = [
        (Self::User, "user"),
        (Self::Channel, "channel"),
        (Self::Shared, "shared"),
        (Self::Binding, "binding"),
        (Self::Closed, "closed"),
    ];
}

/// One counter for each reason.
#[derive(Debug)]
pub(crate) struct InputRefusals([Counter; RefusedInput::ALL.len()]);

impl InputRefusals {
    /// Creates the counters of a node.
    pub(crate) fn new(node: &Handles) -> Self {
        let counter = |reason| node.counter_with(INPUTS_REFUSED, &[("reason", reason)]);
        Self(RefusedInput::ALL.map(|(_, reason)| counter(reason)))
    }

    /// Counts refused input.
    pub(crate) fn count(&self, reason: RefusedInput) {
        self.0[reason as usize].increment(1);
    }
}

/// Of sessions without a node.
impl Default for InputRefusals {
    fn default() -> Self {
        Self(RefusedInput::ALL.map(|_| Counter::noop()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        for (index, (reason, _)) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, (reason, _)) in RefusedInput::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
