//! What the admin server knows of its node.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use tokio::time::Instant;

use super::{access::Access, busiest::Busiest, warnings::WarningLog};
use crate::{
    cluster::{PeerReport, PeerRouter},
    error::Result,
    handle::Handle,
    metrics::registry::Registry,
};

/// Changes the log filter of the program.
pub(crate) type ChangeLogFilter = Arc<dyn Fn(&str) -> Result + Send + Sync>;

/// The options of an admin server.
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) token: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) log_filter: Option<ChangeLogFilter>,
    pub(crate) warnings: Option<WarningLog>,
}

impl Settings {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            token: None,
            hosts: Vec::new(),
            log_filter: None,
            warnings: None,
        }
    }
}

/// The node, as the admin server sees it. Nothing in it waits.
pub(crate) struct AdminState {
    pub(super) handle: Handle,
    pub(super) access: Access,
    pub(super) started: Instant,
    pub(super) log_filter: Option<ChangeLogFilter>,
    pub(super) warnings: Option<WarningLog>,
    /// The masters this node joins; `None` for a master, and for a standalone node.
    pub(super) masters: Option<Vec<String>>,
    pub(super) busiest: Busiest,
    registry: Arc<Registry>,
    /// The label of the node's metrics; set when its addresses are bound.
    name: OnceLock<String>,
    /// Set when clients can connect.
    listeners: OnceLock<Vec<SocketAddr>>,
    /// Set when the node has a data plane.
    peers: OnceLock<Weak<PeerRouter>>,
}

impl AdminState {
    pub(super) fn new(
        handle: Handle,
        access: Access,
        masters: Option<Vec<String>>,
        log_filter: Option<ChangeLogFilter>,
        warnings: Option<WarningLog>,
    ) -> Self {
        Self {
            handle,
            access,
            started: Instant::now(),
            log_filter,
            warnings,
            masters,
            busiest: Busiest::default(),
            registry: Arc::default(),
            name: OnceLock::new(),
            listeners: OnceLock::new(),
            peers: OnceLock::new(),
        }
    }

    pub(crate) fn set_name(&self, name: &str) {
        // A node starts once.
        let _ = self.name.set(name.to_owned());
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.get().map(String::as_str)
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    pub(crate) fn set_listeners(&self, addresses: &[SocketAddr]) {
        // A node starts once.
        let _ = self.listeners.set(addresses.to_vec());
    }

    pub(crate) fn set_peers(&self, peers: &Arc<PeerRouter>) {
        let _ = self.peers.set(Arc::downgrade(peers));
    }

    pub(super) fn listeners(&self) -> &[SocketAddr] {
        self.listeners.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn peers(&self) -> Vec<PeerReport> {
        let peers = self.peers.get().and_then(Weak::upgrade);
        peers.map(|peers| peers.reports()).unwrap_or_default()
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
