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

/// All options. A node without any of the first three is on its own.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) service_addr: Option<String>,
    pub(crate) master: bool,
    /// The addresses of the master, in the order they are tried.
    pub(crate) masters: Vec<String>,
    pub(crate) service_listen: Option<String>,
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
                    format!("cluster_tls: {}: {error}", file.display()),
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
    /// Whether this node is one of several.
    pub(crate) fn is_cluster(&self) -> bool {
        self.service_addr.is_some() || self.master || !self.masters.is_empty()
    }

    /// # Errors
    /// Names the option that cannot be.
    pub(crate) fn check(&self) -> Result {
        let wrong = |message: &str| Err(Error::new(code::BAD_REQUEST, message.to_owned()));
        match &self.service_addr {
            None if self.is_cluster() => {
                wrong("service_addr is missing: the address at which other nodes reach this one")
            }
            None => Ok(()),
            Some(_) if self.master && !self.masters.is_empty() => {
                wrong("advertise_addr: a master joins nobody")
            }
            Some(_) if !self.master && self.masters.is_empty() => {
                wrong("advertise_addr is missing: the address of the master; or master(), to be it")
            }
            Some(address) if self.masters.contains(address) => {
                wrong("advertise_addr is the master's address, not this node's")
            }
            Some(address)
                if address
                    .rsplit_once(':')
                    .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) =>
            {
                wrong("service_addr must be host:port, as other nodes reach this one")
            }
            Some(address)
                if ["0.0.0.0:", "[::]:"]
                    .iter()
                    .any(|any| address.starts_with(any)) =>
            {
                wrong(
                    "service_addr is what other nodes call, which cannot be every address; see service_listen",
                )
            }
            Some(address) if self.service_listen.is_some() && address.ends_with(":0") => wrong(
                "service_addr needs the port others call, if service_listen says where to listen",
            ),
            _ if self
                .retry_interval
                .is_some_and(|interval| interval.is_zero()) =>
            {
                wrong("retry_interval must not be zero")
            }
            _ if self.heartbeat.is_some_and(|interval| interval.is_zero()) => {
                wrong("cluster_heartbeat must not be zero")
            }
            Some(_) => Ok(()),
        }
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

/// The token as it travels.
fn header(token: &str) -> Result<MetadataValue<tonic::metadata::Ascii>> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(
            code::BAD_REQUEST,
            "cluster_token must be of visible ASCII characters, and at least one",
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
