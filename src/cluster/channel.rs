//! Channels to other nodes, with what this cluster asks of a caller.

use std::{fmt, sync::Arc, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::proto::{master_client::MasterClient, member_client::MemberClient};
use crate::error::{Error, Result, code};

/// How long any call of the control plane may take, and any connection to come up: below the time
/// after which a silent member is removed, so that one lost heartbeat is not the end.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) type ConfigureEndpoint = Arc<dyn Fn(Endpoint) -> Endpoint + Send + Sync>;

/// Opens channels to other nodes.
pub(crate) struct Dialer {
    pub(super) credentials: Credentials,
    pub(super) tls: Option<ClientTlsConfig>,
    pub(super) configure: Option<ConfigureEndpoint>,
}

/// Shows the cluster's token with every call.
#[derive(Clone, Default)]
pub(crate) struct Credentials(pub(super) Option<MetadataValue<Ascii>>);

/// A channel that shows the token.
pub(crate) type Authorized = InterceptedService<Channel, Credentials>;

impl Dialer {
    /// A channel to a node. It connects with its first call, and again with the next after the
    /// connection broke.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel> {
        self.endpoint(address)
            .map(|endpoint| endpoint.connect_lazy())
    }

    /// What a channel to a node is made of.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let wrong = |error: &dyn fmt::Display| {
            Error::new(
                code::BAD_REQUEST,
                format!("not the address of a node: {address}: {error}"),
            )
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| wrong(&error))?;
        let mut endpoint = endpoint.connect_timeout(CALL_TIMEOUT);
        if let Some(tls) = &self.tls {
            endpoint = endpoint
                .tls_config(tls.clone())
                .map_err(|error| wrong(&error))?;
        }
        Ok(self
            .configure
            .as_ref()
            .map_or(endpoint.clone(), |configure| configure(endpoint)))
    }

    pub(crate) fn master(&self, channel: Channel) -> MasterClient<Authorized> {
        MasterClient::with_interceptor(channel, self.credentials.clone())
    }

    pub(crate) fn member(&self, channel: Channel) -> MemberClient<Authorized> {
        MemberClient::with_interceptor(channel, self.credentials.clone())
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}
