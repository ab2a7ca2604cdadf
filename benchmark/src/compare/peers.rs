//! The servers: how each is started.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use nano::{Error, Result, code};

use super::{
    field::{self, Field},
    go,
    peer::Peer,
    running::{Running, free_address},
    scenario::{Topology, Transport},
};

/// What is needed to start them.
pub(crate) struct Peers {
    own: PathBuf,
    go: std::result::Result<PathBuf, String>,
    field: Field,
    certificate: PathBuf,
    key: PathBuf,
    /// What the servers write to their standard error.
    log: PathBuf,
}

impl Peers {
    /// Builds what has to be built, of the optional ones those that are named, and makes a
    /// certificate.
    pub(crate) fn prepare(out: &Path, named: &[Peer]) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (out.join("certificate.pem"), out.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let log = out.join("servers.log");
        fs::write(&log, "")?;
        Ok(Self {
            own: env::current_exe()?,
            go: go::build("nano-go", ".", out),
            field: Field::prepare(named, out)?,
            certificate: fs::canonicalize(certificate)?,
            key: fs::canonicalize(key)?,
            log,
        })
    }

    pub(crate) fn has(&self, peer: Peer) -> bool {
        match peer {
            Peer::Go => self.go.is_ok(),
            _ => !peer.is_optional() || self.field.has(peer),
        }
    }

    /// Those that cannot take part, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (Peer, &str)> {
        let go = self.go.as_ref().err().map(|why| (Peer::Go, &**why));
        go.into_iter().chain(self.field.missing())
    }

    /// The load that this peer gets.
    pub(crate) fn load(&self, peer: Peer, topology: Topology) -> Command {
        let mut command = Command::new(&self.own);
        command.arg("load").args(field::load_flags(peer, topology));
        command
    }

    pub(crate) fn start(
        &self,
        peer: Peer,
        topology: Topology,
        transport: Transport,
    ) -> Result<Running> {
        let log = File::options().append(true).open(&self.log)?;
        let mut running = Running::new(log);
        match (peer, topology) {
            (Peer::Nano, Topology::Standalone) => {
                self.node(&mut running, "standalone", &[], Some(transport))?
            }
            (Peer::Go, Topology::Standalone) => {
                self.go_node(&mut running, "standalone", None, Some(transport))?
            }
            (Peer::Nano, Topology::Cluster { gates }) => {
                let master = running.spawn(
                    self.server(&["nano", "--role", "master"]),
                    Some("serving nodes at "),
                )?;
                let join = ["--master", &*master];
                running.spawn(
                    self.server(&[&["nano", "--role", "backend"][..], &join].concat()),
                    Some("serving nodes at "),
                )?;
                for _ in 0..gates {
                    self.node(&mut running, "gate", &join, Some(transport))?;
                }
            }
            (Peer::Go, Topology::Cluster { gates }) => {
                let master = free_address()?;
                self.go_node(&mut running, "master", Some((&master, "")), None)?;
                self.go_node(
                    &mut running,
                    "backend",
                    Some((&free_address()?, &master)),
                    None,
                )?;
                for _ in 0..gates {
                    self.go_node(
                        &mut running,
                        "gate",
                        Some((&free_address()?, &master)),
                        Some(transport),
                    )?;
                }
            }
            (Peer::Pitaya | Peer::Cherry | Peer::Pomelo | Peer::Due, _) => {
                self.field.start(&mut running, peer, topology, transport)?
            }
            (Peer::Bare, _) => running.listen(self.server(&["bare"]), transport)?,
            (Peer::Hop, _) => running.listen(self.server(&["hop"]), transport)?,
            (Peer::Strand, _) => {
                running.listen(self.server(&["hop", "--on-workers"]), transport)?
            }
            (Peer::Stream, _) => {
                let backend =
                    running.spawn(self.server(&["stream-backend"]), Some("listening on "))?;
                running.listen(
                    self.server(&["stream-gate", "--backend", &backend]),
                    transport,
                )?;
            }
        }
        Ok(running)
    }

    fn server(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.own);
        command.arg("servers").args(flags);
        command
    }

    fn node(
        &self,
        running: &mut Running,
        role: &str,
        join: &[&str],
        transport: Option<Transport>,
    ) -> Result {
        let mut command = self.server(&["nano", "--role", role]);
        command.args(join);
        let transport = transport.unwrap_or(Transport::Tcp);
        if transport.is_ws() {
            command.args(["--ws", "/nano"]);
        }
        if transport.is_tls() {
            command.arg("--tls").arg(&self.certificate).arg(&self.key);
        }
        running.listen(command, transport)
    }

    fn go_node(
        &self,
        running: &mut Running,
        role: &str,
        cluster: Option<(&str, &str)>,
        transport: Option<Transport>,
    ) -> Result {
        let program = self
            .go
            .as_ref()
            .map_err(|why| Error::new(code::UNAVAILABLE, why.clone()))?;
        let mut command = Command::new(program);
        command.args(["-role", role]);
        let mut awaited = None;
        if let Some((serve, master)) = cluster {
            command.args(["-serve", serve, "-master", master]);
            awaited = Some(serve.to_owned());
        }
        if let Some(transport) = transport {
            let listen = free_address()?;
            command.args(["-listen", &listen]);
            if transport.is_ws() {
                command.args(["-ws", "/nano"]);
            }
            if transport.is_tls() {
                command
                    .arg("-cert")
                    .arg(&self.certificate)
                    .arg("-key")
                    .arg(&self.key);
            }
            running.urls.push(transport.url(&listen));
            awaited = Some(listen);
        }
        running.spawn(command, None)?;
        awaited.map_or(Ok(()), |address| running.await_listener(&address))
    }
}
