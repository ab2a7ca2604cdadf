//! TLS from the client's side: whom to trust, and the TLS handshake.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nano_protocol::{Error, Result, code};
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

pub(crate) struct Config {
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Config {
    /// Loads the trusted certificates: those of the file, else the system's.
    ///
    /// # Errors
    /// Names the file that is missing or invalid, or the server name.
    pub(crate) async fn new(name: String, ca_file: Option<PathBuf>) -> Result<Self> {
        let name = ServerName::try_from(name.clone()).map_err(|error| {
            Error::new(code::BAD_REQUEST, format!("invalid server name {name:?}"))
                .with_source(error)
        })?;
        // Blocking, because some systems keep each of their certificates in a file of its own.
        let roots = spawn_blocking(|| match ca_file {
            Some(path) => roots_of_file(&path).map_err(|fault| {
                Error::new(
                    code::BAD_REQUEST,
                    format!("TLS: {}: {fault}", path.display()),
                )
            }),
            None => roots_of_system(),
        });
        // The provider is named, so another one in the same program does not conflict.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.await??)
            .with_no_client_auth();
        Ok(Self {
            name,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    pub(crate) async fn connect(self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name, tcp).await
    }
}

/// What is probably wrong with the address when TLS fails so.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match of_tls {
        // The connection was closed, perhaps with a reset, or the answer is none of TLS.
        None | Some(rustls::Error::InvalidMessage(_)) => {
            " (no TLS: is the address one of tcp:// or ws://?)"
        }
        Some(_) => "",
    }
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|der| roots.add(der).map_err(|error| error.to_string()));
        added.map_err(|error| format!("invalid certificate: {error}"))?;
    }
    if roots.is_empty() {
        Err("no certificate in it".to_owned())
    } else {
        Ok(roots)
    }
}

fn roots_of_system() -> Result<RootCertStore> {
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
