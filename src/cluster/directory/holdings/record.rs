//! One session of a gate.

use std::time::Duration;

use tokio::time::Instant;

use super::effect::Outcome;
use crate::{
    cluster::directory::message::{CallerId, Holding, OwnerReply, Place, Policy, Replaced},
    session::UserId,
};

/// How long the close callbacks of a session may keep the next session of its user waiting.
pub(crate) const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a login may take, with the callbacks of the session it replaces.
pub(crate) const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause before a claim is made again.
pub(super) const RETRY: Duration = Duration::from_millis(50);

/// A session with a user.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) user: UserId,
    pub(super) state: State,
}

/// How far a session is. What passes is boxed, so that the many that stay are small.
#[derive(Debug)]
pub(super) enum State {
    /// Bound, perhaps one of several.
    Bound,
    /// A claim is under way.
    Claiming(Box<Claiming>),
    /// The user's only session.
    Granted { claim: u64 },
    /// The session has ended, and its close callbacks run.
    Closing(Box<Closing>),
}

/// A claim that is under way, or due again at `retry`.
#[derive(Debug)]
pub(super) struct Claiming {
    pub(super) policy: Policy,
    pub(super) retry: Option<Instant>,
    pub(super) until: Instant,
    /// What owners have said of grants that were refused.
    replaced: bool,
    late: bool,
}

/// How much of the time of a claim is left when a grant of an earlier view is taken after all: the
/// owner stays behind while no master runs, and is better than none.
const STALE_BEFORE: Duration = Duration::from_secs(12);

impl Claiming {
    pub(super) fn new(policy: Policy, now: Instant, until: Instant) -> Self {
        Self {
            policy,
            retry: Some(now),
            until,
            replaced: false,
            late: false,
        }
    }

    /// Whether the claim has waited so long that it takes a grant of an earlier view.
    pub(super) fn takes_stale(&self, now: Instant) -> bool {
        self.until <= now + STALE_BEFORE
    }

    /// Returns whether sessions were replaced by this grant or one before that was refused, and
    /// whether that was late.
    pub(super) fn note(&mut self, replaced: bool, late: bool) -> (bool, bool) {
        self.replaced |= replaced;
        self.late |= late;
        (self.replaced, self.late)
    }
}

/// A call of an owner that has no reply yet.
#[derive(Debug)]
pub(super) enum Call {
    /// The claim of a session on a user.
    Claim { session: i64, user: UserId },
    /// The comparison of slots, each with how often its owner has yet to find the same in it.
    Compare(Vec<(u16, u8)>),
}

/// A session that has ended.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) claim: u64,
    /// When the session is forgotten, and waiting owners learn that the callbacks are late.
    pub(super) until: Instant,
    pub(super) waiting: Vec<CallerId>,
    /// The session whose login it was ended for. `None` if it has ended by itself, or was superseded.
    pub(super) claimant: Option<Place>,
    /// Whether the gate waits for the callbacks. It does so for the first owner that asks.
    pub(super) awaited: bool,
}

impl Closing {
    /// Begins, with the claim that the session had.
    pub(super) fn new(claim: u64, now: Instant) -> Self {
        Self {
            claim,
            until: now + CALLBACK_TIMEOUT,
            waiting: Vec::new(),
            claimant: None,
            awaited: false,
        }
    }
}

impl Record {
    /// Returns the number of its claim; 0 if it has none.
    pub(super) fn claim(&self) -> u64 {
        match &self.state {
            State::Granted { claim } => *claim,
            State::Closing(closing) => closing.claim,
            State::Bound | State::Claiming(_) => 0,
        }
    }

    /// Returns the login it was ended for, if there is one. `late` is whether its close callbacks still
    /// run.
    pub(super) fn made_way(&self, late: bool) -> Option<Replaced> {
        let State::Closing(closing) = &self.state else {
            return None;
        };
        Some(Replaced {
            user: self.user.clone(),
            claimant: closing.claimant.clone()?,
            late,
        })
    }

    /// Takes the reply to its claim, `None` if the call failed. `allow` is whether a grant of a view
    /// may be accepted. Returns what is decided; if nothing is, the claim is made again.
    pub(super) fn on_claim_reply(
        &mut self,
        reply: Option<OwnerReply>,
        allow: impl Fn(u64) -> bool,
        now: Instant,
    ) -> Option<Outcome> {
        let State::Claiming(claiming) = &mut self.state else {
            return None;
        };
        match reply {
            Some(OwnerReply::Granted {
                view,
                claim,
                replaced,
                late,
            }) => {
                let (replaced, late) = claiming.note(replaced, late);
                let allowed = allow(view);
                if allowed || claiming.takes_stale(now) {
                    self.state = State::Granted { claim };
                    let late = late || !allowed;
                    return Some(Outcome::Granted { replaced, late });
                }
            }
            Some(OwnerReply::Refused) => return Some(Outcome::Refused),
            _ => {}
        }
        claiming.retry = Some(now + RETRY);
        None
    }

    /// That of a session with this claim, or without one for 0.
    pub(super) fn held(user: UserId, claim: u64) -> Self {
        let state = match claim {
            0 => State::Bound,
            claim => State::Granted { claim },
        };
        Self { user, state }
    }

    /// Returns the number of its claim, 0 for none; `None` while that is under way.
    pub(super) fn decided(&self) -> Option<u64> {
        self.is_held().then(|| self.claim())
    }

    /// Whether owners should know it: a claim under way is not decided.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self.state, State::Claiming(_))
    }

    /// Returns what owners know of it.
    pub(super) fn holding(&self, session: i64) -> Holding {
        Holding {
            user: self.user.clone(),
            session,
            claim: self.claim(),
            closing: matches!(self.state, State::Closing(_)),
        }
    }
}
