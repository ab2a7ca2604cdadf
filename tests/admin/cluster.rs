//! What a node tells of its cluster.

use std::time::Duration;

use nano::{
    App, Cluster, Component, Handlers, Node, Result, Session, metrics as names,
    testing::TestNode,
    tonic::{Code, transport::Channel},
};
use serde_json::Value;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    harness::{Client, start},
    http::{act, admin, get},
    metrics::{expect, values},
    support::{DEADLINE, eventually, within},
};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on(
            "Join",
            |_: &Self, session: &Session, uid: i64| -> Result<i64> {
                session.bind(uid)?;
                Ok(uid)
            },
        )
    }
}

fn cluster(cluster: Cluster) -> App {
    let heartbeat = Duration::from_millis(200);
    let cluster = cluster.listen("127.0.0.1:0").heartbeat(heartbeat);
    let cluster = cluster.link_idle_timeout(Duration::from_millis(200));
    App::new().admin("127.0.0.1:0").cluster(cluster)
}

async fn members(node: &Node) -> Vec<Value> {
    let report = get(admin(node), "/api/v1/members").await.ok();
    report["members"].as_array().unwrap().clone()
}

/// Waits until the link to the other member is in this state, with so many sessions.
async fn link_is(node: &Node, state: &str, sessions: u64) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let link = members(node).await[1]["link"].clone();
        if link["state"] == state && link["sessions"] == sessions {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{link}");
    }
}

#[tokio::test]
async fn users_are_found_and_kicked_at_every_gate_from_any_node() {
    let token = nano::Admin::new("127.0.0.1:0").token("secret");
    let master = start(cluster(Cluster::master()).admin(token)).await;
    let address = master.handle().member().unwrap().address().to_owned();
    let gate = start(cluster(Cluster::join([&address]))).await;
    eventually("the members know each other", || {
        gate.handle().members().len() == 1 && master.handle().members().len() == 1
    })
    .await;
    let (one, two) = (Client::connect(&gate).await, Client::connect(&master).await);
    let (one, two) = (one.session(&gate).await, two.session(&master).await);
    one.bind(7).unwrap();
    two.bind("7").unwrap();
    let locate = async |user: &str| {
        let path = format!("/api/v1/users/locate?user={user}");
        get(admin(&master), &path).await
    };
    let found = async {
        loop {
            let found = locate("7").await.ok();
            if found["sessions"].as_array().unwrap().len() == 2 {
                break found;
            }
        }
    };
    let found = within("both users", found).await;
    let there = gate.handle().member().unwrap().address().to_owned();
    let expected = serde_json::json!([
        {"gate": there, "session": one.id(), "here": false},
        {"gate": address, "session": two.id(), "here": true},
    ]);
    assert_eq!(found["sessions"], expected);
    assert_eq!(locate("ann").await.ok()["sessions"], serde_json::json!([]));
    assert_eq!(
        get(admin(&master), "/api/v1/users/locate").await.status,
        400
    );

    let kick = act(
        admin(&master),
        "/api/v1/users/kick",
        r#"{"user":7,"reason":"enough"}"#,
    );
    assert_eq!(kick.await.ok(), serde_json::json!({"kicked": 1}));
    eventually("the session closed", || one.closed().is_some()).await;
    assert_eq!(one.closed().unwrap().to_string(), "kicked: enough");
    assert!(two.closed().is_none());
    gate.shutdown().await;
    master.shutdown().await;
}

#[tokio::test]
async fn members_are_listed_with_their_links_and_admin_addresses() {
    let gate = start(cluster(Cluster::master().label("gate"))).await;
    let master = gate.handle().member().unwrap().address().to_owned();
    let room = Cluster::join([&master]).label("room");
    let room = cluster(room).component(Room).version("1.4.2");
    let room = room.start().await.unwrap();
    eventually("the members know each other", || {
        gate.handle().members().len() == 1 && room.handle().members().len() == 1
    })
    .await;
    assert_eq!(gate.handle().members()[0].version(), "1.4.2");
    // No session is shared: the streams are closed.
    link_is(&gate, "idle", 0).await;
    within("the metrics of the link", async {
        loop {
            let text = get(admin(&gate), "/metrics").await.body;
            if text.contains("state=\"idle\"} 1") && text.contains("state=\"good\"} 0") {
                break;
            }
        }
    })
    .await;
    let mut client = Client::connect(&gate).await;
    client.ask("Room.Join", "7").await.unwrap();

    let seen = members(&gate).await;
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (&seen[0]["label"], &seen[0]["self"]),
        (&"gate".into(), &true.into())
    );
    assert_eq!(seen[0]["role"], "master");
    assert_eq!(seen[1]["label"], "room");
    assert_eq!(
        (&seen[0]["version"], &seen[1]["version"]),
        (&Value::Null, &"1.4.2".into())
    );
    assert_eq!(seen[1]["admin"], admin(&room).to_string());
    assert_eq!(seen[1]["services"][0], "Room");
    assert_eq!(seen[1]["basic"], false);
    link_is(&gate, "good", 1).await;
    let seen = members(&room).await;
    assert_eq!(
        (&seen[1]["label"], &seen[1]["role"]),
        (&"gate".into(), &"master".into())
    );
    assert_eq!(seen[0]["version"], "1.4.2");

    let remote = format!("{}{{client=\"remote\"}}", names::SESSIONS);
    expect(&room, &remote, 1.0).await;
    expect(&gate, &remote, 0.0).await;
    // The session of the gate's client, as the backend has it.
    let sessions = get(admin(&room), "/api/v1/sessions?user=7").await.ok();
    assert_eq!(sessions["sessions"][0]["client"], "remote");
    let id = client.session(&gate).await.id();
    let report = get(admin(&room), &format!("/api/v1/sessions/{id}"))
        .await
        .ok();
    assert_eq!(report["gate"], master);
    let report = get(admin(&gate), &format!("/api/v1/sessions/{id}"))
        .await
        .ok();
    assert_eq!(
        report["bindings"]["Room"],
        room.handle().member().unwrap().address()
    );
    let text = get(admin(&gate), "/metrics").await.body;
    for name in [
        names::CLUSTER_BATCHES_SENT,
        names::CLUSTER_FRAMES_SENT,
        names::CLUSTER_BYTES_SENT,
        names::CLUSTER_FORWARDED,
    ] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    // The request above.
    let join = format!(
        "{}_count{{route=\"Room.Join\"}}",
        names::CLUSTER_REQUEST_SECONDS
    );
    expect(&gate, &join, 1.0).await;
    let routes = get(admin(&gate), "/api/v1/routes").await.ok();
    let forwarded = &routes["forwarded"][0];
    assert_eq!(forwarded["route"], "Room.Join");
    assert!(
        forwarded["answers"]["p99"].as_f64().unwrap() > 0.0,
        "{routes}"
    );
    // Of what was sent for it; a PING is timed within a second.
    for name in [
        names::CLUSTER_BATCH_FRAMES,
        names::CLUSTER_ROUND_TRIP_SECONDS,
    ] {
        let recorded = async {
            let name = format!("{name}_count");
            loop {
                let text = get(admin(&gate), "/metrics").await.body;
                let line = text.lines().find(|line| line.starts_with(&name)).unwrap();
                if !line.ends_with(" 0") {
                    break;
                }
            }
        };
        within(name, recorded).await;
    }
    let seconds = members(&gate).await[1]["link"]["round_trip_seconds"].clone();
    assert!(
        seconds.as_f64().is_some_and(|seconds| seconds < 1.0),
        "{seconds}"
    );
    let good = format!("{}{{state=\"good\"}}", names::CLUSTER_PEERS);
    expect(&gate, &good, 1.0).await;
    let text = get(admin(&room), "/metrics").await.body;
    for name in [
        names::CLUSTER_FRAMES_RECEIVED,
        names::CLUSTER_BYTES_RECEIVED,
    ] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    drop(client);
    expect(&room, &remote, 0.0).await;
    room.shutdown().await;
    eventually("the room has left", || gate.handle().members().is_empty()).await;
    assert_eq!(members(&gate).await.len(), 1);
    gate.shutdown().await;
}

#[tokio::test]
async fn a_backend_shows_how_much_clients_of_gates_send_it() {
    let gate = start(cluster(Cluster::master())).await;
    let master = gate.handle().member().unwrap().address().to_owned();
    let room = cluster(Cluster::join([master])).component(Room);
    let room = room.start().await.unwrap();
    eventually("the room is known", || gate.handle().members().len() == 1).await;
    let mut client = Client::connect(&gate).await;
    client.ask("Room.Join", "7").await.unwrap();
    let id = client.session(&gate).await.id();
    let busiest = async || get(admin(&room), "/api/v1/busiest").await.ok();
    busiest().await;
    let counted = async {
        loop {
            client.ask("Room.Join", "7").await.unwrap();
            let report = busiest().await;
            if report["seconds"].as_f64().unwrap() >= 1.0 {
                break report;
            }
        }
    };
    let report = within("the second count", counted).await;
    let session = &report["sessions"][0];
    assert_eq!(
        (&session["id"], &session["client"]),
        (&id.into(), &"remote".into())
    );
    assert!(
        session["messages_per_second"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    let path = format!("/api/v1/sessions/{id}");
    let inspected = get(admin(&room), &path).await.ok();
    assert!(inspected["messages_received"].as_u64() > Some(1));
    assert_eq!(inspected["bytes_received"], Value::Null);
    assert_eq!(
        inspected["messages_per_second"],
        session["messages_per_second"]
    );
    room.shutdown().await;
    gate.shutdown().await;
}

#[tokio::test]
async fn what_waits_for_a_member_that_crashed_is_measured() {
    // Slow enough that the member is not evicted.
    let slow = |cluster: Cluster| {
        cluster
            .listen("127.0.0.1:0")
            .heartbeat(Duration::from_secs(5))
    };
    let app = App::new().admin("127.0.0.1:0");
    let gate = start(app.cluster(slow(Cluster::master()))).await;
    let master = gate.handle().member().unwrap().address().to_owned();
    let room = App::new()
        .component(Room)
        .cluster(slow(Cluster::join([master])));
    let mut room = TestNode::start(room).await;
    eventually("the room is known", || gate.handle().members().len() == 1).await;
    let mut client = Client::connect(&gate).await;
    client.ask("Room.Join", "7").await.unwrap();
    expect(&gate, names::CLUSTER_QUEUE_BYTES, 0.0).await;
    room.kill();
    let broken = format!("{}{{state=\"broken\"}}", names::CLUSTER_PEERS);
    expect(&gate, &broken, 1.0).await;
    // The member is to learn of it when it is back.
    drop(client);
    within("a queued frame", async {
        while values(admin(&gate)).await[names::CLUSTER_QUEUE_BYTES] == 0.0 {}
    })
    .await;
    gate.shutdown().await;
}

/// Waits until the master's summary, as this node reports it, lists so many lost members.
async fn lost(node: &Node, count: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let report = get(admin(node), "/api/v1/cluster").await.ok();
        let members = report["members"].as_array().unwrap();
        let master = members.iter().find(|member| member["label"] == "master");
        let lost = master.and_then(|master| master["summary"]["lost"].as_array());
        if let Some(lost) = lost.filter(|lost| lost.len() == count) {
            return lost.clone();
        }
        let late = tokio::time::Instant::now() >= deadline;
        assert!(!late, "{count} lost members: {report}");
    }
}

#[tokio::test]
async fn an_evicted_member_is_lost_until_it_returns_and_one_that_leaves_is_not() {
    let master = cluster(Cluster::master().label("master"));
    let master = master.start().await.unwrap();
    let address = master.handle().member().unwrap().address().to_owned();
    let join = |label: &str| cluster(Cluster::join([&address]).label(label)).component(Room);
    let gate = start(join("gate")).await;
    let mut room = TestNode::start(join("room")).await;
    let leaving = join("leaving").start().await.unwrap();
    let others = |count| move |node: &Node| node.handle().members().len() == count;
    eventually("all are known", || others(3)(&master)).await;
    leaving.shutdown().await;
    let room_address = room.handle().member().unwrap().address().to_owned();
    room.kill();
    eventually("both are gone", || others(1)(&master)).await;

    for node in [&gate, &master] {
        let lost = lost(node, 1).await;
        assert_eq!(lost[0]["address"], room_address, "{lost:?}");
        assert_eq!(lost[0]["label"], "room");
        let evicted = lost[0]["evicted_ms"].as_u64().unwrap();
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(now.as_millis() as u64 - evicted < 60_000, "{evicted}");
    }

    let options = Cluster::join([&address]).listen(&room_address);
    let options = options.heartbeat(Duration::from_millis(200));
    let room = App::new().cluster(options).start().await.unwrap();
    lost(&gate, 0).await;
    room.shutdown().await;
    gate.shutdown().await;
    master.shutdown().await;
}

#[tokio::test]
async fn every_member_shows_the_load_of_every_other() {
    let gate = start(cluster(Cluster::master().label("gate"))).await;
    let master = gate.handle().member().unwrap().address().to_owned();
    let room = cluster(Cluster::join([master]).label("room")).component(Room);
    let room = room.start().await.unwrap();
    eventually("the members know each other", || {
        gate.handle().members().len() == 1 && room.handle().members().len() == 1
    })
    .await;
    let mut client = Client::connect(&gate).await;
    let loads = async |node: &Node| {
        let report = get(admin(node), "/api/v1/cluster").await.ok();
        ["gate", "room"].map(|label| {
            let members = report["members"].as_array().unwrap().iter();
            let mut named = members.filter(|member| member["label"] == label);
            named.next().unwrap()["summary"]["load"].clone()
        })
    };
    for node in [&gate, &room] {
        let busy = async {
            loop {
                client.ask("Room.Join", "7").await.unwrap();
                let loads = loads(node).await;
                let rate = |load: &Value| load["messages_per_second"].as_f64();
                if loads
                    .iter()
                    .all(|load| rate(load).is_some_and(|rate| rate > 0.0))
                {
                    break loads;
                }
            }
        };
        let [of_gate, of_room] = within("both rates", busy).await;
        assert_eq!(
            (&of_gate["clients"], &of_room["clients"]),
            (&1.into(), &0.into())
        );
        for load in [of_gate, of_room] {
            assert!(load["tasks_waiting"].is_u64(), "{load}");
            assert!(load["cores_available"].as_u64() >= Some(1), "{load}");
            if cfg!(target_os = "linux") {
                assert!(load["cores"].as_f64().is_some_and(|it| it < 1e3), "{load}");
                assert!(load["memory_bytes"].as_u64() > Some(1 << 20), "{load}");
            }
        }
        let report = get(admin(node), "/api/v1/node").await.ok();
        assert!(report["load"]["messages_per_second"].is_f64(), "{report}");
    }
    room.shutdown().await;
    gate.shutdown().await;
}

/// The status of a service at a node's cluster port, by its number, or the code of the error.
async fn health(address: &str, service: &str) -> std::result::Result<i32, Code> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(request).await;
    answer
        .map(|answer| answer.get_ref().status)
        .map_err(|status| status.code())
}

#[tokio::test]
async fn members_answer_grpc_health_checks_without_the_token() {
    let options = Cluster::master().token("secret");
    let node = start(cluster(options).component(Room)).await;
    let address = node.handle().member().unwrap().address().to_owned();
    let serving = ServingStatus::Serving as i32;
    assert_eq!(health(&address, "").await, Ok(serving));
    assert_eq!(health(&address, "Room").await, Ok(serving));
    assert_eq!(health(&address, "Other").await, Err(Code::NotFound));

    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let watch = client.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, serving);
    // A client that is connected keeps the node from stopping at once.
    let mut player = Client::connect(&node).await;
    player.ask("Room.Join", "7").await.unwrap();
    node.handle().shutdown();
    let next = within("the end of the watch", watch.message()).await;
    let draining = |status| status == ServingStatus::NotServing as i32;
    assert!(next.map_or(true, |next| next.is_none_or(|next| draining(next.status))));
    node.stopped().await;
}
