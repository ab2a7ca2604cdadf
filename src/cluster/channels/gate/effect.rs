//! Effects of the gate's state machine.

use std::sync::Arc;

use crate::{
    channel::Position,
    cluster::channels::{
        message::{Publication, ToOwner},
        view::Address,
    },
    error::Result,
};

/// What a gate asks its driver to do, in order.
#[derive(Debug)]
pub(in crate::cluster::channels) enum GateEffect<M, T> {
    Send {
        to: Address,
        message: ToOwner,
    },
    Push {
        members: Arc<Vec<M>>,
        publication: Publication,
    },
    /// A join has ended. A member that asked for what it has missed got it ahead of this, if
    /// `recovered`.
    Joined {
        call: T,
        result: Result<(Position, bool)>,
    },
    /// The member is in no channel any more.
    Left(M),
    /// More was published than could wait for the member while it was about to move.
    Missed(M),
    /// A publication came too late: others behind it had been delivered, or its owner had changed.
    Dropped,
}

impl<M, T> GateEffect<M, T> {
    /// A join has ended; `None` if nothing waits for it.
    pub(in crate::cluster::channels) fn joined(
        call: Option<T>,
        result: Result<(Position, bool)>,
    ) -> Option<Self> {
        call.map(|call| Self::Joined { call, result })
    }
}
