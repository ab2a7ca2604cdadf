//! The addresses of a node, bound before anything else of it exists.

use super::{admin::BoundAdminPart, config::NodeConfig};
use crate::{cluster::ClusterListener, error::Result, gate::BoundListeners};

/// Bound addresses that nothing can connect to yet, the admin server's apart, where connections
/// wait.
///
/// Binding comes first so that a wrong address fails early, and because one of them names the node.
pub(super) struct BoundAddresses {
    pub(super) listeners: BoundListeners,
    /// `None` for a standalone node.
    pub(super) cluster: Option<ClusterListener>,
    pub(super) admin: BoundAdminPart,
}

impl BoundAddresses {
    /// Binds the addresses of the options, and takes them. Runs on the I/O runtime.
    ///
    /// # Errors
    /// Names the address that cannot be listened on, or the option of a listener that is not valid.
    pub(super) async fn bind(config: &mut NodeConfig) -> Result<Self> {
        let listeners = std::mem::take(&mut config.listeners);
        Ok(Self {
            admin: BoundAdminPart::bind(config).await?,
            listeners: BoundListeners::bind(listeners).await?,
            cluster: match config.cluster.is_cluster() {
                true => Some(ClusterListener::bind(&config.cluster).await?),
                false => None,
            },
        })
    }

    /// The name of the node: the address by which other members call it, or clients do.
    pub(super) fn name(&self) -> String {
        match (&self.cluster, self.listeners.addresses().first()) {
            (Some(listener), _) => listener.address().to_owned(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "standalone".to_owned(),
        }
    }
}
