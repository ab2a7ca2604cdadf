//! What a gate wants done.

use crate::cluster::directory::{
    message::{CallId, CallerId, GateReply, Notice, OwnerRequest},
    view::NodeId,
};

/// What the gate wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Call an owner, and pass its reply to [`Holdings::on_reply`].
    Call {
        call: CallId,
        to: NodeId,
        request: OwnerRequest,
    },
    /// Send an owner a message without a reply, in order with calls about the same user.
    Send { to: NodeId, notice: Notice },
    /// Answer an owner's call.
    Reply { caller: CallerId, reply: GateReply },
    /// End a session. [`Holdings::closed`] and [`Holdings::callbacks_done`] follow.
    End { session: i64, reason: EndReason },
    /// A login has ended.
    LoggedIn { session: i64, outcome: Outcome },
}

/// Why the directory ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Another session of the same user has taken its place.
    Replaced,
    /// The gate has lost the cluster for so long that another gate may have the user by now.
    CutOff,
}

/// How a login has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session is the user's only one.
    Granted {
        /// Whether it has replaced another one.
        replaced: bool,
        /// Whether a close callback of the replaced session still ran at its deadline.
        late: bool,
    },
    /// Another session of the user lives.
    Refused,
    /// Nothing was decided in time.
    TimedOut,
    /// The session has ended, or has been bound to another user, meanwhile.
    Ended,
}
