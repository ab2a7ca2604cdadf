//! Channels whose owner stops or dies, and members behind a gate of Go nano.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nano::{
    Handle, Position, Result,
    client::{Client, Subscription},
    code,
    testing::TestNode,
};

use crate::{
    channels::{Nodes, client, numbers},
    cluster::{Room, member},
    go::{Call, GoNode, proto::RequestMessage},
    go_backends::join,
    raw_link::{
        frame,
        proto::{Frame, Kind},
    },
    scripted_peer::ScriptedPeer,
};

/// So many that each node owns some, whatever its address.
const CHANNELS: usize = 40;

/// Two gates with a member of all channels each, and a node that publishes to them.
struct Guilds {
    nodes: Nodes,
    members: Vec<(Subscription, Client)>,
    number: usize,
    /// The epochs of each channel.
    epochs: BTreeMap<usize, BTreeSet<u64>>,
    /// What was published, by channel.
    published: BTreeMap<usize, Vec<usize>>,
}

impl Guilds {
    async fn start() -> Self {
        let nodes = Nodes::start(2, 2).await;
        let mut members = Vec::new();
        for gate in &nodes.gates {
            let (client, session) = client(gate).await;
            for at in 0..CHANNELS {
                let channel = gate.handle().channel(name(at));
                channel.join(&session).await.unwrap();
            }
            members.push((client.subscribe("on"), client));
        }
        Self {
            nodes,
            members,
            number: 0,
            epochs: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    fn publisher(&self) -> Handle {
        self.nodes.backends[0].handle().clone()
    }

    async fn publish(&mut self, at: usize) -> Result<Position> {
        self.number += 1;
        let channel = self.publisher().channel(name(at));
        let position = channel.publish("on", &(at, self.number)).await?;
        self.epochs.entry(at).or_default().insert(position.epoch);
        self.published.entry(at).or_default().push(self.number);
        Ok(position)
    }

    /// How many channels have had two owners.
    fn moved(&self) -> usize {
        self.epochs
            .values()
            .filter(|epochs| epochs.len() > 1)
            .count()
    }

    /// Publishes one more to each channel. Returns what each member got of each, up to there.
    async fn received(&mut self) -> Vec<BTreeMap<usize, Vec<usize>>> {
        for at in 0..CHANNELS {
            let channel = self.publisher().channel(name(at));
            channel.publish("on", &(at, 0)).await.unwrap();
        }
        let mut all = Vec::new();
        for (on, _) in &mut self.members {
            let mut received = BTreeMap::<_, Vec<_>>::new();
            let mut open = CHANNELS;
            while open > 0 {
                match numbers(on, 1).await[0] {
                    (_, 0) => open -= 1,
                    (at, number) => received.entry(at).or_default().push(number),
                }
            }
            for numbers in received.values() {
                let increasing = numbers.windows(2).all(|two| two[0] < two[1]);
                assert!(increasing, "once, and in order: {numbers:?}");
            }
            all.push(received);
        }
        all
    }
}

fn name(at: usize) -> String {
    format!("guild.{at}")
}

#[tokio::test]
async fn members_stay_when_the_owner_dies_and_get_nothing_twice() {
    let mut guilds = Guilds::start().await;
    let mut victim = guilds.nodes.backends.pop().unwrap();
    for at in 0..CHANNELS {
        guilds.publish(at).await.unwrap();
    }
    victim.kill();
    // Until all channels can be published to again.
    let mut back = BTreeSet::new();
    while back.len() < CHANNELS {
        for at in 0..CHANNELS {
            match guilds.publish(at).await {
                Ok(_) => drop(back.insert(at)),
                Err(error) => assert_eq!(error.code(), code::UNAVAILABLE),
            }
        }
    }
    let moved = guilds.moved();
    assert!((1..CHANNELS).contains(&moved), "{moved} owners changed");
    for at in 0..CHANNELS {
        let channel = guilds.publisher().channel(name(at));
        assert_eq!(channel.count().await.unwrap(), 2);
    }
    for received in guilds.received().await {
        for (at, published) in &guilds.published {
            // What failed may have been published, too.
            let received: BTreeSet<_> = received[at].iter().collect();
            let after = published.iter().rev().take(1);
            assert!(after.into_iter().all(|number| received.contains(number)));
        }
    }
}

#[tokio::test]
async fn nothing_fails_and_nothing_is_lost_when_the_owner_stops() {
    let mut guilds = Guilds::start().await;
    let stopping = guilds.nodes.backends.pop().unwrap();
    for at in 0..CHANNELS {
        guilds.publish(at).await.unwrap();
    }
    let mut stop = std::pin::pin!(stopping.stop());
    let mut stopped = false;
    while !stopped || guilds.number < 200 {
        for at in 0..CHANNELS {
            tokio::select! {
                biased;
                () = &mut stop, if !stopped => stopped = true,
                () = std::future::ready(()) => {}
            }
            guilds.publish(at).await.unwrap();
        }
    }
    let moved = guilds.moved();
    assert!((1..CHANNELS).contains(&moved), "{moved} owners changed");
    for received in guilds.received().await {
        assert_eq!(received, guilds.published);
    }
}

/// Publishes to channels with a history, lets `end` end a node of two, and returns for each channel
/// whether it has another epoch and whether a member that returns got what it had missed.
async fn returns_after(end: impl AsyncFnOnce(TestNode)) -> Vec<(bool, bool)> {
    let mut nodes = Nodes::start(1, 1).await;
    let gate = nodes.gates.pop().unwrap();
    let channel = |at| {
        let channel = gate.handle().channel(name(at));
        channel.with_history(10, Duration::from_secs(60))
    };
    let mut since = Vec::new();
    for at in 0..CHANNELS {
        let mut positions = Vec::new();
        for number in 0..3 {
            positions.push(channel(at).publish("on", &(at, number)).await.unwrap());
        }
        since.push(positions[0]);
    }
    end(nodes.backends.pop().unwrap()).await;
    gate.knows(1).await;

    let (client, session) = client(&gate).await;
    let mut on = client.subscribe("on");
    let mut returns = Vec::new();
    for (at, since) in since.into_iter().enumerate() {
        let back = channel(at).rejoin(&session, since).await.unwrap();
        // Behind what was missed, if anything is.
        let last = channel(at).publish("on", &(at, 3)).await.unwrap();
        let expected: Vec<_> = if back.recovered { 1..=3 } else { 3..=3 }.collect();
        let got = numbers(&mut on, expected.len()).await;
        let expected: Vec<_> = expected.into_iter().map(|number| (at, number)).collect();
        assert_eq!(got, expected, "channel {at}");
        returns.push((last.epoch != since.epoch, back.recovered));
    }
    returns
}

#[tokio::test]
async fn a_history_goes_to_the_next_owner_when_the_owner_stops() {
    let returns = returns_after(async |node| node.stop().await).await;
    assert_eq!(returns, [(false, true); CHANNELS]);
}

#[tokio::test]
async fn a_member_that_returns_after_the_owner_died_learns_that_its_history_is_lost() {
    let returns = returns_after(async |mut node| node.kill()).await;
    let lost = returns.iter().filter(|back| **back == (true, false));
    let kept = returns.iter().filter(|back| **back == (false, true));
    let (lost, kept) = (lost.count(), kept.count());
    assert!(
        lost > 0 && kept > 0 && lost + kept == CHANNELS,
        "{returns:?}"
    );
}

#[tokio::test]
async fn a_client_of_a_go_gate_is_a_member_and_broadcasts_name_the_gate_as_missed() {
    let nodes = Nodes::start(1, 0).await;
    let room = nano::Options::new().name("Room");
    let backend = member(&nodes.master).component_with(Room::new("a"), room);
    let backend = nano::testing::TestNode::start(backend).await;
    let mut gate: GoNode = join(&nodes.master, &["GateSvc"]).await;
    backend.knows(3).await;
    nodes.gates[0].knows(3).await;
    let hello = RequestMessage {
        gate_addr: gate.address.clone(),
        session_id: 777,
        id: 5,
        route: "Room.Echo".to_owned(),
        data: "hello".into(),
    };
    let mut calls = crate::go::client(&backend.address());
    calls.handle_request(hello).await.unwrap();
    gate.message().await;
    let session = backend.handle().session(777).unwrap();
    let channel = backend.handle().channel("guild");
    channel.join(&session).await.unwrap();
    let other = nodes.gates[0].handle();
    other.channel("guild").publish("on", &1).await.unwrap();
    let Call::Push(push) = gate.message().await else {
        panic!("not a push")
    };
    assert_eq!(
        (push.session_id, &*push.route, &push.data[..]),
        (777, "on", &b"1"[..])
    );
    assert_eq!(other.broadcast("on", &2).unwrap(), [gate.address.clone()]);
    let error = session.shared().set("key", &1).unwrap_err();
    assert_eq!(error.code(), code::UNSUPPORTED);
}

#[tokio::test]
async fn garbage_of_another_node_is_refused_and_changes_nothing() {
    let nodes = Nodes::start(1, 0).await;
    let gate = &nodes.gates[0];
    let (_client, session) = client(gate).await;
    let channel = gate.handle().channel("guild");
    channel.join(&session).await.unwrap();
    let mut peer = ScriptedPeer::join(&nodes.master, 7).await;
    gate.knows(2).await;
    let stream = peer.stream_to(gate, 0).await;
    let methods = [
        "Join", "Part", "Held", "Joined", "Deliver", "Collect", "Publish", "Gates", "Members",
        "Enter", "Leave", "Other",
    ];
    let names = methods.map(|method| format!("Channels.{method}"));
    let names = names.into_iter().chain(["Clients.Broadcast".to_owned()]);
    for (at, route) in names.enumerate() {
        let call = Frame {
            request: at as u64 + 1,
            route: route.clone().into(),
            body: vec![0xFF; 9].into(),
            ..frame(Kind::NodeCall)
        };
        // As a one-way message, too.
        let message = Frame {
            request: 0,
            ..call.clone()
        };
        stream.send(vec![message, call]);
        let reply = peer.next(Kind::Reply).await;
        assert_eq!(reply.request, at as u64 + 1);
        assert!(reply.error, "{route}: {:?}", reply.body);
    }
    // An empty body is a message whose fields are all absent: it names no channel and no session.
    for method in ["Publish", "Enter", "Leave", "Join", "Deliver"] {
        let call = Frame {
            request: 99,
            route: format!("Channels.{method}").into(),
            ..frame(Kind::NodeCall)
        };
        stream.send(vec![call]);
        let reply = peer.next(Kind::Reply).await;
        assert!(reply.error, "{method}: {:?}", reply.body);
    }
    // It may own the channel, and answers no call.
    peer.leave().await;
    gate.knows(1).await;
    assert_eq!(channel.count().await.unwrap(), 1);
}
