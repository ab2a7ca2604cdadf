//! Channels that span a cluster, and broadcasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use nano::{
    Component, Handle, Handlers, Limits, Options, Position, Rejoined, Result, Session, UserId,
    client::{Client, Subscription},
    code,
    testing::{TestNode, within},
};

use crate::cluster::{code_of, master, member};

/// Joins, leaves and publishes for the sessions that ask for it.
struct Guild;

impl Component for Guild {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
            .on("Leave", Self::leave)
            .on("Publish", Self::publish)
            .on("Bind", |_: &Self, session: &Session, user: UserId| {
                session.bind(user).map(|()| true)
            })
    }
}

impl Guild {
    async fn join(self: Arc<Self>, session: Session, channel: String) -> Result<Position> {
        session.node()?.channel(channel).join(&session).await
    }

    async fn leave(self: Arc<Self>, session: Session, channel: String) -> Result<bool> {
        session.node()?.channel(channel).leave(&session).await
    }

    async fn publish(
        self: Arc<Self>,
        session: Session,
        (channel, text): (String, String),
    ) -> Result<Position> {
        session
            .node()?
            .channel(channel)
            .publish("onSay", &text)
            .await
    }
}

/// A master, gates, and backends with a guild each.
pub(crate) struct Nodes {
    pub(crate) master: TestNode,
    pub(crate) gates: Vec<TestNode>,
    pub(crate) backends: Vec<TestNode>,
}

impl Nodes {
    pub(crate) async fn start(gates: usize, backends: usize) -> Self {
        let master = master().await;
        let gate = || TestNode::start(member(&master).tcp("127.0.0.1:0"));
        let gates = join_all((0..gates).map(|_| gate())).await;
        let backend = |at| {
            let options = Options::new().name(format!("Guild{at}"));
            TestNode::start(member(&master).component_with(Guild, options))
        };
        let backends = join_all((0..backends).map(backend)).await;
        let nodes = Self {
            master,
            gates,
            backends,
        };
        nodes.know_each_other().await;
        nodes
    }

    async fn know_each_other(&self) {
        let all = self.all();
        for node in &all {
            node.knows(all.len() - 1).await;
        }
    }

    fn all(&self) -> Vec<&TestNode> {
        let others = self.gates.iter().chain(&self.backends);
        others.chain([&self.master]).collect()
    }
}

/// A client of a gate, and the handle of its session there.
pub(crate) async fn client(gate: &TestNode) -> (Client, Session) {
    let known: BTreeSet<_> = ids(gate).collect();
    let client: Client = gate.client_of().await;
    let new = |id: &i64| !known.contains(id);
    let id = ids(gate).find(new).unwrap();
    (client, gate.handle().session(id).unwrap())
}

fn ids(gate: &TestNode) -> impl Iterator<Item = i64> {
    let sessions = gate.handle().sessions().list();
    sessions.into_iter().map(|session| session.id())
}

/// Receives so many numbers.
pub(crate) async fn numbers(pushes: &mut Subscription, count: usize) -> Vec<(usize, usize)> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let next = within("a publication", pushes.recv_as()).await;
        numbers.push(next.unwrap().unwrap());
    }
    numbers
}

async fn publish_numbers(node: &Handle, publisher: usize, count: usize) {
    let channel = node.channel("guild");
    let mut last = Position::default();
    for number in 0..count {
        let position = channel.publish("on", &(publisher, number)).await.unwrap();
        assert!(position > last, "{position:?} behind {last:?}");
        last = position;
    }
}

/// Ten publishers on all nodes, members on three gates.
async fn one_order(nodes: &Nodes, members: usize, count: usize) {
    let mut clients = Vec::new();
    for at in 0..members {
        let gate = &nodes.gates[at % nodes.gates.len()];
        let (client, session) = client(gate).await;
        gate.handle().channel("guild").join(&session).await.unwrap();
        clients.push((client.subscribe("on"), client));
    }
    let all = nodes.all();
    let publishers = (0..10).map(|at| publish_numbers(all[at % all.len()].handle(), at, count));
    let publishing = join_all(publishers);
    let receiving = join_all(clients.iter_mut().map(|(on, _)| numbers(on, 10 * count)));
    let (_, received) = tokio::join!(publishing, receiving);
    for received in &received {
        assert_eq!(*received, in_order(received));
    }
    assert!(received.windows(2).all(|two| two[0] == two[1]), "one order");
}

/// The same, if each publisher's numbers are in order.
fn in_order(received: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut next = BTreeMap::new();
    for (publisher, number) in received {
        let expected = next.entry(publisher).or_insert(0);
        assert_eq!(number, expected, "publisher {publisher}");
        *expected += 1;
    }
    received.to_vec()
}

#[tokio::test]
async fn all_members_on_all_gates_see_the_publications_of_all_nodes_in_one_order() {
    let nodes = Nodes::start(3, 2).await;
    one_order(&nodes, 12, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn three_hundred_members_see_one_order() {
    let nodes = Nodes::start(3, 6).await;
    one_order(&nodes, 300, 50).await;
}

#[tokio::test]
async fn a_backend_makes_clients_of_gates_members_until_they_leave_or_go() {
    let nodes = Nodes::start(2, 1).await;
    let (ann, ben) = (
        client(&nodes.gates[0]).await.0,
        client(&nodes.gates[1]).await.0,
    );
    let mut says = [ann.subscribe("onSay"), ben.subscribe("onSay")];
    let guild = nodes.master.handle().channel("guild.7");
    let _: bool = ann.request("Guild0.Bind", &"ann").await.unwrap();
    let _: bool = ben.request("Guild0.Bind", &7).await.unwrap();
    for client in [&ann, &ben, &ben] {
        let _: Position = client.request("Guild0.Join", "guild.7").await.unwrap();
    }
    assert_eq!(
        guild.members().await.unwrap(),
        [UserId::from(7), "ann".into()]
    );
    assert_eq!(guild.count().await.unwrap(), 2);
    let say = ("guild.7", "hello");
    let position: Position = ann.request("Guild0.Publish", &say).await.unwrap();
    assert_eq!(position.offset, 1);
    for said in &mut says {
        let text: String = within("hello", said.recv_as()).await.unwrap().unwrap();
        assert_eq!(text, "hello");
    }

    assert!(
        ann.request::<bool, _>("Guild0.Leave", "guild.7")
            .await
            .unwrap()
    );
    assert!(
        !ann.request::<bool, _>("Guild0.Leave", "guild.7")
            .await
            .unwrap()
    );
    let say = ("guild.7", "bye");
    let _: Position = ann.request("Guild0.Publish", &say).await.unwrap();
    within("bye", says[1].recv()).await.unwrap();
    assert!(says[0].try_recv().is_none());
    ben.close();
    nodes.gates[1].has_no_sessions().await;
    assert_eq!(guild.count().await.unwrap(), 0);
    let _: Position = ann.request("Guild0.Publish", &say).await.unwrap();
}

#[tokio::test]
async fn a_member_that_returns_gets_what_it_missed_or_learns_that_it_cannot() {
    let nodes = Nodes::start(2, 0).await;
    let [first, second] = &nodes.gates[..] else {
        unreachable!()
    };
    let channel = |node: &TestNode| {
        let channel = node.handle().channel("guild");
        channel.with_history(5, Duration::from_secs(60))
    };
    let (ann, session) = client(first).await;
    let joined = channel(first).join(&session).await.unwrap();
    let mut on = ann.subscribe("on");
    let at = channel(second).publish("on", &(0, 0)).await.unwrap();
    assert_eq!((at.epoch, at.offset), (joined.epoch, joined.offset + 1));
    numbers(&mut on, 1).await;
    let error = channel(first).rejoin(&session, at).await.unwrap_err();
    assert_eq!(error.code(), code::CONFLICT);
    ann.close();
    first.has_no_sessions().await;
    for number in 1..=5 {
        channel(first).publish("on", &(0, number)).await.unwrap();
    }

    // At another gate, where the others are live.
    let (ben, session) = client(second).await;
    let mut on = ben.subscribe("on");
    let back = channel(second).rejoin(&session, at).await.unwrap();
    let position = Position {
        offset: at.offset + 5,
        ..at
    };
    let Rejoined {
        position: at_end,
        recovered,
        ..
    } = back;
    assert_eq!((at_end, recovered), (position, true));
    channel(first).publish("on", &(0, 6)).await.unwrap();
    let expected: Vec<_> = (1..=6).map(|number| (0, number)).collect();
    assert_eq!(numbers(&mut on, 6).await, expected);

    // One more than is kept, another epoch, and a publication that nothing keeps.
    let lost = [at, Position { epoch: 1, ..at }];
    let lost = lost.into_iter().chain([Position {
        offset: 99,
        ..position
    }]);
    for since in lost {
        let (client, session) = client(first).await;
        let mut on = client.subscribe("on");
        let back = channel(first).rejoin(&session, since).await.unwrap();
        assert!(!back.recovered, "{since:?}");
        assert!(on.try_recv().is_none());
    }
    let (_client, session) = client(first).await;
    let unkept = first.handle().channel("guild");
    let last = unkept.publish("on", &(0, 7)).await.unwrap();
    let back = channel(first).rejoin(&session, position).await.unwrap();
    assert_eq!((back.position, back.recovered), (last, false));
}

#[tokio::test]
async fn what_a_channel_cannot_do_is_an_error() {
    let nodes = Nodes::start(1, 1).await;
    let gate = &nodes.gates[0];
    let (client, session) = client(gate).await;
    for name in ["", &"n".repeat(256)] {
        let channel = gate.handle().channel(name);
        assert_eq!(code_of(channel.join(&session).await), code::BAD_REQUEST);
        assert_eq!(code_of(channel.publish("on", &1).await), code::BAD_REQUEST);
        assert_eq!(code_of(channel.count().await), code::BAD_REQUEST);
        let error = client.request::<Position, _>("Guild0.Join", name).await;
        assert_eq!(code_of(error), code::BAD_REQUEST);
    }
    let channel = gate.handle().channel("n".repeat(255));
    let route = "r".repeat(256);
    assert_eq!(code_of(channel.publish(&route, &1).await), code::TOO_LARGE);
    channel.join(&session).await.unwrap();
    client.close();
    gate.has_no_sessions().await;
    assert_eq!(code_of(channel.join(&session).await), code::CLOSED);
    assert_eq!(channel.count().await.unwrap(), 0);
    let mut gate = nodes.gates.into_iter().next().unwrap();
    let handle = gate.handle().clone();
    gate.stop().await;
    assert_eq!(code_of(channel.count().await), code::UNAVAILABLE);
    assert_eq!(
        code_of(handle.channel("a").count().await),
        code::UNAVAILABLE
    );
    assert_eq!(code_of(handle.broadcast("on", &1)), code::UNAVAILABLE);
    gate.kill();
}

#[tokio::test]
async fn a_bound_on_channels_refuses_more_and_changes_nothing() {
    let limits = Limits::new().max_channels(3).max_channels_per_session(2);
    let app = nano::App::new().tcp("127.0.0.1:0").limits(limits);
    let node = TestNode::start(app).await;
    let (ann, of_ann) = client(&node).await;
    let (ben, of_ben) = client(&node).await;
    let channel = |name: &str| node.handle().channel(name);
    let mut on = ann.subscribe("on");
    for name in ["a", "b", "a"] {
        channel(name).join(&of_ann).await.unwrap();
    }
    // Of one session, which others do not suffer for.
    assert_eq!(code_of(channel("c").join(&of_ann).await), code::TOO_MANY);
    let since = Position::default();
    let error = channel("c").rejoin(&of_ann, since).await;
    assert_eq!(code_of(error), code::TOO_MANY);
    channel("c").join(&of_ben).await.unwrap();

    // Of the owner: no more members, and no history; a channel that keeps nothing takes no room.
    assert_eq!(code_of(channel("d").join(&of_ben).await), code::TOO_MANY);
    let kept = channel("d").with_history(1, Duration::from_secs(9));
    assert_eq!(code_of(kept.publish("on", &1).await), code::TOO_MANY);
    channel("d").publish("on", &(0, 0)).await.unwrap();
    assert_eq!(channel("d").count().await.unwrap(), 0);
    channel("a").publish("on", &(0, 1)).await.unwrap();
    assert_eq!(numbers(&mut on, 1).await, [(0, 1)]);

    // What ends makes room.
    assert!(channel("b").leave(&of_ann).await.unwrap());
    channel("d").join(&of_ann).await.unwrap();
    ben.close();
    within("room for one more", async {
        while channel("e").join(&of_ann).await.is_err() {
            channel("d").leave(&of_ann).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_standalone_node_has_channels_and_broadcasts() {
    let node = TestNode::start(nano::App::new().tcp("127.0.0.1:0")).await;
    let (client, session) = client(&node).await;
    let channel = node
        .handle()
        .channel("lobby")
        .with_history(9, Duration::from_secs(9));
    let mut on = client.subscribe("on");
    let at = channel.join(&session).await.unwrap();
    channel.publish("on", &(0, 1)).await.unwrap();
    assert_eq!(
        node.handle().broadcast("on", &(0, 2)).unwrap(),
        Vec::<String>::new()
    );
    numbers(&mut on, 2).await;
    assert!(channel.leave(&session).await.unwrap());
    assert!(channel.rejoin(&session, at).await.unwrap().recovered);
    assert_eq!(numbers(&mut on, 1).await, [(0, 1)]);
    client.close();
    node.has_no_sessions().await;
    assert_eq!(channel.count().await.unwrap(), 0);
    assert_eq!(channel.members().await.unwrap(), []);
}

#[tokio::test]
async fn a_broadcast_reaches_all_clients_of_all_gates_in_order_with_other_pushes() {
    let nodes = Nodes::start(3, 1).await;
    let mut clients = Vec::new();
    for gate in nodes.gates.iter().chain(&nodes.gates) {
        let (client, session) = client(gate).await;
        let _: bool = client.request("Guild0.Bind", &1).await.unwrap();
        clients.push((client.subscribe("on"), client, session.id()));
    }
    let backend = nodes.backends[0].handle();
    for number in 0..20 {
        let missed = backend.broadcast("on", &(0, number)).unwrap();
        assert_eq!(missed, Vec::<String>::new());
        for (_, _, id) in &clients {
            let session = backend.session(*id).unwrap();
            session.push("on", &(1, number)).unwrap();
        }
    }
    let expected: Vec<_> = (0..20)
        .flat_map(|number| [(0, number), (1, number)])
        .collect();
    for (on, ..) in &mut clients {
        assert_eq!(numbers(on, 40).await, expected);
    }
    let long = "r".repeat(256);
    assert_eq!(code_of(backend.broadcast(&long, &1)), code::TOO_LARGE);
}
