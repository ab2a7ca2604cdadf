//! Values that all nodes which serve a session share.

use bytes::Bytes;
use nano::{
    Component, Handlers, Options, Result, Session, client::Client, code, testing::TestNode,
};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{RoomCluster, master, member},
    raw_link::{
        frame, open,
        proto::{Frame, Kind, Share, SharedValue},
    },
    scripted_peer::{ScriptedPeer, ask},
};

/// Reads and changes the shared values of the sessions that ask for it.
struct Store;

#[derive(Serialize, Deserialize)]
struct Change {
    key: String,
    value: Option<u64>,
}

impl Component for Store {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Set", Self::set)
            .on("Get", Self::get)
            .on("All", Self::all)
            .on("Forward", Self::forward)
    }
}

impl Store {
    fn set(&self, session: &Session, change: Change) -> Result<bool> {
        match change.value {
            Some(value) => session.shared().set(change.key, &value).map(|()| true),
            None => session.shared().remove(change.key),
        }
    }

    fn get(&self, session: &Session, key: String) -> Result<Option<u64>> {
        session.shared().get(key)
    }

    fn all(&self, session: &Session, _: ()) -> Result<String> {
        Ok(serde_json::to_string(&session.shared().all())?)
    }

    /// Sets a value, and sends a one-way message that follows it.
    fn forward(&self, session: &Session, change: Change) -> Result<()> {
        session.shared().set("forwarded", &change.value)?;
        session.rpc("B.Echo", &change.value)
    }
}

/// Pushes what it finds in the shared values of a session.
struct Echo;

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Get", |_: &Self, session: &Session, key: String| {
            session.shared().get::<u64>(key)
        })
        .on("Echo", |_: &Self, session: &Session, _: Option<u64>| {
            let value = session.shared().get::<u64>("forwarded")?;
            session.push("onForwarded", &value)
        })
    }
}

/// A master, a gate and two backends with a service each.
struct Nodes {
    master: TestNode,
    gate: TestNode,
    a: TestNode,
    _b: TestNode,
}

impl Nodes {
    async fn start() -> Self {
        let master = master().await;
        let gate = TestNode::start(member(&master).tcp("127.0.0.1:0")).await;
        let a = member(&master).component_with(Store, Options::new().name("A"));
        let b = member(&master).component_with(Echo, Options::new().name("B"));
        let (a, b) = (TestNode::start(a).await, TestNode::start(b).await);
        gate.knows(3).await;
        Self {
            master,
            gate,
            a,
            _b: b,
        }
    }
}

#[tokio::test]
async fn a_change_is_on_every_node_ahead_of_the_messages_that_follow() {
    let nodes = Nodes::start().await;
    let client: Client = nodes.gate.client_of().await;
    let mut forwarded = client.subscribe("onForwarded");
    let key = "level".to_owned();
    for value in 1..=50 {
        let change = Change {
            key: key.clone(),
            value: Some(value),
        };
        let _: bool = client.request("A.Set", &change).await.unwrap();
        let seen: Option<u64> = client.request("B.Get", &key).await.unwrap();
        assert_eq!(seen, Some(value));
        // Here the backend's own message follows.
        client.notify("A.Forward", &change).await.unwrap();
        let seen: Option<u64> = forwarded.recv_as().await.unwrap().unwrap();
        assert_eq!(seen, Some(value));
    }
    let gate = &nodes.gate.handle().sessions().list()[0];
    assert_eq!(gate.shared().get::<u64>("level").unwrap(), Some(50));
    let remove = Change {
        key: key.clone(),
        value: None,
    };
    assert!(client.request::<bool, _>("A.Set", &remove).await.unwrap());
    let seen: Option<u64> = client.request("B.Get", &key).await.unwrap();
    assert_eq!(seen, None);
    assert!(!client.request::<bool, _>("A.Set", &remove).await.unwrap());
}

#[tokio::test]
async fn a_node_that_begins_to_serve_a_session_has_all_its_values() {
    let nodes = Nodes::start().await;
    let client: Client = nodes.gate.client_of().await;
    let gate = nodes.gate.handle().sessions().list().remove(0);
    gate.shared().set("level", &7).unwrap();
    gate.shared().set("name", "Ann").unwrap();
    let all: String = client.request("A.All", &()).await.unwrap();
    assert_eq!(all, r#"{"level":7,"name":"Ann"}"#);

    let error = gate.shared().get::<u64>("name").unwrap_err();
    assert_eq!(error.code(), code::BAD_REQUEST);
    let error = gate.shared().set("big", &"x".repeat(65_536)).unwrap_err();
    assert_eq!(error.code(), code::TOO_LARGE);
    client.close();
    nodes.gate.has_no_sessions().await;
    let error = gate.shared().set("level", &8).unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
    assert_eq!(gate.shared().all().len(), 2);
}

#[tokio::test]
async fn a_change_that_does_not_fit_at_the_gate_is_undone_and_a_repeated_one_undoes_nothing() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ScriptedPeer::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;
    let _asked = ask(&client);
    let id = member.next(Kind::Message).await.session;
    let session = cluster.gate.handle().session(id).unwrap();
    session.shared().set("big", &"x".repeat(65_000)).unwrap();
    assert_eq!(member.next(Kind::Shared).await.binds, 0);

    let stream = member.stream_to(&cluster.gate, id).await;
    let with = |kind, binds, value: &str| with_value(kind, id, binds, value);
    stream.send(vec![with(Kind::Share, 1, "1")]);
    assert_eq!(member.next(Kind::Shared).await, with(Kind::Shared, 1, "1"));
    let long = format!("\"{}\"", "y".repeat(1_000));
    stream.send(vec![with(Kind::Share, 2, &long)]);
    assert_eq!(member.next(Kind::Shared).await, with(Kind::Shared, 2, "1"));
    stream.send(vec![with(Kind::Share, 3, "not json")]);
    assert_eq!(member.next(Kind::Shared).await, with(Kind::Shared, 3, "1"));

    session.shared().set("k", &2).unwrap();
    assert_eq!(member.next(Kind::Shared).await, with(Kind::Shared, 3, "2"));
    stream.send(vec![with(Kind::Share, 3, "3")]);
    assert_eq!(member.next(Kind::Bound).await.binds, 3);
    assert_eq!(session.shared().get::<u64>("k").unwrap(), Some(2));
}

/// A frame with one value, under the key `k`.
fn with_value(kind: Kind, session: i64, binds: u32, value: &str) -> Frame {
    let value = SharedValue {
        key: "k".to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Frame {
        session,
        binds,
        share: Some(Box::new(Share {
            values: vec![value],
            all: false,
        })),
        ..frame(kind)
    }
}

#[tokio::test]
async fn a_change_is_seen_where_it_was_made_until_the_gate_has_a_later_one() {
    let nodes = Nodes::start().await;
    let mut gate = ScriptedPeer::join(&nodes.master, 7).await;
    nodes.a.knows(4).await;
    let stream = gate.stream_to(&nodes.a, 5).await;
    stream.send(vec![open(5, 1, false), frame(Kind::ResyncDone)]);
    let request = |request, route: &'static str, body: &'static str| Frame {
        session: 5,
        request,
        route: Bytes::from_static(route.as_bytes()),
        body: Bytes::from_static(body.as_bytes()),
        ..frame(Kind::Message)
    };
    let shared = |binds, value| with_value(Kind::Shared, 5, binds, value);
    stream.send(vec![request(1, "A.Set", r#"{"key":"k","value":1}"#)]);
    let share = gate.next(Kind::Share).await;
    assert_eq!(share, with_value(Kind::Share, 5, 1, "1"));
    gate.next(Kind::Response).await;
    // What the gate had before it saw the change is older; what it has afterwards is not.
    for (value, seen) in [
        (shared(0, "9"), "1"),
        (shared(1, "1"), "1"),
        (shared(1, "9"), "9"),
        (shared(1, ""), "null"),
    ] {
        stream.send(vec![value, request(2, "A.Get", "\"k\"")]);
        let body = gate.next(Kind::Response).await.body;
        assert_eq!(std::str::from_utf8(&body).unwrap(), seen);
    }
}
