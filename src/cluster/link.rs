//! The way from this node to another one of this crate: a few ordered streams of batches, each on a
//! connection of its own.
//!
//! All that one node sends to another travels on streams that the sender opened, so each direction
//! has one order. A session always uses the same stream.

use std::time::Duration;

pub(super) mod backlog;
pub(super) mod frames;
pub(super) mod inlet;
pub(super) mod outlet;
pub(super) mod pairing;
pub(super) mod shard;
#[cfg(test)]
mod tests;

// Written by proto/tests/codegen.rs.
pub(crate) mod proto {
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        missing_docs,
        unreachable_pub,
        rust_2018_idioms
    )]
    include!("generated/nano.link.v1.rs");
}

/// In what comes before the answers of a stream a node says which run of it this is.
pub(super) const RUN: &str = "nano-incarnation";

/// Streams to one node. One connection is one lock and one core; more than a few are idle.
pub(super) const SHARDS: usize = 2;

/// How many messages of one session may be on their way to a node, or in its async handlers.
pub(super) const WINDOW: u32 = 256;

/// After how many messages of a session a node says that it is done with them.
pub(super) const CREDIT: u32 = WINDOW / 4;

/// From so many queued bytes on, sessions of which more than their [`SHARE`] waits stop sending
/// messages.
pub(super) const MESSAGE_BYTES: usize = 1024 * 1024;

/// From so many queued bytes on, nobody may have more than a share of them waiting.
pub(super) const CROWDED: usize = 16 * 1024 * 1024;

/// From so many queued bytes on, nothing is accepted that can be refused.
pub(super) const FULL: usize = 64 * 1024 * 1024;

/// What each session may have waiting, however much waits of others.
pub(super) const SHARE: usize = 16 * 1024;

/// How many bytes may wait that are sent to one session, and how many of them in a crowd. The first
/// is what a gate keeps for a client.
pub(super) const SESSION_ACCOUNT: (usize, usize) = (4 * 1024 * 1024, SHARE);

/// The same for all broadcasts, and for what the node itself says.
pub(super) const NODE_ACCOUNT: (usize, usize) = (16 * 1024 * 1024, 1024 * 1024);

/// A batch is sent when it has so many bytes, or when nothing more waits.
pub(super) const BATCH_BYTES: usize = 32 * 1024;

/// What a node may receive before it is read, of one stream and of one connection, in bytes.
pub(super) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// How often HTTP/2 asks a silent peer for a sign of life, and how long it may take to answer.
pub(super) const PROBE: Duration = Duration::from_secs(1);

/// How often all links are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// After how many looks without a frame a node says on its stream that it is alive.
pub(super) const IDLE: u32 = 2;

/// After how many looks without a frame of its the other node gets no new sessions that somebody
/// else can serve: a second has not passed then. Nothing is lost by it, and the next frame takes it
/// back.
pub(super) const SILENT: u32 = 8;

/// After how many its stream is given up, and what it owes. A node that hangs is missed by HTTP/2
/// before; this is for one that can be reached and cannot reach this one.
pub(super) const BROKEN: u32 = 30;

/// The stream that all frames about this session, or of this call, use.
pub(super) fn shard_of(id: i64) -> usize {
    (id.unsigned_abs() % SHARDS as u64) as usize
}
