//! What a gate wants done.

use crate::{
    cluster::directory::{
        message::{CallId, CallerId, GateReply, Notice, OwnerRequest},
        view::NodeId,
    },
    session::UserId,
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
    /// Send an owner a message without a reply, in order with calls to it.
    Send { to: NodeId, notice: Notice },
    /// Answer an owner's call.
    Reply { caller: CallerId, reply: GateReply },
    /// End a session because another one of its user takes its place, and wait for its close
    /// callbacks: [`Holdings::callbacks_done`] follows.
    End { session: i64 },
    /// Wait for the close callbacks of a session that has ended by itself.
    AwaitEnd { session: i64 },
    /// The logins of a session for a user have ended.
    LoggedIn {
        session: i64,
        user: UserId,
        outcome: Outcome,
    },
}

/// How a login has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session is the user's only one.
    Granted {
        /// Whether it has replaced another one.
        replaced: bool,
        /// Whether a close callback of a replaced session still ran at its deadline, or its gate
        /// could not be asked by then.
        late: bool,
    },
    /// Another session of the user lives.
    Refused,
    /// Nothing was decided in time.
    TimedOut,
    /// The session has ended, or has been bound to another user, meanwhile.
    Ended,
}
