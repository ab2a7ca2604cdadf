//! The node's admin server, if it has one: the one place that knows of the feature.

use std::{net::SocketAddr, sync::Arc};

use super::config::NodeConfig;
#[cfg(feature = "admin")]
use crate::admin::AdminServer;
use crate::{cluster::PeerRouter, error::Result, handle::Handle, metrics::Handles};

/// A handle to the admin server; it does nothing without one.
#[derive(Clone, Default)]
pub(super) struct AdminPart {
    #[cfg(feature = "admin")]
    server: Option<Arc<AdminServer>>,
}

#[cfg(feature = "admin")]
impl AdminPart {
    /// Starts the server of the options.
    ///
    /// # Errors
    /// Its address cannot be listened on, or its token is invalid.
    pub(super) async fn start(config: &mut NodeConfig, handle: &Handle) -> Result<Self> {
        let Some(settings) = config.admin.take() else {
            return Ok(Self::default());
        };
        let cluster = &config.cluster;
        let masters = match cluster.master {
            true => None,
            false => Some(cluster.masters.clone()),
        };
        let server = AdminServer::start(settings, handle.clone(), masters).await?;
        handle.set_admin_address(server.address());
        Ok(Self {
            server: Some(Arc::new(server)),
        })
    }

    /// The metrics of the node with this name.
    pub(super) fn handles(&self, name: &str) -> Handles {
        let state = self.server.as_ref().map(|server| server.state());
        if let Some(state) = state {
            state.set_name(name);
        }
        let registry = state.map(|state| state.registry());
        Handles::new(name).with_registry(registry)
    }

    /// Where other members find the server; `own` is the address they call the node by.
    pub(super) fn advertised(&self, own: &str) -> Option<String> {
        let address = self.server.as_ref()?.address();
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

    pub(super) fn set_peers(&self, peers: &Arc<PeerRouter>) {
        if let Some(server) = &self.server {
            server.state().set_peers(peers);
        }
    }

    pub(super) fn set_listeners(&self, addresses: &[SocketAddr]) {
        if let Some(server) = &self.server {
            server.state().set_listeners(addresses);
        }
    }

    /// Stops the server, and waits until its address is free.
    pub(super) async fn stop(&self) {
        if let Some(server) = &self.server {
            server.stop().await;
        }
    }
}

#[cfg(not(feature = "admin"))]
impl AdminPart {
    pub(super) async fn start(_: &mut NodeConfig, _: &Handle) -> Result<Self> {
        Ok(Self::default())
    }

    pub(super) fn handles(&self, name: &str) -> Handles {
        Handles::new(name)
    }

    pub(super) fn advertised(&self, _: &str) -> Option<String> {
        None
    }

    pub(super) fn set_peers(&self, _: &Arc<PeerRouter>) {}

    pub(super) fn set_listeners(&self, _: &[SocketAddr]) {}

    pub(super) async fn stop(&self) {}
}
