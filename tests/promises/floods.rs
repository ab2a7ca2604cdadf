//! Promise 4, against clients that mean harm or do not care: nothing they send or refuse to read
//! makes the node grow or wait.

use std::time::Duration;

use bytes::Bytes;
use nano::{App, CloseReason, Limits, Node, Session, Timeouts, packet};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::yield_now};

use crate::{
    harness::{Client, Echo, Ends, greeting, packet, start},
    support::{eventually, within},
};

async fn echo(app: App) -> (Node, Ends) {
    let (app, ends) = Ends::of(app.component(Echo));
    (start(app).await, ends)
}

/// Pushes without end until the socket of a client that does not read is full, and its queue is
/// not.
async fn clog(session: &Session) {
    let body = Bytes::from(vec![b'x'; 64 * 1024]);
    for _ in 0..400 {
        session.push_raw("onFill", body.clone()).unwrap();
        yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_and_falls_silent_times_out() {
    let (node, ends) = echo(
        App::new()
            .timeouts(Timeouts::new().heartbeat(Duration::from_millis(50)))
            .limits(
                Limits::new()
                    .send_queue_bytes(usize::MAX)
                    .send_queue_messages(usize::MAX),
            ),
    )
    .await;
    let client = Client::connect(&node).await;
    clog(&client.session(&node).await).await;
    assert_eq!(ends.first().await, CloseReason::HeartbeatTimeout);
}

#[tokio::test]
async fn a_client_that_stops_reading_can_be_kicked() {
    let (node, ends) = echo(
        App::new().timeouts(Timeouts::new().heartbeat(None)).limits(
            Limits::new()
                .send_queue_bytes(usize::MAX)
                .send_queue_messages(usize::MAX),
        ),
    )
    .await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    clog(&session).await;
    session.kick("read!");
    assert_eq!(ends.first().await, CloseReason::Kicked("read!".to_owned()));
}

#[tokio::test]
async fn a_client_that_stops_reading_does_not_hold_up_a_shutdown() {
    let timeout = Duration::from_secs(6);
    let (node, ends) = echo(
        App::new()
            .timeouts(Timeouts::new().heartbeat(None).shutdown(timeout))
            .limits(
                Limits::new()
                    .send_queue_bytes(usize::MAX)
                    .send_queue_messages(usize::MAX),
            ),
    )
    .await;
    let client = Client::connect(&node).await;
    clog(&client.session(&node).await).await;
    let begun = tokio::time::Instant::now();
    node.shutdown().await;
    assert!(begun.elapsed() < timeout / 2, "{:?}", begun.elapsed());
    assert_eq!(ends.first().await, CloseReason::Shutdown);
}

#[tokio::test]
async fn a_client_that_shakes_hands_without_end_and_does_not_read_is_disconnected() {
    let (node, ends) = echo(
        App::new().timeouts(Timeouts::new().heartbeat(None)).limits(
            Limits::new()
                .send_queue_bytes(64 * 1024)
                .send_queue_messages(1_000),
        ),
    )
    .await;
    let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    let many = packet(packet::Kind::Handshake, b"").repeat(20_000);
    let sending = async { while stream.write_all(&many).await.is_ok() {} };
    within("the disconnect", async {
        tokio::select! {
            () = sending => {}
            reason = ends.first() => assert_eq!(reason, CloseReason::SlowClient),
        }
    })
    .await;
    assert_eq!(ends.first().await, CloseReason::SlowClient);
}

#[tokio::test]
async fn a_flood_of_garbage_leaves_the_node_as_it_was() {
    let (node, ends) = echo(App::new()).await;
    let mut bystander = Client::connect(&node).await;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    for round in 0..200 {
        let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
        // Half of them pass as clients first, and some of those stay within what looks like packets
        // of data.
        let bytes = match round % 4 {
            0 | 1 => noise(1 + round * 7),
            2 => [greeting(), noise(round * 7)].concat(),
            _ => [greeting(), packet(packet::Kind::Data, &noise(round))].concat(),
        };
        // The node may have closed it already.
        let _ = stream.write_all(&bytes).await;
    }
    eventually("they are all gone", || {
        node.handle().sessions().count() == 1 && ends.count() == 200
    })
    .await;
    assert_eq!(bystander.ask("Echo.Echo", "x").await.unwrap(), "x");
}
