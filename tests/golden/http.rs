//! The HTTP before a WebSocket.

use std::collections::BTreeSet;

use crate::{
    support::{
        Peer,
        websocket::{http, upgrade},
    },
    transcript::json,
};

/// The response has nano's headers and no others: what a client offers is not taken up.
#[tokio::test]
async fn ws_headers() {
    let peer = Peer::start(&["--ws"]).await;
    let offers = "Origin: http://elsewhere.example\r\nSec-WebSocket-Protocol: pomelo, chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let (_stream, response) = http(peer.address, &upgrade("/nano", offers)).await;
    assert_eq!(
        head(&response),
        head(json("ws_headers")["response"].as_str().unwrap())
    );
}

/// Any other path is not found.
#[tokio::test]
async fn ws_wrong_path() {
    let peer = Peer::start(&["--ws"]).await;
    let recorded = json("ws_wrong_path");
    let (_stream, response) = http(peer.address, recorded["upgrade"][0].as_str().unwrap()).await;
    assert_eq!(
        head(&response).0,
        head(recorded["upgrade"][1].as_str().unwrap()).0
    );
}

/// The status line, and the other lines, whose order and case do not matter.
fn head(response: &str) -> (String, BTreeSet<String>) {
    let mut lines = response.split("\r\n");
    let status = lines.next().unwrap().to_owned();
    let named = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
    };
    (status, lines.filter_map(named).collect())
}
