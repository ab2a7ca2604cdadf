//! What clients that are away, or return, may take.

use std::time::Duration;

use nano::{App, Limits, Timeouts, packet::Kind, testing::RawClient};
use serde_json::{Value, json};

use crate::{
    harness::{MINUTE, Returning, app, come_back, greet, session},
    support::eventually,
};

#[tokio::test]
async fn a_client_returns_at_the_limits_while_its_old_socket_is_open() {
    let (app, log) = app(MINUTE);
    let limits = Limits::new().max_connections(1);
    let app = app.limits(limits.max_connections_per_address(1));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut current = Returning::connect(&node).await;
    for received in 0..10 {
        // Neither a new client nor one that only claims to return takes the place.
        for ask in [
            Value::Null,
            json!({}),
            json!({ "token": "x", "received": 0 }),
        ] {
            let request = json!({ "sys": { "resume": ask } }).to_string();
            let mut other = RawClient::tcp(node.addresses()[0]).await;
            other.send_packet(Kind::Handshake, request.as_bytes()).await;
            other.closed().await;
        }
        // Old clients of nano begin with an acknowledgement.
        let mut other = RawClient::tcp(node.addresses()[0]).await;
        other.send_packet(Kind::Ack, b"").await;
        other.closed().await;

        current = current.again(&node, received).await;
        assert_eq!(current.client.push("onResumed").await, "");
    }
    assert!(!log.lines().contains(&"detached".to_owned()));
}

#[tokio::test]
async fn without_sessions_to_return_to_a_connection_over_the_limit_is_refused_at_once() {
    let limits = Limits::new().max_connections(1);
    let node = App::new().limits(limits).tcp("127.0.0.1:0");
    let node = node.start().await.unwrap();
    let _first = RawClient::tcp(node.addresses()[0]).await;
    RawClient::tcp(node.addresses()[0]).await.closed().await;
}

#[tokio::test]
async fn sessions_without_a_user_that_are_left_behind_are_bounded_by_address() {
    const BOUND: usize = 1024;
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut player = Returning::connect(&node).await;
    session(&node).bind(7).unwrap();
    for _ in 0..BOUND {
        Returning::connect(&node).await;
    }
    eventually("all are away", || log.lines().len() == BOUND).await;
    assert!(log.lines().iter().all(|line| line == "detached"));
    let last = Returning::connect(&node).await;
    let token = last.token.clone();
    drop(last);
    eventually("one is not kept", || {
        log.lines().last().unwrap() == "closed: client"
    })
    .await;
    let (_client, granted) = come_back(&node, &token, json!(0)).await;
    assert_eq!(granted["lost"], "overflow");
    // A player who has logged in is kept.
    player.client.finish().await;
    eventually("the player is away", || {
        log.lines().last().unwrap() == "detached"
    })
    .await;
    player.again(&node, 0).await;
}

#[tokio::test]
async fn what_waits_for_all_clients_that_are_away_is_bounded() {
    const KIB: usize = 1024;
    let (app, log) = app(MINUTE);
    // Room for four of eight full queues.
    let limits = Limits::new().send_queue_bytes(64 * KIB).memory(256 * KIB);
    let node = app.limits(limits).tcp("127.0.0.1:0").start().await.unwrap();
    let mut away = Vec::new();
    for _ in 0..8 {
        away.push(Returning::connect(&node).await);
    }
    for client in &mut away {
        client.client.finish().await;
    }
    eventually("all are away", || log.lines().len() == away.len()).await;
    let body = vec![b'x'; 30 * KIB];
    for session in node.handle().sessions().list() {
        for _ in 0..2 {
            // Fails for those that are over the budget.
            let _ = session.push_raw("onLarge", body.clone());
        }
    }
    let closed = || {
        let lines = log.lines();
        let closed = lines.iter().filter(|line| *line == "closed: slow_client");
        closed.count()
    };
    eventually("some are lost", || closed() >= 4).await;
    let mut returned = 0;
    for client in &away {
        let (mut back, granted) = come_back(&node, &client.token, json!(0)).await;
        match granted.get("lost") {
            None => {
                for _ in 0..2 {
                    assert_eq!(back.push("onLarge").await.len(), body.len());
                }
                returned += 1;
            }
            Some(lost) => assert_eq!(lost, "overflow"),
        }
    }
    eventually("the close callbacks of the others", || {
        returned + closed() == away.len()
    })
    .await;
    let mut later = Returning::connect(&node).await;
    let sessions_before = log.lines().len();
    later.client.finish().await;
    eventually("it is away", || log.lines().len() > sessions_before).await;
    let sessions = node.handle().sessions().list();
    let last = sessions.iter().max_by_key(|session| session.id()).unwrap();
    last.push_raw("onLarge", body).unwrap();
}

#[tokio::test]
async fn a_replaced_websocket_is_closed_with_1000() {
    let (app, _log) = app(MINUTE);
    let node = app.websocket("127.0.0.1:0", "/nano").start().await.unwrap();
    let mut sockets = Vec::new();
    let mut ask = json!({});
    for received in 0..3 {
        let mut client = RawClient::websocket(node.addresses()[0], "/nano").await;
        let granted = greet(&mut client, ask).await;
        if received > 0 {
            client.push("onResumed").await;
        }
        ask = json!({ "token": granted["token"], "received": received });
        sockets.push(client);
    }
    let mut last = sockets.pop().unwrap();
    for mut replaced in sockets {
        let close = replaced.close_frame().await;
        assert_eq!(close, Some((1000, "returned".to_owned())));
    }
    assert_eq!(last.call(1, "Game.Echo", "x").await, "x");
}

#[tokio::test]
async fn a_drain_ends_with_its_kick_also_for_a_silent_client_that_could_return() {
    let (app, log) = app(MINUTE);
    let timeouts = Timeouts::new().resume_window(MINUTE);
    let app = app.timeouts(timeouts.heartbeat(Duration::from_millis(100)));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut silent = Returning::connect(&node).await;
    silent.client.request(1, "Game.Never", "").await;
    eventually("the request is in flight", || {
        log.lines() == ["request never answered"]
    })
    .await;
    let stopped = tokio::spawn(async move { node.shutdown().await });
    let failed = silent.client.response(1).await;
    assert!(failed.ends_with(br#""msg":"server is shutting down"}"#));
    assert_eq!(silent.client.kicked().await, "server is shutting down");
    drop(silent);
    stopped.await.unwrap();
    assert_eq!(log.lines().last().unwrap(), "closed: shutdown");
}
