//! The names of all metrics, with what they count.

/// Declares the names, and lists them with their descriptions.
macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)+

        /// Every name with its documentation, in the order of declaration.
        #[cfg(feature = "admin")]
        pub(crate) const DESCRIPTIONS: &[(&str, &str)] = &[$(($text, concat!($($doc),+))),+];
    };
}

names! {
    /// Connections accepted, by all listeners.
    CONNECTIONS_ACCEPTED = "nano_connections_accepted_total",
    /// Connections of clients that were refused, with a label `reason`: `limit` (of the node),
    /// `address_limit`, `denied` (by the deny list), `proxy_header` (a trusted proxy sent none), `tls`
    /// (its handshake failed), or `upgrade` (its request opens no WebSocket here).
    CONNECTIONS_REFUSED = "nano_connections_refused_total",
    /// Connections closed, with a label `reason` (see
    /// [`CloseReason::label`](crate::CloseReason::label)), `returned`: its client went on with the
    /// session of an earlier connection, or `moved`: another gate has its session.
    CONNECTIONS_CLOSED = "nano_connections_closed_total",
    /// Connections that ended without a byte from the client, such as health checks of load balancers, or
    /// before a TLS handshake was done. They open no session and count in no other metric of closed
    /// connections.
    CONNECTIONS_SILENT = "nano_connections_silent_total",
    /// HTTP connections that ended because a head, a body or a response made no progress within the
    /// handshake timeout. Idle connections that are kept for a next request end so, too.
    HTTP_TIMEOUTS = "nano_http_timeouts_total",
    /// Client connections open now.
    CONNECTIONS = "nano_connections",
    /// Sessions whose client is away and may return.
    SESSIONS_DETACHED = "nano_sessions_detached",
    /// Clients that have returned to their session.
    SESSIONS_RESUMED = "nano_sessions_resumed_total",
    /// Clients that could not return to their session, with a label `reason` (see
    /// [`Lost::as_str`](crate::resume::Lost::as_str)).
    SESSIONS_LOST = "nano_sessions_lost_total",
    /// Attempts of a gate that drains to move a session to another one, with a label `outcome`: `moved`;
    /// `unanswered` if the next gate has left, or was silent for too long, while it took the session; or
    /// why the session stays for now: `gates`, `deferred`, `hold`, `channels`, `kept`, `refused`.
    SESSION_MIGRATIONS = "nano_session_migrations_total",
    /// Sessions of a gate that drains which have not moved, with a label `obstacle`: what keeps them (see
    /// the runbook). Set while it drains.
    DRAINING_SESSIONS = "nano_draining_sessions",
    /// Messages of clients over their rate limit where that throttles: nothing more is read from the
    /// client for a while.
    MESSAGES_THROTTLED = "nano_messages_throttled_total",
    /// Messages received from clients.
    MESSAGES_RECEIVED = "nano_messages_received_total",
    /// Packets written to clients, handshake and heartbeat packets included. Counted when they leave
    /// the send queue.
    MESSAGES_SENT = "nano_messages_sent_total",
    /// Bytes read from clients, before decoding.
    BYTES_RECEIVED = "nano_bytes_received_total",
    /// Bytes written to clients.
    BYTES_SENT = "nano_bytes_sent_total",
    /// Requests answered with an error, for any reason.
    REQUESTS_FAILED = "nano_requests_failed_total",
    /// Requests that no handler answered within the request timeout.
    REQUESTS_TIMED_OUT = "nano_requests_timed_out_total",
    /// Responses dropped, with a label `reason`: `late` (the request was answered already, has timed
    /// out, or never existed), or `closed` (the connection has ended).
    RESPONSES_DROPPED = "nano_responses_dropped_total",
    /// Pushes dropped, with a label `reason`. Of slow clients where the node's policy is to drop: `queue`
    /// (the client's send queue is full), or `memory` (the node's budget is used up). Of broadcasts to
    /// groups: `link` (a gate could not be sent to; one for each member there).
    PUSHES_DROPPED = "nano_pushes_dropped_total",
    /// Clients disconnected because the node's memory budget was used up; closed as slow clients.
    MEMORY_DISCONNECTS = "nano_memory_disconnects_total",
    /// Bytes queued for clients and for other nodes, as charged to the memory budget: in steps of 4 KiB
    /// for each client, and of 64 KiB for each queue to a node.
    MEMORY_QUEUED = "nano_memory_queued_bytes",
    /// Bytes that may be queued: the memory budget of the node. 0 without one.
    MEMORY_LIMIT = "nano_memory_limit_bytes",
    /// Messages that reached no handler, with a label `reason`: `route` (unknown, or closed to clients),
    /// `body` (does not decode), `scheduler` (the session is pinned to none), `pipeline`, `filter`,
    /// `member` (none takes it), `in_flight` (its client has as many requests in flight as it may), or
    /// `kind` (only servers send it).
    MESSAGES_REFUSED = "nano_messages_refused_total",
    /// Panics of handlers, pipelines, hooks, callbacks, tasks and timers.
    PANICS = "nano_panics_total",
    /// Seconds that a handler held its scheduler. Async handlers are not measured.
    HANDLER_SECONDS = "nano_handler_seconds",
    /// Seconds that handlers took, with a label `route`; recorded where
    /// [`RouteTiming`](crate::filter::RouteTiming) is installed. Async handlers count with the time they
    /// waited.
    ROUTE_SECONDS = "nano_route_seconds",
    /// Messages that [`LoadShed`](crate::filter::LoadShed) refused; they count as refused as well.
    MESSAGES_SHED = "nano_messages_shed_total",
    /// Whether this node is the master that leads: 1 or 0.
    CLUSTER_LEADS = "nano_cluster_leads",
    /// The master that this node reports to: 1 with a label `master`, its address. 0 for former ones.
    CLUSTER_REPORTS_TO = "nano_cluster_reports_to",
    /// Members of the cluster, without the node itself.
    CLUSTER_MEMBERS = "nano_cluster_members",
    /// Members that joined, as this node saw it. A member that restarts, or was evicted and returns,
    /// joins again.
    CLUSTER_JOINED = "nano_cluster_joined_total",
    /// Members that left or were evicted, as this node saw it.
    CLUSTER_LEFT = "nano_cluster_left_total",
    /// Members the master evicted because their heartbeats stopped.
    CLUSTER_EVICTED = "nano_cluster_evicted_total",
    /// Calls to the master that failed or were refused.
    CLUSTER_HEARTBEATS_FAILED = "nano_cluster_heartbeats_failed_total",
    /// Announcements of the master that failed; they are repeated.
    CLUSTER_ANNOUNCEMENTS_FAILED = "nano_cluster_announcements_failed_total",
    /// Calls of other nodes refused, with a label `reason`: `malformed`, `unauthenticated`, or
    /// `membership` (the address belongs to a newer incarnation, or is not registered).
    CLUSTER_REFUSED = "nano_cluster_refused_total",
    /// Connections of other nodes open now at the cluster's port.
    CLUSTER_CONNECTIONS = "nano_cluster_connections",
    /// Connections to the cluster's port that were refused, or closed before their first authenticated
    /// call, with a label `reason`: `limit`, `address_limit`, `displaced` (by a newer connection at the
    /// bound of unauthenticated ones), or `deadline`.
    CLUSTER_CONNECTIONS_REFUSED = "nano_cluster_connections_refused_total",
    /// Client messages forwarded to the member that serves the session.
    CLUSTER_FORWARDED = "nano_cluster_messages_forwarded_total",
    /// Streams to other nodes that are up now.
    CLUSTER_LINKS = "nano_cluster_links",
    /// Streams to other nodes that broke, or did not come up.
    CLUSTER_LINKS_BROKEN = "nano_cluster_links_broken_total",
    /// Frames of other nodes that were dropped, with a label `reason`: `ended` (the session, or what
    /// waited for the answer), `malformed`, `limit` (the client or the session takes no more), or
    /// `other`.
    CLUSTER_FRAMES_REFUSED = "nano_cluster_frames_refused_total",
    /// [Groups](crate::Group) with members, each counted by the node of its first member.
    GROUPS = "nano_groups",
    /// Members of these groups; a session counts once for each group.
    GROUP_MEMBERS = "nano_group_members",
    /// Users that were looked for by asking their owners: of pushes to users whose location was not
    /// known, or who had moved, and of each [`User::locate`](crate::User::locate) and kick.
    USERS_LOOKED_UP = "nano_users_looked_up_total",
    /// Users of pushes whose location was known.
    USERS_CACHED = "nano_users_cached_total",
    /// Locations of users that this node remembers, 65,536 at most.
    USER_LOCATIONS = "nano_user_locations",
    /// The number of the view that the directory is in, by which users find their owners; 0 while the
    /// master numbers none. Equal on all nodes when the cluster is at rest.
    DIRECTORY_VIEW = "nano_directory_view",
    /// The nodes of the view that the directory is in, this one included.
    DIRECTORY_NODES = "nano_directory_nodes",
    /// The nodes of that view that may own users: all but the master, unless it is alone.
    DIRECTORY_OWNERS = "nano_directory_owners",
    /// Frames with a push to users: one for each gate and stream, however many users.
    USER_PUSHES = "nano_user_pushes_total",
    /// Users that a push did not reach.
    USERS_MISSED = "nano_users_missed_total",
    /// Logins of this node's handlers under unique users, with a label `outcome`: `granted`,
    /// `replaced`, `late` (replaced, and close callbacks had not finished in time), `refused`, or
    /// `failed`.
    LOGINS = "nano_logins_total",
    /// Input of the application about players that was refused and changed nothing, with a label
    /// `reason`: `user` (an id that no user can have), `channel` (a name that no channel can have),
    /// `shared` (a change of shared data that failed), `binding` (a `router().bind` that failed), or
    /// `closed` (a login of a session that has ended).
    INPUTS_REFUSED = "nano_inputs_refused_total",
    /// Channels that this node owns: with members on any gate, or a history.
    CHANNELS = "nano_channels",
    /// Members of all channels that are clients of this gate; a session counts once in each channel.
    CHANNEL_MEMBERS = "nano_channel_members",
    /// Publications that this node has ordered as the owner of their channels.
    CHANNEL_PUBLICATIONS = "nano_channel_publications_total",
    /// Publications that members missed, with a label `reason`: `late` (the gate had delivered later
    /// ones, or the owner had changed), or `link` (the owner could not send it to a gate).
    CHANNEL_DROPPED = "nano_channel_publications_dropped_total",
    /// Joins that a gate, and publications that an owner refused because a bound was reached.
    CHANNEL_REFUSED = "nano_channel_refused_total",
    /// Members that returned to a channel, with a label `outcome`: `recovered` (they got what they had
    /// missed), or `lost`.
    CHANNEL_RECOVERIES = "nano_channel_recoveries_total",
    /// Messages that handlers finished, with labels `route` and `status`: `ok`, `timeout`, `too_many`,
    /// `internal`, `unavailable`, or `error` for any other code. Recorded on nodes with an admin
    /// address.
    MESSAGES_HANDLED = "nano_messages_handled_total",
    /// Seconds that messages waited from their arrival to their turn, with a label `route`. Recorded on
    /// nodes with an admin address.
    QUEUE_SECONDS = "nano_message_queue_seconds",
    /// Seconds from the start of a handler to its end, with a label `route`; async handlers count with
    /// the time they waited. Recorded on nodes with an admin address.
    MESSAGE_SECONDS = "nano_message_handler_seconds",
    /// Seconds from a request's arrival at the gate to its answer, wherever its handler runs. Recorded
    /// on nodes with an admin address and a request timeout.
    REQUEST_SECONDS = "nano_request_seconds",
    /// Calls that this node made, with a label `status` as in [`MESSAGES_HANDLED`]. Recorded on nodes
    /// with an admin address.
    CALLS = "nano_calls_total",
    /// Seconds from a call to its answer or failure. Recorded on nodes with an admin address.
    CALL_SECONDS = "nano_call_seconds",
    /// Seconds that turns of schedulers took. Recorded on nodes with an admin address.
    TURN_SECONDS = "nano_scheduler_turn_seconds",
    /// Schedulers that exist. Computed for each scrape of the admin address, like the four that follow.
    SCHEDULERS = "nano_schedulers",
    /// Tasks that wait on all schedulers.
    SCHEDULER_TASKS = "nano_scheduler_queue_tasks",
    /// Tasks that wait on the scheduler with the longest queue.
    SCHEDULER_TASKS_LONGEST = "nano_scheduler_longest_queue_tasks",
    /// Schedulers whose running task has held them for a second or longer.
    SCHEDULERS_BLOCKED = "nano_schedulers_blocked",
    /// Seconds that the task which holds its scheduler longest has run, counted from the first sample;
    /// 0 where none has run for a second.
    SCHEDULER_BLOCKED_SECONDS = "nano_scheduler_longest_task_seconds",
    /// Sessions of this node, with a label `client`: `local`, or `remote` for clients of other gates.
    /// Computed for each scrape of the admin address.
    SESSIONS = "nano_sessions",
    /// Users with a session on this node. Computed for each scrape of the admin address.
    USERS = "nano_users",
    /// Batches of frames written to other nodes.
    CLUSTER_BATCHES_SENT = "nano_cluster_batches_sent_total",
    /// Frames written to other nodes.
    CLUSTER_FRAMES_SENT = "nano_cluster_frames_sent_total",
    /// Frames read from other nodes.
    CLUSTER_FRAMES_RECEIVED = "nano_cluster_frames_received_total",
    /// Bytes of the frames written to other nodes: their routes and bodies.
    CLUSTER_BYTES_SENT = "nano_cluster_bytes_sent_total",
    /// Bytes of the frames read from other nodes: their routes and bodies.
    CLUSTER_BYTES_RECEIVED = "nano_cluster_bytes_received_total",
    /// Frames in the batches written to other nodes: many at once where the link is busy. Recorded on
    /// nodes with an admin address, like the two that follow.
    CLUSTER_BATCH_FRAMES = "nano_cluster_batch_frames",
    /// Seconds from a request's way to another member to that member's answer, with a label `route`, of
    /// a sample of the requests of this gate: one in eight of each stream, and one at a time. Up to 1000
    /// routes that were answered without an error have the label, the rest is `other`.
    CLUSTER_REQUEST_SECONDS = "nano_cluster_request_seconds",
    /// Seconds of a round trip to another member through the queues of both nodes, once a second for
    /// each stream that is in use.
    CLUSTER_ROUND_TRIP_SECONDS = "nano_cluster_round_trip_seconds",
    /// Bytes that wait in the streams to other nodes. Computed for each scrape of the admin address.
    CLUSTER_QUEUE_BYTES = "nano_cluster_queue_bytes",
    /// Peers by the state of their links, with a label `state`: `idle` without an open stream, `good`,
    /// `suspect`, `cordoned`, `broken`, or `draining`. Computed for each scrape of the admin address.
    CLUSTER_PEERS = "nano_cluster_peers",
    /// Whether the node is ready: 1, or 0. Computed for each scrape of the admin address.
    READY = "nano_ready",
    /// Seconds since the node was started. Computed for each scrape of the admin address.
    UPTIME_SECONDS = "nano_uptime_seconds",
}
