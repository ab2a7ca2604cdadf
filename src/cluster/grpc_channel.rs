//! gRPC channels to other nodes, with the cluster's TLS and token.

use std::{fmt, sync::Arc, time::Duration};

use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use super::{
    address,
    auth::Credentials,
    masters::masters_client::MastersClient,
    proto::{master_client::MasterClient, member_client::MemberClient},
    tls::NodeTls,
};
use crate::error::{Error, Result, code};

/// How long a call of the control plane may take, and how long a connection may take to come up.
/// Below the eviction timeout, so that one lost heartbeat does not evict a member.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) type ConfigureEndpoint = Arc<dyn Fn(Endpoint) -> Endpoint + Send + Sync>;

/// Opens channels to other nodes.
pub(crate) struct Dialer {
    pub(crate) credentials: Credentials,
    pub(super) tls: Option<Arc<NodeTls>>,
    pub(crate) configure: Option<ConfigureEndpoint>,
}

/// A channel that sends the token with every call.
pub(crate) type Authorized = InterceptedService<Channel, Credentials>;

impl Dialer {
    /// Creates a channel to a node. It connects with its first call, and reconnects with the next
    /// call after the connection broke.
    ///
    /// It goes on to show the certificate of now after a reload, so whatever keeps a channel makes
    /// another one after a call that failed.
    ///
    /// # Errors
    /// `address` is not `host:port`.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel> {
        self.endpoint(address)
            .map(|endpoint| endpoint.connect_lazy())
    }

    /// Creates the endpoint of a node: its address, TLS, the connect timeout, and what the
    /// application configures.
    ///
    /// # Errors
    /// `address` is not `host:port`.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let invalid = |error: &dyn fmt::Display| {
            Error::new(
                code::BAD_REQUEST,
                format!("not the address of a node: {address}: {error}"),
            )
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", address::to_dial(address)))
            .map_err(|error| invalid(&error))?;
        let endpoint = endpoint.connect_timeout(CALL_TIMEOUT);
        let endpoint = match &self.tls {
            Some(tls) => tls
                .secure_endpoint(endpoint)
                .map_err(|error| invalid(&error))?,
            None => endpoint,
        };
        Ok(self
            .configure
            .as_ref()
            .map_or(endpoint.clone(), |configure| configure(endpoint)))
    }

    pub(crate) fn master(&self, channel: Channel) -> MasterClient<Authorized> {
        MasterClient::with_interceptor(channel, self.credentials.clone())
    }

    pub(crate) fn masters(&self, channel: Channel) -> MastersClient<Authorized> {
        MastersClient::with_interceptor(channel, self.credentials.clone())
    }

    pub(crate) fn member(&self, channel: Channel) -> MemberClient<Authorized> {
        MemberClient::with_interceptor(channel, self.credentials.clone())
    }
}
