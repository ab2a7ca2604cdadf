//! The transport to nodes of Go nano, which have no links: messages travel as nano's unary calls.
//! Workarounds for these nodes are here too. Rules of Go's client protocol are marked where they
//! apply, in the gate and in the wire format.

// Calls that wait, one in flight for each session.
mod call_queue;
// One node: a `PeerTransport`.
mod peer;
// All of them, as they come and go.
pub(super) mod peers;
// Against duplicate entries in their member tables.
pub(super) mod reannounce;
// The sink of a session whose client is on one of their gates.
pub(super) mod remote;
// The sessions of their clients that this node serves.
mod served;
// The calls that they send.
pub(super) mod service;
