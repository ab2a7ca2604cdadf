//! Nodes of Go nano: they have no links, so messages travel as nano's unary calls. Everything that
//! exists only because Go nano is as it is, is here.

mod call_queue;
mod peer;
pub(super) mod peers;
pub(super) mod reannounce;
pub(super) mod remote;
mod served;
pub(super) mod service;
