//! Who may call a node of the cluster: the shared token.

use std::{env, sync::Arc};

use subtle::ConstantTimeEq;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};
use tracing::warn;

use super::incoming::ConnectionInfo;
use crate::{
    error::{Error, Result, code},
    metrics::ClusterMetrics,
};

/// The environment variable that holds the cluster token of a node without one in its options.
const TOKEN_VARIABLE: &str = "NANO_CLUSTER_TOKEN";

/// The metadata key that carries the token.
const AUTHORIZATION: &str = "authorization";

/// The cluster's token, if it has one. As an interceptor it adds the token to every call.
#[derive(Clone, Default)]
pub(crate) struct Credentials(Option<MetadataValue<Ascii>>);

impl Credentials {
    /// Takes the token from the options, else from the environment.
    ///
    /// # Errors
    /// The token is empty, or not of visible ASCII characters.
    pub(crate) fn new(token: Option<String>) -> Result<Self> {
        let token = token.or_else(|| env::var(TOKEN_VARIABLE).ok());
        Ok(Self(token.map(|token| header(&token)).transpose()?))
    }

    /// Whether the cluster has a token.
    pub(crate) fn has_token(&self) -> bool {
        self.0.is_some()
    }
}

/// Formats the token as it travels.
fn header(token: &str) -> Result<MetadataValue<Ascii>> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(
            code::BAD_REQUEST,
            "cluster.token must be of visible ASCII characters, and at least one",
        ));
    }
    let mut value: MetadataValue<_> = format!("Bearer {token}").parse()?;
    value.set_sensitive(true);
    Ok(value)
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

/// Rejects calls that do not carry the cluster's token. Without a token it lets every call pass.
#[derive(Clone)]
pub(crate) struct AuthInterceptor {
    pub(crate) credentials: Credentials,
    pub(crate) metrics: Arc<ClusterMetrics>,
}

impl Interceptor for AuthInterceptor {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let connection = ConnectionInfo::of(request.extensions());
        let authenticated = || {
            if let Some(connection) = connection {
                connection.authenticate();
            }
        };
        let Some(token) = &self.credentials.0 else {
            authenticated();
            return Ok(request);
        };
        let shown = request
            .metadata()
            .get(AUTHORIZATION)
            .map(|value| value.as_encoded_bytes())
            .unwrap_or_default();
        // In constant time: how long it takes must not tell how much of the token was right.
        if bool::from(shown.ct_eq(token.as_encoded_bytes())) {
            authenticated();
            return Ok(request);
        }
        self.metrics.unauthenticated.increment(1);
        let reason = if shown.is_empty() {
            "no cluster token"
        } else {
            "a wrong cluster token"
        };
        // Once for each connection: a caller must not fill the log.
        if connection.is_none_or(ConnectionInfo::reject) {
            let peer = connection.map(ConnectionInfo::remote_addr);
            warn!(?peer, reason, "call rejected: unauthenticated");
        }
        Err(Status::unauthenticated(format!(
            "{reason}: this cluster requires one"
        )))
    }
}
