//! The options of a node in a cluster, and their validation.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tonic::transport::Server;
use tracing::warn;

use super::{
    address, admission::ConnectionLimits, data_plane::Options, grpc_channel::ConfigureEndpoint,
    membership::election::MAX_MASTERS, tls_options::ClusterTls,
};
use crate::{
    error::{Error, Result, code},
    member::{Member, OnMember},
    net::address::HostPort,
};

pub(crate) type ConfigureServer = Box<dyn FnOnce(Server) -> Server + Send + Sync>;

/// A node's role in a cluster, as the application chose it. A node that neither is the master nor
/// names one is standalone.
#[derive(Default)]
pub(crate) struct Settings {
    /// The address to listen on for other nodes.
    pub(crate) listen: Option<String>,
    /// The address other nodes dial, where it is not `listen`.
    pub(crate) advertise: Option<String>,
    pub(crate) master: bool,
    /// The addresses the master may have, in the order they are tried; of a master, the others.
    pub(crate) masters: Vec<String>,
    /// Whether a node that is no master was given other masters.
    pub(crate) misplaced_masters: bool,
    pub(crate) retry_interval: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) label: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<ClusterTls>,
    pub(crate) connections: ConnectionLimits,
    pub(crate) authentication_timeout: Option<Duration>,
    pub(crate) on_joined: Vec<OnMember>,
    pub(crate) on_left: Vec<OnMember>,
    pub(crate) on_unregister: Option<OnMember>,
    pub(crate) data: Options,
    pub(crate) configure_endpoint: Option<ConfigureEndpoint>,
    pub(crate) configure_server: Option<ConfigureServer>,
}

impl Settings {
    /// Whether this node is part of a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.master || !self.masters.is_empty()
    }

    /// Validates the combination of options, and gives every address its canonical form.
    ///
    /// # Errors
    /// Names the invalid option.
    pub(crate) fn check(&mut self) -> Result {
        let fail = |message: &str| Err(invalid(message.to_owned()));
        if !self.is_cluster() {
            return match self.listen.is_some() || self.advertise.is_some() {
                true => fail("cluster.join: no master address"),
                false => Ok(()),
            };
        }
        if self.misplaced_masters {
            return fail("cluster.masters is for masters: other nodes name them in cluster.join");
        }
        self.check_addresses()?;
        if self.data.link_idle_timeout.is_some_and(|it| it.is_zero()) {
            return fail("cluster.link_idle_timeout must not be zero");
        }
        if self.retry_interval.is_some_and(|it| it.is_zero()) {
            return fail("cluster.retry_interval must not be zero");
        }
        if self.heartbeat.is_some_and(|it| it.is_zero()) {
            return fail("cluster.heartbeat must not be zero");
        }
        let ConnectionLimits {
            total,
            per_address,
            unauthenticated,
        } = self.connections;
        for (option, limit) in [
            ("max_connections", total),
            ("max_connections_per_address", per_address),
            ("max_unauthenticated_connections", unauthenticated),
        ] {
            if limit == 0 {
                return fail(&format!("cluster.{option} must not be zero"));
            }
        }
        Ok(())
    }

    fn check_addresses(&mut self) -> Result {
        let Some(listen) = &mut self.listen else {
            return Err(invalid(
                "cluster.listen is missing: the address to listen on for other nodes".to_owned(),
            ));
        };
        let mut own = canonical("cluster.listen", listen)?;
        let mut option = "cluster.advertise is missing";
        if let Some(advertise) = &mut self.advertise {
            option = "cluster.advertise";
            own = canonical(option, advertise)?;
            if own.port == 0 {
                return Err(invalid(format!(
                    "cluster.advertise needs the port other nodes dial, not {own}"
                )));
            }
        }
        if let Some(why) = address::undialable(&own.host) {
            return Err(invalid(format!("{option}: {why}: {own}")));
        }
        let option = match self.master {
            true => "cluster.masters",
            false => "cluster.join",
        };
        let mut masters: Vec<String> = Vec::new();
        for mut address in std::mem::take(&mut self.masters) {
            let master = canonical(option, &mut address)?;
            if master.port == 0 {
                return Err(invalid(format!(
                    "{option} needs the port of the master, not {master}"
                )));
            }
            if master == own && !self.master {
                return Err(invalid(format!(
                    "cluster.join names this node's own address, not the master's: {own}"
                )));
            }
            if masters.contains(&address) {
                warn!(master = address, "{option} names a master twice");
            } else if master != own {
                masters.push(address);
            }
        }
        self.masters = masters;
        self.check_masters(&own)
    }

    /// Checks the others of several masters.
    fn check_masters(&self, own: &HostPort) -> Result {
        let count = self.masters.len() + 1;
        if !self.master || count == 1 {
            return Ok(());
        }
        if own.port == 0 {
            return Err(invalid(
                "cluster.masters: the others need to know this node's port, which must not be 0"
                    .to_owned(),
            ));
        }
        if count > MAX_MASTERS {
            return Err(invalid(format!(
                "cluster.masters: at most {MAX_MASTERS} masters, not {count}"
            )));
        }
        if count.is_multiple_of(2) {
            warn!(
                masters = count,
                "an even number of masters: one fewer survives as many failures"
            );
        }
        Ok(())
    }

    /// Warns when other members are on other machines, which cannot dial a loopback address.
    pub(crate) fn warn_of_loopback(&mut self, advertised: &str) {
        const WARNING: &str = "other machines cannot dial the advertised address, it is loopback: set cluster.advertise";
        for master in &self.masters {
            if !address::is_loopback(master) {
                warn!(advertised, master, "{WARNING}");
            }
        }
        let (advertised, warned) = (advertised.to_owned(), AtomicBool::new(false));
        self.on_joined.push(Arc::new(move |member: &Member| {
            let is_remote = !address::is_loopback(member.address());
            if is_remote && !warned.swap(true, Ordering::Relaxed) {
                warn!(advertised, member = member.address(), "{WARNING}");
            }
        }));
    }
}

/// Parses the address of an option and writes it in its canonical form.
fn canonical(option: &str, address: &mut String) -> Result<HostPort> {
    let parsed: HostPort = address
        .parse()
        .map_err(|error| invalid(format!("{option}: {error}")))?;
    *address = parsed.to_string();
    Ok(parsed)
}

fn invalid(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}
