//! Clusters of nodes in this process, and of such that have one of their own.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use nano::{Error, Raw, Timeouts, client::Client, testing::TestNode};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};

pub(crate) use crate::support::free_address;
use crate::{
    rooms::{RoomCluster, master_app, member},
    support::{MemberApp, Peer, eventually, within},
};

/// The members call the master this often, and are given up after four missed calls: long enough
/// for machines that are busy.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long the gates here let a request wait.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A node as all of them are here.
pub(crate) fn calm(app: MemberApp) -> MemberApp {
    app.heartbeat(HEARTBEAT)
        .retry_interval(HEARTBEAT / 4)
        .timeouts(Timeouts::new().request(REQUEST_TIMEOUT))
}

/// The master of a cluster.
pub(crate) async fn master(address: &str) -> TestNode {
    TestNode::start(calm(master_app().listen(address))).await
}

/// A master, a gate, and backends with one room each; `configure` is asked about the gate and the
/// backends.
pub(crate) async fn cluster(
    rooms: &[&str],
    configure: impl Fn(MemberApp) -> MemberApp,
) -> RoomCluster {
    cluster_of(master("127.0.0.1:0").await, rooms, configure).await
}

pub(crate) async fn cluster_of(
    master: TestNode,
    rooms: &[&str],
    configure: impl Fn(MemberApp) -> MemberApp,
) -> RoomCluster {
    let gate = TestNode::start(configure(calm(member(&master))).tcp("127.0.0.1:0")).await;
    let mut cluster = RoomCluster {
        master,
        gate,
        backends: Vec::new(),
    };
    for name in rooms {
        let backend = cluster.backend(name, |app| configure(calm(app))).await;
        cluster.backends.push(backend);
    }
    cluster.gate.knows(1 + rooms.len()).await;
    cluster
}

/// A backend with the service `T`, in a process of its own.
pub(crate) async fn backend(master: &TestNode) -> Peer {
    Peer::start(&[
        "--master",
        &master.address(),
        "--services",
        "T",
        "--hb",
        "1s",
        "--retry",
        "250ms",
    ])
    .await
}

/// A gate without services, in a process of its own.
pub(crate) async fn gate(master: &TestNode) -> Peer {
    Peer::start(&[
        "--master",
        &master.address(),
        "--services",
        "",
        "--client",
        "127.0.0.1:0",
        "--hb",
        "1s",
    ])
    .await
}

/// Held by tests that need most of the node: a process that is starved for seconds is taken for
/// one that hangs.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// A node with clients of its own and the service `T` under a name of its own, by which the others
/// can be seen to know it.
pub(crate) type Named<'a> = (&'a str, SocketAddr);

pub(crate) async fn connect(to: SocketAddr) -> Client<Raw> {
    Client::builder()
        .typed::<Raw>()
        .connect(&format!("tcp://{to}"))
        .await
        .unwrap()
}

/// Waits until each of these nodes knows and reaches each other.
pub(crate) async fn all_know_all(nodes: &[Named<'_>]) {
    for (from, address) in nodes {
        let client = connect(*address).await;
        for (to, _) in nodes {
            within(
                &format!("{from} to reach {to}"),
                answer(&client, &format!("{to}.Empty")),
            )
            .await;
        }
    }
}

/// Waits until each of these nodes has forgotten the one of this name.
pub(crate) async fn all_forget(nodes: &[Named<'_>], gone: &str) {
    for (from, address) in nodes {
        let client = connect(*address).await;
        within(
            &format!("{from} to forget {gone}"),
            fails(&client, &format!("{gone}.Empty"), |error| {
                error.message().contains("is away")
            }),
        )
        .await;
    }
}

/// Asks until the answer is such an error.
pub(crate) async fn fails(client: &Client<Raw>, route: &str, expected: impl Fn(&Error) -> bool) {
    while !client
        .request_raw(route, "")
        .await
        .is_err_and(|error| expected(&error))
    {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the node is in the table of all these, or in none of them.
pub(crate) async fn is_known(address: &str, known: bool, by: &[&TestNode]) {
    for node in by {
        let knows = || {
            node.handle()
                .members()
                .iter()
                .any(|member| member.address() == address)
        };
        eventually(
            &format!("{} knows {address}: {known}", node.address()),
            || knows() == known,
        )
        .await;
    }
}

/// Asks until there is an answer: for what is refused at once, for a while.
#[track_caller]
pub(crate) fn answered(client: &Client<Raw>, route: &str) -> impl Future<Output = Bytes> {
    within("an answer", answer(client, route))
}

async fn answer(client: &Client<Raw>, route: &str) -> Bytes {
    loop {
        match client.request_raw(route, "").await {
            Ok(answer) => return answer,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// New sessions, one after the other for a while: when the last one was sent to the member that
/// does not answer.
pub(crate) async fn last_lost(gate: &str, route: &'static str, watch: Duration) -> Duration {
    let begun = Instant::now();
    let (mut visits, mut last) = (JoinSet::new(), Duration::ZERO);
    while begun.elapsed() < watch {
        let client: Client<Raw> = Client::builder()
            .typed::<Raw>()
            .connect(gate)
            .await
            .unwrap();
        let sent = begun.elapsed();
        visits.spawn(async move { (sent, client.request_raw(route, "").await.is_ok()) });
        sleep(Duration::from_millis(5)).await;
    }
    while let Some(visit) = within("an answer", visits.join_next()).await {
        let (sent, answered) = visit.unwrap();
        if !answered {
            last = last.max(sent);
        }
    }
    last
}
