//! TLS for servers: certificates and keys from PEM files.

use std::{path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::error::{Error, Result, code};

/// Builds an acceptor from a certificate chain and its private key, both PEM files.
///
/// # Errors
/// `BAD_REQUEST`, naming the file that is missing or invalid, or a key that does not match the
/// certificate.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let wrong = |file: &Path, error: String| {
        Error::new(
            code::BAD_REQUEST,
            format!("TLS: {}: {error}", file.display()),
        )
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, format!("no certificate: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong(key, format!("no private key: {error}")))?;
    // The provider is named, so that another one in the same program does not matter.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| {
            wrong(
                certificate,
                format!("unusable with the key {}: {error}", key.display()),
            )
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
