//! The servers that a user would pick instead of ours or Go nano's. They take part only if they are
//! named; each is built from its folder in `peers`, and runs with the brokers and registries it needs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use nano::{Error, Result, code};

use super::{
    go, npm,
    peer::Peer,
    running::{Running, free_address},
    scenario::{Topology, Transport},
};

/// The module with the brokers, and the package of each.
const BROKERS: &str = "brokers";
const NATS: &str = "github.com/nats-io/nats-server/v2";
const ETCD: &str = "go.etcd.io/etcd/server/v3";

/// The routes of the scenarios in which these servers take part.
const ROUTES: [&str; 3] = ["Echo.Echo", "Grp.Join", "Grp.Send"];

/// The optional servers that were named.
pub(crate) struct Field {
    servers: BTreeMap<Peer, std::result::Result<Programs, String>>,
    /// Where etcd keeps its data while it runs.
    etcd_data: PathBuf,
}

struct Programs {
    /// The server; of pomelo, its folder.
    server: PathBuf,
    nats: Option<PathBuf>,
    etcd: Option<PathBuf>,
}

impl Field {
    pub(crate) fn prepare(named: &[Peer], out: &Path) -> Result<Self> {
        let named = named.iter().filter(|peer| peer.is_optional());
        Ok(Self {
            servers: named.map(|&peer| (peer, programs(peer, out))).collect(),
            etcd_data: std::path::absolute(out.join("etcd-data"))?,
        })
    }

    pub(crate) fn has(&self, peer: Peer) -> bool {
        matches!(self.servers.get(&peer), Some(Ok(_)))
    }

    /// Those that cannot take part, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (Peer, &str)> {
        self.servers
            .iter()
            .filter_map(|(&peer, programs)| Some((peer, programs.as_ref().err()?.as_str())))
    }

    /// Starts all processes of a server, those that it only needs included.
    pub(crate) fn start(
        &self,
        running: &mut Running,
        peer: Peer,
        topology: Topology,
        transport: Transport,
    ) -> Result {
        let Some(Ok(programs)) = self.servers.get(&peer) else {
            return Err(Error::new(code::UNAVAILABLE, "it was not built"));
        };
        if peer == Peer::Pomelo {
            return start_pomelo(running, &programs.server, topology, transport);
        }
        let server = |role: &str, join: &[String]| {
            let mut command = Command::new(&programs.server);
            command.args(["-role", role]).args(join);
            command
        };
        let clients = |role: &str, join: &[String]| {
            let mut command = server(role, join);
            command.args(["-listen", "127.0.0.1:0"]);
            if transport.is_ws() {
                command.arg("-ws");
            }
            command
        };
        let Topology::Cluster { gates } = topology else {
            return running.listen(clients("standalone", &[]), transport);
        };
        let mut join = Vec::new();
        if peer == Peer::Cherry {
            // It has all nodes in its configuration.
            join.extend(["-gates".to_owned(), gates.to_string()]);
        }
        if let Some(nats) = &programs.nats {
            join.extend(["-nats".to_owned(), start_nats(running, nats)?]);
        }
        if let Some(etcd) = &programs.etcd {
            join.extend(["-etcd".to_owned(), self.start_etcd(running, etcd)?]);
        }
        running.spawn(server("backend", &join), Some("ready"))?;
        for number in 0..gates {
            let mut gate = clients("gate", &join);
            if peer == Peer::Cherry {
                gate.args(["-number", &number.to_string()]);
            }
            if peer == Peer::Due {
                let address = running.spawn(gate, Some("listening on "))?;
                running.urls.push(format!("due://{address}"));
            } else {
                running.listen(gate, transport)?;
            }
        }
        Ok(())
    }

    fn start_etcd(&self, running: &mut Running, program: &Path) -> Result<String> {
        match fs::remove_dir_all(&self.etcd_data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let (clients, members) = (free_address()?, free_address()?);
        let (client_url, member_url) = (format!("http://{clients}"), format!("http://{members}"));
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&self.etcd_data);
        command.args(["--listen-client-urls", &client_url]);
        command.args(["--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &member_url]);
        command.args(["--initial-advertise-peer-urls", &member_url]);
        command.args(["--initial-cluster", &format!("default={member_url}")]);
        command.args(["--log-level", "error"]);
        running.spawn(command, None)?;
        running.await_listener(&clients)?;
        Ok(clients)
    }
}

/// Starts a master too, which every server of pomelo needs.
fn start_pomelo(
    running: &mut Running,
    folder: &Path,
    topology: Topology,
    transport: Transport,
) -> Result {
    let master = free_address()?;
    let port = master.rsplit(':').next().unwrap_or_default();
    let server = |role: &str, id: &str| {
        let mut command = Command::new("node");
        command.args(["app.js", role, port, id]).current_dir(folder);
        command
    };
    running.spawn(server("master", "master"), Some("ready"))?;
    let Topology::Cluster { gates } = topology else {
        return running.listen(server("standalone", "gate"), transport);
    };
    running.spawn(server("backend", "game"), Some("ready"))?;
    for number in 0..gates {
        running.listen(server("gate", &format!("gate-{number}")), transport)?;
    }
    Ok(())
}

fn start_nats(running: &mut Running, program: &Path) -> Result<String> {
    let address = free_address()?;
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
    let mut command = Command::new(program);
    command.args(["--addr", host, "--port", port]);
    running.spawn(command, None)?;
    running.await_listener(&address)?;
    Ok(address)
}

fn programs(peer: Peer, out: &Path) -> std::result::Result<Programs, String> {
    let (server, nats, etcd) = match peer {
        Peer::Pomelo => {
            return Ok(Programs {
                server: npm::install("pomelo")?,
                nats: None,
                etcd: None,
            });
        }
        Peer::Pitaya => ("pitaya", true, true),
        Peer::Cherry => ("cherry", true, false),
        Peer::Due => ("due", false, true),
        _ => return Err("it is not optional".to_owned()),
    };
    let broker =
        |needed: bool, package| needed.then(|| go::build(BROKERS, package, out)).transpose();
    Ok(Programs {
        server: go::build(server, ".", out)?,
        nats: broker(nats, NATS)?,
        etcd: broker(etcd, ETCD)?,
    })
}

/// What the load must know of a server.
pub(crate) fn load_flags(peer: Peer, topology: Topology) -> Vec<String> {
    let standalone = topology == Topology::Standalone;
    // The kind of the server that has it is the first part of a route; pitaya needs none for its own.
    let kind = match peer {
        Peer::Pitaya | Peer::Cherry | Peer::Pomelo if !standalone => "game",
        Peer::Cherry | Peer::Pomelo => "gate",
        // Its routes are numbers.
        Peer::Due => return vec!["--alias".to_owned(), "Echo.Echo=1".to_owned()],
        _ => return Vec::new(),
    };
    let alias =
        |ours: &str, theirs: &str| ["--alias".to_owned(), format!("{ours}={kind}.{theirs}")];
    let mut flags: Vec<_> = ROUTES
        .into_iter()
        .flat_map(|route| alias(route, route))
        .collect();
    if peer == Peer::Pomelo {
        // Its bodies are JSON.
        flags.push("--json-body".to_owned());
        flags.extend(alias("PB.Echo", "Echo.Echo"));
    }
    flags
}

/// The versions of the optional servers that take part, and of what they need.
pub(crate) fn versions(named: &[Peer]) -> Vec<(String, String)> {
    const CHERRY: &str = include_str!("../../peers/cherry/go.mod");
    const DUE: &str = include_str!("../../peers/due/go.mod");
    const PITAYA: &str = include_str!("../../peers/pitaya/go.mod");
    const POMELO: &str = include_str!("../../peers/pomelo/package.json");
    const NEEDED: &str = include_str!("../../peers/brokers/go.mod");

    let mut versions = Vec::new();
    let mut add = |name: &str, version: Option<&str>| {
        let found = (name.to_owned(), version.unwrap_or("unknown").to_owned());
        if !versions.contains(&found) {
            versions.push(found);
        }
    };
    for peer in named {
        match peer {
            Peer::Pitaya => {
                let module = "github.com/topfreegames/pitaya/v3";
                add("pitaya", go::required(PITAYA, module));
                add("NATS", go::required(NEEDED, NATS));
                add("etcd", go::required(NEEDED, ETCD));
            }
            Peer::Cherry => {
                let module = "github.com/cherry-game/cherry";
                add("cherry", go::required(CHERRY, module));
                add("NATS", go::required(NEEDED, NATS));
            }
            Peer::Due => {
                add("due", go::required(DUE, "github.com/dobyte/due/v2"));
                add("etcd", go::required(NEEDED, ETCD));
            }
            Peer::Pomelo => {
                add("pomelo", npm::required(POMELO, "pomelo").as_deref());
                add("Node", npm::version().as_deref());
            }
            _ => {}
        }
    }
    versions
}
