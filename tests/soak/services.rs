//! Nodes of `deploy/config` in processes of their own, and a load balancer that looks at their probes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{self, within};

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

/// A node of `deploy/config` that gets work by its probe.
pub(crate) struct Service {
    process: support::Service,
    /// Where clients connect, if it is a gate.
    pub(crate) clients: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Service {
    /// Started, and ready by its probe. A master is the one at this place in the list of all.
    pub(crate) async fn start(role: Role, masters: &[String]) -> Self {
        let join = ("NANO_CLUSTER_JOIN", &*masters.join(","));
        let all = match masters.len() {
            1 => String::new(),
            _ => masters.join(","),
        };
        let (role, services, mut variables) = match role {
            Role::Master(at) => {
                let listen = ("NANO_CLUSTER_LISTEN", &*masters[at]);
                let variables = vec![listen, ("NANO_CLUSTER_MASTERS", &all)];
                ("master", &["--services", ""][..], variables)
            }
            Role::Gate => ("gate", &["--services", ""][..], vec![join]),
            Role::Backend => ("backend", &[][..], vec![join]),
        };
        variables.extend([
            ("NANO_CLUSTER_HEARTBEAT", "1s"),
            ("NANO_CLUSTER_RETRY_INTERVAL", "250ms"),
            ("NANO_LIMITS_RATE_LIMIT", "off"),
            // Long enough for the load balancer to see the probe.
            ("NANO_TIMEOUTS_SHUTDOWN_DELAY", "500ms"),
            // Players stay, so a backend would drain for as long as it may.
            ("NANO_TIMEOUTS_DRAIN", "2s"),
        ]);
        let process = support::Service::start(role, services, &variables).await;
        let service = Self {
            clients: process.clients(),
            admin: process.operators(),
            process,
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
        let begun = Instant::now();
        self.process.terminate().await;
        let ended = timeout(Duration::from_secs(60), self.process.ended()).await;
        assert!(ended.expect("the node drains").success());
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
