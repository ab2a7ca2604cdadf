//! The data plane between nodes of this crate: a few ordered streams of batches in each direction,
//! each on a connection of its own.
//!
//! What one node sends to another travels on streams that the sender opened, so each direction has
//! one order. A session always uses the same stream index.
//!
//! From the bottom up: `frame` and `flow` are what moves. `sender` and `receiver` are the two
//! halves of `state`, which decides: `receive` what follows from a frame, `activity` when the link
//! is open, `failure_detector` when its peer is suspect or dead. `call_frames` queues frames about
//! no session, `user_push_frames` pushes to users and their acknowledgements, which `user_pushes`
//! numbers, `binds` and `shared_data` what a session's nodes agree on, and `moving` hands
//! sessions from one gate's link to that of the next; `held` waits meanwhile. `timing` samples how
//! long the peer takes. `stream` locks the state, and `handler` applies its effects. `peer` is one
//! incarnation of a node, `peers` all of them. `outbound`, `inbound` and `service` do the I/O;
//! `probe_loop` probes the links that are in use.

mod activity;
mod batch;
mod binds;
mod call_frames;
pub(super) mod closed_sessions;
pub(super) mod config;
pub(super) mod context;
mod detector_wake;
mod effect;
mod failure_detector;
pub(super) mod flow;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod handler;
mod health;
pub(super) mod held;
mod inbound;
#[cfg(test)]
pub(crate) mod mesh;
mod moving;
mod outbound;
pub(super) mod peer;
pub(super) mod peers;
pub(super) mod probe_loop;
mod proto;
mod receive;
mod receiver;
pub(super) mod remote;
mod sender;
mod sender_stream;
mod served_session;
pub(super) mod service;
pub(super) mod session;
pub(super) mod session_window;
mod shared_data;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod timing;
mod user_push_frames;
mod user_pushes;
mod whereabouts;
