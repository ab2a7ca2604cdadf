//! What a client is sent, and what the application sees of it, before its handshake is done.

use std::time::Duration;

use bytes::Bytes;
use nano::{
    Accept, App, CloseReason, Limits, Listener, Node, Pipeline, Timeouts, code, message::Kind,
    message::Message, packet,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    harness::{Client, Echo, Ends, packet, start},
    listeners::Certificate,
    support::{eventually, within},
};

/// A node whose handshake hook pushes twice.
fn pushing() -> App {
    App::new().component(Echo).on_handshake(|handshake| {
        handshake.session().push_raw("onFirst", "1")?;
        handshake.session().push_raw("onSecond", "2")?;
        Ok(Accept::new())
    })
}

/// Opens a session by one packet that means nothing.
async fn open(node: &Node) -> Client {
    let mut client = Client::dial(node.addresses()[0]).await;
    client.send(&packet(packet::Kind::Heartbeat, b"")).await;
    client
}

async fn expect_packet(client: &mut Client, kind: packet::Kind) -> Bytes {
    let packet = client.packet().await.expect("the connection ended");
    assert_eq!(packet.kind, kind, "{:?}", packet.body);
    packet.body
}

async fn expect_pushes(client: &mut Client, routes: &[&str]) {
    for route in routes {
        let message = client.message().await;
        assert_eq!((message.kind, &*message.route), (Kind::Push, *route));
    }
}

#[tokio::test]
async fn nothing_is_pushed_before_the_handshake_is_acknowledged() {
    let pipeline = Pipeline::new();
    pipeline
        .outbound()
        .push_back(|_: &nano::Session, _: &mut Message| Ok(()));
    for app in [pushing(), pushing().pipeline(pipeline)] {
        let node = start(app).await;
        let mut client = open(&node).await;
        let session = client.session(&node).await;
        session.push_raw("onZeroth", "0").unwrap();

        client.send(&packet(packet::Kind::Handshake, b"{}")).await;
        // The reply is written with all that may leave; a push would be in front of it or behind.
        expect_packet(&mut client, packet::Kind::Handshake).await;
        session.push_raw("onThird", "3").unwrap();
        // A second handshake is answered, still before any push.
        client.send(&packet(packet::Kind::Handshake, b"{}")).await;
        expect_packet(&mut client, packet::Kind::Handshake).await;

        client.send(&packet(packet::Kind::Ack, b"")).await;
        session.push_raw("onFourth", "4").unwrap();
        let routes = [
            "onZeroth", "onFirst", "onSecond", "onThird", "onFirst", "onSecond", "onFourth",
        ];
        let mut seen = Vec::new();
        while seen.len() < routes.len() {
            seen.push(client.message().await.route.to_string());
        }
        // The fourth push was sent while the acknowledgement was on its way: it may be in front of
        // nothing that was sent earlier.
        assert_eq!(seen, routes);
        assert_eq!(client.ask("Echo.Echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn what_waits_for_the_acknowledgement_is_bounded_like_the_send_queue() {
    let (app, ends) = Ends::of(App::new().limits(Limits::new().send_queue_messages(3)));
    let node = start(app).await;
    let client = open(&node).await;
    let session = client.session(&node).await;
    for _ in 0..3 {
        session.push_raw("onNews", "x").unwrap();
    }
    let error = session.push_raw("onNews", "x").unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
    assert_eq!(ends.first().await, CloseReason::SlowClient);
}

#[tokio::test]
async fn a_kick_before_the_acknowledgement_lets_nothing_precede_the_handshake_reply() {
    let node = start(pushing()).await;
    let mut client = open(&node).await;
    let session = client.session(&node).await;
    session.push_raw("onNews", "x").unwrap();
    session.kick("not you");
    expect_packet(&mut client, packet::Kind::Kick).await;
    assert!(client.packet().await.is_none());

    // Behind the reply the acknowledgement may be on its way: nothing that was sent is lost.
    let mut client = open(&node).await;
    client.send(&packet(packet::Kind::Handshake, b"{}")).await;
    expect_packet(&mut client, packet::Kind::Handshake).await;
    client.session(&node).await.kick("not you");
    expect_pushes(&mut client, &["onFirst", "onSecond"]).await;
    expect_packet(&mut client, packet::Kind::Kick).await;
    assert!(client.packet().await.is_none());
}

#[tokio::test]
async fn an_acknowledgement_without_a_handshake_is_enough_for_pushes() {
    let node = start(App::new().component(Echo)).await;
    let mut client = open(&node).await;
    let session = client.session(&node).await;
    session.push_raw("onNews", "x").unwrap();
    client.send(&packet(packet::Kind::Ack, b"")).await;
    expect_pushes(&mut client, &["onNews"]).await;
}

#[tokio::test]
async fn a_connection_without_a_byte_opens_no_session() {
    let certificate = Certificate::new();
    let tls = Listener::tcp("127.0.0.1:0").tls(&certificate.chain, &certificate.key);
    let app = App::new()
        .component(Echo)
        .listen(tls)
        .on_handshake(|_| Ok(Accept::new()));
    let (app, ends) = Ends::of(app.timeouts(Timeouts::new().handshake(Duration::from_millis(200))));
    let node = start(app).await;
    let [encrypted, plain] = node.addresses() else {
        panic!("two listeners")
    };
    for _ in 0..20 {
        drop(TcpStream::connect(plain).await.unwrap());
        drop(
            certificate
                .connect(TcpStream::connect(encrypted).await.unwrap())
                .await,
        );
    }
    // One that stays is cut off by the handshake timeout.
    let mut silent = TcpStream::connect(plain).await.unwrap();
    let mut rest = Vec::new();
    let end = silent.read_to_end(&mut rest);
    within("the end of the connection", end).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(node.handle().sessions().count(), 0);
    assert_eq!(ends.count(), 0);

    // One byte makes a client.
    let mut client = Client::dial(*plain).await;
    client.send(b"\x01").await;
    eventually("the session opens", || {
        node.handle().sessions().count() == 1
    })
    .await;
    drop(client);
    assert_eq!(ends.first().await, CloseReason::Client);
}
