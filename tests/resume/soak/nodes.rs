//! Two gates and a backend, each a process of its own.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use nano::{
    App,
    testing::{TestCluster, TestNode},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{
    harness::MINUTE,
    http,
    support::{program, within},
    world::SLOW,
};

/// What a client's send queue may hold at a gate.
pub(crate) const SEND_QUEUE: u64 = 256 * 1024;

/// How long a client may stay away. It never does so for half of it, if it is not made to.
pub(crate) const WINDOW: &str = "20s";

/// What all of them have in common. Losses in silence are noticed after two heartbeats.
fn member(master: &TestNode) -> String {
    let address = master.address();
    format!(
        r#"
        log = "error"
        cluster = {{ join = ["{address}"], listen = "127.0.0.1:0", heartbeat = "5s" }}
        admin = {{ address = "127.0.0.1:0" }}
        timeouts = {{ heartbeat = "300ms", handshake = "2s", resume_window = "{WINDOW}" }}
        limits = {{ send_queue_bytes = {SEND_QUEUE} }}
        "#
    )
}

const LISTENERS: &str = r#"
    [[listeners]]
    address = "127.0.0.1:0"
    [[listeners]]
    address = "127.0.0.1:0"
    websocket = "/nano"
"#;

pub(crate) struct Process {
    child: Child,
    /// TCP and WebSocket.
    pub(crate) clients: Vec<SocketAddr>,
    operators: SocketAddr,
}

impl Process {
    async fn start(folder: &Path, name: &str, services: &str, config: &str) -> Self {
        let file = folder.join(name);
        fs::write(&file, config).unwrap();
        let mut child = Command::new(program())
            .args(["--services", services, "--config"])
            .arg(file)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut clients = Vec::new();
        let operators = loop {
            let line = within("the addresses", lines.next_line()).await.unwrap();
            let line = line.expect("the process has ended");
            if let Some(address) = line.strip_prefix("listening on ") {
                clients.push(address.parse().unwrap());
            } else if let Some(address) = line.strip_prefix("serving operators at ") {
                break address.parse().unwrap();
            }
        };
        Self {
            child,
            clients,
            operators,
        }
    }

    /// The sum of a metric over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = http::get(self.operators, "/metrics").await.body;
        let values = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (_, value) = rest.strip_prefix('{')?.rsplit_once(' ')?;
            value.parse::<f64>().ok()
        });
        values.sum()
    }

    /// Waits until a metric has this value.
    pub(crate) async fn has(&self, metric: &str, expected: f64) {
        let begun = Instant::now();
        loop {
            let value = self.metric(metric).await;
            if value == expected {
                return;
            }
            assert!(begun.elapsed() < MINUTE, "{metric} is {value}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Resident memory in bytes; 0 where the system does not say.
    pub(crate) fn memory(&self) -> u64 {
        let pages = fs::read_to_string(self.file("statm")).unwrap_or_default();
        let pages = pages.split(' ').nth(1).and_then(|it| it.parse().ok());
        pages.unwrap_or(0u64) * 4096
    }

    /// Open files, sockets among them.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(self.file("fd")).map_or(0, Iterator::count)
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id().unwrap())
    }

    async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").arg(id).status().await.unwrap();
        assert!(sent.success());
        let status = within("the end of the process", self.child.wait()).await;
        assert!(status.unwrap().success());
    }
}

pub(crate) struct Nodes {
    pub(crate) gates: [Process; 2],
    pub(crate) backend: Process,
    cluster: TestCluster,
    _folder: TempDir,
}

impl Nodes {
    pub(crate) async fn start() -> Self {
        let master = TestCluster::master_options().heartbeat(SLOW);
        let cluster = TestCluster::with_master(App::new(), master).await;
        let folder = tempfile::tempdir().unwrap();
        let member = member(cluster.master());
        let start = async |name, services, more| {
            Process::start(folder.path(), name, services, &format!("{member}{more}")).await
        };
        let backend = start("backend", "Echo1=Echo,T1=T,Grp", "").await;
        let gates = [
            start("first", "Echo0=Echo,T0=T", LISTENERS).await,
            start("second", "Echo0=Echo,T0=T", LISTENERS).await,
        ];
        let nodes = Self {
            gates,
            backend,
            cluster,
            _folder: folder,
        };
        for node in nodes.all() {
            // The master is one of them.
            node.has("nano_cluster_members", 3.0).await;
        }
        nodes
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Process> {
        self.gates.iter().chain([&self.backend])
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self, websocket: bool) -> Vec<SocketAddr> {
        let gates = self.gates.iter();
        gates
            .map(|gate| gate.clients[usize::from(websocket)])
            .collect()
    }

    /// The sum of a metric over the nodes.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for node in self.all() {
            sum += node.metric(name).await;
        }
        sum
    }

    pub(crate) async fn stop(self) {
        for gate in self.gates {
            gate.stop().await;
        }
        self.backend.stop().await;
        drop(self.cluster);
    }
}
