//! TLS for servers: certificates and keys from PEM files, which may change while it runs.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{VerifierBuilderError, WebPkiClientVerifier},
    },
    server::TlsStream,
};

use crate::error::{Error, Result};

/// The certificate that a client showed, with the ones it sent to prove it: the client's own first.
///
/// Found in [`Session::extensions`](crate::Session::extensions), from the handshake hook on, for
/// clients of a listener that asks for certificates.
///
/// ```
/// use nano::{ClientCertificates, Session};
///
/// fn fingerprint_source(session: &Session) -> Option<Vec<u8>> {
///     let shown = session.extensions().get::<ClientCertificates>()?;
///     shown.chain().first().map(|certificate| certificate.to_vec())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates(Vec<CertificateDer<'static>>);

impl ClientCertificates {
    fn new(chain: &[CertificateDer<'_>]) -> Self {
        let owned = chain.iter().map(|it| it.clone().into_owned());
        Self(owned.collect())
    }

    /// The certificates in DER, the client's own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

/// The PEM files of a listener.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The authorities of the certificates that clients must show; `None` asks for none.
    pub(crate) client_authorities: Option<PathBuf>,
}

/// The TLS of one listener.
pub(crate) struct ServerTls {
    /// `None` if the application made the configuration.
    files: Option<TlsFiles>,
    /// Held for a read or a swap; no other lock is taken while it is held.
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// A hash of the files' contents.
    contents: u64,
}

/// A valid certificate that a listener may take.
pub(crate) struct NewCertificate(Current);

impl ServerTls {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Arc<Self> {
        Arc::new(Self {
            files: None,
            current: Mutex::new(Current {
                config,
                contents: 0,
            }),
        })
    }

    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// Names the file that is missing or invalid, or a key that does not match the certificate.
    pub(crate) fn from_files(files: TlsFiles) -> Result<Arc<Self>> {
        let contents = Contents::read(&files)?;
        let config = contents.config(&files)?;
        Ok(Arc::new(Self {
            current: Mutex::new(Current {
                config,
                contents: contents.hash(),
            }),
            files: Some(files),
        }))
    }

    /// Does the handshake of a connection. Returns what the client has shown, if it was asked.
    ///
    /// # Errors
    /// The handshake fails, or the connection breaks.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<ClientCertificates>)> {
        let acceptor = TlsAcceptor::from(self.current.lock().config.clone());
        let stream = acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let certificates = shown.map(ClientCertificates::new);
        Ok((stream, certificates))
    }

    /// Whether there are files to read again.
    pub(crate) fn has_files(&self) -> bool {
        self.files.is_some()
    }

    /// Reads the files again; `None` if they are as before. Blocks on the disk.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files).
    pub(crate) fn read_again(&self) -> Result<Option<NewCertificate>> {
        let Some(files) = &self.files else {
            return Ok(None);
        };
        let contents = Contents::read(files)?;
        let hash = contents.hash();
        if self.current.lock().contents == hash {
            return Ok(None);
        }
        let config = contents.config(files)?;
        Ok(Some(NewCertificate(Current {
            config,
            contents: hash,
        })))
    }

    /// Takes what was read again. Connections that are open keep what they have.
    pub(crate) fn replace(&self, NewCertificate(new): NewCertificate) {
        *self.current.lock() = new;
    }

    /// The certificate file, for logs.
    pub(crate) fn certificate(&self) -> Option<&Path> {
        self.files.as_ref().map(|files| &*files.certificate)
    }
}

/// What the files hold.
#[derive(Hash)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self> {
        let read = |file: &Path, what: &str| {
            fs::read(file).map_err(|error| wrong(file, &format!("no {what}: {error}")))
        };
        Ok(Self {
            certificate: read(&files.certificate, "certificate")?,
            key: read(&files.key, "private key")?,
            client_authorities: match &files.client_authorities {
                Some(file) => Some(read(file, "authorities of clients")?),
                None => None,
            },
        })
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }

    fn config(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| wrong(&files.key, &format!("no private key: {error}")))?;
        // The provider is named, so that another one in the same program does not matter.
        let provider = Arc::new(ring::default_provider());
        let unusable = |error: &dyn std::fmt::Display| {
            let key = files.key.display();
            wrong(
                &files.certificate,
                &format!("unusable with the key {key}: {error}"),
            )
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match (&files.client_authorities, &self.client_authorities) {
            (Some(file), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(file, pem)? {
                    roots
                        .add(authority)
                        .map_err(|error| wrong(file, &error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|error: VerifierBuilderError| wrong(file, &error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, private);
        Ok(Arc::new(config.map_err(|error| unusable(&error))?))
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(file, &format!("no certificate: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(file, "no certificate in it"));
    }
    Ok(chain)
}

fn wrong(file: &Path, fault: &str) -> Error {
    Error::bad_request(format!("TLS: {}: {fault}", file.display()))
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
