//! Promise 7 through a gate: after any number of clients have come and gone, every node is as it
//! was.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Accept, Component, Group, Handle, Handlers, Handshake, Options, Raw, Result, Session,
    SessionSink, testing::TestNode,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    cluster::{calm, cluster},
    rooms::member,
    support::{RawClient, eventually, sampled},
};

const UIDS: i64 = 10;
const SERVICES: [&str; 3] = ["A", "B", "C"];

/// What the nodes of one cluster have seen.
#[derive(Default)]
struct Seen {
    group: Group<Raw>,
    served: AtomicUsize,
    closed: AtomicUsize,
    /// Some of the sessions, on the gate and on its members: a node that fails to drop one keeps it
    /// alive.
    sinks: Mutex<Vec<Weak<dyn SessionSink>>>,
}

impl Seen {
    fn note(&self, session: &Session) {
        if session.id() % 16 == 0 {
            self.sinks.lock().push(Arc::downgrade(session.sink()));
        }
    }

    fn alive(&self) -> usize {
        self.sinks
            .lock()
            .iter()
            .filter(|sink| sink.strong_count() > 0)
            .count()
    }
}

struct Lobby(Arc<Seen>);

impl Component<Raw> for Lobby {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Enter", Self::enter)
            .on("Leave", Self::leave)
            .on("Wait", Self::wait)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let seen = self.0.clone();
        node.on_session_closed(move |session, _| {
            seen.closed.fetch_add(1, SeqCst);
            session.clear();
        });
        Ok(())
    }
}

impl Lobby {
    fn enter(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        self.0.note(&session.typed());
        self.0.served.fetch_add(1, SeqCst);
        session.bind(session.id() % UIDS + 1)?;
        self.0.group.add(session)?;
        session.set("self", session.clone());
        Ok(Bytes::new())
    }

    fn leave(&self, session: &Session<Raw>, _: Bytes) -> Result {
        session.close();
        Ok(())
    }

    /// Answers when the client may have gone.
    async fn wait(self: Arc<Self>, _: Session<Raw>, _: Bytes) -> Result<Bytes> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Bytes::new())
    }
}

/// One client, to two of the members, and gone in one of several ways.
async fn visit(gate: SocketAddr, number: usize) {
    let mut client = RawClient::tcp(gate).await;
    if number.is_multiple_of(5) {
        // Gone before its handshake.
        return;
    }
    client.handshake().await;
    for (id, at) in [(1, number), (2, number + 1)] {
        client
            .request(id, &format!("{}.Enter", SERVICES[at % SERVICES.len()]), "")
            .await;
        client.response(id).await;
    }
    let route = |name: &str| format!("{}.{name}", SERVICES[number % SERVICES.len()]);
    match number % 5 {
        1 => {}
        // Gone with a request in flight.
        2 => client.request(3, &route("Wait"), "").await,
        3 => {
            client.notify(&route("Leave"), "").await;
            client.closed().await;
        }
        _ => {
            client.send(b"nonsense").await;
            while client.frame().await.is_some() {}
        }
    }
}

/// So many visits, some at once. Each comes to another address of this node: there are not ports
/// enough to come to one of them that often.
async fn visits<V: Future<Output = ()> + Send + 'static>(
    port: u16,
    numbers: Range<usize>,
    visit: fn(SocketAddr, usize) -> V,
) {
    let mut visitors = JoinSet::new();
    for number in numbers {
        if visitors.len() == 64 {
            visitors.join_next().await.unwrap().unwrap();
        }
        let host = [127, 0, 0, 1 + u8::try_from(number % 100).unwrap()];
        visitors.spawn(visit(SocketAddr::from((host, port)), number));
    }
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
}

async fn come_and_go(count: usize) {
    let seen = Arc::new(Seen::default());
    let at_gate = seen.clone();
    let cluster = cluster(&[], move |app| {
        let seen = at_gate.clone();
        let note = move |handshake: &Handshake| {
            seen.note(handshake.session());
            Ok(Accept::new())
        };
        app.tcp("0.0.0.0:0").app(|app| app.on_handshake(note))
    })
    .await;
    let mut members = Vec::new();
    for service in SERVICES {
        let app = calm(member(&cluster.master))
            .component_with(Lobby(seen.clone()), Options::new().name(service));
        members.push(TestNode::start(app).await);
    }
    cluster.gate.knows(1 + SERVICES.len()).await;

    visits(cluster.gate.client_address().port(), 0..count, visit).await;

    cluster.is_empty().await;
    eventually("a callback for each session of a member", || {
        seen.closed.load(SeqCst) >= seen.served.load(SeqCst)
    })
    .await;
    let entered = 2 * (count - count.div_ceil(5));
    assert_eq!(
        (seen.served.load(SeqCst), seen.closed.load(SeqCst)),
        (entered, entered),
        "one callback each"
    );
    assert_eq!((seen.group.count(), seen.group.members()), (0, vec![]));
    for node in members.iter().chain([&cluster.gate]) {
        eventually("sessions to be gone", || {
            node.handle().sessions().count() == 0
        })
        .await;
        for uid in 0..=UIDS {
            assert_eq!(node.handle().sessions_by_uid(uid), []);
        }
    }
    assert!(seen.sinks.lock().len() > count / 32, "some are watched");
    eventually("no session to be kept", || seen.alive() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thousand_clients_every_table_is_empty() {
    come_and_go(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn after_a_hundred_thousand_clients_every_table_is_empty() {
    come_and_go(sampled(100_000) as usize).await;
}

/// To one member or several, each of which has all services.
#[cfg(target_os = "linux")]
async fn short_visit(gate: SocketAddr, number: usize) {
    let mut client = RawClient::tcp(gate).await;
    client.handshake().await;
    client.call(1, "Grp.Join", "").await;
    client
        .call(2, "T.Bind", (number % 1_000 + 1).to_string())
        .await;
    match number % 3 {
        0 => {}
        1 => client.request(3, "T.Flood", "0").await,
        _ => {
            client.notify("T.Close", "").await;
            client.closed().await;
        }
    }
}

/// Pages in memory.
#[cfg(target_os = "linux")]
fn resident(process: &crate::support::Peer) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", process.id())).unwrap();
    pages.split(' ').nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn another_hundred_thousand_clients_take_no_more_memory() {
    use crate::support::Peer;

    // Enough for everything that grows at first.
    let clients = sampled(100_000).max(15_000) as usize;
    let master = crate::cluster::master("127.0.0.1:0").await;
    let join = ["--master", &master.address(), "--hb", "1s"];
    let mut nodes = vec![
        Peer::start(&[&join[..], &["--services", "", "--client", "0.0.0.0:0"]].concat()).await,
    ];
    for _ in 0..3 {
        nodes.push(Peer::start(&[&join[..], &["--services", "Grp,T"]].concat()).await);
    }
    master.knows(4).await;

    visits(nodes[0].address.port(), 0..clients, short_visit).await;
    let before: Vec<_> = nodes.iter().map(resident).collect();
    visits(nodes[0].address.port(), clients..2 * clients, short_visit).await;
    let after: Vec<_> = nodes.iter().map(resident).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(
            *after as f64 <= *before as f64 * 1.05,
            "pages: {before} before, {after} after"
        );
    }
}
