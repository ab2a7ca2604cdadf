//! TLS of the cluster's gRPC server and channels.

use std::{fs, path::Path};

use tonic::{
    Extensions,
    transport::{
        Certificate, Endpoint, Error as TransportError, Identity, Server, server::TlsConnectInfo,
    },
};

use super::tls_options::ClusterTls;
use crate::error::{Error, Result, code};

pub(super) use tonic::transport::{ClientTlsConfig, ServerTlsConfig};

/// Reads the files of the options.
///
/// # Errors
/// Names the file that cannot be read.
pub(super) fn read(tls: &ClusterTls) -> Result<(ServerTlsConfig, ClientTlsConfig)> {
    let identity = Identity::from_pem(content(&tls.certificate)?, content(&tls.key)?);
    let authority = Certificate::from_pem(content(&tls.authority)?);
    let mut server = ServerTlsConfig::new().identity(identity.clone());
    let mut client = ClientTlsConfig::new().ca_certificate(authority.clone());
    if tls.mutual {
        server = server.client_ca_root(authority);
        client = client.identity(identity);
    }
    if let Some(name) = &tls.server_name {
        client = client.domain_name(name);
    }
    Ok((server, client))
}

fn content(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| {
        Error::new(
            code::BAD_REQUEST,
            format!("cluster.tls: {}: {error}", file.display()),
        )
    })
}

/// Lets a server take encrypted connections only, if there is TLS.
pub(super) fn secure_server(
    server: Server,
    tls: Option<ServerTlsConfig>,
) -> Result<Server, TransportError> {
    match tls {
        Some(tls) => server.tls_config(tls),
        None => Ok(server),
    }
}

/// Lets an endpoint connect encrypted, if there is TLS.
pub(super) fn secure_endpoint(
    endpoint: Endpoint,
    tls: Option<&ClientTlsConfig>,
) -> Result<Endpoint, TransportError> {
    match tls {
        Some(tls) => endpoint.tls_config(tls.clone()),
        None => Ok(endpoint),
    }
}

/// What the server knows of an encrypted connection.
pub(super) fn connect_info<T>(extensions: &Extensions) -> Option<&T>
where
    T: Clone + Send + Sync + 'static,
{
    Some(extensions.get::<TlsConnectInfo<T>>()?.get_ref())
}
