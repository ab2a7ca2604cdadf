//! Flat options, until all callers use the grouped ones.
#![allow(missing_docs)]

use std::{sync::Arc, time::Duration};

use tonic::transport::{Endpoint, Server};

use super::App;
use crate::{
    cluster::{Balance, ClusterTls},
    error::Result,
    member::Member,
    session::Session,
};

impl App {
    #[must_use]
    #[doc(hidden)]
    pub fn service_addr(mut self, address: impl Into<String>) -> Self {
        self.config.cluster.advertise = Some(address.into());
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn service_listen(mut self, address: impl Into<String>) -> Self {
        self.config.cluster.listen = Some(address.into());
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn master(mut self) -> Self {
        self.config.cluster.master = true;
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn advertise_addr(mut self, master: impl Into<String>) -> Self {
        self.config.cluster.masters.push(master.into());
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn balance(mut self, policy: Balance) -> Self {
        self.config.cluster.data.balance = policy;
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn remote_service_route(
        mut self,
        choose: impl Fn(&Session, &str, &[Member]) -> Result<Option<Member>> + Send + Sync + 'static,
    ) -> Self {
        self.config.cluster.data.route_fn = Some(Arc::new(choose));
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn trust_go_nodes(mut self) -> Self {
        self.config.cluster.data.trust_go = true;
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn cut_off_after(mut self, limit: Duration) -> Self {
        self.config.cluster.data.grace = limit;
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.config.cluster.retry_interval = Some(interval);
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn cluster_heartbeat(mut self, interval: Duration) -> Self {
        self.config.cluster.heartbeat = Some(interval);
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.config.cluster.label = label.into();
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config
            .cluster
            .metadata
            .insert(key.into(), value.into());
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn cluster_token(mut self, token: impl Into<String>) -> Self {
        self.config.cluster.token = Some(token.into());
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn cluster_tls(mut self, tls: ClusterTls) -> Self {
        self.config.cluster.tls = Some(tls);
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn on_member_joined(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.config.cluster.on_joined.push(Arc::new(callback));
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn on_member_left(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.config.cluster.on_left.push(Arc::new(callback));
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn on_unregister(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.config.cluster.on_unregister = Some(Arc::new(callback));
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn grpc_endpoint(
        mut self,
        configure: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> Self {
        self.config.cluster.configure_endpoint = Some(Arc::new(configure));
        self
    }

    #[must_use]
    #[doc(hidden)]
    pub fn grpc_server(
        mut self,
        configure: impl FnOnce(Server) -> Server + Send + Sync + 'static,
    ) -> Self {
        self.config.cluster.configure_server = Some(Box::new(configure));
        self
    }

    /// A service address without a listen address is both.
    pub(super) fn resolve_flat(&mut self) {
        let cluster = &mut self.config.cluster;
        if cluster.listen.is_none() {
            cluster.listen = cluster.advertise.take();
        }
    }
}
