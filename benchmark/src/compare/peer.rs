//! The servers: how each is started, and how it ends.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use nano::{Error, Result, code};
use serde::{Deserialize, Serialize};

use super::{
    go,
    scenario::{Topology, Transport},
};

const START_LIMIT: Duration = Duration::from_secs(10);

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    Nano,
    Go,
    Bare,
    Hop,
    Strand,
    Stream,
}

impl Peer {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Nano => "nano (Rust)",
            Self::Go => "Go nano",
            Self::Bare => "bare baseline",
            Self::Hop => "hop baseline",
            Self::Strand => "strand baseline",
            Self::Stream => "stream baseline",
        }
    }

    pub(crate) fn is_baseline(self) -> bool {
        matches!(self, Self::Bare | Self::Hop | Self::Strand | Self::Stream)
    }
}

/// What is needed to start them.
pub(crate) struct Peers {
    own: PathBuf,
    go: std::result::Result<PathBuf, String>,
    certificate: PathBuf,
    key: PathBuf,
    /// What the servers write to their standard error.
    log: PathBuf,
}

impl Peers {
    /// Builds what has to be built and makes a certificate.
    pub(crate) fn prepare(out: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (out.join("certificate.pem"), out.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let log = out.join("servers.log");
        fs::write(&log, "")?;
        Ok(Self {
            own: env::current_exe()?,
            go: go::build(out),
            certificate: fs::canonicalize(certificate)?,
            key: fs::canonicalize(key)?,
            log,
        })
    }

    pub(crate) fn has(&self, peer: Peer) -> bool {
        peer != Peer::Go || self.go.is_ok()
    }

    /// Those that cannot take part, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (Peer, &str)> {
        self.go
            .as_ref()
            .err()
            .map(|why| (Peer::Go, &**why))
            .into_iter()
    }

    pub(crate) fn load(&self) -> Command {
        let mut command = Command::new(&self.own);
        command.arg("load");
        command
    }

    pub(crate) fn start(
        &self,
        peer: Peer,
        topology: Topology,
        transport: Transport,
    ) -> Result<Running> {
        let log = File::options().append(true).open(&self.log)?;
        let mut running = Running {
            children: Vec::new(),
            urls: Vec::new(),
            log,
        };
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

/// Servers that run until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    children: Vec<Child>,
    pub(crate) urls: Vec<String>,
    log: File,
}

impl Running {
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(Child::id)
    }

    fn listen(&mut self, command: Command, transport: Transport) -> Result {
        let address = self.spawn(command, Some("listening on "))?;
        self.urls.push(transport.url(&address));
        Ok(())
    }

    /// Starts a process; with a prefix, returns the rest of the first line that it prints with it.
    fn spawn(&mut self, mut command: Command, prefix: Option<&str>) -> Result<String> {
        let stdout = if prefix.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(self.log.try_clone()?)
            .spawn()?;
        let said = child.stdout.take();
        self.children.push(child);
        let (Some(prefix), Some(said)) = (prefix, said) else {
            return Ok(String::new());
        };
        for line in BufReader::new(said).lines() {
            if let Some(rest) = line?.strip_prefix(prefix) {
                return Ok(rest.to_owned());
            }
        }
        Err(Error::new(
            code::UNAVAILABLE,
            "the server ended before it listened",
        ))
    }

    fn await_listener(&mut self, address: &str) -> Result {
        let limit = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            let ended = self
                .children
                .last_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > limit {
                return Err(Error::new(
                    code::UNAVAILABLE,
                    format!("no server listens at {address}"),
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for mut child in self.children.drain(..).rev() {
            // It has ended already, or ends now: either is what is wanted.
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }
}

/// An unused address, for servers that cannot report which one they were given.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
