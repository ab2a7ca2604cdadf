//! Nodes of `deploy/config` in processes of their own, and a load balancer that looks at their probes.

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{program, within};

/// Between two probes of a node.
const PROBE: Duration = Duration::from_millis(100);

/// What a node does.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// One of the masters, by its place in their list.
    Master(usize),
    Gate,
    Backend,
}

/// A node of `deploy/config`, as a process.
pub(crate) struct Service {
    process: Child,
    /// Where clients connect, if it is a gate.
    pub(crate) clients: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Service {
    /// Started, and ready by its probe. A master is the one at this place in the list of all.
    pub(crate) async fn start(role: Role, masters: &[String]) -> Self {
        let (role, services, variables) = match role {
            Role::Master(at) => {
                let all = match masters.len() {
                    1 => String::new(),
                    _ => masters.join(","),
                };
                let listen = masters[at].clone();
                let variables = [
                    ("NANO_CLUSTER_LISTEN", listen),
                    ("NANO_CLUSTER_MASTERS", all),
                ];
                ("master", &["--services", ""][..], variables.to_vec())
            }
            Role::Gate => {
                let variables = [
                    ("NANO_CLUSTER_JOIN", masters.join(",")),
                    ("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0".to_owned()),
                ];
                ("gate", &["--services", ""][..], variables.to_vec())
            }
            Role::Backend => {
                let join = ("NANO_CLUSTER_JOIN", masters.join(","));
                ("backend", &[][..], vec![join])
            }
        };
        let config =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/config/{role}.toml"));
        let mut command = Command::new(program());
        command.arg("--config").arg(config).args(services).envs([
            ("NANO_ADMIN_ADDRESS", "127.0.0.1:0"),
            ("NANO_CLUSTER_HEARTBEAT", "1s"),
            ("NANO_CLUSTER_LISTEN", "127.0.0.1:0"),
            ("NANO_CLUSTER_RETRY_INTERVAL", "250ms"),
            ("NANO_CLUSTER_TOKEN", "swordfish"),
            ("NANO_LIMITS_RATE_LIMIT", "off"),
            // Long enough for the load balancer to see the probe.
            ("NANO_TIMEOUTS_SHUTDOWN_DELAY", "500ms"),
            // Players stay, so a backend would drain for as long as it may.
            ("NANO_TIMEOUTS_DRAIN", "2s"),
        ]);
        command.envs(variables);
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let (mut clients, mut admin) = (None, None);
        while admin.is_none() {
            let line = within("the service's address", output.next_line()).await;
            let line = line.unwrap().expect("the service runs");
            let address = |before: &str| Some(line.strip_prefix(before)?.parse().unwrap());
            clients = clients.or(address("listening on "));
            admin = address("serving operators at ");
        }
        let service = Self {
            process,
            clients,
            admin: admin.unwrap(),
        };
        within("a ready node", async {
            while !is_ready(service.admin).await {
                sleep(PROBE).await;
            }
        })
        .await;
        service
    }

    /// Sends SIGTERM, and waits until it has drained and ended. Says how long that took.
    pub(crate) async fn stop(mut self) -> Duration {
        let (id, begun) = (self.process.id().unwrap(), Instant::now());
        let mut kill = Command::new("kill");
        let sent = kill.args(["-TERM", &id.to_string()]).status().await;
        assert!(sent.unwrap().success());
        let ended = timeout(Duration::from_secs(60), self.process.wait()).await;
        assert!(ended.expect("the node drains").unwrap().success());
        begun.elapsed()
    }
}

/// What the probe of a load balancer says.
async fn is_ready(admin: SocketAddr) -> bool {
    let probe = async {
        let mut node = TcpStream::connect(admin).await.ok()?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        node.write_all(request).await.ok()?;
        let mut status = [0; 12];
        node.read_exact(&mut status).await.ok()?;
        Some(status == *b"HTTP/1.1 200")
    };
    timeout(Duration::from_secs(1), probe).await == Ok(Some(true))
}

/// Sends new connections to gates whose probe said that they are ready, in turn.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    /// Each gate, and whether it was ready.
    gates: Arc<Mutex<Vec<(SocketAddr, SocketAddr, bool)>>>,
    _tasks: JoinSet<()>,
}

impl Balancer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gates = Arc::new(Mutex::new(Vec::<(SocketAddr, SocketAddr, bool)>::new()));
        let mut tasks = JoinSet::new();
        let probed = gates.clone();
        tasks.spawn(async move {
            loop {
                let all = probed.lock().clone();
                for (clients, admin, _) in all {
                    let ready = is_ready(admin).await;
                    let mut gates = probed.lock();
                    gates
                        .iter_mut()
                        .filter(|gate| gate.0 == clients)
                        .for_each(|gate| gate.2 = ready);
                }
                sleep(PROBE).await;
            }
        });
        let balanced = gates.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for next in 0.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let ready: Vec<_> = {
                    let gates = balanced.lock();
                    let ready = gates.iter().filter(|gate| gate.2);
                    ready.map(|gate| gate.0).collect()
                };
                let Some(gate) = ready.get(next % ready.len().max(1)).copied() else {
                    continue;
                };
                connections.spawn(async move {
                    if let Ok(mut gate) = TcpStream::connect(gate).await {
                        let _ = copy_bidirectional(&mut client, &mut gate).await;
                    }
                });
            }
        });
        Self {
            address,
            gates,
            _tasks: tasks,
        }
    }

    pub(crate) fn add(&self, gate: &Service) {
        let clients = gate.clients.unwrap();
        self.gates.lock().push((clients, gate.admin, true));
    }

    pub(crate) fn remove(&self, gate: SocketAddr) {
        self.gates.lock().retain(|(clients, ..)| *clients != gate);
    }
}
