//! A message on its way to its scheduler or its member.

use super::{cluster_router::Capacity, local::LocalCall, remote::RemoteCall};
use crate::error::{Error, Result, code};

/// A message whose destination is known, to be queued there.
pub(crate) enum Dispatched {
    Local(LocalCall),
    Remote(Box<RemoteCall>),
}

/// A message that found its destination full.
pub(crate) struct Blocked {
    pub(crate) call: Dispatched,
    /// Resolves when the destination may have capacity.
    pub(crate) ready: Capacity,
}

impl Blocked {
    pub(super) fn remote((call, ready): (Box<RemoteCall>, Capacity)) -> Self {
        Self {
            call: Dispatched::Remote(call),
            ready,
        }
    }
}

impl Dispatched {
    /// Queues the message behind the session's earlier ones.
    ///
    /// On a scheduler that is shut down the request ends at once.
    ///
    /// # Errors
    /// Returns the message when its destination is full.
    pub(crate) fn submit(self) -> Result<(), Blocked> {
        match self {
            Self::Local(call) => call.submit().map_err(|(call, ready)| Blocked {
                call: Self::Local(call),
                ready,
            }),
            Self::Remote(call) => call.submit().map_err(Blocked::remote),
        }
    }

    /// Queues the message, or drops it.
    ///
    /// # Errors
    /// [`code::TOO_MANY`] when the destination is full.
    pub(crate) fn try_submit(self) -> Result {
        // Messages that wait for another scheduler are in no queue that could be full.
        if let Self::Local(call) = &self
            && call.is_congested()
        {
            return Err(call.full());
        }
        self.submit().map_err(|blocked| match &blocked.call {
            Self::Local(call) => call.full(),
            Self::Remote(_) => Error::new(code::TOO_MANY, "the member cannot take more"),
        })
    }

    /// Queues the message past the scheduler's capacity: for messages bounded by credit.
    pub(super) fn submit_always(self) {
        match self {
            Self::Local(call) => call.submit_always(),
            Self::Remote(call) => drop(call.submit()),
        }
    }
}
