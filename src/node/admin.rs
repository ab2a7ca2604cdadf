//! The node's admin server, if it has one: the one place that knows of the feature.

use std::net::SocketAddr;
#[cfg(feature = "admin")]
use std::sync::Arc;

use super::config::NodeConfig;
#[cfg(feature = "admin")]
use crate::admin::{AdminNode, AdminServer, BoundAdmin, KnownMasters};
use crate::{
    cluster::{BoundCluster, NodeCaller, NodeServices},
    error::Result,
    gate::Gate,
    handle::Handle,
    metrics::Handles,
};

/// The bound address of the admin server; it does nothing without one.
#[derive(Default)]
pub(super) struct BoundAdminPart {
    #[cfg(feature = "admin")]
    bound: Option<BoundAdmin>,
    #[cfg(feature = "admin")]
    masters: KnownMasters,
    #[cfg(feature = "admin")]
    version: String,
}

/// A handle to the admin server; it does nothing without one.
#[derive(Clone, Default)]
pub(super) struct AdminPart {
    #[cfg(feature = "admin")]
    server: Option<Arc<AdminServer>>,
}

#[cfg(feature = "admin")]
impl BoundAdminPart {
    /// Takes the address of the options.
    ///
    /// # Errors
    /// It cannot be listened on, or the token is invalid.
    pub(super) async fn bind(config: &mut NodeConfig) -> Result<Self> {
        let Some(settings) = config.admin.take() else {
            return Ok(Self::default());
        };
        let cluster = &config.cluster;
        let masters = KnownMasters {
            is_master: cluster.master,
            others: cluster.masters.clone(),
        };
        Ok(Self {
            bound: Some(BoundAdmin::bind(settings).await?),
            masters,
            version: config.version.clone(),
        })
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.bound.as_ref().map(BoundAdmin::address)
    }

    /// The metrics of the node with this name.
    pub(super) fn handles(&self, name: &str) -> Handles {
        let registry = self.bound.as_ref().map(|bound| bound.registry().clone());
        Handles::new(name).with_registry(registry)
    }

    /// Where other members find the server; `own` is the address they call the node by.
    pub(super) fn advertised(&self, own: &str) -> Option<String> {
        let address = self.address()?;
        let host = match address.ip().is_unspecified() {
            true => own
                .rsplit_once(':')
                .map_or(own, |(host, _)| host)
                .to_owned(),
            false if address.is_ipv6() => format!("[{}]", address.ip()),
            false => address.ip().to_string(),
        };
        Some(format!("{host}:{}", address.port()))
    }

    /// Serves, also while the node still starts.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn serve(
        self,
        name: String,
        handle: Handle,
        listeners: Vec<SocketAddr>,
        gate: &Gate,
        cluster: Option<&BoundCluster>,
        (caller, services): (NodeCaller, &NodeServices),
    ) -> Result<AdminPart> {
        let Some(bound) = self.bound else {
            return Ok(AdminPart::default());
        };
        let node = AdminNode {
            handle,
            name,
            version: self.version,
            listeners,
            masters: self.masters,
            peers: cluster.map(BoundCluster::peer_table).unwrap_or_default(),
            caller,
            limits: gate.limits().clone(),
            timed_out: gate.timed_out().clone(),
        };
        let server = bound.serve(node, services)?;
        Ok(AdminPart {
            server: Some(Arc::new(server)),
        })
    }
}

#[cfg(feature = "admin")]
impl AdminPart {
    /// Stops the server, and waits until its address is free.
    pub(super) async fn stop(&self) {
        if let Some(server) = &self.server {
            server.stop().await;
        }
    }
}

#[cfg(not(feature = "admin"))]
impl BoundAdminPart {
    pub(super) async fn bind(_: &mut NodeConfig) -> Result<Self> {
        Ok(Self::default())
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        None
    }

    pub(super) fn handles(&self, name: &str) -> Handles {
        Handles::new(name)
    }

    pub(super) fn advertised(&self, _: &str) -> Option<String> {
        None
    }

    pub(super) fn serve(
        self,
        _: String,
        _: Handle,
        _: Vec<SocketAddr>,
        _: &Gate,
        _: Option<&BoundCluster>,
        _: (NodeCaller, &NodeServices),
    ) -> Result<AdminPart> {
        Ok(AdminPart::default())
    }
}

#[cfg(not(feature = "admin"))]
impl AdminPart {
    pub(super) async fn stop(&self) {}
}
