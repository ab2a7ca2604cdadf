//! Where messages go that no handler of this node is for: what the cluster implements.

use std::{net::SocketAddr, pin::Pin};

use bytes::Bytes;

use crate::{
    error::{Error, Result, code},
    message::Message,
    session::{Call, CloseReason, Push, Session, SessionSink},
};

/// The other nodes. Nothing in it blocks.
pub(crate) trait ClusterRouter: Send + Sync {
    /// Sends a client's message to the member that serves its session.
    ///
    /// # Errors
    /// Nobody has the route, or no member that has it can be reached; or the message with what to
    /// wait for.
    fn forward(&self, session: &Session, message: Message) -> Result<(), ForwardError>;

    /// Sends a one-way message of a node, on behalf of a session.
    ///
    /// # Errors
    /// Nobody has the route, or the member that has it cannot take it.
    fn rpc(&self, session: &Session, message: Message) -> Result;

    /// Sends a call. Whatever happens, it is answered.
    fn call(&self, call: Call);

    /// Whether this address is this node's.
    fn is_here(&self, address: &str) -> bool;

    /// The addresses of all members that have the service of the route; this node's first, if the
    /// route is `here`.
    fn nodes_with(&self, route: &str, here: bool) -> Vec<String>;

    /// The session is bound to a uid, or to none any more.
    fn bound(&self, session: &Session);

    /// The session has ended.
    fn closed(&self, session: &Session, reason: &CloseReason);
}

/// Why a message was not forwarded.
pub(crate) enum ForwardError {
    /// The way is full. Gives the message back; try again when the future is ready.
    Full(Message, Pin<Box<dyn Future<Output = ()> + Send>>),
    Error(Error),
}

impl From<Error> for ForwardError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The far end of a session that has none: that of a node's own call.
pub(super) struct DetachedSink;

impl DetachedSink {
    fn error() -> Error {
        Error::new(code::CLOSED, "a call of a node has no client")
    }
}

impl SessionSink for DetachedSink {
    fn push(&self, _: &Push<'_>) -> Result {
        Err(Self::error())
    }

    fn respond(&self, _: u64, _: Result<Bytes>) -> Result {
        Err(Self::error())
    }

    fn rpc(&self, _: &Session, _: &str, _: Bytes) -> Result {
        Err(Self::error())
    }

    fn close(&self, _: CloseReason) {}

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
}
