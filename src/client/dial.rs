//! From an address to something that carries packets.

use std::{error::Error as StdError, path::PathBuf, sync::Arc};

use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_tungstenite::client_async_with_config;

use super::{
    address::Address,
    transport::{BoxedIo, Transport, websocket_config},
};
use crate::error::{Error, Result, code};

pub(super) async fn dial(
    address: &Address,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    max_packet: usize,
) -> Result<Transport> {
    let Address {
        host,
        port,
        tls,
        websocket,
    } = address;
    let tcp = TcpStream::connect((&**host, *port))
        .await
        .map_err(|error| unreachable("cannot connect", address, error))?;
    tcp.set_nodelay(true)
        .map_err(|error| unreachable("cannot connect", address, error))?;

    let io: BoxedIo = if *tls {
        let name = server_name.as_ref().unwrap_or(host);
        let name = ServerName::try_from(name.clone()).map_err(|error| {
            Error::new(code::BAD_REQUEST, format!("invalid server name {name:?}"))
                .with_source(error)
        })?;
        let stream = connector(ca_file)
            .await?
            .connect(name, tcp)
            .await
            .map_err(|error| unreachable("TLS failed", address, error))?;
        Box::new(stream)
    } else {
        Box::new(tcp)
    };

    let Some(uri) = websocket else {
        return Ok(Transport::stream(io));
    };
    let (socket, _) = client_async_with_config(uri.clone(), io, Some(websocket_config(max_packet)))
        .await
        .map_err(|error| unreachable("the WebSocket upgrade failed", address, error))?;
    Ok(Transport::websocket(socket))
}

/// Trusts the certificates of a file, else the system's.
///
/// # Errors
/// Names the file that is missing or wrong, or says that the system trusts nobody.
async fn connector(ca_file: Option<PathBuf>) -> Result<TlsConnector> {
    // Some systems keep each of their hundred and more certificates in a file of its own.
    let roots = spawn_blocking(|| match ca_file {
        Some(path) => trusted_file(&path).map_err(|fault| {
            Error::new(
                code::BAD_REQUEST,
                format!("TLS: {}: {fault}", path.display()),
            )
        }),
        None => trusted_by_system(),
    });
    // The provider is named, so that another one in the same program does not matter.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.await??)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn trusted_file(path: &std::path::Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|der| roots.add(der).map_err(|error| error.to_string()));
        added.map_err(|error| format!("no certificate: {error}"))?;
    }
    if roots.is_empty() {
        Err("no certificate in it".to_owned())
    } else {
        Ok(roots)
    }
}

fn trusted_by_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::new(
            code::UNAVAILABLE,
            "TLS: the system has no trusted certificates; name a file of them with `ca_file`",
        ));
    }
    Ok(roots)
}

fn unreachable(
    what: &str,
    address: &Address,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    Error::new(
        code::UNAVAILABLE,
        format!("{what}: {}:{}: {error}", address.host, address.port),
    )
    .with_source(error)
}
