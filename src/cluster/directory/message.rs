//! What gates and owners tell each other.

use super::view::NodeId;
use crate::session::UserId;

/// Names a call that waits for its reply, on the node that makes it.
pub(crate) type CallId = u64;

/// Names a call of another node that waits for the answer of this one.
pub(crate) type CallerId = u64;

/// What happens when a user logs in who has a session already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The new session replaces the others, whose close callbacks run first.
    Replace,
    /// The new session is refused while another one lives.
    Reject,
}

/// A session that a gate has for a user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holding {
    pub(crate) user: UserId,
    pub(crate) session: i64,
    /// The number of its claim; 0 if it is only bound.
    pub(crate) claim: u64,
    /// Whether it has ended, and its close callbacks may still run.
    pub(crate) closing: bool,
}

/// A session that was ended so that another one may have its user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Replaced {
    pub(crate) user: UserId,
    /// The session that claims the user.
    pub(crate) claimant: Place,
    /// Whether its close callbacks still ran at their deadline.
    pub(crate) late: bool,
}

/// Where a session of a user is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) gate: NodeId,
    pub(crate) session: i64,
}

/// Where the open sessions of a user are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) places: Vec<Place>,
    /// Whether it has one, by a login: another login ends it.
    pub(crate) alone: bool,
}

/// A gate's call to an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerRequest {
    /// Make the session the only one of the user.
    Claim {
        user: UserId,
        session: i64,
        policy: Policy,
    },
    /// Compare the sum of what the gate has in some slots with what is known of it.
    Compare(Vec<(u16, u64)>),
}

/// An owner's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerReply {
    /// The claim is granted under this view.
    Granted {
        view: u64,
        claim: u64,
        replaced: bool,
        /// Whether close callbacks of a replaced session were still running at their deadline, or
        /// a gate could not be asked by then.
        late: bool,
    },
    /// Another session of the user lives, and the policy is [`Policy::Reject`].
    Refused,
    /// The slots whose sums are equal. The owner asks for the others, if it owns them.
    Compared(Vec<u16>),
    /// Nothing was decided: the node does not own the slot in its view, has too many claims that
    /// wait, or this one has waited for too long.
    Retry,
}

/// A message of a gate to an owner that has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Sessions were bound, or have ended while their close callbacks still run.
    Bound(Vec<Holding>),
    /// Sessions have ended, their close callbacks too, or have another user.
    Released(Vec<Holding>),
    /// The gate shuts down, and has these sessions in slots that the owner is about to get.
    Leaving(Vec<Holding>),
}

/// A call of an owner to a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateRequest {
    /// End the session, and answer when its close callbacks have run or their deadline has passed.
    /// With `ask` only tell whether the session lives. `claimant` is the session whose login waits
    /// for it; `None` if it is superseded already. `view` is the owner's.
    StepDown {
        view: u64,
        user: UserId,
        session: i64,
        ask: bool,
        claimant: Option<Place>,
    },
    /// Tell what the gate has in these slots, and accept no grant of an earlier view for them.
    Recover { view: u64, slots: Vec<u16> },
}

/// A gate's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateReply {
    /// The gate has no such session, or has no more.
    SteppedDown {
        /// The session whose login it was ended for, which need not be that of the call: the reply to
        /// an earlier one may be lost. `None` if it has ended by itself, or was superseded.
        claimant: Option<Place>,
        late: bool,
    },
    /// The session lives.
    Lives,
    /// What the gate has in the slots, and which of its sessions made way for logins that may still
    /// go on.
    Holdings {
        held: Vec<Holding>,
        replaced: Vec<Replaced>,
    },
    /// The gate has promised these slots to the owner of a later view: it ends no session for this one.
    Stale,
}
