//! The end of the server.

use crate::{support::Peer, transcript::json};

/// Promise 2, every request ends, and so does every connection, with a word: nano just closes. The
/// server then exits as nano does.
#[tokio::test]
async fn sigterm() {
    let recorded = json("sigterm");
    let peer = Peer::start(&[]).await;
    let mut client = peer.connect().await;
    client.handshake().await;

    peer.terminate().await;
    assert_eq!(client.kicked().await, "server is shutting down");
    let exit = peer.exited().await;
    assert_eq!(
        exit.status.code().map(i64::from),
        recorded["server_exit_code"].as_i64(),
        "{}",
        exit.stderr
    );
}

/// A request in flight is answered before that.
#[tokio::test]
async fn sigterm_with_a_request_in_flight() {
    let peer = Peer::start(&[]).await;
    let mut client = peer.connect().await;
    client.handshake().await;
    // In one segment: when the first is answered the second has arrived.
    client
        .send(b"\x04\x00\x00\x0C\x00\x01\x09Echo.Echo\x04\x00\x00\x0D\x00\x02\x07T.Sleep300")
        .await;
    assert_eq!(client.response(1).await, "");

    peer.terminate().await;
    assert_eq!(client.response(2).await, "300");
    assert_eq!(client.kicked().await, "server is shutting down");
    assert!(peer.exited().await.status.success());
}
