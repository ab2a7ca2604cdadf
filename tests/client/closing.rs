//! How connections end, and that nothing is left of them.

use std::{sync::Arc, time::Duration};

use nano::{
    client::{Client, DisconnectReason},
    code,
    kick::{Kick, Reconnect},
    message::Message,
    packet::Kind,
};
use tokio::{io::AsyncWriteExt, runtime::Runtime, time::Instant};

use crate::{
    fake::{REPLY, connected, connected_with, data, encode},
    within,
};

/// Why the connection ends when the server sends these bytes and then nothing.
async fn reason_after(bytes: &[u8]) -> DisconnectReason {
    let (client, mut peer) = connected_with(Client::builder().max_packet(1000), REPLY).await;
    peer.write(bytes).await;
    let reason = within(client.closed()).await;
    assert_eq!(client.close_reason(), Some(reason.clone()));
    assert_eq!(
        client.notify_raw("Echo.Sink", "").await.unwrap_err().code(),
        code::CLOSED
    );
    reason
}

#[tokio::test]
async fn a_kick_tells_why() {
    assert_eq!(
        reason_after(&encode(Kind::Kick, br#"{"reason":"cheating"}"#)).await,
        DisconnectReason::Kicked("cheating".into())
    );
    assert_eq!(
        reason_after(&encode(Kind::Kick, b"")).await,
        DisconnectReason::Kicked(String::new())
    );
}

#[tokio::test]
async fn a_request_learns_of_the_kick_that_ended_it() {
    let (client, mut peer) = connected().await;
    let kick = async {
        peer.message().await.unwrap();
        peer.write(&encode(Kind::Kick, br#"{"reason":"maintenance"}"#))
            .await;
    };
    let (reply, ()) = tokio::join!(within(client.request_raw("Echo.Echo", "")), kick);
    let error = reply.unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
    assert!(error.message().contains("maintenance"), "{error}");
}

#[tokio::test]
async fn a_kick_that_has_arrived_says_more_than_a_broken_pipe() {
    let (client, mut peer) = connected().await;
    client
        .notify_raw("Echo.Sink", "never read, so that the socket is reset")
        .await
        .unwrap();
    within(peer.stream.readable()).await.unwrap();
    // None of this waits, so the client sees all of it at once.
    peer.write(&encode(Kind::Kick, br#"{"reason":"cheating"}"#))
        .await;
    drop(peer);
    client
        .notify_raw("Echo.Sink", "into the void")
        .await
        .unwrap();
    assert_eq!(
        within(client.closed()).await,
        DisconnectReason::Kicked("cheating".into())
    );
}

#[tokio::test]
async fn what_is_not_of_the_protocol_closes_with_what_is_wrong() {
    for (bytes, fault) in [
        (&b"\x00\x00\x00\x00"[..], "no packet kind: 0"),
        (b"garbage, garbage", "no packet kind: 103"),
        (b"\x04\x00\x03\xE9", "1001 bytes, over the limit of 1000"),
        (b"\x04\x00\x00\x00", "an empty message"),
        (b"\x04\x00\x00\x01\x08", "no message kind: 4"),
        (b"\x04\x00\x00\x02\x04\x80", "inside its id"),
        (b"\x04\x00\x00\x02\x06\x05", "inside its route"),
        (&data(Message::request(1, "A.B", "")), "sent a request"),
        (&data(Message::notify("A.B", "")), "sent a request"),
    ] {
        match reason_after(bytes).await {
            DisconnectReason::Protocol(reason) => assert!(reason.contains(fault), "{reason}"),
            reason => panic!("{reason}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_no_local_close() {
    let (client, peer) = connected().await;
    drop(peer);
    assert_eq!(within(client.closed()).await, DisconnectReason::Server);

    let (client, mut peer) = connected().await;
    peer.write(b"\x04\x00\x00\x09half").await;
    peer.stream.shutdown().await.unwrap();
    assert!(
        matches!(within(client.closed()).await, DisconnectReason::Broken(fault) if fault.contains("inside a packet"))
    );
}

#[tokio::test]
async fn what_is_queued_still_leaves_when_the_client_closes() {
    let (client, mut peer) = connected().await;
    client.notify_raw("Echo.Sink", "last words").await.unwrap();
    client.close();
    assert_eq!(client.close_reason(), Some(DisconnectReason::Local));
    assert_eq!(
        client
            .request_raw("Echo.Echo", "")
            .await
            .unwrap_err()
            .code(),
        code::CLOSED
    );
    assert_eq!(peer.message().await.unwrap().body, "last words");
    assert_eq!(peer.packet().await, None);
    drop(peer);
    assert_eq!(within(client.closed()).await, DisconnectReason::Local);
}

#[tokio::test]
async fn requests_in_flight_fail_at_once_when_the_client_closes() {
    let (client, mut peer) = connected().await;
    let close = async {
        peer.message().await.unwrap();
        client.close();
    };
    let (reply, ()) = tokio::join!(within(client.request_raw("Echo.Echo", "")), close);
    assert_eq!(reply.unwrap_err().code(), code::CLOSED);
}

#[tokio::test]
async fn a_server_that_neither_reads_nor_closes_holds_no_closed_client() {
    let (client, _peer) = connected().await;
    client.close();
    assert_eq!(within(client.closed()).await, DisconnectReason::Local);
}

#[tokio::test]
async fn the_last_handle_closes_the_connection_and_lets_go_of_everything() {
    let token = Arc::new(());
    let (client, mut peer) = connected().await;
    client.on("onNews", {
        let token = token.clone();
        move |_| assert_eq!(*token, ())
    });
    let mut news = client.subscribe("onNews");
    let clone = client.clone();
    drop(client);
    clone.notify_raw("Echo.Sink", "still open").await.unwrap();
    assert_eq!(peer.message().await.unwrap().body, "still open");
    clone.notify_raw("Echo.Sink", "last words").await.unwrap();
    drop(clone);
    assert_eq!(peer.message().await.unwrap().body, "last words");
    assert_eq!(peer.packet().await, None);
    assert_eq!(within(news.recv()).await, None);
    assert_eq!(Arc::strong_count(&token), 1);
    drop(peer);

    let metrics = tokio::runtime::Handle::current().metrics();
    within(async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn heartbeats_are_sent_and_silence_closes() {
    let reply = r#"{"code":200,"sys":{"heartbeat":0.1}}"#;
    let (client, mut peer) = connected_with(Client::builder(), reply).await;
    let start = Instant::now();
    for _ in 0..10 {
        let beat = peer.packet().await.unwrap();
        assert_eq!((beat.kind, beat.body.len()), (Kind::Heartbeat, 0));
        peer.write(&encode(Kind::Heartbeat, b"")).await;
    }
    assert!(
        start.elapsed() >= Duration::from_millis(950),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(client.close_reason(), None);
    let silent = Instant::now();
    assert_eq!(
        within(client.closed()).await,
        DisconnectReason::HeartbeatTimeout
    );
    assert!(
        silent.elapsed() >= Duration::from_millis(600),
        "{:?}",
        silent.elapsed()
    );
}

#[test]
fn a_runtime_that_shuts_down_ends_every_wait() {
    let [serving, dialing] = [(); 2].map(|()| Runtime::new().unwrap());
    let (client, peer) = dialing.block_on(connected());
    let waiting = serving.spawn({
        let client = client.clone();
        async move { client.request_raw("Echo.Echo", "").await }
    });
    dialing.shutdown_background();
    let error = serving.block_on(within(waiting)).unwrap().unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
    assert!(matches!(
        client.close_reason(),
        Some(DisconnectReason::Broken(_))
    ));
    drop(peer);
}

#[tokio::test]
async fn a_kick_tells_whether_and_where_to_connect_again() {
    let (client, mut peer) = connected().await;
    assert_eq!(client.kick(), None);
    let kick = Kick::new("NANO-503", "server is shutting down")
        .with_reconnect(Reconnect::Elsewhere)
        .with_retry_after(Duration::from_secs(5));
    peer.write(&encode(Kind::Kick, &kick.encode())).await;
    let reason = within(client.closed()).await;
    assert_eq!(
        reason,
        DisconnectReason::Kicked("server is shutting down".to_owned())
    );
    assert_eq!(client.kick(), Some(&kick));
}
