//! Every metric this crate reports, by name, in one place.
//!
//! They go through the [`metrics`] facade: install a recorder of your choice before a node starts.
//! A node creates its handles once, when it starts, so counting costs an atomic addition. Without
//! a recorder they cost nothing.
//!
//! Every metric has a label `node`, so that nodes of one process can be told apart: the address a
//! node advertises to its cluster, else the address of its first listener, else `standalone`. Other
//! labels are named at the metric. All label values come from closed sets: nothing a client sends
//! becomes one.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};

/// Connections accepted, by all listeners.
pub const CONNECTIONS_ACCEPTED: &str = "nano_connections_accepted_total";
/// Connections of clients that were refused, with a label `reason`: `limit` (of the node),
/// `address_limit`, `denied` (by the deny list), or `proxy_header` (a trusted proxy sent none).
pub const CONNECTIONS_REFUSED: &str = "nano_connections_refused_total";
/// Connections closed, with a label `reason` (see
/// [`CloseReason::label`](crate::CloseReason::label)).
pub const CONNECTIONS_CLOSED: &str = "nano_connections_closed_total";
/// Connections that ended without a byte from the client, such as health checks of load balancers.
/// They open no session and count in no other metric of closed connections.
pub const CONNECTIONS_SILENT: &str = "nano_connections_silent_total";
/// HTTP connections that ended because a head, a body or a response made no progress within the
/// handshake timeout. Idle connections that are kept for a next request end so, too.
pub const HTTP_TIMEOUTS: &str = "nano_http_timeouts_total";
/// Client connections open now.
pub const CONNECTIONS: &str = "nano_connections";
/// Sessions whose client is away and may return.
pub const SESSIONS_DETACHED: &str = "nano_sessions_detached";
/// Clients that have returned to their session.
pub const SESSIONS_RESUMED: &str = "nano_sessions_resumed_total";
/// Clients that could not return to their session, with a label `reason` (see
/// [`Lost::as_str`](crate::resume::Lost::as_str)).
pub const SESSIONS_LOST: &str = "nano_sessions_lost_total";
/// Messages received from clients.
pub const MESSAGES_RECEIVED: &str = "nano_messages_received_total";
/// Packets written to clients, handshake and heartbeat packets included. Counted when they leave
/// the send queue.
pub const MESSAGES_SENT: &str = "nano_messages_sent_total";
/// Bytes read from clients, before decoding.
pub const BYTES_RECEIVED: &str = "nano_bytes_received_total";
/// Bytes written to clients.
pub const BYTES_SENT: &str = "nano_bytes_sent_total";
/// Requests answered with an error, for any reason.
pub const REQUESTS_FAILED: &str = "nano_requests_failed_total";
/// Requests that no handler answered within the request timeout.
pub const REQUESTS_TIMED_OUT: &str = "nano_requests_timed_out_total";
/// Responses dropped because the request was answered already, had timed out, or never existed.
pub const RESPONSES_DROPPED: &str = "nano_responses_dropped_total";
/// Pushes dropped because the client is slow and the node's policy is to drop.
pub const PUSHES_DROPPED: &str = "nano_pushes_dropped_total";
/// Messages that reached no handler: unknown route, undecodable body, refused by a pipeline or a
/// filter, or of a kind that only servers send.
pub const MESSAGES_REFUSED: &str = "nano_messages_refused_total";
/// Panics of handlers, pipelines, hooks and callbacks. Panics of other tasks and of timers are in
/// [`Pool::panics`](crate::Pool::panics).
pub const PANICS: &str = "nano_panics_total";
/// Seconds that a handler held its scheduler. Async handlers are not measured.
pub const HANDLER_SECONDS: &str = "nano_handler_seconds";
/// Seconds that handlers took, with a label `route`; recorded where
/// [`RouteTiming`](crate::filter::RouteTiming) is installed. Async handlers count with the time they
/// waited.
pub const ROUTE_SECONDS: &str = "nano_route_seconds";
/// Messages that [`LoadShed`](crate::filter::LoadShed) refused; they count as refused as well.
pub const MESSAGES_SHED: &str = "nano_messages_shed_total";
/// Members of the cluster, without the node itself.
pub const CLUSTER_MEMBERS: &str = "nano_cluster_members";
/// Members that joined, as this node saw it. A member that restarts, or was evicted and returns,
/// joins again.
pub const CLUSTER_JOINED: &str = "nano_cluster_joined_total";
/// Members that left or were evicted, as this node saw it.
pub const CLUSTER_LEFT: &str = "nano_cluster_left_total";
/// Members the master evicted because their heartbeats stopped.
pub const CLUSTER_EVICTED: &str = "nano_cluster_evicted_total";
/// Calls to the master that failed or were refused.
pub const CLUSTER_HEARTBEATS_FAILED: &str = "nano_cluster_heartbeats_failed_total";
/// Announcements of the master that failed; they are repeated.
pub const CLUSTER_ANNOUNCEMENTS_FAILED: &str = "nano_cluster_announcements_failed_total";
/// Calls of other nodes refused, with a label `reason`: `malformed`, `unauthenticated`, or
/// `membership` (the address belongs to a newer incarnation, or is not registered).
pub const CLUSTER_REFUSED: &str = "nano_cluster_refused_total";
/// Connections of other nodes open now at the cluster's port.
pub const CLUSTER_CONNECTIONS: &str = "nano_cluster_connections";
/// Connections to the cluster's port that were refused, or closed before their first authenticated
/// call, with a label `reason`: `limit`, `address_limit`, `displaced` (by a newer connection at the
/// bound of unauthenticated ones), or `deadline`.
pub const CLUSTER_CONNECTIONS_REFUSED: &str = "nano_cluster_connections_refused_total";
/// Client messages forwarded to the member that serves the session.
pub const CLUSTER_FORWARDED: &str = "nano_cluster_messages_forwarded_total";
/// Streams to other nodes that are up now.
pub const CLUSTER_LINKS: &str = "nano_cluster_links";
/// Streams to other nodes that broke, or did not come up.
pub const CLUSTER_LINKS_BROKEN: &str = "nano_cluster_links_broken_total";
/// Frames of other nodes that were dropped: of a session that has ended, or of an unexpected kind.
pub const CLUSTER_FRAMES_REFUSED: &str = "nano_cluster_frames_refused_total";

/// Creates the handles of one node: metrics with its `node` label.
#[derive(Debug, Clone)]
struct Labelled(SharedString);

impl Labelled {
    fn new(node: &str) -> Self {
        Self(SharedString::from_shared(Arc::from(node)))
    }

    fn counter(&self, name: &'static str) -> Counter {
        counter!(name, "node" => self.0.clone())
    }

    fn counter_for(&self, name: &'static str, reason: &'static str) -> Counter {
        counter!(name, "node" => self.0.clone(), "reason" => reason)
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        gauge!(name, "node" => self.0.clone())
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        histogram!(name, "node" => self.0.clone())
    }
}

/// The metrics of a node and its clients.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) silent_connections: Counter,
    pub(crate) http_timeouts: Counter,
    pub(crate) connections: Gauge,
    pub(crate) detached: Gauge,
    pub(crate) resumed: Counter,
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
    node: Labelled,
}

impl Metrics {
    pub(crate) fn new(node: &str) -> Self {
        let node = Labelled::new(node);
        Self {
            accepted: node.counter(CONNECTIONS_ACCEPTED),
            silent_connections: node.counter(CONNECTIONS_SILENT),
            http_timeouts: node.counter(HTTP_TIMEOUTS),
            connections: node.gauge(CONNECTIONS),
            detached: node.gauge(SESSIONS_DETACHED),
            resumed: node.counter(SESSIONS_RESUMED),
            received: node.counter(MESSAGES_RECEIVED),
            sent: node.counter(MESSAGES_SENT),
            bytes_received: node.counter(BYTES_RECEIVED),
            bytes_sent: node.counter(BYTES_SENT),
            failed: node.counter(REQUESTS_FAILED),
            timed_out: node.counter(REQUESTS_TIMED_OUT),
            responses_dropped: node.counter(RESPONSES_DROPPED),
            pushes_dropped: node.counter(PUSHES_DROPPED),
            refused: node.counter(MESSAGES_REFUSED),
            panics: node.counter(PANICS),
            handler_seconds: node.histogram(HANDLER_SECONDS),
            node,
        }
    }

    /// The node's name, the value of the label `node`.
    pub(crate) fn node(&self) -> &str {
        &self.node.0
    }

    /// Counts a refused connection by its reason.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.node
            .counter_for(CONNECTIONS_REFUSED, reason)
            .increment(1);
    }

    /// Counts a client that could not return to its session, by the reason.
    pub(crate) fn session_lost(&self, reason: &'static str) {
        self.node.counter_for(SESSIONS_LOST, reason).increment(1);
    }

    /// Counts a closed connection by its reason. Rare enough to look the handle up each time.
    pub(crate) fn closed(&self, reason: &'static str) {
        self.node
            .counter_for(CONNECTIONS_CLOSED, reason)
            .increment(1);
    }
}

/// The metrics of a node's membership.
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
    pub(crate) connections: Gauge,
    node: Labelled,
}

impl ClusterMetrics {
    pub(crate) fn new(node: &str) -> Self {
        let node = Labelled::new(node);
        Self {
            members: node.gauge(CLUSTER_MEMBERS),
            joined: node.counter(CLUSTER_JOINED),
            left: node.counter(CLUSTER_LEFT),
            evicted: node.counter(CLUSTER_EVICTED),
            heartbeats_failed: node.counter(CLUSTER_HEARTBEATS_FAILED),
            announcements_failed: node.counter(CLUSTER_ANNOUNCEMENTS_FAILED),
            malformed: node.counter_for(CLUSTER_REFUSED, "malformed"),
            unauthenticated: node.counter_for(CLUSTER_REFUSED, "unauthenticated"),
            refused: node.counter_for(CLUSTER_REFUSED, "membership"),
            connections: node.gauge(CLUSTER_CONNECTIONS),
            node,
        }
    }

    /// Counts a refused connection by its reason.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.node
            .counter_for(CLUSTER_CONNECTIONS_REFUSED, reason)
            .increment(1);
    }
}

/// The metrics of a node's traffic with other nodes.
#[derive(Debug)]
pub(crate) struct LinkMetrics {
    pub(crate) forwarded: Counter,
    pub(crate) up: Gauge,
    pub(crate) broken: Counter,
    pub(crate) frames_refused: Counter,
}

impl LinkMetrics {
    pub(crate) fn new(node: &str) -> Self {
        let node = Labelled::new(node);
        Self {
            forwarded: node.counter(CLUSTER_FORWARDED),
            up: node.gauge(CLUSTER_LINKS),
            broken: node.counter(CLUSTER_LINKS_BROKEN),
            frames_refused: node.counter(CLUSTER_FRAMES_REFUSED),
        }
    }
}
