//! Promise 4, in time: clients that say nothing are not waited for.

use std::{net::SocketAddr, time::Duration};

use nano::{App, CloseReason, Listener, Timeouts, packet};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    harness::{Client, Echo, Ends, packet, start},
    listeners::{Certificate, web_socket},
    support::{eventually, within},
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(100);

fn app() -> App {
    App::new()
        .component(Echo)
        .timeouts(Timeouts::new().handshake(HANDSHAKE_TIMEOUT))
}

/// Says something on a new connection, then nothing, and expects to be cut off: not too early, and
/// not by much too late.
async fn expect_end(address: SocketAddr, words: &[u8]) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words).await.unwrap();
    // A reset is an end as well.
    let _ = within(
        "the end of the connection",
        stream.read_to_end(&mut Vec::new()),
    )
    .await;
    assert!(
        begun.elapsed() >= HANDSHAKE_TIMEOUT,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_disconnected() {
    let (app, ends) = Ends::of(app());
    let node = start(app).await;
    // Without a byte there is no session that could end.
    expect_end(node.addresses()[0], b"").await;
    expect_end(node.addresses()[0], &packet(packet::Kind::Handshake, b"{}")).await;
    expect_end(
        node.addresses()[0],
        &packet(packet::Kind::Heartbeat, b"").repeat(3),
    )
    .await;
    eventually("the sessions end", || ends.count() == 2).await;
    assert_eq!(ends.first().await, CloseReason::HandshakeTimeout);
}

#[tokio::test]
async fn signs_of_life_do_not_replace_the_handshake() {
    let (app, ends) = Ends::of(app());
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    while ends.count() == 0 {
        client.send(&packet(packet::Kind::Heartbeat, b"")).await;
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ends.first().await, CloseReason::HandshakeTimeout);
}

#[tokio::test]
async fn a_browser_that_does_not_ask_for_a_websocket_is_disconnected() {
    let node = app()
        .websocket("127.0.0.1:0", "/nano")
        .start()
        .await
        .unwrap();
    expect_end(node.addresses()[0], b"").await;
    expect_end(node.addresses()[0], b"GET /nano HT").await;
    expect_end(node.addresses()[0], b"GET /nano HTTP/1.1\r\nHost: x\r\n").await;
    // Answered with 404, and then no further request.
    expect_end(node.addresses()[0], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
}

#[tokio::test]
async fn a_websocket_that_stays_silent_is_disconnected() {
    let (app, ends) = Ends::of(app().websocket("127.0.0.1:0", "/nano"));
    let node = app.start().await.unwrap();
    let stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    let mut client = Client::over(web_socket(stream, "ws://localhost/nano").await);
    assert!(client.packet().await.is_none());
    assert_eq!(ends.first().await, CloseReason::HandshakeTimeout);
}

#[tokio::test]
async fn a_client_that_does_not_begin_tls_is_disconnected() {
    let certificate = Certificate::new();
    let listener = Listener::tcp("127.0.0.1:0").tls(&certificate.chain, &certificate.key);
    let node = app().listen(listener).start().await.unwrap();
    expect_end(node.addresses()[0], b"").await;
    expect_end(node.addresses()[0], &[0x16, 3, 1]).await;
}

#[tokio::test]
async fn a_silent_client_times_out_and_one_with_heartbeats_does_not() {
    let interval = Duration::from_millis(60);
    let (app, ends) = Ends::of(
        App::new()
            .component(Echo)
            .timeouts(Timeouts::new().heartbeat(interval)),
    );
    let node = start(app).await;
    let (mut silent, mut alive) = (Client::connect(&node).await, Client::connect(&node).await);
    let begun = Instant::now();
    let ended = async {
        assert_eq!(silent.end().await.as_deref(), Some("heartbeat timeout"));
        begun.elapsed()
    };
    let beating = async {
        loop {
            alive.send(&packet(packet::Kind::Heartbeat, b"")).await;
            sleep(interval / 4).await;
        }
    };
    let after = tokio::select! {
        after = ended => after,
        () = beating => unreachable!(),
    };
    assert!(after >= interval * 2, "{after:?}");
    assert_eq!(ends.first().await, CloseReason::HeartbeatTimeout);
    assert_eq!(ends.count(), 1);
    assert_eq!(
        alive.packet().await.unwrap().kind,
        packet::Kind::Heartbeat,
        "the server sends them too"
    );
    assert_eq!(alive.ask("Echo.Echo", "x").await.unwrap(), "x");
}

#[tokio::test]
async fn without_heartbeats_a_silent_client_stays() {
    let node = start(
        App::new()
            .component(Echo)
            .timeouts(Timeouts::new().heartbeat(None)),
    )
    .await;
    let mut client = Client::dial(node.addresses()[0]).await;
    assert_eq!(client.shake_hands().await.heartbeat, None);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), client.packet())
            .await
            .is_err()
    );
    assert_eq!(client.ask("Echo.Echo", "x").await.unwrap(), "x");
}
