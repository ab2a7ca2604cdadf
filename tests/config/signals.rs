//! SIGTERM of a node that is configured to drain.

use std::{fs, time::Duration};

use tokio::time::Instant;

use crate::support::Peer;

#[tokio::test]
async fn the_first_sigterm_drains_and_the_second_stops() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let text = "[timeouts]\ndrain = \"1h\"\n[[listeners]]\naddress = \"127.0.0.1:0\"";
    fs::write(&file, text).unwrap();
    let flags = ["--config", file.to_str().unwrap()];

    let peer = Peer::start(&flags).await;
    let mut client = peer.connect().await;
    client.handshake().await;
    peer.terminate().await;
    for id in 1..=20 {
        assert_eq!(client.call(id, "Echo.Echo", "here").await, "here");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    let exit = peer.exited().await;
    assert!(exit.status.success());
    assert!(
        exit.stderr.contains("all players have left"),
        "{}",
        exit.stderr
    );

    let peer = Peer::start(&flags).await;
    let mut client = peer.connect().await;
    client.handshake().await;
    let begun = Instant::now();
    peer.terminate().await;
    assert_eq!(client.call(1, "Echo.Echo", "here").await, "here");
    // Signals that arrive before the first was handled are one.
    let told = async {
        loop {
            peer.terminate().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        reason = client.kicked() => assert_eq!(reason, "server is shutting down"),
        () = told => {}
    }
    assert!(peer.exited().await.status.success());
    assert!(begun.elapsed() < Duration::from_secs(10));
}
