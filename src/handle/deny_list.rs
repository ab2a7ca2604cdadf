//! Networks whose clients are refused.

use std::{fmt, net::IpAddr, sync::Arc};

use parking_lot::RwLock;

use crate::{
    net::network::{Network, NetworkSet},
    session::{CloseReason, Sessions},
};

/// The networks of a node whose clients are refused, live: changes hold from the next connection on,
/// and end the sessions of clients that are there.
///
/// Connections are refused when they are accepted, before TLS and before a session; behind a trusted
/// proxy, as soon as the client's address is known. Sessions end with
/// [`CloseReason::Denied`]. Other nodes are not concerned: each gate has a list of its own.
///
/// Clones are handles to the same list. No method blocks.
///
/// ```
/// use nano::{Handle, Network, Result};
///
/// fn ban(node: &Handle, network: &str) -> Result {
///     let network: Network = network.parse()?;
///     node.deny_list().add([network]);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct DenyList {
    pub(super) denied: Arc<Denied>,
    pub(super) sessions: Arc<Sessions>,
}

/// What the list holds. Read for each connection; a set is never changed, only replaced. No lock is
/// taken while it is held.
#[derive(Debug, Default)]
pub(super) struct Denied(RwLock<NetworkSet>);

impl Denied {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.0.read().contains(ip)
    }
}

impl DenyList {
    /// Replaces the list.
    pub fn set(&self, networks: impl IntoIterator<Item = Network>) {
        let set = networks.into_iter().collect();
        *self.denied.0.write() = set;
        self.end_sessions();
    }

    /// Adds networks.
    pub fn add(&self, networks: impl IntoIterator<Item = Network>) {
        let networks: Vec<_> = networks.into_iter().collect();
        {
            let mut set = self.denied.0.write();
            *set = set.networks().iter().copied().chain(networks).collect();
        }
        self.end_sessions();
    }

    /// Removes networks that were added as such: removing an address from a network that contains it
    /// changes nothing.
    pub fn remove(&self, networks: impl IntoIterator<Item = Network>) {
        let networks: Vec<_> = networks.into_iter().collect();
        let mut set = self.denied.0.write();
        let left = set.networks().iter().copied();
        *set = left.filter(|it| !networks.contains(it)).collect();
    }

    /// The networks in the list, sorted.
    pub fn networks(&self) -> Vec<Network> {
        self.denied.0.read().networks().to_vec()
    }

    /// Whether clients of this address are refused.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.denied.contains(ip)
    }

    /// Ends the sessions of denied clients. One that opens meanwhile looks at the list itself, after
    /// it is in the table.
    fn end_sessions(&self) {
        for session in self.sessions.list_local() {
            let remote = session.remote_addr();
            if remote.is_some_and(|remote| self.contains(remote.ip())) {
                session.sink().close(CloseReason::Denied);
            }
        }
    }
}

impl fmt::Debug for DenyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DenyList").field(&self.networks()).finish()
    }
}
