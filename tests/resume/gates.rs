//! A client returns on another gate of the cluster.

use std::time::Duration;

use nano::{
    App,
    packet::Kind,
    testing::websocket::{Frame, opcode},
    testing::{RawClient, TestCluster, TestNode},
};
use serde_json::{Value, json};

use crate::{
    harness::{Log, MINUTE, Returning, app, come_back, greet, session},
    support::eventually,
};

/// Slow enough that no member is evicted on a busy machine.
const SLOW: Duration = Duration::from_secs(5);

/// A cluster with two gates, and what the application of the first observed.
async fn gates(heartbeat: Duration) -> (TestCluster, [TestNode; 2], Log) {
    let master = TestCluster::master_options().heartbeat(heartbeat);
    let cluster = TestCluster::with_master(App::new(), master).await;
    let member = || cluster.member_options().heartbeat(heartbeat);
    let (first, log) = app(MINUTE);
    let (second, _log) = app(MINUTE);
    let first = first.tcp("127.0.0.1:0").cluster(member());
    let second = second.tcp("127.0.0.1:0");
    let second = second.websocket("127.0.0.1:0", "/nano").cluster(member());
    let gates = [TestNode::start(first).await, TestNode::start(second).await];
    cluster.converged(&[&gates[0], &gates[1]]).await;
    (cluster, gates, log)
}

#[tokio::test]
async fn a_client_finds_its_session_on_any_gate_and_misses_nothing() {
    let (_cluster, [first, second], log) = gates(SLOW).await;
    let mut client = Returning::connect(first.node()).await;
    let before = session(first.node());
    let id = before.id();
    before.push_raw("onNumber", "0").unwrap();
    assert_eq!(client.client.push("onNumber").await, "0");
    client.client.finish().await;
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;

    let (mut received, mut old) = (1, Vec::new());
    // Back and forth, while the earlier sockets stay open.
    for round in 0..6u64 {
        let gate = [&second, &first, &second][round as usize % 3];
        let number = round.to_string();
        before.push_raw("onNumber", number.clone()).unwrap();
        let next = client.again(gate.node(), received).await;
        old.push(std::mem::replace(&mut client, next));
        let client = &mut client.client;
        assert_eq!(client.push("onNumber").await, number);
        assert_eq!(client.push("onResumed").await, "");
        let large = vec![b'x'; 50_000];
        for request in 1..=10 {
            let body = large.clone();
            let answer = client.call(round * 10 + request, "Game.Echo", body).await;
            assert_eq!(answer, large);
        }
        received += 12;
        assert_eq!(session(first.node()).id(), id);
        assert_eq!(before.remote_addr(), Some(client.local_addr()));
        eventually("the other gate keeps no session", || {
            second.handle().sessions().list().is_empty()
        })
        .await;
    }
    let ended: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line != "resumed")
        .collect();
    assert_eq!(ended, ["detached"], "no loss was noticed after the first");
}

#[tokio::test]
async fn what_is_lost_in_the_tunnel_is_sent_again() {
    let (_cluster, [first, second], _log) = gates(SLOW).await;
    let client = Returning::connect(first.node()).await;
    let mut client = client.again(second.node(), 0).await;
    client.client.push("onResumed").await;
    for number in 0..100 {
        let body = number.to_string();
        session(first.node()).push_raw("onNumber", body).unwrap();
    }
    for number in 0..40 {
        assert_eq!(
            client.client.push("onNumber").await,
            number.to_string().as_str()
        );
    }
    drop(client.client);
    let (mut back, _) = come_back(second.node(), &client.token, json!(41)).await;
    for number in 40..100 {
        assert_eq!(back.push("onNumber").await, number.to_string().as_str());
    }
}

#[tokio::test]
async fn the_end_of_either_side_reaches_the_other() {
    for (code, end) in [(1000, "closed: client"), (1001, "detached")] {
        let (_cluster, [first, second], log) = gates(SLOW).await;
        let client = Returning::connect(first.node()).await;
        let address = second.node().addresses()[1];
        let mut back = RawClient::websocket(address, "/nano").await;
        greet(&mut back, json!({ "token": client.token, "received": 0 })).await;
        back.push("onResumed").await;
        let frame = Frame {
            opcode: opcode::CLOSE,
            last: true,
            payload: u16::to_be_bytes(code).to_vec(),
        };
        back.send_frame(&frame).await;
        eventually("the end arrives", || log.lines() == ["resumed", end]).await;
    }
    let (_cluster, [first, second], _log) = gates(SLOW).await;
    let client = Returning::connect(first.node()).await;
    let address = second.node().addresses()[1];
    let mut back = RawClient::websocket(address, "/nano").await;
    greet(&mut back, json!({ "token": client.token, "received": 0 })).await;
    back.push("onResumed").await;
    session(first.node()).kick("banned");
    assert_eq!(back.packet_of(Kind::Kick).await, r#"{"reason":"banned"}"#);
    assert_eq!(back.close_frame().await, Some((4000, "banned".to_owned())));
}

#[tokio::test]
async fn a_session_whose_gate_is_gone_is_lost() {
    let (cluster, [mut first, second], _log) = gates(Duration::from_millis(200)).await;
    let client = Returning::connect(first.node()).await;
    first.kill();
    cluster.converged(&[&second]).await;
    let (mut back, granted) = come_back(second.node(), &client.token, json!(0)).await;
    assert_eq!(granted["lost"], "unknown");
    assert_eq!(back.call(1, "Game.Echo", "x").await, "x");
    let token = granted["token"].as_str().unwrap();
    let (mut again, granted) = come_back(second.node(), token, json!(1)).await;
    assert_eq!(granted.get("lost"), None, "the new session is resumable");
    again.push("onResumed").await;
}

/// Both without anything under way in the tunnel, from which its loss could be seen.
#[tokio::test]
async fn a_client_is_cut_at_once_when_the_gate_of_its_session_dies() {
    let (_cluster, [mut first, second], _log) = gates(SLOW).await;
    let client = Returning::connect(first.node()).await;
    let mut back = client.again(second.node(), 0).await.client;
    back.push("onResumed").await;
    assert_eq!(back.call(1, "Game.Echo", "x").await, "x");
    first.kill();
    back.closed().await;
}

#[tokio::test]
async fn a_session_is_detached_at_once_when_the_gate_of_its_client_dies() {
    let (_cluster, [first, mut second], log) = gates(SLOW).await;
    let client = Returning::connect(first.node()).await;
    let mut back = client.again(second.node(), 0).await.client;
    back.push("onResumed").await;
    assert_eq!(back.call(1, "Game.Echo", "x").await, "x");
    second.kill();
    eventually("the loss is noticed", || {
        log.lines() == ["resumed", "detached"]
    })
    .await;
}

#[tokio::test]
async fn a_wrong_return_through_another_gate_is_lost_with_the_reason_and_changes_nothing() {
    let (_cluster, [first, second], log) = gates(SLOW).await;
    let mut client = Returning::connect(first.node()).await;
    let (session, rest) = client.token.split_once('-').unwrap();
    let (secret, node) = rest.split_once('-').unwrap();
    let other = "0".repeat(secret.len());
    for (token, received, reason) in [
        (format!("{session}-{other}-{node}"), json!(0), "unknown"),
        (format!("0-{secret}-{node}"), json!(0), "unknown"),
        (format!("x-{secret}-{node}"), json!(0), "unknown"),
        (client.token.clone(), json!(5), "invalid"),
        (client.token.clone(), Value::Null, "invalid"),
    ] {
        let (mut back, granted) = come_back(second.node(), &token, received).await;
        assert_eq!(granted["lost"], reason, "{token}");
        assert!(granted["token"].is_string());
        // A session of its own, on the gate it has reached.
        assert_eq!(back.call(1, "Game.Echo", "x").await, "x");
        back.send_packet(Kind::Kick, b"").await;
    }
    assert_eq!(client.client.call(1, "Game.Echo", "x").await, "x");
    assert!(log.lines().is_empty());
}

#[tokio::test]
async fn a_gate_that_does_not_know_a_token_of_its_own_is_believed_and_no_other_gate_is_asked() {
    let (cluster, [first, second], _log) = gates(SLOW).await;
    let third = App::new().cluster(cluster.member_options().heartbeat(SLOW));
    let mut third = TestNode::start(third.tcp("127.0.0.1:0")).await;
    cluster.converged(&[&first, &second, &third]).await;
    let client = Returning::connect(first.node()).await;
    // A gate that asks all gates gets no answer of this one, and cannot say that the session is lost.
    third.kill();
    let (session, rest) = client.token.split_once('-').unwrap();
    let (secret, node) = rest.split_once('-').unwrap();
    let other = "0".repeat(secret.len());
    let wrong = format!("{session}-{other}-{node}");
    let (_back, granted) = come_back(second.node(), &wrong, json!(0)).await;
    assert_eq!(granted["lost"], "unknown");

    // The token of no member is one that all have to be asked for.
    let mut asks = RawClient::tcp(second.node().addresses()[0]).await;
    let invented = json!({ "token": format!("{session}-{other}-1"), "received": 0 });
    let request = json!({ "sys": { "type": "test", "version": "1", "resume": invented } });
    let request = request.to_string();
    asks.send_packet(Kind::Handshake, request.as_bytes()).await;
    asks.closed().await;
}
