//! What owners and gates of channels send each other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;

use crate::channel::Position;

/// The name of a channel.
pub(super) type Name = Arc<str>;

/// A message to the members of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) position: Position,
    pub(super) route: ByteString,
    pub(super) body: Bytes,
}

impl Publication {
    /// The bytes it takes in a queue or a history, about.
    pub(super) fn weight(&self) -> usize {
        64 + self.route.len() + self.body.len()
    }
}

/// From a gate to the owner of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToOwner {
    /// A session of the gate joins; answered by [`ToGate::Joined`].
    Join {
        channel: Name,
        /// The gate's number of this join.
        join: u64,
        /// Where a returning member left off.
        since: Option<Position>,
        /// The last position that the gate has seen.
        seen: Position,
    },
    /// The gate has no members any more.
    Part { channel: Name },
    /// A part of the channels that the gate has members of, which answers [`ToGate::Collect`].
    Held {
        view: u64,
        /// How many channels the parts before have named.
        before: u64,
        channels: Vec<(Name, Position)>,
        /// Whether this is the last part.
        last: bool,
    },
    /// Of a former owner.
    Handover(Handover),
}

/// From an owner to a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToGate {
    /// Answers a join.
    Joined {
        channel: Name,
        join: u64,
        answer: JoinAnswer,
    },
    Deliver {
        channel: Name,
        publication: Publication,
    },
    /// The owner begins to serve a view: which channels does the gate have members of?
    Collect { view: u64 },
}

/// How an owner answers a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JoinAnswer {
    At(JoinedAt),
    /// The sender does not own the channel.
    Moved,
    /// The owner takes no more.
    Full,
}

/// Where a member begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JoinedAt {
    pub(super) position: Position,
    /// What a returning member has missed, up to the position; `None` if that is not known.
    pub(super) missed: Option<Vec<Publication>>,
}

/// A channel that a former owner gives to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handover {
    /// The view in which the channel has another owner.
    pub(super) view: u64,
    pub(super) channel: Name,
    /// Its last position.
    pub(super) last: Position,
    /// Its latest publications, up to the last one, and how long each is kept still.
    pub(super) kept: Vec<(Publication, Duration)>,
}
