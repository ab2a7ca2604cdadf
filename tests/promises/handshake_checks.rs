//! Checks of a handshake that wait, and the deadline for a login.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{
    Accept, App, CloseReason, Error, Handshake, Listener, Node, Result, Timeouts, handshake::Reply,
    packet,
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    harness::{Client, Echo, Ends, data, packet, start},
    support::{RawClient, Server, eventually, websocket},
};

/// A check that waits until it is let through.
fn gated() -> (App, Arc<Notify>, Arc<AtomicUsize>) {
    let (gate, running) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (waits, counter) = (gate.clone(), running.clone());
    let app = App::new().component(Echo).on_handshake_async(move |_| {
        let (waits, running) = (waits.clone(), Running::new(counter.clone()));
        async move {
            waits.notified().await;
            drop(running);
            Ok(Accept::new().user("welcome"))
        }
    });
    (app, gate, running)
}

/// Counts the checks that have begun and not ended.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn reply(client: &mut Client) -> Reply {
    let packet = client.packet().await.expect("the connection ended");
    assert_eq!(packet.kind, packet::Kind::Handshake, "{:?}", packet.body);
    Reply::decode(&packet.body).unwrap()
}

#[tokio::test]
async fn what_a_client_sends_waits_for_the_check_of_its_handshake() {
    let (app, gate, running) = gated();
    let heartbeat = Duration::from_millis(50);
    let timeouts = Timeouts::new()
        .heartbeat(heartbeat)
        .handshake(Duration::from_millis(200));
    let node = start(app.timeouts(timeouts)).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    let request = nano::message::Message::request(1, "Echo.Echo", "x");
    let all = [
        packet(packet::Kind::Handshake, b"{}"),
        packet(packet::Kind::Ack, b""),
        data(&request),
    ];
    client.send(&all.concat()).await;
    eventually("the check runs", || running.load(Ordering::SeqCst) == 1).await;
    // Longer than heartbeats and the handshake timeout allow a client that is silent.
    let early = tokio::time::timeout(Duration::from_millis(400), client.packet()).await;
    assert!(early.is_err(), "{early:?}");
    gate.notify_one();
    assert_eq!(reply(&mut client).await.user, Some(json!("welcome")));
    assert_eq!(client.answer(1).await.unwrap(), "x");
}

#[tokio::test]
async fn a_client_that_goes_cancels_its_check() {
    let (app, _gate, running) = gated();
    let (app, ends) = Ends::of(app);
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    client.send(&packet(packet::Kind::Handshake, b"{}")).await;
    eventually("the check runs", || running.load(Ordering::SeqCst) == 1).await;
    // It goes on sending: not without a bound.
    client
        .send(&packet(packet::Kind::Heartbeat, b"").repeat(1_000))
        .await;
    drop(client);
    eventually("the check is dropped", || {
        running.load(Ordering::SeqCst) == 0
    })
    .await;
    assert_eq!(ends.first().await, CloseReason::Client);

    let mut client = Client::dial(node.addresses()[0]).await;
    client.send(&packet(packet::Kind::Handshake, b"{}")).await;
    eventually("the check runs", || running.load(Ordering::SeqCst) == 1).await;
    node.handle().shutdown();
    assert_eq!(
        client.end().await.as_deref(),
        Some("server is shutting down")
    );
    eventually("the check is dropped", || {
        running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn both_checks_see_the_request_and_bind_the_session() {
    fn check(handshake: &Handshake) -> Result<Accept> {
        let user = handshake.request().user["token"].as_str();
        let upgrade = handshake.upgrade();
        let token = upgrade.and_then(|request| request.cookie("token"));
        let query = upgrade.and_then(|request| request.query());
        let remote = handshake.remote_addr().unwrap();
        assert!(remote.ip().is_loopback());
        let seen = json!([user, token, query, handshake.listener()]);
        Ok(Accept::new().bind(7).user(seen))
    }
    let app = || App::new().component(Echo);
    for app in [
        app().on_handshake(check),
        app().on_handshake_async(|handshake| async move { check(&handshake) }),
    ] {
        let websocket = Listener::websocket("127.0.0.1:0", "/nano").name("web");
        let node = start(app.listen(websocket)).await;
        let [websocket, tcp] = *node.addresses() else {
            panic!("two listeners")
        };
        sees_the_request(&node, tcp, websocket).await;
    }
}

async fn sees_the_request(node: &Node, tcp: SocketAddr, web: SocketAddr) {
    let mut client = RawClient::tcp(tcp).await;
    let body = br#"{"sys":{},"user":{"token":"t"}}"#;
    client.send_packet(packet::Kind::Handshake, body).await;
    let body = client.packet_of(packet::Kind::Handshake).await;
    let accepted = Reply::decode(&body).unwrap();
    assert_eq!(accepted.user, Some(json!(["t", null, null, "127.0.0.1:0"])));
    assert_eq!(node.handle().sessions_by_uid(7).len(), 1);

    let upgrade = websocket::upgrade("/nano?room=9", "Cookie: a=b; token=c\r\n");
    let (mut stream, _) = websocket::http(web, &upgrade).await;
    let handshake = websocket::Frame::binary(packet(packet::Kind::Handshake, b"{}"));
    tokio::io::AsyncWriteExt::write_all(&mut stream, &handshake.encode())
        .await
        .unwrap();
    let first = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
    let frame = websocket::Frame::read(&mut stream, first).await;
    let accepted = Reply::decode(&frame.payload[packet::HEADER..]).unwrap();
    assert_eq!(accepted.user, Some(json!([null, "c", "room=9", "web"])));
    assert_eq!(node.handle().sessions_by_uid(7).len(), 2);
}

#[tokio::test]
async fn a_check_that_refuses_fails_panics_or_hangs_ends_its_client_alone() {
    let timeouts = Timeouts::new().handshake_check(Duration::from_millis(50));
    let app = App::new()
        .component(Echo)
        .timeouts(timeouts)
        .on_handshake_async(|handshake: Handshake| async move {
            match handshake.request().user.as_str() {
                Some("refuse") => Err(Error::new("401", "who are you?")),
                Some("silent") => Err(Error::new("NO", "not you")),
                Some("bind") => Ok(Accept::new().bind(-1)),
                Some("panic") => panic!("a test's panic"),
                Some("hang") => std::future::pending().await,
                _ => Ok(Accept::new()),
            }
        });
    let (app, ends) = Ends::of(app);
    let node = start(app).await;
    let mut bystander = Client::connect(&node).await;
    for (number, (user, code, reason)) in [
        ("refuse", Some((401, "who are you?")), "who are you?"),
        ("silent", None, "not you"),
        ("bind", None, "illegal uid: -1"),
        ("panic", None, "panicked"),
        (
            "hang",
            Some((504, "the handshake check timed out")),
            "the handshake check timed out",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::dial(node.addresses()[0]).await;
        let body = json!({ "user": user }).to_string();
        client
            .send(&packet(packet::Kind::Handshake, body.as_bytes()))
            .await;
        if let Some((code, message)) = code {
            let refusal = reply(&mut client).await;
            assert_eq!(
                (refusal.code, refusal.message.as_deref()),
                (code, Some(message))
            );
        }
        assert!(client.packet().await.is_none(), "{user}");
        eventually("its session ends", || ends.count() == number + 1).await;
        assert_eq!(
            ends.last(),
            CloseReason::HandshakeRefused(reason.to_owned()),
            "{user}"
        );
    }
    assert_eq!(bystander.ask("Echo.Echo", "x").await.unwrap(), "x");
}

#[tokio::test]
async fn a_session_that_is_not_bound_in_time_is_kicked() {
    let timeouts = Timeouts::new().login(Duration::from_millis(150));
    let (app, ends) = Ends::of(App::new().component(Echo).timeouts(timeouts));
    let server = Server::start(app).await;
    let node = &server.node;
    let mut bound = Client::connect(node).await;
    bound.session(node).await.bind(7).unwrap();
    let mut client = server.client().await;
    let body = client.packet_of(packet::Kind::Kick).await;
    let expected = r#"{"reason":"login timeout","code":"NANO-401","reconnect":"never"}"#;
    assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    client.closed().await;
    assert_eq!(ends.first().await, CloseReason::LoginTimeout);
    assert_eq!(bound.ask("Echo.Echo", "x").await.unwrap(), "x");
    assert_eq!(ends.count(), 1);
}
