//! Limits and intervals of links, and which stream a session uses.

use std::time::Duration;

/// Response metadata that names the incarnation of the node that accepts a stream.
pub(super) const INCARNATION: &str = "nano-incarnation";

/// Response metadata that names the link epoch of the node that accepts a stream.
pub(super) const EPOCH: &str = "nano-link-epoch";

/// Streams of one link, in each direction, each on a connection of its own. One connection is one
/// lock and one core; more than a few are idle.
pub(in crate::cluster) const STREAMS: usize = 2;

/// Messages of one session that may be unfinished at a peer: under way, or in its async handlers.
pub(in crate::cluster) const WINDOW: u32 = 256;

/// Messages of a session that a peer finishes before it sends a CREDIT.
pub(super) const CREDIT: u32 = WINDOW / 4;

/// Queued bytes above which a session may only send while less than its [`FAIR_SHARE`] waits.
pub(in crate::cluster) const MESSAGE_BYTES: usize = 1024 * 1024;

/// Queued bytes above which the stream is congested: every sender is held to its share.
pub(super) const CONGESTED: usize = 16 * 1024 * 1024;

/// Queued bytes above which everything that can be refused is refused.
pub(super) const FULL: usize = 64 * 1024 * 1024;

/// Bytes that each session may have queued on a congested stream.
pub(super) const FAIR_SHARE: usize = 16 * 1024;

/// Limit and share of what is queued for one session. The limit is what a gate keeps for a client.
pub(in crate::cluster) const SESSION_QUOTA: (usize, usize) = (4 * 1024 * 1024, FAIR_SHARE);

/// Limit and share of all multicasts, and of the node's own frames.
pub(super) const NODE_QUOTA: (usize, usize) = (16 * 1024 * 1024, 1024 * 1024);

/// Keys of one session whose changes its gate has not applied yet, at most.
pub(super) const MAX_SHARES: usize = 1024;

/// A batch is sent when it has so many bytes, or when nothing more waits.
pub(super) const BATCH_BYTES: usize = 32 * 1024;

/// The longest batch that is accepted. A client's packet is at most 16 MiB.
pub(super) const MAX_BATCH: usize = 32 * 1024 * 1024;

/// Bytes a peer may send ahead of being read, on one stream and on one connection.
pub(in crate::cluster) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(in crate::cluster) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Interval of HTTP/2 pings, and how long their answers may take.
pub(super) const HTTP2_KEEPALIVE: Duration = Duration::from_secs(1);

/// Interval in which the failure detector probes links while something is awaited or sent.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// After each so many probes without an inbound frame, a waiting node sends a PING.
pub(super) const PING_AFTER: u32 = 2;

/// Probes without an inbound frame, while one is awaited, before the peer is suspect and new sessions
/// prefer other members (800 ms). Any frame clears the suspicion.
pub(super) const SUSPECT_AFTER: u32 = 8;

/// Probes without an inbound frame, while one is awaited, before the stream is closed (3 s). HTTP/2 pings detect a peer
/// that hangs earlier; this detects one that can be reached and cannot reach this node.
pub(super) const DEAD_AFTER: u32 = 30;

/// Returns the stream for all frames of a session, or of a call.
pub(in crate::cluster) fn stream_index(id: i64) -> usize {
    (id.unsigned_abs() % STREAMS as u64) as usize
}
