//! What an application may choose about its cluster, and what becomes of it.

use std::{collections::BTreeMap, env, fmt, fs, path::PathBuf, sync::Arc, time::Duration};

use tonic::{
    metadata::MetadataValue,
    transport::{Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig},
};

use super::{
    channel::{ConfigureEndpoint, Credentials, Dialer},
    peers,
};
use crate::{
    error::{Error, Result, code},
    member::Member,
};

pub(super) type OnMember = Arc<dyn Fn(&Member) + Send + Sync>;
pub(super) type ConfigureServer = Box<dyn FnOnce(Server) -> Server + Send + Sync>;

/// The environment variable with the cluster token, for a node that names none.
const TOKEN_VARIABLE: &str = "NANO_CLUSTER_TOKEN";

/// A node's part in a cluster, as the application chose it. With neither role it stands alone.
#[derive(Default)]
pub(crate) struct Settings {
    /// The address to listen on for other nodes.
    pub(crate) listen: Option<String>,
    /// The address other nodes dial, where it is not `listen`.
    pub(crate) advertise: Option<String>,
    pub(crate) master: bool,
    /// The addresses of the master, in the order they are tried.
    pub(crate) masters: Vec<String>,
    pub(crate) retry_interval: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) label: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<ClusterTls>,
    pub(crate) on_joined: Vec<OnMember>,
    pub(crate) on_left: Vec<OnMember>,
    pub(crate) on_unregister: Option<OnMember>,
    pub(crate) data: peers::Options,
    pub(crate) configure_endpoint: Option<ConfigureEndpoint>,
    pub(crate) configure_server: Option<ConfigureServer>,
}

/// Encrypts what nodes say to each other, and lets nobody in without a certificate of the cluster's
/// own authority.
#[derive(Clone)]
pub struct ClusterTls {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
    server_name: Option<String>,
    mutual: bool,
}

impl ClusterTls {
    /// Mutual TLS from PEM files: this node's certificate chain, its private key, and the
    /// certificate of the authority that signs the nodes' certificates. Each node shows its own and
    /// checks the other's. The files are read when the node starts.
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

    /// The name every node's certificate is made out to. Unless set, it is the host in the node's
    /// service address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Asks callers for no certificate: they are encrypted, and it is the token that keeps
    /// strangers out.
    #[must_use]
    pub fn without_client_certificates(mut self) -> Self {
        self.mutual = false;
        self
    }

    fn read(&self) -> Result<(ServerTlsConfig, ClientTlsConfig)> {
        let read = |file: &PathBuf| {
            fs::read(file).map_err(|error| {
                Error::new(
                    code::BAD_REQUEST,
                    format!("cluster.tls: {}: {error}", file.display()),
                )
            })
        };
        let identity = Identity::from_pem(read(&self.certificate)?, read(&self.key)?);
        let authority = Certificate::from_pem(read(&self.authority)?);
        let mut server = ServerTlsConfig::new().identity(identity.clone());
        let mut client = ClientTlsConfig::new().ca_certificate(authority.clone());
        if self.mutual {
            server = server.client_ca_root(authority);
            client = client.identity(identity);
        }
        if let Some(name) = &self.server_name {
            client = client.domain_name(name);
        }
        Ok((server, client))
    }
}

impl Settings {
    /// Whether this node is part of a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.master || !self.masters.is_empty()
    }

    /// Validates the combination of options.
    ///
    /// # Errors
    /// Names the invalid option.
    pub(crate) fn check(&self) -> Result {
        let invalid = |message: &str| Err(Error::new(code::BAD_REQUEST, message.to_owned()));
        if !self.is_cluster() {
            return match self.listen.is_some() || self.advertise.is_some() {
                true => invalid("cluster.join: no master address"),
                false => Ok(()),
            };
        }
        let Some(listen) = &self.listen else {
            return invalid("cluster.listen is missing: the address to listen on for other nodes");
        };
        let advertised = self.advertise.as_ref().unwrap_or(listen);
        if self.masters.contains(advertised) {
            return invalid("cluster.join names this node's own address, not the master's");
        }
        if !is_host_and_port(listen) {
            return invalid("cluster.listen must be host:port");
        }
        if !is_host_and_port(advertised) {
            return invalid("cluster.advertise must be host:port, as other nodes reach this one");
        }
        if is_unspecified(advertised) {
            return invalid(
                "cluster.advertise is missing: other nodes cannot dial an unspecified address",
            );
        }
        if self.advertise.is_some() && advertised.ends_with(":0") {
            return invalid("cluster.advertise needs the port other nodes dial, not 0");
        }
        if self.retry_interval.is_some_and(|it| it.is_zero()) {
            return invalid("cluster.retry_interval must not be zero");
        }
        if self.heartbeat.is_some_and(|it| it.is_zero()) {
            return invalid("cluster.heartbeat must not be zero");
        }
        Ok(())
    }

    /// What keeps strangers out: the way to call others, and what callers must show.
    ///
    /// # Errors
    /// Names a file that cannot be read, an unusable token, or a master's address that is none.
    pub(super) fn security(&mut self) -> Result<(Dialer, Option<ServerTlsConfig>)> {
        let token = self.token.take().or_else(|| env::var(TOKEN_VARIABLE).ok());
        let credentials = Credentials(token.map(|token| header(&token)).transpose()?);
        let (server, client) = self.tls.as_ref().map(ClusterTls::read).transpose()?.unzip();
        let dialer = Dialer {
            credentials,
            tls: client,
            configure: self.configure_endpoint.take(),
        };
        for master in &self.masters {
            dialer.channel(master)?;
        }
        Ok((dialer, server))
    }
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether the address stands for every interface.
fn is_unspecified(address: &str) -> bool {
    ["0.0.0.0:", "[::]:"]
        .iter()
        .any(|any| address.starts_with(any))
}

/// The token as it travels.
fn header(token: &str) -> Result<MetadataValue<tonic::metadata::Ascii>> {
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

impl fmt::Debug for ClusterTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterTls")
            .field("certificate", &self.certificate)
            .field("mutual", &self.mutual)
            .finish_non_exhaustive()
    }
}
