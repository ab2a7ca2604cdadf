//! What the admin server knows of its node.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{
    access::Access,
    busiest::Busiest,
    load::{Load, LoadMeter},
    timeouts::Timeouts,
    warnings::WarningLog,
};
use crate::{
    cluster::{NodeCaller, PeerReport, PeerTable},
    error::Result,
    gate::{LiveLimits, TimedOut},
    handle::Handle,
    log_limit::LogLimit,
    metrics::registry::Registry,
};

/// Changes the log filter of the program.
pub(crate) type ChangeLogFilter = Arc<dyn Fn(&str) -> Result + Send + Sync>;

/// Returns the log filter of the program.
pub(crate) type ReadLogFilter = Arc<dyn Fn() -> String + Send + Sync>;

/// What the program offers of its log filter.
#[derive(Clone, Default)]
pub(crate) struct LogFilter {
    pub(crate) change: Option<ChangeLogFilter>,
    pub(crate) read: Option<ReadLogFilter>,
}

impl LogFilter {
    /// The filter in force, if the program tells it.
    pub(super) fn current(&self) -> Option<String> {
        self.read.as_ref().map(|read| read())
    }
}

/// The options of an admin server.
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) token: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) log_filter: LogFilter,
    pub(crate) warnings: Option<WarningLog>,
}

impl Settings {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            token: None,
            hosts: Vec::new(),
            log_filter: LogFilter::default(),
            warnings: None,
        }
    }
}

/// The node that an admin server shows.
pub(crate) struct AdminNode {
    pub(crate) handle: Handle,
    /// The label of its metrics.
    pub(crate) name: String,
    /// The version of the application; empty for none.
    pub(crate) version: String,
    /// The addresses for clients.
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) masters: KnownMasters,
    pub(crate) peers: Arc<PeerTable>,
    pub(crate) caller: NodeCaller,
    /// The limits of clients.
    pub(crate) limits: Arc<LiveLimits>,
    /// The routes of requests that have timed out lately.
    pub(crate) timed_out: Arc<TimedOut>,
}

/// The node, as the admin server sees it. Nothing in it waits but for other members.
pub(super) struct AdminState {
    pub(super) handle: Handle,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) masters: KnownMasters,
    pub(super) access: Access,
    /// For requests with a wrong token.
    pub(super) refused_log: LogLimit,
    pub(super) started: Instant,
    pub(super) log_filter: LogFilter,
    pub(super) warnings: Option<WarningLog>,
    pub(super) busiest: Busiest,
    pub(super) timeouts: Timeouts,
    load: LoadMeter,
    pub(super) caller: NodeCaller,
    pub(super) limits: Arc<LiveLimits>,
    pub(super) timed_out: Arc<TimedOut>,
    /// What members said last, and when. Held while they are asked.
    pub(super) last_round: Mutex<Option<(Instant, Value)>>,
    pub(super) registry: Arc<Registry>,
    listeners: Vec<SocketAddr>,
    peers: Arc<PeerTable>,
}

/// The masters of the node's cluster, as its options name them.
#[derive(Debug, Default)]
pub(crate) struct KnownMasters {
    /// Whether this node is one.
    pub(crate) is_master: bool,
    /// The others.
    pub(crate) others: Vec<String>,
}

impl AdminState {
    pub(super) fn new(
        node: AdminNode,
        access: Access,
        registry: Arc<Registry>,
        log_filter: LogFilter,
        warnings: Option<WarningLog>,
    ) -> Self {
        Self {
            handle: node.handle,
            name: node.name,
            version: node.version,
            masters: node.masters,
            access,
            refused_log: LogLimit::default(),
            started: Instant::now(),
            log_filter,
            warnings,
            busiest: Busiest::default(),
            timeouts: Timeouts::default(),
            load: LoadMeter::default(),
            caller: node.caller,
            limits: node.limits,
            timed_out: node.timed_out,
            last_round: Mutex::default(),
            registry,
            listeners: node.listeners,
            peers: node.peers,
        }
    }

    /// How busy the node is.
    pub(super) fn load(&self) -> Load {
        self.load.read(&self.handle, &self.registry)
    }

    /// The addresses that clients can connect to now.
    pub(super) fn listeners(&self) -> &[SocketAddr] {
        match self.handle.missing().contains(&"listeners") {
            true => &[],
            false => &self.listeners,
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerReport> {
        self.peers.reports()
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
