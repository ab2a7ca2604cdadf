//! A cluster of processes is replaced node by node, as a platform does it: with readiness probes, SIGTERM
//! and the drain, behind a load balancer that looks at the probes.

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Raw,
    client::{Client, Event},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    cluster::{ALONE, answered, free_address},
    support::{eventually, program, within},
};

const CLIENTS: usize = 24;

/// Requests that each client keeps in flight.
const EACH: usize = 4;

/// Between two probes of a node.
const PROBE: Duration = Duration::from_millis(100);

/// A node of `deploy/config`, as a process.
struct Service {
    process: Child,
    clients: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Service {
    /// Started, and ready by its probe.
    async fn start(role: &str, services: &[&str], master: &str) -> Self {
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
        match role {
            "master" => command.env("NANO_CLUSTER_LISTEN", master),
            "gate" => command
                .env("NANO_CLUSTER_JOIN", master)
                .env("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0"),
            _ => command.env("NANO_CLUSTER_JOIN", master),
        };
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
    async fn stop(mut self) -> Duration {
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

/// The time since then, in milliseconds.
fn millis(begun: Instant) -> usize {
    begun.elapsed().as_millis() as usize
}

/// Sends new connections to gates whose probe said that they are ready, in turn.
struct Balancer {
    address: SocketAddr,
    /// Each gate, and whether it was ready.
    gates: Arc<Mutex<Vec<(SocketAddr, SocketAddr, bool)>>>,
    _tasks: JoinSet<()>,
}

impl Balancer {
    async fn start() -> Self {
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

    fn add(&self, gate: &Service) {
        let clients = gate.clients.unwrap();
        self.gates.lock().push((clients, gate.admin, true));
    }

    fn remove(&self, gate: SocketAddr) {
        self.gates.lock().retain(|(clients, ..)| *clients != gate);
    }
}

/// What all clients have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicUsize,
    resumed: AtomicUsize,
    slowest_ms: AtomicUsize,
    lost: Mutex<Vec<String>>,
}

/// One player: requests whose answers come behind a push with the same number.
async fn play(url: String, seen: Arc<Seen>) -> usize {
    let (events, pushes) = (seen.clone(), Arc::new(AtomicUsize::new(0)));
    let pushed = pushes.clone();
    let client = Client::builder()
        .typed::<Raw>()
        .resume(true)
        .request_timeout(None)
        .on_event(move |event| match event {
            Event::Resumed => drop(events.resumed.fetch_add(1, Relaxed)),
            Event::Lost(_) => events.lost.lock().push(format!("{event:?}")),
            _ => {}
        })
        .on("onA", move |_: Bytes| {
            pushed.fetch_add(1, Relaxed);
        })
        .connect(&url)
        .await
        .unwrap();
    let mut asking = JoinSet::new();
    for task in 0..EACH {
        let (client, seen) = (client.clone(), seen.clone());
        asking.spawn(async move {
            let mut asked = 0;
            while !seen.stop.load(Relaxed) {
                let (body, begun) = (format!("{task}.{asked}"), Instant::now());
                match client.request_raw("T.PushThenResp", body.clone()).await {
                    Ok(answer) => assert_eq!(answer, body, "its own answer"),
                    Err(error) => seen.lost.lock().push(format!("request: {error}")),
                }
                asked += 1;
                seen.answered.fetch_add(1, Relaxed);
                seen.slowest_ms.fetch_max(millis(begun), Relaxed);
                sleep(Duration::from_millis(5)).await;
            }
            asked
        });
    }
    let asked: usize = asking.join_all().await.into_iter().sum();
    eventually("as many pushes", || pushes.load(Relaxed) >= asked).await;
    assert_eq!(pushes.load(Relaxed), asked, "each push arrives once");
    client.close();
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn a_rolling_restart_of_all_processes_loses_no_request_and_no_client() {
    let _alone = ALONE.lock().await;
    let none = ["--services", ""];
    let address = free_address();
    let master = Service::start("master", &none, &address).await;
    let balancer = Balancer::start().await;
    let mut backends = Vec::new();
    let mut gates = Vec::new();
    for _ in 0..2 {
        backends.push(Service::start("backend", &[], &address).await);
        gates.push(Service::start("gate", &none, &address).await);
    }
    gates.iter().for_each(|gate| balancer.add(gate));
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    let url = format!("ws://{}/nano", balancer.address);
    for gate in &gates {
        let url = format!("ws://{}/nano", gate.clients.unwrap());
        let client = Client::builder().typed::<Raw>().connect(&url).await;
        let client = client.unwrap();
        answered(&client, "T.PushThenResp").await;
        client.close();
    }
    for _ in 0..CLIENTS {
        clients.spawn(play(url.clone(), seen.clone()));
    }
    let goes_on = async |what: &str| {
        let before = seen.answered.load(Relaxed);
        let answers = || seen.answered.load(Relaxed) >= before + 200;
        eventually("answers", answers).await;
        let lost = seen.lost.lock().clone();
        assert!(lost.is_empty(), "{what}: {lost:?}");
    };
    goes_on("the beginning").await;
    let begun = Instant::now();
    for (index, backend) in backends.iter_mut().enumerate() {
        let new = Service::start("backend", &[], &address).await;
        let took = std::mem::replace(backend, new).stop().await;
        println!("backend {index} replaced, drained in {took:.1?}");
        goes_on("a backend").await;
    }
    for (index, gate) in gates.iter_mut().enumerate() {
        let new = Service::start("gate", &none, &address).await;
        balancer.add(&new);
        let old = std::mem::replace(gate, new);
        let clients = old.clients.unwrap();
        let took = old.stop().await;
        balancer.remove(clients);
        println!("gate {index} replaced, drained in {took:.1?}");
        goes_on("a gate").await;
    }
    let took = master.stop().await;
    goes_on("without a master").await;
    let _master = Service::start("master", &none, &address).await;
    println!("master replaced, stopped in {took:.1?}");
    goes_on("the master").await;
    let all = begun.elapsed();
    seen.stop.store(true, Relaxed);
    let asked: usize = clients.join_all().await.into_iter().sum();
    let (resumed, slowest) = (seen.resumed.load(Relaxed), seen.slowest_ms.load(Relaxed));
    println!("all replaced in {all:.1?}, {asked} requests, {resumed} returns of {CLIENTS} clients");
    println!("the slowest answer after {slowest} ms");
    let lost = seen.lost.lock().clone();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(resumed >= CLIENTS, "the clients of each gate moved");
}
