//! What the channels' task of a gate is fed when sessions move.

use tokio::sync::oneshot;

use super::message::Name;
use crate::{
    channel::{Position, Rejoined},
    error::Result,
    session::{Session, SessionKey},
};

/// Takes the result of a join.
pub(super) type JoinReply = Box<dyn FnOnce(Result<Rejoined>) + Send>;

/// Channels, and up to where a session has everything.
pub(super) type Positions = Vec<(Name, Position)>;

/// A step of a session's way to another gate.
pub(super) enum MoveInput {
    /// Which channels is it in?
    List {
        session: SessionKey,
        reply: oneshot::Sender<Vec<Name>>,
    },
    /// It is to come here.
    Expect {
        channel: Name,
        session: i64,
        reply: JoinReply,
    },
    /// Where is a channel?
    Locate { channel: Name, reply: JoinReply },
    /// It is about to leave.
    Hold {
        session: Session,
        channels: Vec<Name>,
        reply: oneshot::Sender<Result<Positions>>,
    },
    /// It stays.
    Release { session: i64 },
    /// It has come here.
    Arrive {
        session: Session,
        channels: Positions,
        reply: oneshot::Sender<Result>,
    },
}
