//! In place of the cluster's TLS where the feature `tls` is off.

use tonic::{
    Extensions,
    transport::{Endpoint, Error as TransportError, Server},
};

use super::tls_options::ClusterTls;
use crate::error::{Error, Result, code};

/// Never made.
pub(super) enum ServerTlsConfig {}

/// Never made.
pub(super) enum ClientTlsConfig {}

/// # Errors
/// Always: [`code::UNSUPPORTED`].
pub(super) fn read(tls: &ClusterTls) -> Result<(ServerTlsConfig, ClientTlsConfig)> {
    Err(Error::new(
        code::UNSUPPORTED,
        format!("{tls:?} needs the feature `tls`, which this program was built without"),
    ))
}

pub(super) fn secure_server(
    server: Server,
    tls: Option<ServerTlsConfig>,
) -> Result<Server, TransportError> {
    match tls {
        None => Ok(server),
        Some(tls) => match tls {},
    }
}

pub(super) fn secure_endpoint(
    endpoint: Endpoint,
    tls: Option<&ClientTlsConfig>,
) -> Result<Endpoint, TransportError> {
    match tls {
        None => Ok(endpoint),
        Some(tls) => match *tls {},
    }
}

pub(super) fn connect_info<T>(_: &Extensions) -> Option<&T> {
    None
}
