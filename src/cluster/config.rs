//! The options of a node in a cluster, and their validation.

use std::{collections::BTreeMap, time::Duration};

use tonic::transport::Server;

use super::{
    admission::ConnectionLimits, auth::ClusterTls, channel::ConfigureEndpoint, routing::router,
};
use crate::{
    error::{Error, Result, code},
    member::OnMember,
};

pub(crate) type ConfigureServer = Box<dyn FnOnce(Server) -> Server + Send + Sync>;

/// A node's role in a cluster, as the application chose it. A node that neither is the master nor
/// names one is standalone.
#[derive(Default)]
pub(crate) struct Settings {
    /// The address to listen on for other nodes.
    pub(crate) listen: Option<String>,
    /// The address other nodes dial, where it is not `listen`.
    pub(crate) advertise: Option<String>,
    pub(crate) master: bool,
    /// The addresses the master may have, in the order they are tried.
    pub(crate) masters: Vec<String>,
    pub(crate) retry_interval: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) label: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<ClusterTls>,
    pub(crate) connections: ConnectionLimits,
    pub(crate) authentication_timeout: Option<Duration>,
    pub(crate) on_joined: Vec<OnMember>,
    pub(crate) on_left: Vec<OnMember>,
    pub(crate) on_unregister: Option<OnMember>,
    pub(crate) data: router::Options,
    pub(crate) configure_endpoint: Option<ConfigureEndpoint>,
    pub(crate) configure_server: Option<ConfigureServer>,
}

impl Settings {
    /// Whether this node is part of a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.master || !self.masters.is_empty()
    }

    /// Validates the combination of options.
    ///
    /// # Errors
    /// Names the invalid option.
    pub(crate) fn check(&self) -> Result {
        let invalid = |message: &str| Err(Error::new(code::BAD_REQUEST, message.to_owned()));
        if !self.is_cluster() {
            return match self.listen.is_some() || self.advertise.is_some() {
                true => invalid("cluster.join: no master address"),
                false => Ok(()),
            };
        }
        let Some(listen) = &self.listen else {
            return invalid("cluster.listen is missing: the address to listen on for other nodes");
        };
        let advertised = self.advertise.as_ref().unwrap_or(listen);
        if self.masters.contains(advertised) {
            return invalid("cluster.join names this node's own address, not the master's");
        }
        if !is_host_and_port(listen) {
            return invalid("cluster.listen must be host:port");
        }
        if !is_host_and_port(advertised) {
            return invalid("cluster.advertise must be host:port, as other nodes reach this one");
        }
        if is_unspecified(advertised) {
            return invalid(
                "cluster.advertise is missing: other nodes cannot dial an unspecified address",
            );
        }
        if self.advertise.is_some() && advertised.ends_with(":0") {
            return invalid("cluster.advertise needs the port other nodes dial, not 0");
        }
        if self.retry_interval.is_some_and(|it| it.is_zero()) {
            return invalid("cluster.retry_interval must not be zero");
        }
        if self.heartbeat.is_some_and(|it| it.is_zero()) {
            return invalid("cluster.heartbeat must not be zero");
        }
        let ConnectionLimits {
            total,
            per_address,
            unauthenticated,
        } = self.connections;
        for (option, limit) in [
            ("max_connections", total),
            ("max_connections_per_address", per_address),
            ("max_unauthenticated_connections", unauthenticated),
        ] {
            if limit == 0 {
                return invalid(&format!("cluster.{option} must not be zero"));
            }
        }
        Ok(())
    }
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether the address stands for every interface.
fn is_unspecified(address: &str) -> bool {
    ["0.0.0.0:", "[::]:"]
        .iter()
        .any(|any| address.starts_with(any))
}
