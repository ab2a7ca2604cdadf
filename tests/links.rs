//! Links that open with the first message and close when they are not needed. In a process of its
//! own: it counts the links of all its nodes, and a process has one recorder.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use nano::{
    App, Cluster, Component, Handlers, Node, Options, Raw, Result, Session, code,
    metrics::{CLUSTER_LINKS, DIRECTORY_NODES, DIRECTORY_VIEW},
    testing::{TestNode, eventually, within},
};
use tokio::time::Instant;

const IDLE: Duration = Duration::from_millis(200);

/// A view is stated once a master has run for four of them.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Answers with the number of its messages, in the order they came.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Counter {
    fn next(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        let number: u64 = std::str::from_utf8(&body)?.parse()?;
        let before = self.0.swap(number, Ordering::Relaxed);
        assert_eq!(before + 1, number, "a message is lost, or out of order");
        Ok(body)
    }
}

impl Component<Raw> for Counter {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Next", Self::next)
    }
}

/// The outbound streams of all nodes that are up, and the views of their directories.
struct Streams {
    snapshotter: Snapshotter,
    up: f64,
    /// The most that were up at a time.
    peak: u64,
    /// The number and the nodes of the latest view, by node.
    views: HashMap<String, [f64; 2]>,
}

impl Streams {
    fn new() -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().unwrap();
        Self {
            snapshotter,
            up: 0.0,
            peak: 0,
            views: HashMap::new(),
        }
    }

    fn up(&mut self) -> u64 {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let (key, DebugValue::Gauge(gauge)) = (key.key(), value) else {
                continue;
            };
            // A snapshot takes what it shows.
            let of = match key.name() {
                CLUSTER_LINKS => {
                    self.up += gauge.0;
                    continue;
                }
                DIRECTORY_VIEW => 0,
                DIRECTORY_NODES => 1,
                _ => continue,
            };
            if gauge.0 > 0.0 {
                let node = key.labels().find(|label| label.key() == "node").unwrap();
                self.views.entry(node.value().to_owned()).or_default()[of] = gauge.0;
            }
        }
        let up = self.up.round() as u64;
        self.peak = self.peak.max(up);
        up
    }

    /// Waits until all nodes are in one view of all with a number, and no stream has been up for a while:
    /// with a new view, owners of users ask every gate what it has. Before the first with a number, each
    /// node takes its table for the view.
    async fn rest(&mut self, nodes: usize) {
        let mut since = Instant::now();
        eventually("the links of the start to close", || {
            let is_down = self.up() == 0;
            let latest = self.views.values().map(|[number, _]| *number);
            let latest = latest.fold(0.0, f64::max);
            let is_whole = |view: &&[f64; 2]| latest > 0.0 && **view == [latest, nodes as f64];
            let whole = self.views.values().filter(is_whole).count();
            if !is_down || whole < nodes {
                since = Instant::now();
            }
            since.elapsed() > 5 * IDLE
        })
        .await;
    }
}

async fn member(master: &TestNode, change: impl FnOnce(App) -> App) -> TestNode {
    let cluster = Cluster::join([master.address()]).heartbeat(HEARTBEAT);
    TestNode::start(change(app(cluster))).await
}

fn app(cluster: Cluster) -> App {
    let cluster = cluster.listen("127.0.0.1:0").link_idle_timeout(IDLE);
    App::new().scheduler_threads(1).cluster(cluster)
}

#[tokio::test]
async fn members_hold_links_only_to_those_they_exchange_messages_with() {
    let mut streams = Streams::new();
    let master = TestNode::start(app(Cluster::master().heartbeat(HEARTBEAT))).await;
    let counter = Counter::default();
    let mut backend = member(&master, |app| {
        app.component_with(counter.clone(), Options::new().name("Counter"))
    })
    .await;
    let gate = member(&master, |app| app.tcp("127.0.0.1:0")).await;
    let others = join_all((0..12).map(|_| member(&master, |app| app))).await;
    for node in [&master, &backend, &gate].into_iter().chain(&others) {
        node.knows(14).await;
    }
    streams.rest(15).await;
    assert!(
        streams.peak <= 4 * 14,
        "two streams, both ways, for the owners of users to ask the one gate: {}",
        streams.peak
    );

    let mut sent = 0;
    for _ in 0..3 {
        let client = gate.client_of::<Raw>().await;
        for _ in 0..20 {
            sent += 1;
            let answer = within(
                "an answer",
                client.request_raw("Counter.Next", sent.to_string()),
            );
            assert_eq!(answer.await.unwrap(), sent.to_string());
        }
        assert_eq!(streams.up(), 2, "one link, both ways");
        client.close();
        eventually("the link to close", || streams.up() == 0).await;
    }

    let client = gate.client_of::<Raw>().await;
    backend.kill();
    let begun = Instant::now();
    let refused = client.request_raw("Counter.Next", "0").await.unwrap_err();
    assert_eq!(refused.code(), code::UNAVAILABLE);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the first message to a dead member fails at once: {:?}",
        begun.elapsed()
    );
}

/// What the process has used so far.
struct Usage {
    cpu: Duration,
    memory_kib: u64,
    descriptors: usize,
}

impl Usage {
    #[cfg(target_os = "linux")]
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // Behind the name of the program: user and system time are the 14th and 15th field.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find(|line| line.starts_with("VmRSS:"));
        let memory = resident.unwrap().split_whitespace().nth(1).unwrap();
        Self {
            cpu: Duration::from_millis(ticks * 10),
            memory_kib: memory.parse().unwrap(),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }
}

async fn all_know(nodes: &[Node], others: usize) {
    for node in nodes {
        eventually("members to be known", || {
            node.handle().members().len() == others
        })
        .await;
    }
}

/// Prints a line for each size. `NANO_MEMBERS=10,62` chooses the sizes. The nodes share the runtime of
/// the test, as nodes of one process do; each has its thread for I/O.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "slow: a measurement"]
#[cfg(target_os = "linux")]
async fn an_idle_member_costs_the_same_in_small_and_in_large_clusters() {
    let sizes = std::env::var("NANO_MEMBERS").unwrap_or_else(|_| "10,30".to_owned());
    for size in sizes.split(',').map(|size| size.parse::<usize>().unwrap()) {
        let empty = Usage::now();
        let begun = Instant::now();
        let master = Cluster::master().listen("127.0.0.1:0");
        let master = App::new().scheduler_threads(1).cluster(master);
        let master = master.start().await.unwrap();
        let address = master.handle().member().unwrap().address().to_owned();
        let members =
            join_all((1..size).map(|_| app(Cluster::join([address.as_str()])).start())).await;
        let mut nodes: Vec<_> = members.into_iter().map(Result::unwrap).collect();
        nodes.push(master);
        all_know(&nodes, size - 1).await;
        let joined = begun.elapsed();
        // What joining has begun is over: also the first view with a number, with which owners of users
        // ask every gate.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = Usage::now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after = Usage::now();
        let each = 1.0 / size as f64;
        let cpu = (after.cpu - before.cpu).as_secs_f64() / 10.0 * each;
        println!(
            "{size} members: joined in {joined:?}; each {:.3} % of a core and {:.2} MiB; {} descriptors",
            cpu * 100.0,
            (after.memory_kib - empty.memory_kib) as f64 / 1024.0 * each,
            after.descriptors - empty.descriptors,
        );
        assert!(cpu < 0.01, "an idle member costs {cpu} of a core");
        let begun = Instant::now();
        nodes.remove(0).shutdown().await;
        all_know(&nodes, size - 2).await;
        println!(
            "{size} members: a leave is known to all after {:?}",
            begun.elapsed()
        );
        join_all(nodes.iter().map(Node::shutdown)).await;
    }
}
