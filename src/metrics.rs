//! Every metric this crate reports, by name, in one place.
//!
//! They go through the [`metrics`] facade: install a recorder of your choice before a node starts.
//! A node creates its handles once, when it starts, so counting costs an atomic addition. Without
//! a recorder they cost nothing. A node with an [admin address](crate::App::admin) also keeps them
//! itself, in fixed memory, and serves them at `/metrics`.
//!
//! Every metric has a label `node`, so that nodes of one process can be told apart: the address a
//! node advertises to its cluster, else the address of its first listener, else `standalone`. Other
//! labels are named at the metric. All label values come from closed sets: nothing a client sends
//! becomes one.

use metrics::{Counter, Gauge, Histogram};

use crate::error::Error;

#[cfg(feature = "admin")]
pub(crate) mod exposition;
mod handles;
#[cfg(feature = "admin")]
pub(crate) mod histogram;
mod names;
mod refusals;
#[cfg(feature = "admin")]
pub(crate) mod registry;
mod route_times;
mod status;

pub use self::names::*;
pub(crate) use self::{
    handles::Handles,
    refusals::{InputRefusals, Refusal, Refusals, RefusedInput},
};
use self::{refusals::FrameRefusals, route_times::RouteTimes, status::Statuses};

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
    pub(crate) throttled: Counter,
    pub(crate) responses_late: Counter,
    pub(crate) responses_closed: Counter,
    pub(crate) pushes_over_queue: Counter,
    pub(crate) pushes_over_memory: Counter,
    pub(crate) memory_disconnects: Counter,
    pub(crate) memory_queued: Gauge,
    pub(crate) memory_limit: Gauge,
    pub(crate) refused: Refusals,
    pub(crate) panics: Counter,
    pub(crate) handler_seconds: Histogram,
    /// `None` unless the node has an admin address.
    pub(crate) request_seconds: Option<Histogram>,
    /// `None` unless the node has an admin address.
    pub(crate) calls: Option<CallMetrics>,
    handles: Handles,
}

impl Metrics {
    pub(crate) fn new(handles: Handles) -> Self {
        let node = &handles;
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
            throttled: node.counter(MESSAGES_THROTTLED),
            responses_late: node.counter_with(RESPONSES_DROPPED, &[("reason", "late")]),
            responses_closed: node.counter_with(RESPONSES_DROPPED, &[("reason", "closed")]),
            pushes_over_queue: node.counter_with(PUSHES_DROPPED, &[("reason", "queue")]),
            pushes_over_memory: node.counter_with(PUSHES_DROPPED, &[("reason", "memory")]),
            memory_disconnects: node.counter(MEMORY_DISCONNECTS),
            memory_queued: node.gauge(MEMORY_QUEUED),
            memory_limit: node.gauge(MEMORY_LIMIT),
            refused: Refusals::new(|reason| {
                node.counter_with(MESSAGES_REFUSED, &[("reason", reason)])
            }),
            panics: node.counter(PANICS),
            handler_seconds: node.histogram(HANDLER_SECONDS),
            request_seconds: node.is_recorded().then(|| node.histogram(REQUEST_SECONDS)),
            calls: node.is_recorded().then(|| CallMetrics {
                seconds: node.histogram(CALL_SECONDS),
                ended: Statuses::new(|status| node.counter_with(CALLS, &[("status", status)])),
            }),
            handles,
        }
    }

    /// Creates more handles of the node.
    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// What is measured of a route; `None` unless the node has an admin address.
    pub(crate) fn route(&self, route: &str) -> Option<Box<RouteMetrics>> {
        let (node, label) = (&self.handles, ("route", route));
        node.is_recorded().then(|| {
            Box::new(RouteMetrics {
                queue_seconds: node.histogram_with(QUEUE_SECONDS, &[label]),
                handler_seconds: node.histogram_with(MESSAGE_SECONDS, &[label]),
                handled: Statuses::new(|status| {
                    node.counter_with(MESSAGES_HANDLED, &[label, ("status", status)])
                }),
            })
        })
    }

    /// The durations of the turns of schedulers; `None` unless the node has an admin address.
    pub(crate) fn turn_seconds(&self) -> Option<Histogram> {
        let node = &self.handles;
        node.is_recorded().then(|| node.histogram(TURN_SECONDS))
    }

    /// Counts a refused connection by its reason.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.count(CONNECTIONS_REFUSED, ("reason", reason));
    }

    /// Counts a client that could not return to its session, by the reason.
    pub(crate) fn session_lost(&self, reason: &'static str) {
        self.count(SESSIONS_LOST, ("reason", reason));
    }

    /// Counts an attempt to move a session to another gate.
    pub(crate) fn migrated(&self, outcome: &'static str) {
        self.count(SESSION_MIGRATIONS, ("outcome", outcome));
    }

    /// Sets how many sessions of a gate that drains an obstacle keeps.
    pub(crate) fn kept(&self, obstacle: &'static str, sessions: usize) {
        let gauge = self
            .handles
            .gauge_with(DRAINING_SESSIONS, &[("obstacle", obstacle)]);
        gauge.set(sessions as f64);
    }

    /// Counts a closed connection by its reason. Rare enough to look the handle up each time.
    pub(crate) fn closed(&self, reason: &'static str) {
        self.count(CONNECTIONS_CLOSED, ("reason", reason));
    }

    fn count(&self, name: &'static str, label: (&'static str, &'static str)) {
        self.handles.counter_with(name, &[label]).increment(1);
    }
}

/// What is measured of one route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    pub(crate) queue_seconds: Histogram,
    pub(crate) handler_seconds: Histogram,
    pub(crate) handled: Statuses,
}

/// The metrics of groups. No node has a list of them: a group counts where its first member is.
#[derive(Debug)]
pub(crate) struct GroupMetrics {
    pub(crate) groups: Gauge,
    pub(crate) members: Gauge,
    /// Pushes to members whose gate took none.
    pub(crate) dropped: Counter,
}

impl GroupMetrics {
    pub(crate) fn new(node: &Handles) -> Self {
        Self {
            groups: node.gauge(GROUPS),
            members: node.gauge(GROUP_MEMBERS),
            dropped: node.counter_with(PUSHES_DROPPED, &[("reason", "link")]),
        }
    }
}

/// Of sessions without a node.
impl Default for GroupMetrics {
    fn default() -> Self {
        Self {
            groups: Gauge::noop(),
            members: Gauge::noop(),
            dropped: Counter::noop(),
        }
    }
}

/// What is measured of the calls that a node makes.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    pub(crate) seconds: Histogram,
    pub(crate) ended: Statuses,
}

/// The metrics of a node's membership.
#[derive(Debug)]
pub(crate) struct ClusterMetrics {
    pub(crate) leads: Gauge,
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
    pub(crate) handles: Handles,
}

impl ClusterMetrics {
    pub(crate) fn new(node: &Handles) -> Self {
        let refused = |reason| node.counter_with(CLUSTER_REFUSED, &[("reason", reason)]);
        Self {
            leads: node.gauge(CLUSTER_LEADS),
            members: node.gauge(CLUSTER_MEMBERS),
            joined: node.counter(CLUSTER_JOINED),
            left: node.counter(CLUSTER_LEFT),
            evicted: node.counter(CLUSTER_EVICTED),
            heartbeats_failed: node.counter(CLUSTER_HEARTBEATS_FAILED),
            announcements_failed: node.counter(CLUSTER_ANNOUNCEMENTS_FAILED),
            malformed: refused("malformed"),
            unauthenticated: refused("unauthenticated"),
            refused: refused("membership"),
            connections: node.gauge(CLUSTER_CONNECTIONS),
            handles: node.clone(),
        }
    }

    /// Counts a refused connection by its reason.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.handles
            .counter_with(CLUSTER_CONNECTIONS_REFUSED, &[("reason", reason)])
            .increment(1);
    }
}

/// The metrics of a node's traffic with other nodes.
#[derive(Debug)]
pub(crate) struct LinkMetrics {
    pub(crate) forwarded: Counter,
    pub(crate) up: Gauge,
    pub(crate) broken: Counter,
    frames_refused: FrameRefusals,
    pub(crate) batches_sent: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) frames_received: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) bytes_received: Counter,
    /// `None` unless the node has an admin address.
    pub(crate) batch_frames: Option<Histogram>,
    /// `None` unless the node has an admin address.
    pub(crate) request_seconds: Option<RouteTimes>,
    /// `None` unless the node has an admin address.
    pub(crate) round_trip_seconds: Option<Histogram>,
}

impl LinkMetrics {
    pub(crate) fn new(node: &Handles) -> Self {
        let recorded = |name| node.is_recorded().then(|| node.histogram(name));
        Self {
            forwarded: node.counter(CLUSTER_FORWARDED),
            up: node.gauge(CLUSTER_LINKS),
            broken: node.counter(CLUSTER_LINKS_BROKEN),
            frames_refused: FrameRefusals::new(|reason| {
                node.counter_with(CLUSTER_FRAMES_REFUSED, &[("reason", reason)])
            }),
            batches_sent: node.counter(CLUSTER_BATCHES_SENT),
            frames_sent: node.counter(CLUSTER_FRAMES_SENT),
            frames_received: node.counter(CLUSTER_FRAMES_RECEIVED),
            bytes_sent: node.counter(CLUSTER_BYTES_SENT),
            bytes_received: node.counter(CLUSTER_BYTES_RECEIVED),
            batch_frames: recorded(CLUSTER_BATCH_FRAMES),
            request_seconds: node
                .is_recorded()
                .then(|| RouteTimes::new(CLUSTER_REQUEST_SECONDS, node)),
            round_trip_seconds: recorded(CLUSTER_ROUND_TRIP_SECONDS),
        }
    }

    /// Counts a frame that was dropped, by its error.
    pub(crate) fn frame_refused(&self, error: &Error) {
        self.frames_refused.count(error);
    }
}

/// The metrics of what a node does for users of the cluster.
#[derive(Debug)]
pub(crate) struct UserMetrics {
    pub(crate) looked_up: Counter,
    pub(crate) cached: Counter,
    pub(crate) locations: Gauge,
    pub(crate) push_frames: Counter,
    pub(crate) missed: Counter,
    pub(crate) granted: Counter,
    pub(crate) replaced: Counter,
    pub(crate) late: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
}

impl UserMetrics {
    pub(crate) fn new(node: &Handles) -> Self {
        let login = |outcome| node.counter_with(LOGINS, &[("outcome", outcome)]);
        Self {
            looked_up: node.counter(USERS_LOOKED_UP),
            cached: node.counter(USERS_CACHED),
            locations: node.gauge(USER_LOCATIONS),
            push_frames: node.counter(USER_PUSHES),
            missed: node.counter(USERS_MISSED),
            granted: login("granted"),
            replaced: login("replaced"),
            late: login("late"),
            refused: login("refused"),
            failed: login("failed"),
        }
    }
}

/// The metrics of channels.
#[derive(Debug)]
pub(crate) struct ChannelMetrics {
    pub(crate) channels: Gauge,
    pub(crate) members: Gauge,
    pub(crate) publications: Counter,
    pub(crate) dropped_late: Counter,
    pub(crate) dropped_by_link: Counter,
    pub(crate) refused: Counter,
    pub(crate) recovered: Counter,
    pub(crate) lost: Counter,
}

impl ChannelMetrics {
    pub(crate) fn new(node: &Handles) -> Self {
        let dropped = |reason| node.counter_with(CHANNEL_DROPPED, &[("reason", reason)]);
        let recoveries = |outcome| node.counter_with(CHANNEL_RECOVERIES, &[("outcome", outcome)]);
        Self {
            channels: node.gauge(CHANNELS),
            members: node.gauge(CHANNEL_MEMBERS),
            publications: node.counter(CHANNEL_PUBLICATIONS),
            dropped_late: dropped("late"),
            dropped_by_link: dropped("link"),
            refused: node.counter(CHANNEL_REFUSED),
            recovered: recoveries("recovered"),
            lost: recoveries("lost"),
        }
    }
}
