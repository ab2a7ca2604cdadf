//! Calls of gates that have no reply yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::directory::{
        message::{CallId, GateRequest, Place},
        view::NodeId,
    },
    session::UserId,
};

/// A call of a gate.
#[derive(Debug)]
pub(super) enum Outstanding {
    /// What the gate has in some slots, after a pause. `view` is the owner's when it asked. It has failed `tries`
    /// times.
    Recover {
        gate: NodeId,
        slots: Vec<u16>,
        view: u64,
        pause: Duration,
        tries: u32,
    },
    /// `claimant` is the session whose login waits for the end of the other.
    StepDown {
        step: StepDown,
        claimant: Option<Place>,
        view: u64,
    },
}

/// A session that has to end, or with `ask` only tells whether it lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StepDown {
    pub(super) user: UserId,
    pub(super) place: Place,
    pub(super) ask: bool,
}

impl Outstanding {
    pub(super) fn step_down(step: StepDown, claimant: Option<Place>, view: u64) -> Self {
        Self::StepDown {
            step,
            claimant,
            view,
        }
    }

    pub(super) fn gate(&self) -> &NodeId {
        match self {
            Self::Recover { gate, .. } => gate,
            Self::StepDown { step, .. } => &step.place.gate,
        }
    }

    /// How long the call waits before it is made.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Recover { pause, .. } => *pause,
            Self::StepDown { .. } => Duration::ZERO,
        }
    }

    /// How long after it has failed it is repeated. The link to a gate that has just joined may be about to be
    /// there, and no user can log in before.
    fn retry_pause(&self) -> Duration {
        match self {
            Self::Recover { tries, .. } => {
                RETRY.min(FIRST_RETRY.saturating_mul(1 << tries.min(&8)))
            }
            Self::StepDown { .. } => RETRY,
        }
    }

    pub(super) fn request(&self) -> GateRequest {
        match self {
            Self::Recover { slots, view, .. } => GateRequest::Recover {
                view: *view,
                slots: slots.clone(),
            },
            Self::StepDown {
                step,
                claimant,
                view,
            } => GateRequest::StepDown {
                view: *view,
                user: step.user.clone(),
                session: step.place.session,
                ask: step.ask,
                claimant: claimant.clone(),
            },
        }
    }
}

/// The longest pause before a failed call of a gate is repeated, and the first one of a question for what it has.
const RETRY: Duration = Duration::from_millis(200);
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// All calls of gates that have no reply yet, or have failed and are due again.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: CallId,
    calls: BTreeMap<CallId, Outstanding>,
    /// By the time when they are due, and in the order they failed.
    retries: BTreeMap<(Instant, u64), Outstanding>,
    failures: u64,
    /// Sessions that a call is about.
    stepping: BTreeSet<StepDown>,
}

impl Calls {
    /// Adds a call and returns its number; `None` if the same was sent about this session already.
    pub(super) fn begin(&mut self, outstanding: Outstanding) -> Option<CallId> {
        if let Outstanding::StepDown { step, .. } = &outstanding
            && !self.stepping.insert(step.clone())
        {
            return None;
        }
        self.last += 1;
        self.calls.insert(self.last, outstanding);
        Some(self.last)
    }

    /// Removes a call whose reply has come.
    pub(super) fn take(&mut self, call: CallId) -> Option<Outstanding> {
        self.calls.remove(&call)
    }

    /// Returns the first call that has no reply yet.
    #[cfg(any(test, fuzzing))]
    pub(super) fn first(&self) -> Option<CallId> {
        self.calls.keys().next().copied()
    }

    /// Returns a session that counts as asked for, and is not.
    #[cfg(any(test, fuzzing))]
    pub(super) fn stepping_without_call(&self) -> Option<&StepDown> {
        let failed = self.retries.values();
        let calls = || self.calls.values().chain(failed.clone());
        let is_called = |wanted: &StepDown| {
            calls().any(|it| matches!(it, Outstanding::StepDown { step, .. } if step == wanted))
        };
        self.stepping.iter().find(|step| !is_called(step))
    }

    /// Lets the same be sent about the session again.
    pub(super) fn finish(&mut self, step: &StepDown) {
        self.stepping.remove(step);
    }

    /// Keeps a call that has failed.
    pub(super) fn failed(&mut self, outstanding: Outstanding, now: Instant) {
        self.failures += 1;
        let due = now + outstanding.retry_pause();
        self.retries.insert((due, self.failures), outstanding);
    }

    /// When the next call that has failed is to be repeated.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.keys().next().map(|(due, _)| *due)
    }

    /// Takes a call that has failed and is due again.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Outstanding> {
        self.next_retry().filter(|due| *due <= now)?;
        let (_, outstanding) = self.retries.pop_first()?;
        if let Outstanding::StepDown { step, .. } = &outstanding {
            self.finish(step);
        }
        Some(outstanding)
    }
}
