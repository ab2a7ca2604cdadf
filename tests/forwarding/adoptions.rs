//! Sessions that another node hands over: garbage, sessions that cannot be, calls that are repeated.

use std::{collections::BTreeMap, time::Duration};

use nano::{
    packet::Kind as PacketKind,
    testing::{RawClient, TestNode, eventually},
};
use prost::Message;
use serde_json::{Value, json};

use self::proto::{
    ChannelPosition, MovedChannel, MovedRequest, MovedService, MovedValue, SessionAdopt,
    SessionAttach, SessionClose, SessionHold, SessionRelease, UserId,
};
use crate::{
    channels::{Nodes, client},
    raw_link::{
        RawLink, frame,
        proto::{Frame, Kind},
    },
    scripted_peer::ScriptedPeer,
};

#[allow(dead_code, clippy::all, unreachable_pub, rust_2018_idioms)]
mod proto {
    include!("../../src/cluster/generated/nano.players.v1.rs");
}

/// A gate, and a member that calls it.
struct Caller {
    peer: ScriptedPeer,
    stream: RawLink,
    last: u64,
    /// Of the gate.
    incarnation: u64,
}

impl Caller {
    async fn new(nodes: &Nodes) -> Self {
        let gate = &nodes.gates[0];
        let peer = ScriptedPeer::join(&nodes.master, 7).await;
        gate.knows(2).await;
        let stream = peer.stream_to(gate, 0).await;
        Self {
            peer,
            stream,
            last: 0,
            incarnation: gate.handle().member().unwrap().incarnation(),
        }
    }

    /// Whether a call is answered without an error.
    async fn call(&mut self, route: &str, body: Vec<u8>) -> bool {
        self.last += 1;
        let call = Frame {
            request: self.last,
            route: route.to_owned().into(),
            body: body.into(),
            ..frame(Kind::NodeCall)
        };
        // As a one-way message, too: it has no answer.
        if !route.ends_with("Adopt") {
            let message = Frame {
                request: 0,
                ..call.clone()
            };
            self.stream.send(vec![message]);
        }
        self.stream.send(vec![call]);
        let reply = self.peer.next(Kind::Reply).await;
        assert_eq!(reply.request, self.last, "{route}");
        !reply.error
    }

    /// Sends calls at once. Returns the errors, in the order of the calls.
    async fn call_all(&mut self, calls: Vec<(&str, Vec<u8>)>) -> Vec<Option<String>> {
        let first = self.last + 1;
        self.last += calls.len() as u64;
        let frames = (first..).zip(calls).map(|(request, (route, body))| Frame {
            request,
            route: route.to_owned().into(),
            body: body.into(),
            ..frame(Kind::NodeCall)
        });
        self.stream.send(frames.collect());
        let mut errors = BTreeMap::new();
        for _ in first..=self.last {
            let reply = self.peer.next(Kind::Reply).await;
            let code = reply.error.then(|| {
                let error: Value = serde_json::from_slice(&reply.body).unwrap();
                error["code"].as_str().unwrap().to_owned()
            });
            errors.insert(reply.request, code);
        }
        errors.into_values().collect()
    }

    async fn adopt(&mut self, session: &SessionAdopt) -> bool {
        let mut session = session.clone();
        if session.incarnation == 0 {
            session.incarnation = self.incarnation;
        }
        self.call("Gate.Adopt", session.encode_to_vec()).await
    }
}

/// A session whose client has been sent two pushes, and has received one of them.
fn session(id: i64) -> SessionAdopt {
    SessionAdopt {
        session: id,
        received: 3,
        acknowledged: 1,
        first: 1,
        packets: vec![push("onOne"), push("onTwo")],
        secret: vec![7; 16].into(),
        ..SessionAdopt::default()
    }
}

fn push(route: &str) -> bytes::Bytes {
    let mut packet = vec![4, 0, 0, 3 + route.len() as u8, 0x06, route.len() as u8];
    packet.extend(route.bytes());
    packet.push(b'x');
    packet.into()
}

/// Returns with this token, after so many packets; the client, and what it is granted.
async fn come_back(gate: &TestNode, token: &str, received: u64) -> (RawClient, Value) {
    let mut client = RawClient::tcp(gate.node().addresses()[0]).await;
    let ask = json!({ "token": token, "received": received });
    let request = json!({ "sys": { "resume": ask } }).to_string();
    client
        .send_packet(PacketKind::Handshake, request.as_bytes())
        .await;
    let reply = client.packet_of(PacketKind::Handshake).await;
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    client.send_packet(PacketKind::Ack, b"").await;
    (client, reply["sys"]["resume"].clone())
}

fn token(id: i64) -> String {
    format!("{id:x}-{}", "07".repeat(16))
}

#[tokio::test]
async fn garbage_about_sessions_that_move_is_refused_and_changes_nothing() {
    let nodes = Nodes::start(1, 0).await;
    let gate = &nodes.gates[0];
    let (_client, own) = client(gate).await;
    let mut caller = Caller::new(&nodes).await;
    let methods = [
        "Gate.Adopt",
        "Gate.Close",
        "Gate.Other",
        "Served.Hold",
        "Served.Release",
        "Served.Attach",
        "Served.Other",
        "Channels.Expect",
    ];
    for method in methods {
        for body in [vec![0xFF; 9], vec![8], Vec::new()] {
            assert!(
                !caller.call(method, body.clone()).await,
                "{method} {body:?}"
            );
        }
    }
    // Sessions of which this node has nothing, or which are its own clients'.
    for id in [0, -1, 9, own.id(), i64::MAX] {
        let [to, from] = ["127.0.0.1:1"; 2].map(str::to_owned);
        let hold = SessionHold { session: id, to };
        assert!(!caller.call("Served.Hold", hold.encode_to_vec()).await);
        let release = SessionRelease { session: id };
        assert!(!caller.call("Served.Release", release.encode_to_vec()).await);
        let attach = SessionAttach {
            session: id,
            gate: from,
            number: 1,
        };
        assert!(!caller.call("Served.Attach", attach.encode_to_vec()).await);
    }
    let close = SessionClose {
        session: 9,
        ..SessionClose::default()
    };
    assert!(!caller.call("Gate.Close", close.encode_to_vec()).await);
    assert_eq!(gate.handle().sessions().count(), 1);
    assert!(own.push("on", &1).is_ok());
}

#[tokio::test]
async fn a_session_that_cannot_be_is_not_adopted_and_leaves_nothing() {
    let nodes = Nodes::start(1, 0).await;
    let gate = &nodes.gates[0];
    let (_client, own) = client(gate).await;
    let mut caller = Caller::new(&nodes).await;
    let position = Some(ChannelPosition {
        epoch: u64::MAX,
        offset: u64::MAX,
    });
    let wrong: [fn(&mut SessionAdopt); 10] = [
        |it| it.incarnation = 1,
        |it| it.session = -5,
        |it| it.user = Some(UserId::default()),
        |it| {
            let text = "x".repeat(256);
            it.user = Some(UserId { number: 0, text });
        },
        |it| it.packets = vec![vec![4, 0, 0, 9].into()],
        |it| it.first = u64::MAX - 1,
        |it| it.acknowledged = u64::MAX,
        |it| it.secret = vec![7; 15].into(),
        |it| {
            let json = vec![b'1'; 70_000].into();
            let key = "large".to_owned();
            it.shared = vec![MovedValue { key, json }];
        },
        |it| {
            let channel = String::new();
            it.channels = vec![MovedChannel {
                channel,
                position: None,
            }];
        },
    ];
    for (at, change) in wrong.into_iter().enumerate() {
        let mut session = session(900);
        change(&mut session);
        assert!(!caller.adopt(&session).await, "{at}");
    }
    let same = SessionAdopt {
        session: own.id(),
        ..session(900)
    };
    assert!(!caller.adopt(&same).await, "the id of a client of the gate");
    let unexpected = SessionAdopt {
        channels: vec![MovedChannel {
            channel: "guild".to_owned(),
            position,
        }],
        ..session(900)
    };
    assert!(!caller.adopt(&unexpected).await, "it was not expected");
    assert_eq!(gate.handle().sessions().count(), 1);
    let (_client, granted) = come_back(gate, &token(900), 1).await;
    assert_eq!(granted["lost"], "unknown");
    assert!(own.push("on", &1).is_ok());
}

#[tokio::test]
async fn an_adopted_session_is_served_once_whatever_else_its_gate_says() {
    let nodes = Nodes::start(1, 0).await;
    let gate = &nodes.gates[0];
    let mut caller = Caller::new(&nodes).await;
    let served = |address: &str| MovedService {
        address: address.to_owned(),
        requests: vec![1, 1, u64::MAX],
    };
    let request = |id, left_ms| MovedRequest { id, left_ms };
    let moved = SessionAdopt {
        // Nodes that are not there, do not serve it, or are this one.
        served: vec![
            served("127.0.0.1:1"),
            served("not an address"),
            served(&gate.address()),
        ],
        requests: vec![
            request(1, Some(u64::MAX)),
            request(1, Some(0)),
            request(5, None),
        ],
        login_ms: Some(u64::MAX),
        claim: u64::MAX,
        user: Some(UserId {
            number: 7,
            text: String::new(),
        }),
        remote: "nowhere".to_owned(),
        ..session(901)
    };
    assert!(caller.adopt(&moved).await);
    assert!(caller.adopt(&moved).await, "the call was repeated");
    let other = SessionAdopt {
        secret: vec![8; 16].into(),
        ..moved.clone()
    };
    assert!(!caller.adopt(&other).await, "another session with its id");
    assert_eq!(gate.handle().sessions().count(), 1);
    let (mut client, granted) = come_back(gate, &token(901), 2).await;
    assert_eq!(
        (&granted["lost"], &granted["received"]),
        (&Value::Null, &json!(3))
    );
    let message = client.message().await;
    assert_eq!(message.route, "onTwo");
    client.send_packet(PacketKind::Kick, b"").await;
    let none = || gate.handle().sessions().count() == 0;
    eventually("it ends as any other", none).await;
    assert_eq!(gate.handle().sessions_by_uid(7).len(), 0);

    // Nothing revives it.
    assert!(caller.adopt(&moved).await, "the call was repeated late");
    assert_eq!(gate.handle().sessions().count(), 0);
    let (_client, granted) = come_back(gate, &token(901), 2).await;
    assert_eq!(granted["lost"], "unknown");
}

#[tokio::test]
async fn a_close_right_behind_a_session_that_arrives_finds_it() {
    let nodes = Nodes::start(1, 0).await;
    let gate = &nodes.gates[0];
    let mut caller = Caller::new(&nodes).await;
    for id in (1000..1040).step_by(2) {
        let adopt = SessionAdopt {
            incarnation: caller.incarnation,
            ..session(id)
        };
        let close = SessionClose {
            session: id,
            ..SessionClose::default()
        };
        let close = || ("Gate.Close", close.encode_to_vec());
        let calls = vec![("Gate.Adopt", adopt.encode_to_vec()), close()];
        let mut errors = caller.call_all(calls).await;
        assert_eq!(errors[0], None);
        let mut closed = errors.remove(1);
        while closed.is_some() {
            assert_eq!(closed.as_deref(), Some("NANO-503"), "to be repeated");
            closed = caller.call_all(vec![close()]).await.remove(0);
        }
    }
    let none = || gate.handle().sessions().count() == 0;
    eventually("all are closed", none).await;
}

#[tokio::test]
async fn a_backend_that_the_next_gate_cannot_reach_ends_the_session_when_it_has_moved() {
    let nodes = Nodes::start(1, 1).await;
    let (gate, backend) = (&nodes.gates[0], &nodes.backends[0]);
    // It cannot return, so it does not move, and the gate goes on.
    let (_stays, stays) = client(gate).await;
    let mut moves = RawClient::tcp(gate.node().addresses()[0]).await;
    let request = json!({ "sys": { "resume": {} } }).to_string();
    moves
        .send_packet(PacketKind::Handshake, request.as_bytes())
        .await;
    moves.packet_of(PacketKind::Handshake).await;
    moves.send_packet(PacketKind::Ack, b"").await;
    moves.request(1, "Guild0.Leave", "garbage").await;
    // An error, but the session is served.
    moves.response(1).await;
    assert_eq!(backend.handle().sessions().count(), 1);

    let mut peer = ScriptedPeer::join(&nodes.master, 7).await;
    gate.knows(3).await;
    let stream = peer.stream_to(gate, 0).await;
    gate.handle().drain(Duration::from_secs(600));
    // It says that it has the session, and attaches nothing.
    loop {
        let call = peer.next(Kind::NodeCall).await;
        let reply = Frame {
            request: call.request,
            ..frame(Kind::Reply)
        };
        stream.send(vec![reply]);
        if call.route == "Gate.Adopt" {
            break;
        }
    }
    let none = || backend.handle().sessions().count() == 0;
    eventually("the backend ends it", none).await;
    let left = gate.handle().sessions().list();
    assert_eq!(left, [stays]);
}
