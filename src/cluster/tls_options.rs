//! The TLS options of a cluster.

use std::{fmt, path::PathBuf};

/// TLS between the nodes of a cluster: encryption, and certificates of the cluster's own authority.
///
/// ```
/// use nano::{Cluster, ClusterTls};
///
/// let cluster = Cluster::join(["master.example:34567"])
///     .listen("0.0.0.0:34570")
///     .advertise("rooms-1.example:34570")
///     .tls(ClusterTls::new("node.pem", "node.key", "ca.pem").server_name("nano"));
/// # let _ = cluster;
/// ```
#[derive(Clone)]
pub struct ClusterTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authority: PathBuf,
    pub(super) server_name: Option<String>,
    pub(super) mutual: bool,
}

impl ClusterTls {
    /// Mutual TLS from PEM files: this node's certificate chain, its private key, and the
    /// certificate of the authority that signs the nodes' certificates.
    ///
    /// Each node presents its own certificate and verifies the other's. The files are read when
    /// the node starts, and by a [reload](crate::Handle::reload): connections that are made from then on
    /// use the new ones, and open ones stay.
    pub fn new(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authority: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            authority: authority.into(),
            server_name: None,
            mutual: true,
        }
    }

    /// Sets the name that every node's certificate is issued for. Default: the host in the node's
    /// address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Does not ask callers for a certificate: the connection is encrypted, and only the cluster
    /// token tells members from other nodes.
    #[must_use]
    pub fn without_client_certificates(mut self) -> Self {
        self.mutual = false;
        self
    }
}

impl fmt::Debug for ClusterTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterTls")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("authority", &self.authority)
            .field("server_name", &self.server_name)
            .field("mutual", &self.mutual)
            .finish()
    }
}
