//! The HTTP before a WebSocket.

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
    // To the byte: some clients compare the names of headers with their case.
    assert_eq!(response, json("ws_headers")["response"].as_str().unwrap());
}

/// Any other path is not found.
#[tokio::test]
async fn ws_wrong_path() {
    let peer = Peer::start(&["--ws"]).await;
    let recorded = json("ws_wrong_path");
    let (_stream, response) = http(peer.address, recorded["upgrade"][0].as_str().unwrap()).await;
    assert_eq!(
        status(&response),
        status(recorded["upgrade"][1].as_str().unwrap())
    );
}

fn status(response: &str) -> &str {
    response.split("\r\n").next().unwrap()
}
