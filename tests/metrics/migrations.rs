//! What is counted of sessions that move to another gate, or do not: each outcome.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use nano::{
    Accept, App, Cluster, Component, Group, Handlers, Limits, Pool, Result, Scheduler, Session,
    Timeouts, metrics as names,
    testing::{RawClient, TestCluster, TestNode},
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle as Runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use crate::{
    Till,
    counts::{Counts, Series},
    returning::Returning,
    support::{eventually, within},
};

const LONG: Duration = Duration::from_secs(3600);

/// Slow enough that no member is evicted during a test.
const SLOW: Duration = Duration::from_secs(5);

struct World(TestCluster);

impl World {
    async fn start() -> Self {
        let options = TestCluster::master_options().heartbeat(SLOW);
        Self(TestCluster::with_master(App::new(), options).await)
    }

    fn options(&self) -> Cluster {
        self.0.member_options().heartbeat(SLOW)
    }

    async fn member(&self, app: App) -> TestNode {
        TestNode::start(app.cluster(self.options())).await
    }

    async fn gate(&self, app: App) -> TestNode {
        self.member(app.tcp("127.0.0.1:0")).await
    }
}

/// The attempts of a gate that have ended so.
fn outcome(gate: &TestNode, outcome: &str) -> String {
    Series::of(gate.node()).with(names::SESSION_MIGRATIONS, ("outcome", outcome))
}

/// The sessions that this keeps on a gate.
fn kept(gate: &TestNode, obstacle: &str) -> String {
    Series::of(gate.node()).with(names::DRAINING_SESSIONS, ("obstacle", obstacle))
}

/// What a hook waits for, and reports.
fn steps<T>() -> (mpsc::Sender<T>, Mutex<mpsc::Receiver<T>>) {
    let (sender, receiver) = mpsc::channel();
    (sender, Mutex::new(receiver))
}

async fn next<T>(what: &str, reports: &mut UnboundedReceiver<T>) -> T {
    within(what, reports.recv()).await.unwrap()
}

#[tokio::test]
async fn a_session_that_moves_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let (first, second) = (world.gate(App::new()).await, world.gate(App::new()).await);
    world.0.converged(&[&first, &second]).await;
    let client = Returning::connect(first.node()).await;
    first.handle().drain(LONG);
    counts.expect(&outcome(&first, "moved"), 1).await;
    let moved = Series::of(first.node()).because(names::CONNECTIONS_CLOSED, "moved");
    counts.expect(&moved, 1).await;
    client.again(second.node(), 0).await;
}

#[tokio::test]
#[ignore = "slow"]
async fn a_session_that_the_next_gate_has_no_room_for_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let first = world.gate(App::new()).await;
    let limits = Limits::new().max_connections(1);
    let second = world.gate(App::new().limits(limits)).await;
    world.0.converged(&[&first, &second]).await;
    // It keeps two sessions: that of its connection, and that of a client that is away.
    let mut away = Returning::connect(second.node()).await;
    away.client.finish().await;
    let detached = Series::of(second.node()).named(names::SESSIONS_DETACHED);
    counts.expect(&detached, 1).await;
    let _connected = Returning::connect(second.node()).await;
    let _client = Returning::connect(first.node()).await;
    first.handle().drain(LONG);
    counts.expect_at_least(&outcome(&first, "refused"), 1).await;
}

#[tokio::test]
async fn a_session_whose_channels_the_next_gate_cannot_enter_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let first = world.gate(App::new()).await;
    let limits = Limits::new().max_channels_per_session(1);
    let second = world.gate(App::new().limits(limits)).await;
    world.0.converged(&[&first, &second]).await;
    let _client = Returning::connect(first.node()).await;
    let session = first.handle().sessions().list().pop().unwrap();
    let mut others = Vec::new();
    for name in ["guild", "region"] {
        let channel = first.handle().channel(name);
        channel.join(&session).await.unwrap();
        // The next gate has a member of each.
        others.push(Returning::connect(second.node()).await);
        let channel = second.handle().channel(name);
        for other in second.handle().sessions().list() {
            let _ = channel.join(&other).await;
        }
    }
    first.handle().drain(LONG);
    counts
        .expect_at_least(&outcome(&first, "channels"), 1)
        .await;
    counts.expect(&kept(&first, "channels"), 1).await;
}

#[tokio::test]
async fn a_session_that_a_dead_backend_serves_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let (first, second) = (world.gate(App::new()).await, world.gate(App::new()).await);
    let mut backend = world.member(App::new().component(Till::default())).await;
    world.0.converged(&[&first, &second, &backend]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Till.Echo", r#""x""#).await;
    // It is a member until it is evicted.
    backend.kill();
    first.handle().drain(LONG);
    counts.expect_at_least(&outcome(&first, "hold"), 1).await;
    counts.expect(&kept(&first, "hold"), 1).await;
}

#[tokio::test]
async fn a_session_that_gets_a_part_on_its_gate_meanwhile_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let keeps = App::new().component(Till::default()).on_migrate(|session| {
        session.set("lives", 3);
        true
    });
    let first = world.gate(keeps).await;
    let second = world.gate(App::new().component(Till::default())).await;
    world.0.converged(&[&first, &second]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Till.Echo", r#""x""#).await;
    first.handle().drain(LONG);
    counts.expect(&outcome(&first, "kept"), 1).await;
}

/// Handles no message to its end.
struct Jam;

impl Component for Jam {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Wait", Self::wait).sequential()
    }
}

impl Jam {
    async fn wait(self: Arc<Self>, _: Session, _: ()) -> Result {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_session_with_a_message_that_waits_for_room_is_counted() {
    /// The messages of a session that its backend has not finished.
    const WINDOW: usize = 256;

    let mut counts = Counts::start().await;
    let world = World::start().await;
    let (first, second) = (world.gate(App::new()).await, world.gate(App::new()).await);
    let backend = world.member(App::new().component(Jam)).await;
    world.0.converged(&[&first, &second, &backend]).await;
    let mut client = Returning::connect(first.node()).await;
    for _ in 0..=WINDOW {
        client.client.notify("Jam.Wait", "null").await;
    }
    let series = Series::of(first.node());
    let received = series.named(names::MESSAGES_RECEIVED);
    counts.expect(&received, WINDOW + 1).await;
    let forwarded = series.named(names::CLUSTER_FORWARDED);
    counts.expect(&forwarded, WINDOW).await;
    first.handle().drain(LONG);
    counts
        .expect_at_least(&outcome(&first, "deferred"), 1)
        .await;
    counts.expect(&kept(&first, "deferred"), 1).await;
}

#[tokio::test]
#[ignore = "slow"]
async fn a_session_that_no_gate_takes_any_more_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let (report, mut lost) = unbounded_channel();
    let (release, held) = steps::<()>();
    let (asked, mut rounds) = unbounded_channel();
    let moving = Arc::new(AtomicI64::new(0));
    let moves = moving.clone();
    let app = App::new()
        // One is held up by the hook.
        .io_threads(2)
        .component(Till::default())
        .on_detached(move |_| {
            let _ = report.send(());
            let _ = held.lock().recv();
        })
        .on_migrate(move |session| {
            let moves = session.id() == moves.load(Ordering::SeqCst);
            let _ = asked.send(moves);
            moves
        });
    let first = world.gate(app).await;
    let second = world.gate(App::new().component(Till::default())).await;
    world.0.converged(&[&first, &second]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Till.Echo", r#""x""#).await;
    let session = first.handle().sessions().list().pop().unwrap().id();
    moving.store(session, Ordering::SeqCst);
    let mut stays = Returning::connect(first.node()).await;
    stays.client.call(1, "Till.Echo", r#""x""#).await;

    client.client.finish().await;
    next("the loss", &mut lost).await;
    first.handle().drain(LONG);
    // The session that stays is asked for in each round, the other one until it is to move.
    let mut others = 0;
    while others < 2 {
        match next("a round", &mut rounds).await {
            true => others = 0,
            false => others += 1,
        }
    }
    second.stop().await;
    eventually("only the master is left", || {
        first.handle().members().len() == 1
    })
    .await;
    while rounds.try_recv().is_ok() {}
    for _ in 0..2 {
        next("a round without a gate", &mut rounds).await;
    }
    counts.update();
    assert!(counts.has_none(&outcome(&first, "gates")));
    release.send(()).unwrap();
    counts.expect(&outcome(&first, "gates"), 1).await;
}

#[tokio::test]
async fn a_session_that_the_next_gate_takes_without_an_answer_is_counted() {
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let (report, mut asked) = unbounded_channel();
    let (allow, allowed) = steps::<()>();
    let round = AtomicUsize::new(0);
    let app = App::new()
        .component(Till::default())
        // The next gate is waited for as long as the client may be away.
        .timeouts(Timeouts::new().resume_window(Duration::from_secs(1)))
        .on_migrate(move |_| {
            // In the third round the next gate has said that it takes sessions.
            if round.fetch_add(1, Ordering::SeqCst) < 2 {
                return false;
            }
            let _ = report.send(());
            allowed.lock().recv().is_ok()
        });
    let first = world.gate(app).await;
    let (report, mut stuck) = unbounded_channel();
    let (release, held) = steps::<()>();
    // It answers nothing while this hook holds up its only thread for I/O.
    let app = App::new()
        .io_threads(1)
        .component(Till::default())
        .on_handshake(move |_| {
            let _ = report.send(());
            let _ = held.lock().recv();
            Ok(Accept::new())
        });
    let second = world.gate(app).await;
    world.0.converged(&[&first, &second]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Till.Echo", r#""x""#).await;
    first.handle().drain(LONG);
    next("the question", &mut asked).await;
    let mut other = RawClient::tcp(second.client_address()).await;
    let request = br#"{"sys":{"type":"test","version":"1"}}"#;
    other
        .send_packet(nano::packet::Kind::Handshake, request)
        .await;
    next("the handshake", &mut stuck).await;
    allow.send(()).unwrap();
    counts.expect(&outcome(&first, "unanswered"), 1).await;
    drop(release);
}

#[tokio::test]
async fn what_keeps_sessions_on_a_gate_that_drains_is_counted_while_it_does() {
    type Keep = fn(&Session, &Scheduler, &Group);
    let keeps: [Keep; 6] = [
        |session, _, _| session.set("lives", 3),
        |session, _, _| drop(session.extensions().insert(3u8)),
        |session, _, _| drop(session.on_closed(|_, _| {})),
        |session, desk, _| session.pin("desk", desk),
        |session, _, room| assert!(room.add(session).unwrap()),
        // It moves.
        |_, _, _| {},
    ];
    let mut counts = Counts::start().await;
    let world = World::start().await;
    let (next, pool) = (
        AtomicUsize::new(0),
        Pool::new("desks", 1, Runtime::current()),
    );
    let (desk, room) = (pool.unwrap().scheduler("desk", 1), Group::new("room"));
    let app = || App::new().component(Till::default()).component(Jam);
    let first = app().on_session_open(move |session| {
        if let Some(keep) = keeps.get(next.fetch_add(1, Ordering::SeqCst)) {
            keep(session, &desk, &room);
        }
        Ok(())
    });
    let first = world.gate(first).await;
    let hook = world.gate(app().on_migrate(|session| session.user().is_some()));
    let hook = hook.await;
    world.0.converged(&[&first, &hook]).await;
    let mut clients = Vec::new();
    for _ in keeps {
        clients.push(Returning::connect(first.node()).await);
    }
    // Served by a handler of the gate, without a hook and with one that says no.
    for gate in [&first, &hook] {
        let mut served = Returning::connect(gate.node()).await;
        served.client.call(1, "Till.Echo", r#""x""#).await;
        clients.push(served);
    }
    let mut jammed = Returning::connect(first.node()).await;
    jammed.client.notify("Jam.Wait", "null").await;
    // This hook lets users go, but their requests are to be answered first.
    let mut asks = Returning::connect(hook.node()).await;
    asks.client.request(1, "Till.Keep", "null").await;
    let sessions = hook.handle().sessions().list();
    let last = sessions.iter().max_by_key(|session| session.id()).unwrap();
    last.bind(7).unwrap();
    clients.extend([jammed, asks]);
    let mut plain = RawClient::tcp(first.client_address()).await;
    plain.handshake().await;
    // It is granted a return, and does not acknowledge that.
    let mut hesitates = RawClient::tcp(first.client_address()).await;
    let request = br#"{"sys":{"type":"test","version":"1","resume":{}}}"#;
    let kind = nano::packet::Kind::Handshake;
    hesitates.send_packet(kind, request).await;
    hesitates.packet_of(kind).await;

    // The other gate takes no sessions when it drains itself.
    first.handle().drain(LONG);
    counts.expect(&outcome(&first, "moved"), 1).await;
    hook.handle().drain(LONG);
    for obstacle in [
        "data",
        "extensions",
        "callbacks",
        "pins",
        "groups",
        "messages",
        "no_hook",
        "not_resumable",
        "handshake",
    ] {
        counts.expect(&kept(&first, obstacle), 1).await;
    }
    for obstacle in ["hook", "requests", "gates"] {
        counts.expect(&kept(&hook, obstacle), 1).await;
    }

    // One ends, and one has no data any more.
    drop(plain);
    for session in first.handle().sessions().list() {
        session.remove("lives");
    }
    for obstacle in ["data", "not_resumable"] {
        counts.expect(&kept(&first, obstacle), 0).await;
    }
    counts.expect(&kept(&first, "gates"), 1).await;
    counts.expect(&kept(&first, "pins"), 1).await;
}

#[tokio::test]
async fn the_sessions_of_a_node_without_a_cluster_that_drains_are_counted() {
    let mut counts = Counts::start().await;
    let node = TestNode::start(App::new().tcp("127.0.0.1:0")).await;
    let clients = [node.client().await, node.client().await];
    node.handle().drain(LONG);
    let kept = kept(&node, "no_cluster");
    counts.expect(&kept, 2).await;
    let [stays, leaves] = clients;
    drop(leaves);
    counts.expect(&kept, 1).await;
    drop(stays);
}
