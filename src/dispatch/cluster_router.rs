//! What dispatch asks of the cluster, for routes this node has no handler for.

use std::pin::Pin;

use crate::{
    error::{Error, Result},
    message::Message,
    session::{Call, CloseReason, Session},
};

/// Resolves when a queue that was full may have capacity again.
pub(crate) type Capacity = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The other nodes of the cluster. Nothing in it blocks.
pub(crate) trait ClusterRouter: Send + Sync {
    /// Sends a client's message to the member that serves its session.
    ///
    /// # Errors
    /// [`ForwardError::Full`] returns the message. [`ForwardError::Error`] when no member has the
    /// route, or none that has it can be reached.
    fn forward(&self, session: &Session, message: Message) -> Result<(), ForwardError>;

    /// Sends a one-way message of a node on behalf of a session.
    ///
    /// # Errors
    /// No member has the route, or the member that has it cannot take the message.
    fn rpc(&self, session: &Session, message: Message) -> Result;

    /// Sends a call. Every failure is an answer to the call.
    fn call(&self, call: Call);

    /// Whether this address is this node's.
    fn is_here(&self, address: &str) -> bool;

    /// Returns the addresses of all members that have the service of `route`; this node's first,
    /// if `here`.
    fn nodes_with(&self, route: &str, here: bool) -> Vec<String>;

    /// Tells the peers that serve the session its user id; 0 is none.
    fn bound(&self, session: &Session);

    /// Tells the peers that serve the session its shared value under a key.
    fn shared(&self, session: &Session, key: &str);

    /// The nodes that serve the session, by address, and its requests in flight there. `None` if it
    /// cannot move: one of them is a basic member.
    fn served(&self, session: &Session) -> Option<Vec<(String, Vec<u64>)>>;

    /// Forgets a session that another gate has now.
    fn moved(&self, session: &Session);

    /// Goes on with a session that the node at the address serves for another gate, with its requests
    /// in flight there. Returns the number of its opening.
    ///
    /// # Errors
    /// The node is no member, or a basic one.
    fn adopted(&self, session: &Session, address: &str, requests: Vec<u64>) -> Result<u64>;

    /// The node at the address has attached an adopted session, or it is lost there: its requests
    /// fail.
    fn attached(&self, session: &Session, address: &str, attached: bool);

    /// Tells the peers that serve the session that it has ended.
    fn closed(&self, session: &Session, reason: &CloseReason);
}

/// Why a message was not forwarded.
pub(crate) enum ForwardError {
    /// The way to the peer is full. Returns the message, to be sent again later.
    Full(Message, Capacity),
    Error(Error),
}

impl From<Error> for ForwardError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
