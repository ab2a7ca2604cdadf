//! Counters of messages that reached no handler.

use metrics::Counter;

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
}

impl Refusal {
    const ALL: [(Self, &str); 7] = [
        (Self::Kind, "kind"),
        (Self::Pipeline, "pipeline"),
        (Self::Route, "route"),
        (Self::Scheduler, "scheduler"),
        (Self::Body, "body"),
        (Self::Filter, "filter"),
        (Self::Member, "member"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        for (index, (reason, _)) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
