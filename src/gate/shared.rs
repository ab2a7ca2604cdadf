//! What all connections of a node share.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use super::{
    address_limit::AddressLimit,
    config::GateConfig,
    live_limits::LiveLimits,
    migration_state::Migrations,
    refused::{Refused, RefusedLog},
    resume::registry::Registry,
    timed_out::TimedOut,
    tunnel::client::TunnelClient,
};
use crate::{
    dispatch::Dispatch,
    handle::Handle,
    handshake::ReplyTemplate,
    log_limit::LogLimit,
    memory_budget::MemoryBudget,
    message::Dictionary,
    metrics::Metrics,
    net::wake_batch::WakeBatcher,
    resume::Grant,
    session::{CloseReason, Session},
};

pub(super) struct Shared {
    /// What the heartbeats of all connections are in phase with.
    pub(super) begun: Instant,
    pub(super) config: GateConfig,
    /// Read instead of the fields of `config` that they came from.
    pub(super) limits: Arc<LiveLimits>,
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) dictionary: Arc<Dictionary>,
    pub(super) handshake: ReplyTemplate,
    pub(super) metrics: Arc<Metrics>,
    pub(super) node: Handle,
    /// Open sockets, one [`ConnectionPermit`] each.
    pub(super) connections: AtomicUsize,
    /// Notified when a session has closed, and when a socket has.
    pub(super) closed: Notify,
    pub(super) wakes: Arc<WakeBatcher>,
    pub(super) address_limit: Arc<AddressLimit>,
    /// What is queued on the node.
    pub(super) memory: Arc<MemoryBudget>,
    /// For requests that time out.
    pub(super) timeout_log: LogLimit,
    pub(super) timed_out: Arc<TimedOut>,
    refused_log: RefusedLog,
    /// The sessions whose clients may return.
    pub(super) resumable: Registry,
    /// Those without a user whose clients are away, by their last address.
    pub(super) anonymous_away: Arc<AddressLimit>,
    /// To the other gates of the cluster, if the node is in one.
    pub(super) tunnels: Option<TunnelClient>,
    /// What moves between gates.
    pub(super) migrations: Arc<Migrations>,
}

impl Shared {
    pub(super) fn new(
        config: GateConfig,
        dispatch: Arc<Dispatch>,
        dictionary: Dictionary,
        metrics: Arc<Metrics>,
        node: Handle,
        tunnels: Option<TunnelClient>,
    ) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            handshake: ReplyTemplate::new(config.heartbeat, &dictionary),
            address_limit: AddressLimit::new(),
            limits: Arc::new(LiveLimits::new(&config)),
            memory: node.memory().clone(),
            config,
            dispatch,
            dictionary: Arc::new(dictionary),
            metrics,
            node,
            connections: AtomicUsize::new(0),
            closed: Notify::new(),
            wakes: WakeBatcher::new(),
            timeout_log: LogLimit::default(),
            timed_out: Arc::default(),
            refused_log: RefusedLog::default(),
            resumable: Registry::default(),
            anonymous_away: AddressLimit::new(),
            tunnels,
            migrations: Arc::default(),
        })
    }

    /// The body of the reply that accepts a handshake at this time, with user data unless it is
    /// null, for a session that can be resumed if there is a grant.
    pub(super) fn handshake_reply(&self, user: Option<&Value>, grant: Option<&Grant>) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs().cast_signed());
        let user = user.filter(|user| **user != Value::Null);
        match grant {
            Some(grant) => self.handshake.encode_resumable(seconds, user, grant),
            None => self.handshake.encode(seconds, user),
        }
    }

    /// Counts a client that is refused, and says so. `detail` is what its kind of cause leaves open.
    pub(super) fn refused(&self, cause: Refused, client: Option<SocketAddr>, detail: impl Display) {
        let metrics = &self.metrics;
        self.refused_log.refused(metrics, cause, client, detail);
    }

    /// Ends a session whose connection has ended.
    pub(super) fn session_closed(&self, session: &Session, reason: &CloseReason) {
        let sessions = self.node.sessions();
        // The end is not over before it is announced.
        let _hold = sessions.hold_end(session.id());
        sessions.close(session, reason, self.node.scheduler());
        // After the end of the session, so that a message to a member is either sent before this
        // or refused.
        self.dispatch.closed(session, reason);
        self.metrics.closed(reason.label());
        self.refused_log.closed(session, reason);
        self.closed.notify_waiters();
    }

    /// Ends the session of a connection whose client has returned to another one. No callback runs.
    pub(super) fn session_discarded(&self, session: &Session) {
        self.node.sessions().discard(session);
        self.metrics.closed("returned");
        self.closed.notify_waiters();
    }

    /// Ends a session that another gate has now. No callback runs.
    pub(super) fn session_moved(&self, session: &Session) {
        self.node.sessions().moved(session);
        self.metrics.closed("moved");
        self.closed.notify_waiters();
    }

    /// Counts one more connection, unless there are `limit`.
    fn count_connection(&self, limit: usize) -> bool {
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < limit).then_some(count + 1)
            })
            .is_ok()
    }

    /// Runs `work` until the node shuts down; for connections that have no session to close yet.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.node.lifecycle().shutdown_requested() => None,
        }
    }
}

/// A connection permit that is not used while its holder has no socket.
pub(super) struct Vacated(Arc<Shared>);

impl Vacated {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.metrics.connections.decrement(1.0);
        shared.connections.fetch_sub(1, Ordering::AcqRel);
        shared.closed.notify_waiters();
        Self(shared)
    }
}

impl Drop for Vacated {
    fn drop(&mut self) {
        // Given back by the permit, which is dropped next.
        self.0.metrics.connections.increment(1.0);
        self.0.connections.fetch_add(1, Ordering::AcqRel);
    }
}

/// The connections beyond the limit that wait for the handshake of a return.
const RETURNS: usize = 64;

/// One of the connections that a node may have, from accept to the end of the socket.
pub(super) struct ConnectionPermit {
    shared: Arc<Shared>,
    /// Whether the limit is reached, so that only a client that returns may have it: an earlier
    /// connection of that client ends.
    pub(super) must_return: bool,
}

impl ConnectionPermit {
    /// Takes a permit; `None` at the connection limit. A few more are for clients that return, if
    /// there are sessions to return to.
    pub(super) fn acquire(shared: &Arc<Shared>) -> Option<Self> {
        let limit = shared.limits.max_connections();
        let must_return = if shared.count_connection(limit) {
            false
        } else if !shared.resumable.is_empty()
            && shared.count_connection(limit.saturating_add(RETURNS))
        {
            true
        } else {
            return None;
        };
        shared.metrics.accepted.increment(1);
        shared.metrics.connections.increment(1.0);
        Some(Self {
            shared: shared.clone(),
            must_return,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.metrics.connections.decrement(1.0);
        shared.connections.fetch_sub(1, Ordering::AcqRel);
        shared.closed.notify_waiters();
    }
}
