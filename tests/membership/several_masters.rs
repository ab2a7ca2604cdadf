//! Three masters, one of which leads, and dies.

use std::time::Duration;

use nano::{App, Cluster, Component, Handlers, Raw, Result, Session, client::Client};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    go::GoNode,
    log::Log,
    nodes::{HEARTBEAT, Living, free_address, join, master},
    support::{MemberApp, eventually, sampled},
};

/// Answers with what it was sent.
struct Room;

impl Component for Room {
    fn handlers(handlers: Handlers<Self>) -> Handlers<Self> {
        handlers.on("Echo", Self::echo)
    }
}

impl Room {
    fn echo(&self, _: &Session, message: u32) -> Result<u32> {
        Ok(message)
    }
}

/// Masters that can be killed and started again.
struct Masters {
    addresses: Vec<String>,
    living: Vec<Option<Living>>,
}

fn one_of(addresses: &[String], at: usize) -> MemberApp {
    master()
        .listen(&addresses[at])
        .cluster(|cluster| cluster.masters(addresses))
}

impl Masters {
    async fn start() -> Self {
        let addresses: Vec<_> = (0..3).map(|_| free_address()).collect();
        let mut masters = Self {
            living: (0..3).map(|_| None).collect(),
            addresses,
        };
        masters.start_all().await;
        masters
    }

    /// Starts all at the same time: each waits for a majority.
    async fn start_all(&mut self) {
        let starts: Vec<_> = (0..3)
            .map(|at| tokio::spawn(Living::start(one_of(&self.addresses, at))))
            .collect();
        for (at, start) in starts.into_iter().enumerate() {
            self.living[at] = Some(start.await.unwrap());
        }
    }

    async fn restart(&mut self, at: usize) {
        self.living[at] = Some(Living::start(one_of(&self.addresses, at)).await);
    }

    /// The place of the one that leads, as it says.
    fn leading(&self) -> Option<usize> {
        (0..3).find(|&at| {
            let living = self.living[at].as_ref();
            living.is_some_and(|it| it.handle().master().as_deref() == Some(it.address()))
        })
    }

    async fn kill(&mut self, at: usize) {
        self.living[at].take().unwrap().kill().await;
    }

    /// Kills the one that leads, and waits until another does. Returns both places and how long it
    /// took.
    async fn fail_over(&mut self) -> (usize, usize, Duration) {
        eventually("a master leads", || self.leading().is_some()).await;
        let former = self.leading().unwrap();
        let killed = Instant::now();
        self.kill(former).await;
        eventually("another master leads", || self.leading().is_some()).await;
        (former, self.leading().unwrap(), killed.elapsed())
    }

    fn names(&self) -> [&str; 3] {
        [0, 1, 2].map(|at| &*self.addresses[at])
    }

    fn member(&self) -> MemberApp {
        join(self.names())
    }
}

/// A gate, a backend, and a client whose requests all have to be answered.
struct Traffic {
    gate: Living,
    backend: Living,
    stop: CancellationToken,
    client: JoinHandle<usize>,
}

impl Traffic {
    async fn start(masters: [&str; 3]) -> Self {
        let backend = Living::start(join(masters).component(Room)).await;
        let gate = Living::start(join(masters).tcp("127.0.0.1:0")).await;
        eventually("the gate has the backend", || {
            gate.table().contains(&backend.address().to_owned())
        })
        .await;
        let url = format!("tcp://{}", gate.node.addresses()[0]);
        let client: Client<Raw> = Client::builder()
            .typed::<Raw>()
            .connect(&url)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let client = tokio::spawn(async move {
            let mut answered = 0;
            while !stopped.is_cancelled() {
                client.request_raw("Room.Echo", "7").await.unwrap();
                answered += 1;
            }
            answered
        });
        Self {
            gate,
            backend,
            stop,
            client,
        }
    }

    /// Ends it. Every request was answered, and no member left but those named.
    async fn end(self) {
        self.stop.cancel();
        let answered = self.client.await.expect("no request fails");
        assert!(answered > 100, "{answered}");
        for (node, other) in [(&self.gate, &self.backend), (&self.backend, &self.gate)] {
            assert!(node.table().contains(&other.address().to_owned()));
        }
    }
}

#[tokio::test]
async fn a_killed_leader_is_followed_and_no_request_fails() {
    let mut masters = Masters::start().await;
    let traffic = Traffic::start(masters.names()).await;
    let evicted = evictions(&masters, &traffic);
    for _ in 0..2 {
        let (former, _, took) = masters.fail_over().await;
        assert!(took < Duration::from_secs(4), "{took:?}");
        let newcomer = Living::start(masters.member()).await;
        traffic.gate.sees_among(newcomer.address()).await;
        // On a busy machine another one may lead by now.
        eventually("members report to the new leader", || {
            let leader = masters.leading().map(|at| &masters.addresses[at]);
            traffic.gate.handle().master().as_ref() == leader
                && traffic.gate.table().first() == leader
        })
        .await;
        masters.restart(former).await;
        newcomer.stop().await;
    }
    assert_eq!(evicted.lock().as_slice(), [] as [String; 0]);
    traffic.end().await;
}

#[tokio::test]
#[ignore = "slow"]
async fn thirty_killed_leaders_are_followed_within_seconds() {
    let mut masters = Masters::start().await;
    let traffic = Traffic::start(masters.names()).await;
    let evicted = evictions(&masters, &traffic);
    let mut times = Vec::new();
    let kills = sampled(30).max(10) as usize;
    for _ in 0..kills {
        let (former, _, took) = masters.fail_over().await;
        times.push(took);
        let newcomer = Living::start(masters.member()).await;
        newcomer.stop().await;
        masters.restart(former).await;
        // The lease of the restarted master's former run has to run out before the next dies.
        sleep(Duration::from_secs(2)).await;
    }
    times.sort();
    let (median, longest) = (times[kills / 2], times[kills - 1]);
    eprintln!("median {median:?}, longest {longest:?}");
    assert!(median < Duration::from_millis(2_500), "{times:?}");
    assert_eq!(evicted.lock().as_slice(), [] as [String; 0]);
    traffic.end().await;
}

/// The addresses of the members that left while they lived, as the gate sees it.
fn evictions(_: &Masters, traffic: &Traffic) -> std::sync::Arc<parking_lot::Mutex<Vec<String>>> {
    let evicted = std::sync::Arc::<parking_lot::Mutex<Vec<String>>>::default();
    let (noted, backend) = (evicted.clone(), traffic.backend.address().to_owned());
    traffic.gate.handle().on_member_left(move |member| {
        if member.address() == backend {
            noted.lock().push(backend.clone());
        }
    });
    evicted
}

/// Even if members have joined a moment ago: the next leader has them, and they learn of it.
#[tokio::test]
async fn a_leader_that_stops_in_order_is_followed_at_once_and_unregisters() {
    let log = Log::captured();
    let mut masters = Masters::start().await;
    let member = Living::start(masters.member()).await;
    let former = masters.leading().unwrap();
    let begun = Instant::now();
    let stopping = masters.living[former].take().unwrap();
    let stop = stopping.stop();
    let followed = async {
        eventually("another master leads", || masters.leading().is_some()).await;
        begun.elapsed()
    };
    let ((), followed) = tokio::join!(stop, followed);
    assert!(followed < Duration::from_millis(800), "{followed:?}");
    let leading = masters.living[masters.leading().unwrap()].as_ref().unwrap();
    let table = leading.table();
    let address = masters.addresses[former].clone();
    assert!(!table.contains(&address), "it unregistered: {table:?}");
    assert!(table.contains(&member.address().to_owned()), "{table:?}");
    eventually("an announcement to the member", || {
        !member.table().contains(&address)
    })
    .await;
    // Otherwise a heartbeat would do that seconds later, when the grace of the new leader is over.
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(log.count(&["member evicted", &address]), 0);
}

#[tokio::test]
async fn any_master_takes_members_and_without_a_majority_none_join_or_leave() {
    let mut masters = Masters::start().await;
    let leader = masters.leading().unwrap();
    let follower = (leader + 1) % 3;
    let a = Living::start(join([&masters.addresses[follower]])).await;
    let leading = masters.living[leader].as_ref().unwrap();
    eventually("the leader has it", || {
        leading.table().contains(&a.address().to_owned())
    })
    .await;
    let before = a.table();
    assert_eq!(before[0], masters.addresses[leader], "the leader first");

    masters.kill(leader).await;
    masters.kill((leader + 2) % 3).await;
    let newcomer = tokio::spawn(Living::start(masters.member()));
    sleep(HEARTBEAT * 8).await;
    assert!(!newcomer.is_finished());
    assert_eq!(a.table().len(), before.len(), "nothing is evicted");

    masters.restart(leader).await;
    let newcomer = newcomer.await.unwrap();
    a.sees_among(newcomer.address()).await;
}

/// New machines have the names of the old ones: here, other addresses of the loopback interface. No
/// request fails meanwhile.
#[tokio::test]
async fn all_masters_return_at_new_addresses_behind_their_names() {
    let ports: Vec<u16> = (0..3)
        .map(|_| free_address().rsplit_once(':').unwrap().1.parse().unwrap())
        .collect();
    let names: Vec<_> = ports
        .iter()
        .map(|port| format!("localhost:{port}"))
        .collect();
    let start = async |host: &str| {
        let starts: Vec<_> = (0..3)
            .map(|at| {
                let app = one_of(&names, at)
                    .listen(format!("{host}:{}", ports[at]))
                    .advertise(&names[at]);
                tokio::spawn(Living::start(app))
            })
            .collect();
        let mut living = Vec::new();
        for start in starts {
            living.push(start.await.unwrap());
        }
        living
    };
    let first = start("127.0.0.1").await;
    let traffic = Traffic::start([&names[2], &names[1], &names[0]]).await;
    for master in first {
        master.kill().await;
    }
    let begun = Instant::now();
    let second = start("0.0.0.0").await;
    let incarnations: Vec<_> = second
        .iter()
        .map(|it| it.handle().member().unwrap().incarnation())
        .collect();
    for node in [&traffic.gate, &traffic.backend].into_iter().chain(&second) {
        eventually("the cluster is whole", || {
            let members = node.handle().members();
            let new = members
                .iter()
                .filter(|it| incarnations.contains(&it.incarnation()));
            members.len() == 4 && new.count() >= 2
        })
        .await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    traffic.end().await;
}

#[tokio::test]
async fn a_go_member_of_a_follower_outlives_the_leader() {
    let mut masters = Masters::start().await;
    let leader = masters.leading().unwrap();
    let follower = masters.addresses[(leader + 1) % 3].clone();
    let go = GoNode::join(&follower, &["Go"], HEARTBEAT).await;
    let a = Living::start(masters.member()).await;
    a.sees_among(&go.address).await;
    eventually("the leader announces to it", || {
        go.table().contains(&a.address().to_owned())
    })
    .await;
    masters.fail_over().await;
    let b = Living::start(masters.member()).await;
    eventually("the new leader announces to it", || {
        go.table().contains(&b.address().to_owned())
    })
    .await;
    sleep(HEARTBEAT * 8).await;
    assert!(a.table().contains(&go.address), "its heartbeats arrive");
    let twice = go.table().iter().filter(|it| *it == a.address()).count();
    assert_eq!(twice, 1, "{:?}", go.table());
}

#[tokio::test]
async fn a_list_of_masters_may_name_its_own_node_and_must_make_sense() {
    let own = free_address();
    let alone = master().listen(&own).cluster(|it| it.masters([&own, &own]));
    let alone = Living::start(alone).await;
    assert_eq!(alone.handle().master(), Some(own));

    let many: Vec<_> = (1..9).map(|port| format!("127.0.0.1:{port}")).collect();
    let master = || Cluster::master().listen("127.0.0.1:34567");
    let cases = [
        (master().masters(many), "at most 7 masters, not 9"),
        (
            Cluster::master()
                .listen("127.0.0.1:0")
                .masters(["127.0.0.1:1"]),
            "cluster.masters: the others need to know this node's port",
        ),
        (
            master().masters(["127.0.0.1:0"]),
            "cluster.masters needs the port",
        ),
        (
            Cluster::join(["127.0.0.1:1"])
                .listen("127.0.0.1:0")
                .masters(["127.0.0.1:2"]),
            "cluster.masters is for masters",
        ),
    ];
    for (cluster, expected) in cases {
        let error = App::new().cluster(cluster).start().await.unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_master_without_the_others_says_which_it_waits_for() {
    let log = Log::captured();
    let [own, silent, other] = [(); 3].map(|()| free_address());
    let start = |own: &str, masters: &[&String]| {
        let app = master()
            .listen(own)
            .cluster(|it| it.masters(masters.iter().copied()));
        tokio::spawn(Living::try_start(app))
    };
    let first = start(&own, &[&own, &silent, &other]);
    eventually("a warning", || {
        log.count(&["WARN", "no master leads", &silent, &other]) > 0
    })
    .await;
    let second = start(&other, &[&own, &other]);
    eventually("both refuse", || {
        [&own, &other].iter().all(|master| {
            let master = format!("master=\"{master}\"");
            log.count(&["ERROR", "other master refuses this one", &master]) > 0
        })
    })
    .await;
    assert!(!first.is_finished() && !second.is_finished());
    first.abort();
    second.abort();
}
