//! Three masters in processes of their own, the leading one of which is killed again and again.

use std::{env, net::SocketAddr, sync::Arc, time::Duration};

use nano::{Cluster, testing::TestNode};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{ALONE, free_address, is_known},
    http,
    load::Load,
    rooms::node,
    support::{MemberApp, Peer, within},
};

/// The default of all nodes, and the lease that follows from it.
const HEARTBEAT: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(2);

const CLIENTS: usize = 4;

struct Masters {
    addresses: Vec<String>,
    running: Vec<Peer>,
}

/// A master as it comes without options about time.
async fn master(at: usize, addresses: &[String]) -> Peer {
    let mut flags = vec!["--is-master", "--services", "", "--hb", "30s"];
    flags.extend(["--admin", "127.0.0.1:0"]);
    flags.extend(["--listen", &addresses[at]]);
    for address in addresses {
        flags.extend(["--master", address]);
    }
    Peer::start(&flags).await
}

impl Masters {
    async fn start() -> Self {
        let addresses: Vec<_> = (0..3).map(|_| free_address()).collect();
        let (a, b, c) = tokio::join!(
            master(0, &addresses),
            master(1, &addresses),
            master(2, &addresses)
        );
        Self {
            running: vec![a, b, c],
            addresses,
        }
    }

    fn member(&self) -> MemberApp {
        node(Cluster::join(&self.addresses)).heartbeat(HEARTBEAT)
    }

    /// The place of the one that says it leads, once there is one.
    async fn leading(&self, except: Option<usize>) -> usize {
        within("a master to lead", async {
            loop {
                for (at, master) in self.running.iter().enumerate() {
                    if Some(at) != except && leads(master.operators.unwrap()).await {
                        return at;
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Kills the one that leads. Returns how long there was none, and starts it again.
    async fn fail_over(&mut self, while_away: impl AsyncFnOnce()) -> Duration {
        let former = self.leading(None).await;
        let killed = Instant::now();
        self.running[former].signal("KILL").await;
        self.leading(Some(former)).await;
        let took = killed.elapsed();
        while_away().await;
        self.running[former] = master(former, &self.addresses).await;
        took
    }
}

async fn leads(operators: SocketAddr) -> bool {
    let metrics = http::get(operators, "/metrics").await.body;
    let mut lines = metrics.lines();
    lines.any(|line| line.starts_with("nano_cluster_leads{") && line.ends_with(" 1"))
}

/// `NANO_KILLS=100` kills a hundred.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn killed_leaders_are_followed_within_seconds_and_no_request_fails() {
    let _alone = ALONE.lock().await;
    let kills = env::var("NANO_KILLS").map_or(2, |kills| kills.parse().unwrap());
    let mut masters = Masters::start().await;
    let gate = TestNode::start(masters.member().tcp("127.0.0.1:0")).await;
    let flags: Vec<_> = masters
        .addresses
        .iter()
        .flat_map(|address| ["--master", address])
        .chain(["--services", "T", "--hb", "30s"])
        .collect();
    let backend = Peer::start(&flags).await;
    is_known(&backend.node(), true, &[&gate]).await;
    let left = Arc::<Mutex<Vec<_>>>::default();
    let noted = left.clone();
    gate.handle()
        .on_member_left(move |member| noted.lock().push(member.address().to_owned()));

    let load = Load::start(gate.client_address(), CLIENTS).await;
    load.goes_on(100).await;
    let mut times = Vec::new();
    for _ in 0..kills {
        let member = masters.member();
        let gate = &gate;
        let took = masters
            .fail_over(async || {
                let newcomer = TestNode::start(member).await;
                is_known(&newcomer.address(), true, &[gate]).await;
                newcomer.stop().await;
            })
            .await;
        times.push(took);
        load.goes_on(100).await;
        // A master that was started grants no lease before the one of its earlier run has ended.
        sleep(LEASE).await;
    }
    let outcome = load.stop().await;
    times.sort();
    eprintln!("{outcome:?}\n{times:?}");
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    assert!(
        !left.lock().contains(&backend.node()),
        "no member is evicted"
    );
    assert!(times[kills / 2] < Duration::from_millis(2_500), "{times:?}");
    assert!(times[kills - 1] < Duration::from_secs(6), "{times:?}");
}
