//! Members that drain, and what gates do about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Balance, Component, Handle, Handlers, Raw, Readiness, Session, client::Client, code,
    testing::TestNode,
};

use crate::{
    cluster::{Backend, RoomCluster, code_of, member, text},
    support::{eventually, within},
};

const LONG: Duration = Duration::from_secs(3600);

async fn who(client: &Client<Raw>) -> String {
    let name = within("an answer", client.request_raw("Room.Who", "")).await;
    text(&name.unwrap()).to_owned()
}

/// Waits until new sessions of a gate no longer go to the backend of this name.
async fn is_avoided(gate: &TestNode, name: &str) {
    within("a draining backend to be avoided", async {
        let mut in_a_row = 0;
        while in_a_row < 8 {
            let client: Client<Raw> = gate.client_of().await;
            match client.request_raw("Room.Who", "").await {
                Ok(chosen) if text(&chosen) == name => in_a_row = 0,
                _ => in_a_row += 1,
            }
            client.close();
        }
    })
    .await;
}

#[tokio::test]
async fn a_draining_backend_keeps_its_sessions_and_gets_no_new_ones() {
    let round_robin = |app: crate::support::MemberApp| app.balance(Balance::RoundRobin);
    let cluster = RoomCluster::configured(&["a", "b"], round_robin).await;
    let (a, b) = (cluster.client().await, cluster.client().await);
    let first = who(&a).await;
    let second = who(&b).await;
    assert_ne!(first, second);
    let backend = |name: &str| {
        let mut all = cluster.backends.iter();
        &all.find(|it| it.room.name() == name).unwrap().node
    };
    backend(&first).handle().drain(LONG);
    is_avoided(&cluster.gate, &first).await;
    // Its own session stays.
    for _ in 0..8 {
        assert_eq!(who(&a).await, first);
    }
    // A gate that joins later learns of it, too.
    let gate = TestNode::start(member(&cluster.master).tcp("127.0.0.1:0")).await;
    gate.knows(4).await;
    is_avoided(&gate, &first).await;
    // Calls of nodes to it by name are still answered.
    let named = cluster.gate.handle().call("Room.Who");
    let answer = within("a reply", named.to(backend(&first).address()).raw("")).await;
    assert_eq!(text(&answer.unwrap()), first);

    a.close();
    within(
        "the end of the drained backend",
        backend(&first).node().stopped(),
    )
    .await;
    assert_eq!(who(&b).await, second);
}

#[tokio::test]
async fn the_only_backend_serves_no_new_sessions_while_it_drains_but_calls() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;
    assert_eq!(who(&client).await, "a");
    cluster.backends[0].node.handle().drain(LONG);
    is_avoided(&cluster.gate, "a").await;
    let new = cluster.client().await;
    assert_eq!(
        code_of(within("an answer", new.request_raw("Room.Who", "")).await),
        code::UNAVAILABLE
    );
    let call = cluster.gate.handle().call("Room.Who").raw("");
    assert_eq!(text(&within("a reply", call).await.unwrap()), "a");
    assert_eq!(who(&client).await, "a");
}

/// Sends players to another gate.
struct Mover;

impl Component<Raw> for Mover {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Ping", |_: &Self, _: &Session<Raw>, body: Bytes| {
            nano::Result::<Bytes>::Ok(body)
        })
    }

    fn before_drain(self: &Arc<Self>, node: &Handle) {
        for session in node.sessions().list() {
            // One that has just closed gets no push.
            let _ = session.push_raw("onMove", "");
        }
    }
}

/// A player that is always asking, at a gate that is ready, and moves when a push asks for it.
struct Load {
    gates: parking_lot::RwLock<Vec<Arc<TestNode>>>,
    answers: AtomicUsize,
    moves: AtomicUsize,
    done: AtomicBool,
}

impl Load {
    fn first(&self) -> Arc<TestNode> {
        self.gates.read()[0].clone()
    }

    fn ready_gate(&self) -> Arc<TestNode> {
        let gates = self.gates.read();
        let ready = gates
            .iter()
            .find(|gate| gate.handle().readiness() == Readiness::Ready);
        ready.expect("one gate is ready at any time").clone()
    }

    async fn play(&self) {
        while !self.done.load(Relaxed) {
            let client: Client<Raw> = self.ready_gate().client_of().await;
            let moved = Arc::new(AtomicBool::new(false));
            client.on("onMove", {
                let moved = moved.clone();
                move |_| moved.store(true, Relaxed)
            });
            while !moved.load(Relaxed) && !self.done.load(Relaxed) {
                let answer = within("an answer", client.request_raw("Room.Echo", "x")).await;
                assert_eq!(text(&answer.expect("no request fails")), "x");
                self.answers.fetch_add(1, Relaxed);
            }
            self.moves.fetch_add(1, Relaxed);
            client.close();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_gates_and_backends_are_replaced_one_by_one() {
    const PLAYERS: usize = 8;
    let mut cluster = RoomCluster::with(&["a", "b"]).await;
    let gate = async |cluster: &RoomCluster| {
        let app = member(&cluster.master).component(Mover);
        Arc::new(TestNode::start(app.tcp("127.0.0.1:0")).await)
    };
    let load = Arc::new(Load {
        gates: parking_lot::RwLock::new(vec![gate(&cluster).await]),
        answers: AtomicUsize::new(0),
        moves: AtomicUsize::new(0),
        done: AtomicBool::new(false),
    });
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let load = load.clone();
            tokio::spawn(async move { load.play().await })
        })
        .collect();
    let more = async || {
        let before = load.answers.load(Relaxed);
        eventually("more answers", || load.answers.load(Relaxed) > before + 100).await;
    };
    more().await;
    for name in ["c", "d"] {
        let new = cluster.backend(name, |app| app).await;
        load.first().knows(5).await;
        let Backend { node, .. } = cluster.backends.remove(0);
        // Sessions do not leave by themselves here: at the deadline they are rebound.
        node.handle().drain(Duration::from_millis(100));
        within("the end of a backend", node.node().stopped()).await;
        cluster.backends.push(new);
        load.first().knows(4).await;
        more().await;
    }
    for _ in 0..2 {
        let new = gate(&cluster).await;
        new.knows(5).await;
        load.gates.write().push(new);
        let old = load.first();
        old.handle().drain(LONG);
        within("the end of a gate", old.node().stopped()).await;
        load.gates.write().remove(0);
        more().await;
    }
    load.done.store(true, Relaxed);
    for player in players {
        within("the end of a player", player).await.unwrap();
    }
    assert!(load.moves.load(Relaxed) >= 3 * PLAYERS);
}
