//! What an owner wants done.

use std::time::Duration;

use crate::cluster::directory::{
    message::{CallId, CallerId, GateRequest, OwnerReply},
    view::NodeId,
};

/// What the owner wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answer a call.
    Reply { caller: CallerId, reply: OwnerReply },
    /// Call a gate after a pause, and pass its reply to [`Owner::on_reply`].
    Call {
        call: CallId,
        to: NodeId,
        request: GateRequest,
        pause: Duration,
    },
}
