//! What an owner of channels is asked, and what it asks its driver to do.

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    history::Keep,
    message::{Handover, JoinAnswer, Name, ToGate},
    view::Address,
};
use crate::{
    channel::Position,
    error::{Error, Result, code},
};

/// What an owner is asked, and answers when all nodes have said what members they have.
pub(super) enum Request<T> {
    Join(Join),
    Publish {
        call: T,
        publish: Publish,
    },
    /// Which gates have members.
    Gates {
        call: T,
        channel: Name,
    },
}

/// A session of a gate joins.
pub(super) struct Join {
    pub(super) from: Address,
    pub(super) channel: Name,
    pub(super) join: u64,
    pub(super) since: Option<Position>,
    pub(super) seen: Position,
}

/// A publication without its place.
#[derive(Clone, Debug)]
pub(super) struct Publish {
    pub(super) channel: Name,
    pub(super) route: ByteString,
    pub(super) body: Bytes,
    /// How much of the channel is kept; `None` for nothing.
    pub(super) keep: Option<Keep>,
}

/// What an owner asks its driver to do, in order.
#[derive(Debug)]
pub(super) enum OwnerEffect<T> {
    Send { to: Address, message: ToGate },
    HandOver { to: Address, handover: Handover },
    Published { call: T, position: Position },
    Gates { call: T, gates: Vec<Address> },
    Fail { call: T, error: Error },
}

impl<T> Request<T> {
    pub(super) fn channel(&self) -> &Name {
        match self {
            Self::Join(join) => &join.channel,
            Self::Publish { publish, .. } => &publish.channel,
            Self::Gates { channel, .. } => channel,
        }
    }

    /// Whether a channel that is not there is made for it.
    pub(super) fn makes_channel(&self) -> bool {
        match self {
            Self::Join(_) => true,
            Self::Publish { publish, .. } => publish.keep.is_some(),
            Self::Gates { .. } => false,
        }
    }
}

/// Why an owner does not do what it is asked. Nothing was published.
pub(super) enum Refusal {
    /// Another node owns the channel.
    Moved,
    /// Too much waits for the answers of other nodes.
    Waiting,
    /// There are as many channels as there may be.
    Full,
    /// No epoch is above the one that a gate has seen.
    Exhausted,
}

impl Refusal {
    fn error(&self) -> Error {
        match self {
            Self::Moved => moved(),
            Self::Waiting => Error::new(code::TOO_MANY, "too many messages wait for the channel"),
            Self::Full => Error::new(code::TOO_MANY, "the owner has too many channels"),
            Self::Exhausted => Error::bad_request("no position is behind one that a gate has seen"),
        }
    }

    /// Answers a call with it.
    pub(super) fn fail<T>(&self, call: T) -> OwnerEffect<T> {
        let error = self.error();
        OwnerEffect::Fail { call, error }
    }

    /// Answers a request with it.
    pub(super) fn refuse<T>(&self, request: Request<T>, effects: &mut Vec<OwnerEffect<T>>) {
        match request {
            Request::Publish { call, .. } | Request::Gates { call, .. } => {
                effects.push(self.fail(call));
            }
            Request::Join(join) => effects.push(OwnerEffect::Send {
                to: join.from,
                message: ToGate::Joined {
                    channel: join.channel,
                    join: join.join,
                    answer: match self {
                        Self::Moved => JoinAnswer::Moved,
                        Self::Waiting | Self::Full | Self::Exhausted => JoinAnswer::Full,
                    },
                },
            }),
        }
    }
}

/// The error of a node that does not own a channel, in its view. Nothing was published.
fn moved() -> Error {
    Error::new(MOVED, "the channel has another owner")
}

/// The code of [`moved`].
const MOVED: &str = "CHANNEL-MOVED";

/// Whether a call failed with [`moved`].
pub(super) fn is_moved<R>(result: &Result<R>) -> bool {
    matches!(result, Err(error) if error.code() == MOVED)
}
