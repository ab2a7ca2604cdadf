//! Every metric this crate reports, by name, in one place.
//!
//! They go through the [`metrics`] facade: install a recorder of your choice before a node starts
//! (the handles are taken once, at start, so that counting costs an atomic add). Without a recorder
//! they cost nothing.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Connections accepted, by all listeners.
pub const CONNECTIONS_ACCEPTED: &str = "nano_connections_accepted_total";
/// Connections refused because the node is at its connection limit.
pub const CONNECTIONS_REFUSED: &str = "nano_connections_refused_total";
/// Connections closed, with a label `reason` (see
/// [`CloseReason::label`](crate::CloseReason::label)).
pub const CONNECTIONS_CLOSED: &str = "nano_connections_closed_total";
/// Client connections open now.
pub const CONNECTIONS: &str = "nano_connections";
/// Messages received from clients.
pub const MESSAGES_RECEIVED: &str = "nano_messages_received_total";
/// Packets taken from the queues to be written to clients, those of the protocol itself included.
pub const MESSAGES_SENT: &str = "nano_messages_sent_total";
/// Bytes read from clients, before decoding.
pub const BYTES_RECEIVED: &str = "nano_bytes_received_total";
/// Bytes written to clients.
pub const BYTES_SENT: &str = "nano_bytes_sent_total";
/// Requests answered with an error, whatever the reason.
pub const REQUESTS_FAILED: &str = "nano_requests_failed_total";
/// Requests nobody answered within the request timeout.
pub const REQUESTS_TIMED_OUT: &str = "nano_requests_timed_out_total";
/// Answers to a request that had been answered already, had timed out, or never was.
pub const RESPONSES_DROPPED: &str = "nano_responses_dropped_total";
/// Pushes dropped because a client reads too slowly and the node's policy is to drop.
pub const PUSHES_DROPPED: &str = "nano_pushes_dropped_total";
/// Client messages that reached nobody: unknown route, undecodable, refused by a pipeline, of a
/// kind only servers send.
pub const MESSAGES_REFUSED: &str = "nano_messages_refused_total";
/// Handlers, pipelines, error and handshake hooks and close callbacks that panicked. Other tasks
/// and timers: [`Pool::panics`](crate::Pool::panics).
pub const PANICS: &str = "nano_panics_total";
/// Time a handler that is not async held its scheduler, in seconds.
pub const HANDLER_SECONDS: &str = "nano_handler_seconds";
/// Members of the cluster, without the node itself.
pub const CLUSTER_MEMBERS: &str = "nano_cluster_members";
/// Members that joined, as this node saw it. One that is started again, or was taken for dead,
/// joins again.
pub const CLUSTER_JOINED: &str = "nano_cluster_joined_total";
/// Members that left, as this node saw it, in order or not.
pub const CLUSTER_LEFT: &str = "nano_cluster_left_total";
/// Members the master removed because they were silent.
pub const CLUSTER_EVICTED: &str = "nano_cluster_evicted_total";
/// Calls to the master that were not answered, or refused.
pub const CLUSTER_HEARTBEATS_FAILED: &str = "nano_cluster_heartbeats_failed_total";
/// Attempts of the master to tell a member of another that failed; they are repeated.
pub const CLUSTER_ANNOUNCEMENTS_FAILED: &str = "nano_cluster_announcements_failed_total";
/// Calls from nodes refused, with a label `reason`: `malformed`, `unauthenticated`, or `membership`
/// (an address with a newer owner, or none).
pub const CLUSTER_REFUSED: &str = "nano_cluster_refused_total";
/// Messages of clients sent to another node that serves them.
pub const CLUSTER_FORWARDED: &str = "nano_cluster_messages_forwarded_total";
/// Links to other nodes that are up now.
pub const CLUSTER_LINKS: &str = "nano_cluster_links";
/// Links to other nodes that broke, or did not come up.
pub const CLUSTER_LINKS_BROKEN: &str = "nano_cluster_links_broken_total";
/// Frames of other nodes that nobody here had use for: of a session that has ended, of a kind that
/// does not belong.
pub const CLUSTER_FRAMES_REFUSED: &str = "nano_cluster_frames_refused_total";

/// The handles of one node.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) refused_connections: Counter,
    pub(crate) connections: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) failed: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) responses_dropped: Counter,
    pub(crate) pushes_dropped: Counter,
    pub(crate) refused: Counter,
    pub(crate) panics: Counter,
    pub(crate) handler_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            accepted: counter!(CONNECTIONS_ACCEPTED),
            refused_connections: counter!(CONNECTIONS_REFUSED),
            connections: gauge!(CONNECTIONS),
            received: counter!(MESSAGES_RECEIVED),
            sent: counter!(MESSAGES_SENT),
            bytes_received: counter!(BYTES_RECEIVED),
            bytes_sent: counter!(BYTES_SENT),
            failed: counter!(REQUESTS_FAILED),
            timed_out: counter!(REQUESTS_TIMED_OUT),
            responses_dropped: counter!(RESPONSES_DROPPED),
            pushes_dropped: counter!(PUSHES_DROPPED),
            refused: counter!(MESSAGES_REFUSED),
            panics: counter!(PANICS),
            handler_seconds: histogram!(HANDLER_SECONDS),
        }
    }

    /// Counts one closed connection under its reason; rare enough to look the handle up each time.
    pub(crate) fn closed(reason: &'static str) {
        counter!(CONNECTIONS_CLOSED, "reason" => reason).increment(1);
    }
}

/// The handles of one node of a cluster.
#[derive(Debug)]
pub(crate) struct ClusterMetrics {
    pub(crate) members: Gauge,
    pub(crate) joined: Counter,
    pub(crate) left: Counter,
    pub(crate) evicted: Counter,
    pub(crate) heartbeats_failed: Counter,
    pub(crate) announcements_failed: Counter,
    pub(crate) malformed: Counter,
    pub(crate) unauthenticated: Counter,
    pub(crate) refused: Counter,
}

impl ClusterMetrics {
    pub(crate) fn new() -> Self {
        Self {
            members: gauge!(CLUSTER_MEMBERS),
            joined: counter!(CLUSTER_JOINED),
            left: counter!(CLUSTER_LEFT),
            evicted: counter!(CLUSTER_EVICTED),
            heartbeats_failed: counter!(CLUSTER_HEARTBEATS_FAILED),
            announcements_failed: counter!(CLUSTER_ANNOUNCEMENTS_FAILED),
            malformed: counter!(CLUSTER_REFUSED, "reason" => "malformed"),
            unauthenticated: counter!(CLUSTER_REFUSED, "reason" => "unauthenticated"),
            refused: counter!(CLUSTER_REFUSED, "reason" => "membership"),
        }
    }
}

/// The handles of one node's traffic with other nodes.
#[derive(Debug)]
pub(crate) struct LinkMetrics {
    pub(crate) forwarded: Counter,
    pub(crate) up: Gauge,
    pub(crate) broken: Counter,
    pub(crate) frames_refused: Counter,
}

impl LinkMetrics {
    pub(crate) fn new() -> Self {
        Self {
            forwarded: counter!(CLUSTER_FORWARDED),
            up: gauge!(CLUSTER_LINKS),
            broken: counter!(CLUSTER_LINKS_BROKEN),
            frames_refused: counter!(CLUSTER_FRAMES_REFUSED),
        }
    }
}
