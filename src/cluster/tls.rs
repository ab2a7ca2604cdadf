//! TLS of the cluster's gRPC server and channels, whose files may be read again while the node runs.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio_rustls::rustls::{
    DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tonic::{
    Extensions,
    transport::{
        Certificate, ClientTlsConfig, Endpoint, Error as TransportError, Identity, Server,
        ServerTlsConfig, server::TlsConnectInfo,
    },
};
use tracing::info;

use super::tls_options::ClusterTls;
use crate::error::{Error, Result, code};

/// The TLS of a node in its cluster.
#[derive(Debug)]
pub(super) struct NodeTls {
    options: ClusterTls,
    /// Held for a copy or a swap; no other lock is taken while it is held.
    current: Arc<Mutex<Current>>,
}

/// What connections that are made now use.
#[derive(Debug, Clone)]
struct Current {
    server: ServerTlsConfig,
    client: ClientTlsConfig,
    verifier: Arc<WebPkiServerVerifier>,
    /// A hash of the files' contents.
    contents: u64,
}

impl NodeTls {
    /// Reads the files of the options. Blocks on the disk.
    ///
    /// # Errors
    /// Names the file that is missing or invalid, or a key that does not match the certificate.
    pub(super) fn read(options: &ClusterTls) -> Result<Arc<Self>> {
        let current = Contents::read(options)?.check(options)?;
        Ok(Arc::new(Self {
            options: options.clone(),
            current: Arc::new(Mutex::new(current)),
        }))
    }

    /// Reads the files again. Returns what takes them, for the connections that follow; `None` if they
    /// are as before. Blocks on the disk.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn read_again(&self) -> Result<Option<Box<dyn FnOnce() + Send>>> {
        let contents = Contents::read(&self.options)?;
        if contents.hash() == self.contents() {
            return Ok(None);
        }
        let new = contents.check(&self.options)?;
        let current = self.current.clone();
        let certificate = self.options.certificate.display().to_string();
        Ok(Some(Box::new(move || {
            *current.lock() = new;
            info!(certificate, "cluster certificates reloaded");
        })))
    }

    /// Identifies the contents of the files that are in use.
    pub(super) fn contents(&self) -> u64 {
        self.current.lock().contents
    }

    /// Lets a server take encrypted connections only.
    pub(super) fn secure_server(&self, server: Server) -> Result<Server, TransportError> {
        let config = self.current.lock().server.clone();
        server.tls_config(config)
    }

    /// Lets an endpoint connect encrypted. Each connection verifies the other node by the authority of
    /// its time; the endpoint shows the certificate of now.
    pub(super) fn secure_endpoint(&self, endpoint: Endpoint) -> Result<Endpoint, TransportError> {
        let config = self.current.lock().client.clone();
        let verifier = CurrentVerifier(self.current.clone());
        endpoint.tls_config_with_verifier(config, Arc::new(verifier))
    }
}

/// What the files hold.
#[derive(Hash)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

impl Contents {
    fn read(options: &ClusterTls) -> Result<Self> {
        let read = |file: &Path| fs::read(file).map_err(|error| wrong(file, &error));
        Ok(Self {
            certificate: read(&options.certificate)?,
            key: read(&options.key)?,
            authority: read(&options.authority)?,
        })
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }

    /// Makes of it what connections use.
    fn check(&self, options: &ClusterTls) -> Result<Current> {
        certificates(&options.certificate, &self.certificate)?;
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| wrong(&options.key, &error))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&options.authority, &self.authority)? {
            let added = roots.add(authority);
            added.map_err(|error| wrong(&options.authority, &error))?;
        }
        // The provider is named, so that another one in the same program does not matter.
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
        let verifier = verifier.map_err(|error| wrong(&options.authority, &error))?;

        let identity = Identity::from_pem(&self.certificate, &self.key);
        let mut server = ServerTlsConfig::new().identity(identity.clone());
        let mut client = ClientTlsConfig::new();
        if options.mutual {
            server = server.client_ca_root(Certificate::from_pem(&self.authority));
            client = client.identity(identity);
        }
        if let Some(name) = &options.server_name {
            client = client.domain_name(name);
        }
        // The key must match the certificate.
        let usable = Server::builder().tls_config(server.clone());
        usable.map_err(|error| {
            let key = options.key.display();
            let fault = format!("unusable with the key {key}: {error:?}");
            wrong(&options.certificate, &fault)
        })?;
        Ok(Current {
            server,
            client,
            verifier,
            contents: self.hash(),
        })
    }
}

/// Verifies other nodes by the authority that is in use when they connect: a channel may make many
/// connections, and outlive the authority of its first one.
#[derive(Debug)]
struct CurrentVerifier(Arc<Mutex<Current>>);

impl CurrentVerifier {
    fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        self.0.lock().verifier.clone()
    }
}

impl ServerCertVerifier for CurrentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verifier = self.verifier();
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let verifier = self.verifier();
        verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let verifier = self.verifier();
        verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(file, &error))?;
    match chain.is_empty() {
        true => Err(wrong(file, &"no certificate in it")),
        false => Ok(chain),
    }
}

fn wrong(file: &Path, fault: &dyn std::fmt::Display) -> Error {
    let text = format!("cluster.tls: {}: {fault}", file.display());
    Error::new(code::BAD_REQUEST, text)
}

/// What the server knows of an encrypted connection.
pub(super) fn connect_info<T>(extensions: &Extensions) -> Option<&T>
where
    T: Clone + Send + Sync + 'static,
{
    Some(extensions.get::<TlsConnectInfo<T>>()?.get_ref())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    /// Writes an authority's files for a node, and returns the node's certificate.
    fn write(options: &ClusterTls) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["nano.cluster".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(&options.authority, authority.pem()).unwrap();
        fs::write(&options.certificate, certificate.pem()).unwrap();
        fs::write(&options.key, key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    #[test]
    fn a_channel_of_before_verifies_by_the_authority_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key, authority] =
            ["node.pem", "key.pem", "ca.pem"].map(|file| folder.path().join(file));
        let options = ClusterTls::new(certificate, key, authority);
        let old = write(&options);
        let tls = NodeTls::read(&options).unwrap();
        let verifier = CurrentVerifier(tls.current.clone());
        let name = ServerName::try_from("nano.cluster").unwrap();
        let accepts = |shown: &CertificateDer<'_>| {
            let verified = verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now());
            verified.is_ok()
        };
        assert!(accepts(&old));
        assert!(tls.read_again().unwrap().is_none(), "the same files");

        let new = write(&options);
        let take = tls.read_again().unwrap().unwrap();
        assert!(accepts(&old) && !accepts(&new), "not taken yet");
        take();
        assert!(accepts(&new) && !accepts(&old));
    }
}
