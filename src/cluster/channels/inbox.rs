//! The way into the task of a node's channels.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc::UnboundedSender;
#[cfg(feature = "admin")]
use tokio::sync::oneshot;

use super::{
    message::{Name, ToGate, ToOwner},
    move_input::{JoinReply, MoveInput},
    request::Request,
    view::Address,
};
#[cfg(feature = "config")]
use crate::channel::ChannelLimits;
#[cfg(feature = "admin")]
use crate::channel::ChannelPage;
use crate::{
    channel::Position,
    cluster::node_services::NodeCall,
    error::{Error, Result, code},
    session::{GroupRef, Session, SessionKey},
};

/// The stream of links that all messages of channels use, so that they keep their order.
pub(super) const KEY: u64 = 0;

/// Bytes that may wait for the task, at most.
const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// What the task is fed.
pub(super) enum Input {
    Join {
        channel: Name,
        session: Session,
        since: Option<Position>,
        reply: JoinReply,
    },
    Leave {
        channel: Name,
        session: Session,
        reply: LeaveReply,
    },
    /// A session has ended.
    Ended(SessionKey),
    /// What the owner is asked.
    Ask(Request<NodeCall>),
    /// A message for the owner.
    Owner { from: Address, message: ToOwner },
    /// A message of an owner.
    Gate { from: Address, message: ToGate },
    /// A session is on its way to another gate.
    Move(MoveInput),
    /// Which members does this gate have?
    Members { channel: Name, call: NodeCall },
    /// How many channels there may be has changed.
    #[cfg(feature = "config")]
    Limits(ChannelLimits),
    /// Which channels have members here?
    #[cfg(feature = "admin")]
    List {
        after: String,
        limit: usize,
        reply: oneshot::Sender<ChannelPage>,
    },
}

pub(super) type LeaveReply = Box<dyn FnOnce(Result<bool>) + Send>;

/// The way into the task.
pub(super) struct Inbox {
    pub(super) inputs: UnboundedSender<(Input, usize)>,
    /// Bytes of the inputs that wait.
    pub(super) queued: Arc<AtomicUsize>,
}

impl Inbox {
    /// Whether so much waits that nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > MAX_QUEUED
    }

    /// Hands an input over that weighs so many bytes; 0 for one that is bounded elsewhere.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the node has stopped.
    pub(super) fn push(&self, input: Input, weight: usize) -> Result {
        self.queued.fetch_add(weight, Ordering::Relaxed);
        self.inputs
            .send((input, weight))
            .map_err(|_| Error::new(code::UNAVAILABLE, "the node has stopped"))
    }
}

/// Lets the task know of members that end.
impl GroupRef for Inbox {
    fn forget(&self, member: SessionKey) {
        // An error means that the node has stopped.
        let _ = self.push(Input::Ended(member), 0);
    }

    /// Stands for all channels of a session.
    #[cfg(feature = "admin")]
    fn name(&self) -> Option<&str> {
        None
    }
}
