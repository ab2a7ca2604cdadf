//! A client that returns finds its session as it was.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{Accept, Group, Limits, Timeouts, message, packet::Kind, testing::RawClient};
use serde_json::{Value, json};

use crate::{
    harness::{MINUTE, Returning, app, come_back, greet, session},
    support::eventually,
};

#[tokio::test]
async fn a_returning_client_finds_its_session_and_misses_nothing() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut first = Returning::connect(&node).await;
    first.client.notify("Game.Bind", "").await;
    assert_eq!(first.client.call(1, "Game.Echo", "x").await, "x");
    let before = session(&node);
    let group: Group = Group::new("room");
    group.add(&before).unwrap();
    before.push_raw("onOne", "1").unwrap();
    assert_eq!(first.client.push("onOne").await, "1");

    first.client.finish().await;
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;
    assert_eq!(group.count(), 1);
    before.push_raw("onTwo", "2").unwrap();
    group.broadcast_raw("onThree", "3").unwrap();

    let mut second = first.again(&node, 2).await;
    assert_eq!(second.client.push("onTwo").await, "2");
    assert_eq!(second.client.push("onThree").await, "3");
    assert_eq!(second.client.push("onResumed").await, "");
    assert_eq!(second.client.call(2, "Game.Echo", "x").await, "x");
    let after = session(&node);
    assert_eq!((after.id(), after.uid()), (before.id(), 7));
    assert_eq!(after.remote_addr(), Some(second.client.local_addr()));
    assert_eq!(log.lines(), ["detached", "resumed"]);
    assert_eq!(group.count(), 1);
}

#[tokio::test]
async fn what_the_lost_connection_was_sent_is_sent_again() {
    let (app, _log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    for number in 0..5 {
        let body = number.to_string();
        session(&node).push_raw("onNumber", body).unwrap();
    }
    // The client has read two of them, and its old socket is still open.
    let mut second = first.again(&node, 2).await;
    for number in 2..5 {
        assert_eq!(second.client.push("onNumber").await, number.to_string());
    }
    // It counts on.
    second.client.send_packet(Kind::Heartbeat, &[5]).await;
    let mut third = second.again(&node, 5).await;
    assert_eq!(third.client.push("onResumed").await, "");
}

#[tokio::test]
async fn a_client_that_received_nothing_returns() {
    let (app, _log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    let id = session(&node).id();
    first.again(&node, 0).await;
    assert_eq!(session(&node).id(), id);
}

#[tokio::test]
async fn a_client_returns_a_hundred_times_while_its_old_sockets_stay_open() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut current = Returning::connect(&node).await;
    let id = session(&node).id();
    let mut old = Vec::new();
    for received in 0..100 {
        let next = current.again(&node, received).await;
        old.push(std::mem::replace(&mut current, next));
        assert_eq!(current.client.push("onResumed").await, "");
    }
    // A late end of them does not reach the session.
    for mut old in old {
        old.client.finish().await;
    }
    assert_eq!(current.client.call(1, "Game.Echo", "x").await, "x");
    assert_eq!(session(&node).id(), id);
    assert!(
        log.lines().iter().all(|line| line == "resumed"),
        "nothing was detached or closed"
    );
}

#[tokio::test]
async fn a_token_stays_good_until_the_client_has_the_next_one() {
    let (app, _log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    // Three returns whose replies never reach the client.
    for _ in 0..3 {
        let mut cut = RawClient::tcp(node.addresses()[0]).await;
        let ask = format!(
            r#"{{"sys":{{"resume":{{"token":"{}","received":0}}}}}}"#,
            first.token
        );
        cut.send_packet(Kind::Handshake, ask.as_bytes()).await;
        cut.packet_of(Kind::Handshake).await;
    }
    first.again(&node, 0).await;
}

#[tokio::test]
async fn a_return_that_arrives_late_voids_no_later_token() {
    let (app, _log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    let id = session(&node).id();
    // The client has the reply to one attempt when the node sees another one that was given up.
    let mut attempts = Vec::new();
    for _ in 0..2 {
        let mut attempt = RawClient::tcp(node.addresses()[0]).await;
        let ask = json!({ "token": first.token, "received": 0 });
        let request = json!({ "sys": { "resume": ask } }).to_string();
        attempt
            .send_packet(Kind::Handshake, request.as_bytes())
            .await;
        let reply = attempt.packet_of(Kind::Handshake).await;
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        let token = reply["sys"]["resume"]["token"].as_str().unwrap().to_owned();
        attempts.push((attempt, token));
    }
    let (_, granted) = come_back(&node, &attempts[0].1, json!(0)).await;
    assert_eq!(granted.get("lost"), None, "{granted}");
    assert_eq!(session(&node).id(), id);
    // It is used: what was sent before is void.
    for token in [&first.token, &attempts[1].1] {
        let (_, granted) = come_back(&node, token, json!(0)).await;
        assert_eq!(granted["lost"], "unknown");
    }
}

#[tokio::test]
async fn a_request_is_answered_after_the_return() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut first = Returning::connect(&node).await;
    first.client.request(9, "Game.Echo", "late").await;
    first.client.finish().await;
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;
    let mut second = first.again(&node, 0).await;
    // The hook of the return pushes too, in front of the answer if that takes longer.
    let mut message = second.client.message().await;
    if message.kind == message::Kind::Push {
        message = second.client.message().await;
    }
    assert_eq!((message.id, &*message.body), (9, b"late".as_slice()));
}

#[tokio::test]
async fn a_client_that_does_not_ask_gets_no_token_and_its_session_ends() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    for ask in [Value::Null, true.into(), 1.into(), "x".into()] {
        let mut client = RawClient::tcp(node.addresses()[0]).await;
        assert_eq!(greet(&mut client, ask).await, Value::Null);
    }
    eventually("all sessions end", || log.lines() == ["closed: client"; 4]).await;
}

#[tokio::test]
async fn a_session_is_granted_after_its_check_and_a_return_is_not_checked() {
    let checks = Arc::new(AtomicUsize::new(0));
    let count = checks.clone();
    let (app, _log) = app(MINUTE);
    let app = app.on_handshake_async(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::task::yield_now().await;
            Ok(Accept::new().bind(7))
        }
    });
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    let id = session(&node).id();
    assert_eq!(session(&node).uid(), 7);
    let mut second = first.again(&node, 0).await;
    assert_eq!(second.client.push("onResumed").await, "");
    assert_eq!(second.client.call(1, "Game.Echo", "x").await, "x");
    assert_eq!((session(&node).id(), session(&node).uid()), (id, 7));
    assert_eq!(checks.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_return_that_is_not_acknowledged_can_be_repeated() {
    let (app, log) = app(MINUTE);
    let timeouts = Timeouts::new().resume_window(MINUTE);
    let app = app.timeouts(timeouts.handshake(Duration::from_millis(500)));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    let id = session(&node).id();
    let mut silent = RawClient::tcp(node.addresses()[0]).await;
    let ask = json!({ "token": first.token, "received": 0 });
    let request = json!({ "sys": { "resume": ask } }).to_string();
    silent
        .send_packet(Kind::Handshake, request.as_bytes())
        .await;
    silent.packet_of(Kind::Handshake).await;
    eventually("the handshake times out", || {
        log.lines() == ["resumed", "detached"]
    })
    .await;
    let mut third = first.again(&node, 0).await;
    assert_eq!(third.client.push("onResumed").await, "");
    assert_eq!(session(&node).id(), id);
}

#[tokio::test]
async fn a_client_that_is_away_counts_against_no_limit_of_connections() {
    let (app, log) = app(MINUTE);
    let limits = Limits::new().max_connections(1);
    let app = app.limits(limits.max_connections_per_address(1));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut first = Returning::connect(&node).await;
    first.client.finish().await;
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;
    let mut second = first.again(&node, 0).await;
    assert_eq!(second.client.push("onResumed").await, "");
}
