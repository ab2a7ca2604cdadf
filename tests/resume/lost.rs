//! A session that cannot be resumed ends, and its client learns why.

use std::{sync::Arc, time::Duration};

use nano::{
    Accept, Limits, Node, Result, Timeouts,
    packet::Kind,
    testing::RawClient,
    testing::websocket::{Frame, opcode},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    harness::{Log, MINUTE, Returning, app, come_back, greet, session},
    support::eventually,
};

async fn lost(node: &Node, token: &str, received: Value) -> Value {
    let (_client, granted) = come_back(node, token, received).await;
    assert!(granted["token"].is_string(), "a new session");
    granted["lost"].clone()
}

/// Connects a client and loses its connection.
async fn away(node: &Node, log: &Log) -> Returning {
    let mut away = Returning::connect(node).await;
    away.client.finish().await;
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;
    away
}

#[tokio::test]
async fn a_wrong_token_or_count_is_answered_with_the_reason_and_changes_nothing() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut client = Returning::connect(&node).await;
    let id = session(&node).id();
    session(&node).push_raw("onOne", "1").unwrap();
    client.client.push("onOne").await;
    client.client.send_packet(Kind::Heartbeat, &[1]).await;

    let token = client.token.clone();
    let cut = &token[..token.len() - 1];
    let mut other = token.clone();
    other.replace_range(
        token.len() - 1..,
        if token.ends_with('0') { "1" } else { "0" },
    );
    let long = "f".repeat(10_000);
    for wrong in [
        "",
        "x",
        "-",
        cut,
        &other,
        &long,
        "0-00000000000000000000000000000000",
    ] {
        assert_eq!(lost(&node, wrong, json!(1)).await, "unknown", "{wrong}");
    }
    // The acknowledgement is handled when this is answered.
    assert_eq!(client.client.call(1, "Game.Echo", "x").await, "x");
    for wrong in [
        json!(3),
        json!(0),
        json!(-1),
        json!(null),
        json!("1"),
        json!(1e300),
    ] {
        assert_eq!(
            lost(&node, &token, wrong.clone()).await,
            "invalid",
            "{wrong}"
        );
    }
    assert_eq!(client.client.call(2, "Game.Echo", "x").await, "x");
    assert!(node.handle().sessions().find(id).is_some());
    assert!(!log.lines().contains(&"resumed".to_owned()));
    client.again(&node, 3).await;
}

#[tokio::test]
async fn a_token_is_good_once() {
    let (app, _log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    let mut second = first.again(&node, 0).await;
    second.client.push("onResumed").await;
    assert_eq!(lost(&node, &first.token, json!(0)).await, "unknown");
    assert_eq!(second.client.call(1, "Game.Echo", "x").await, "x");
}

#[tokio::test]
async fn a_client_that_stays_away_has_lost_its_session() {
    let (app, log) = app(Duration::from_millis(50));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    eventually("the window ends", || {
        log.lines() == ["detached", "closed: client"]
    })
    .await;
    assert_eq!(lost(&node, &away.token, json!(0)).await, "expired");
}

#[tokio::test]
async fn a_client_that_is_kicked_while_away_may_not_return() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    session(&node).kick("banned");
    eventually("the session ends", || {
        log.lines() == ["detached", "closed: kicked: banned"]
    })
    .await;
    assert_eq!(lost(&node, &away.token, json!(0)).await, "closed");
}

#[tokio::test]
async fn a_user_who_was_banned_while_away_is_kicked_by_the_hook() {
    let (app, log) = app(MINUTE);
    let app = app.on_resumed(|session| session.kick("banned"));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    let (mut back, _) = come_back(&node, &away.token, json!(0)).await;
    assert_eq!(back.kicked().await, "banned");
    eventually("the session ends", || {
        log.lines() == ["detached", "closed: kicked: banned"]
    })
    .await;
    assert_eq!(lost(&node, &away.token, json!(0)).await, "closed");
}

#[tokio::test]
async fn a_return_opens_no_session_and_begins_a_cancelled_hook_anew() {
    let (app, log) = app(MINUTE);
    let (opens, notes) = (Arc::new(Notify::new()), log.clone());
    let waits = opens.clone();
    let app = app.on_session_open_async(move |_| {
        notes.add("opens");
        let waits = waits.clone();
        async move {
            waits.notified().await;
            Ok(())
        }
    });
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let first = Returning::connect(&node).await;
    eventually("the hook runs", || log.lines() == ["opens"]).await;
    let Returning { client, token } = first;
    drop(client);
    eventually("it is away", || log.lines().len() == 2).await;
    let (back, granted) = come_back(&node, &token, json!(0)).await;
    eventually("the hook runs again", || {
        log.lines() == ["opens", "detached", "resumed", "opens"]
    })
    .await;
    opens.notify_one();
    let token = granted["token"].as_str().unwrap().to_owned();
    let mut second = Returning {
        client: back,
        token,
    };
    second.client.push("onResumed").await;
    assert_eq!(second.client.call(1, "Game.Echo", "x").await, "x");
    let mut third = second.again(&node, 2).await;
    third.client.push("onResumed").await;
    assert_eq!(third.client.call(2, "Game.Echo", "x").await, "x");
    assert_eq!(
        log.lines().iter().filter(|line| *line == "opens").count(),
        2
    );
}

#[tokio::test]
async fn more_than_is_kept_ends_the_session() {
    let (app, log) = app(MINUTE);
    let app = app.limits(Limits::new().send_queue_messages(10));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    let session = session(&node);
    let sent = (0..20).take_while(|_| session.push_raw("onMany", "x").is_ok());
    assert_eq!(sent.count(), 10);
    eventually("the session ends", || {
        log.lines() == ["detached", "closed: slow_client"]
    })
    .await;
    assert_eq!(lost(&node, &away.token, json!(0)).await, "overflow");
}

#[tokio::test]
async fn what_is_kept_has_bounds_of_its_own() {
    // More than the queue of a client that is connected takes, all of which arrives.
    let (more, log) = app(MINUTE);
    let limits = Limits::new().send_queue_messages(10);
    let more = more.limits(limits.unacknowledged_messages(20));
    let node = more.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    let client = session(&node);
    for number in 0..20 {
        client.push_raw("onMany", number.to_string()).unwrap();
    }
    let mut back = away.again(&node, 0).await;
    for number in 0..20 {
        assert_eq!(
            back.client.push("onMany").await,
            number.to_string().as_str()
        );
    }
    assert_eq!(back.client.push("onResumed").await, "");
    client.push_raw("onMany", "and on").unwrap();
    assert_eq!(back.client.push("onMany").await, "and on");

    // And less.
    for fewer in [
        Limits::new().unacknowledged_messages(10),
        Limits::new().unacknowledged_bytes(10 * "4...6.6.onMany.x".len()),
    ] {
        let (app, log) = app(MINUTE);
        let node = app.limits(fewer).tcp("127.0.0.1:0").start().await.unwrap();
        let away = self::away(&node, &log).await;
        let session = session(&node);
        let sent = (0..20).take_while(|_| session.push_raw("onMany", "x").is_ok());
        let sent = sent.count();
        assert!((10..20).contains(&sent), "{sent} were kept");
        assert_eq!(lost(&node, &away.token, json!(0)).await, "overflow");
    }
}

#[tokio::test]
async fn a_final_close_ends_the_session_at_once() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut client = Returning::connect(&node).await;
    client.client.send_packet(Kind::Kick, b"").await;
    eventually("the session ends", || log.lines() == ["closed: client"]).await;
    assert_eq!(lost(&node, &client.token, json!(0)).await, "closed");
}

#[tokio::test]
async fn a_websocket_closed_with_1000_ends_the_session_and_any_other_end_does_not() {
    for (code, end) in [
        (Some(1000), "closed: client"),
        (Some(1001), "detached"),
        (Some(4000), "detached"),
        (None, "detached"),
    ] {
        let (app, log) = app(MINUTE);
        let node = app.websocket("127.0.0.1:0", "/nano").start().await.unwrap();
        let mut client = RawClient::websocket(node.addresses()[0], "/nano").await;
        let granted = greet(&mut client, json!({})).await;
        // It makes no difference whether it has returned before.
        let mut first = client;
        let mut client = RawClient::websocket(node.addresses()[0], "/nano").await;
        let ask = json!({ "token": granted["token"], "received": 0 });
        greet(&mut client, ask).await;
        first.closed().await;
        let payload = code.map_or(Vec::new(), |code: u16| code.to_be_bytes().to_vec());
        let frame = Frame {
            opcode: opcode::CLOSE,
            last: true,
            payload,
        };
        client.send_frame(&frame).await;
        eventually("the end is noticed", || log.lines() == ["resumed", end]).await;
    }
}

#[tokio::test]
async fn a_shutdown_ends_the_sessions_of_clients_that_are_away() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    away(&node, &log).await;
    node.shutdown().await;
    assert_eq!(log.lines(), ["detached", "closed: shutdown"]);
}

#[tokio::test]
async fn a_restarted_gate_knows_no_token() {
    let (first, log) = app(MINUTE);
    let node = first.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    node.shutdown().await;
    let (second, _log) = app(MINUTE);
    let node = second.tcp("127.0.0.1:0").start().await.unwrap();
    assert_eq!(lost(&node, &away.token, json!(0)).await, "unknown");
}

#[tokio::test]
async fn a_count_that_cannot_be_right_closes_the_connection() {
    for body in [&[1][..], &[0x80], &[0xff; 11]] {
        let (app, log) = app(MINUTE);
        let node = app.tcp("127.0.0.1:0").start().await.unwrap();
        let mut client = Returning::connect(&node).await;
        client.client.send_packet(Kind::Heartbeat, body).await;
        eventually("the session ends", || {
            log.lines()
                .iter()
                .any(|line| line.starts_with("closed: protocol"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_without_a_window_resumes_nothing() {
    let (app, log) = app(Duration::ZERO);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    assert_eq!(greet(&mut client, json!({})).await, Value::Null);
    client.finish().await;
    eventually("the session ends", || log.lines() == ["closed: client"]).await;
}

#[tokio::test]
async fn a_client_that_goes_during_its_check_leaves_no_session() {
    let (app, log) = app(MINUTE);
    let app = app.on_handshake_async(|_| std::future::pending::<Result<Accept>>());
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    client
        .send_packet(Kind::Handshake, br#"{"sys":{"resume":{}}}"#)
        .await;
    client.finish().await;
    eventually("the session ends", || log.lines() == ["closed: client"]).await;
    assert!(node.handle().sessions().list().is_empty());
}

#[tokio::test]
async fn the_deadline_of_the_login_runs_on_while_the_client_is_away() {
    let (app, log) = app(MINUTE);
    let timeouts = Timeouts::new().resume_window(MINUTE);
    let app = app.timeouts(timeouts.login(Duration::from_secs(1)));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let away = away(&node, &log).await;
    eventually("the session ends", || {
        log.lines() == ["detached", "closed: login_timeout"]
    })
    .await;
    assert_eq!(lost(&node, &away.token, json!(0)).await, "closed");
}
