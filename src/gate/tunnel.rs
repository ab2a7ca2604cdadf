//! Returns to a session that another gate of the cluster holds.
//!
//! The token names the gate that holds the session. The gate that accepts the client's new connection
//! opens a tunnel to it: calls between the two nodes, which carry the packets of both directions. For
//! the session it is one more transport, so everything about the return is decided where the session
//! is.

pub(super) mod carry;
pub(super) mod client;
pub(super) mod inboxes;
pub(super) mod outgoing;
mod searches;
pub(super) mod transport;
pub(super) mod wire;
