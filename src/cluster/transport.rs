//! How messages reach a peer, whatever it speaks.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::oneshot;

use crate::{
    dispatch::{ForwardError, Origin},
    error::{Error, Result, code},
    message::Message,
    session::{Call, CloseReason, Push, ReplyTo, Session, UserId},
};

/// The places of users in a push that have no session at the gate, or why that is not known.
pub(in crate::cluster) type Unreached = Result<Vec<usize>>;

/// A way to one peer: a link, or unary calls to a basic member. Nothing in it blocks.
pub(in crate::cluster) trait PeerTransport: Send + Sync {
    /// The address the peer is known by.
    fn address(&self) -> &str;

    /// What the router may use the peer for.
    fn status(&self) -> PeerStatus;

    /// Whether the peer answers calls.
    fn answers_calls(&self) -> bool;

    /// How many sessions of this gate the peer serves.
    fn load(&self) -> usize;

    /// The peer at this moment.
    #[cfg(feature = "admin")]
    fn report(&self) -> PeerReport;

    /// Sends a message of a session of this gate.
    ///
    /// # Errors
    /// Gives the message back when the session has to wait. [`code::UNAVAILABLE`] when the peer
    /// cannot be reached, [`code::CLOSED`] when the session has ended, [`code::TOO_LARGE`].
    fn send(
        self: Arc<Self>,
        session: &Session,
        message: Message,
        origin: Origin,
    ) -> Result<(), ForwardError>;

    /// Sends a call. Whatever happens, it is answered.
    fn call(&self, call: Call);

    /// Sends a call for the node itself. With a caller it is answered whatever happens.
    ///
    /// # Errors
    /// Of a call without a caller: [`code::UNAVAILABLE`] when the peer cannot be reached,
    /// [`code::TOO_MANY`], [`code::TOO_LARGE`], [`code::UNSUPPORTED`] for basic members.
    fn node_call(&self, call: OutboundNodeCall) -> Result;

    /// Pushes to all sessions that users have at the peer, as their gate, and whose frames go on this
    /// stream. What is returned is sent the end of the push.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the peer cannot be reached, [`code::TOO_MANY`], [`code::TOO_LARGE`],
    /// [`code::UNSUPPORTED`] for basic members.
    fn push_to_users(
        &self,
        stream: usize,
        users: &mut dyn Iterator<Item = &UserId>,
        push: &Push<'_>,
    ) -> Result<oneshot::Receiver<Unreached>>;

    /// The session is bound to a user, or to none any more.
    fn session_bound(&self, session: &Session);

    /// The session's shared value under a key has changed.
    fn session_shared(&self, session: &Session, key: &str);

    /// What the peer serves of a session of this gate.
    fn serves(&self, session: i64) -> Serves;

    /// Another gate has the session now.
    fn session_moved(&self, session: i64);

    /// Goes on with a session that the peer serves for another gate, with its requests in flight
    /// there. Returns the number of its opening.
    ///
    /// # Errors
    /// [`code::UNSUPPORTED`] for basic members.
    fn session_adopted(&self, session: &Session, requests: Vec<u64>) -> Result<u64>;

    /// The peer has attached an adopted session, or it is lost there: its requests fail.
    fn session_attached(&self, session: &Session, attached: bool);

    /// The session has ended. Returns whether the peer may run its close callbacks, and answers when
    /// they have run.
    fn session_closed(self: Arc<Self>, session: &Session, reason: &CloseReason) -> bool;
}

/// A call for another node itself, on its way.
pub(in crate::cluster) struct OutboundNodeCall {
    /// Calls with one key arrive in the order sent. The id of a session puts the call behind that
    /// session's earlier frames.
    pub(in crate::cluster) key: u64,
    pub(in crate::cluster) method: ByteString,
    pub(in crate::cluster) body: Bytes,
    pub(in crate::cluster) caller: Option<Arc<ReplyTo>>,
}

/// What a peer serves of a session.
#[derive(Debug)]
pub(in crate::cluster) enum Serves {
    Nothing,
    /// The session, with these requests in flight.
    Movable(Vec<u64>),
    /// The session, which cannot move: the peer is a basic member.
    Fixed,
}

/// A peer at one moment, as the admin server shows it.
#[cfg(feature = "admin")]
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct PeerReport {
    pub(crate) address: String,
    /// `link`, or `unary` to a basic member.
    pub(crate) transport: &'static str,
    /// `idle` without an open stream, `good`, `suspect`, `cordoned`, `broken`, `draining`, or
    /// `closed`.
    pub(crate) state: &'static str,
    /// Sessions of this gate that the peer serves.
    pub(crate) sessions: usize,
    /// Bytes that wait to be sent.
    pub(crate) queue_bytes: usize,
    /// Outbound streams that are up.
    pub(crate) streams_up: usize,
    /// The last round trip that was timed, of the slower stream.
    pub(crate) round_trip_seconds: Option<f64>,
}

/// What the router may use a peer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct PeerStatus {
    /// Sessions that are bound to the peer stay with it.
    pub(in crate::cluster) bound: bool,
    /// New sessions may go to the peer.
    pub(in crate::cluster) available: bool,
    /// The peer is silent: new sessions prefer other members.
    pub(in crate::cluster) suspect: bool,
    /// The peer drains: new sessions need another member, calls of nodes prefer others.
    pub(in crate::cluster) draining: bool,
}

/// The error of a message that is not tried again.
pub(in crate::cluster) fn into_error(error: ForwardError) -> Error {
    match error {
        ForwardError::Full(..) => Error::new(code::TOO_MANY, "the member cannot take more"),
        ForwardError::Error(error) => error,
    }
}
