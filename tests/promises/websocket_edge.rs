//! WebSocket frames that clients should not send: what Go nano does, and what a node does.

use std::time::Duration;

use bytes::Bytes;
use nano::{App, CloseReason, Limits, Node, RateLimit, Timeouts, message::Message};

use crate::{
    harness::{Echo, Ends, data},
    support::{
        RawClient,
        websocket::{Frame, opcode},
    },
};

async fn start(limits: Limits) -> (Node, Ends) {
    let app = App::new()
        .component(Echo)
        .limits(limits)
        .timeouts(Timeouts::new().handshake(Duration::from_secs(60)));
    let (app, ends) = Ends::of(app);
    let node = app.websocket("127.0.0.1:0", "/nano").start().await.unwrap();
    (node, ends)
}

async fn connect(node: &Node) -> RawClient {
    let mut client = RawClient::websocket(node.addresses()[0], "/nano").await;
    client.handshake().await;
    client
}

/// A masked frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let frame = Frame {
        opcode: first & 0x0F,
        last: first & 0x80 != 0,
        payload: payload.to_vec(),
    };
    let mut bytes = frame.encode();
    bytes[0] = first;
    bytes
}

fn text(payload: &[u8]) -> Frame {
    Frame {
        opcode: opcode::TEXT,
        last: true,
        payload: payload.to_vec(),
    }
}

/// Reads up to the close frame, and returns its payload; `None` if the connection ends without.
async fn close_frame(client: &mut RawClient) -> Option<Vec<u8>> {
    while let Some(frame) = client.frame().await {
        if frame.opcode == opcode::CLOSE {
            return Some(frame.payload);
        }
    }
    None
}

fn code(payload: &[u8]) -> u16 {
    payload
        .first_chunk()
        .map_or(0, |code| u16::from_be_bytes(*code))
}

/// Each row: what is wrong, the bytes, the close code of Go nano (0: a frame without one), and that
/// of a node.
#[tokio::test]
async fn what_breaks_the_protocol_is_answered_with_a_close_frame() {
    let unmasked = vec![0x82, 0x00];
    let huge = [0x82, 0xFF, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0].to_vec();
    let long = frame(0x82, &[4, 0xFF, 0xFF, 0xFF]);
    let cases: Vec<(&str, Vec<u8>, u16, u16)> = vec![
        ("reserved bit 1", frame(0xC2, b""), 1002, 1002),
        ("reserved bit 2", frame(0xA1, b""), 1002, 1002),
        ("reserved bit 3 of a ping", frame(0x99, b""), 1002, 1002),
        ("opcode 3", frame(0x83, b""), 1002, 1002),
        ("opcode 7", frame(0x87, b"x"), 1002, 1002),
        ("opcode 11", frame(0x8B, b""), 1002, 1002),
        ("opcode 15", frame(0x8F, b"x"), 1002, 1002),
        ("no mask", unmasked, 1002, 1002),
        (
            "a continuation without a start",
            frame(0x80, b"x"),
            1002,
            1002,
        ),
        (
            "a message within a fragmented one",
            [frame(0x02, b""), frame(0x81, b"")].concat(),
            1002,
            1002,
        ),
        ("a fragmented ping", frame(0x09, b""), 1002, 1002),
        ("a fragmented close", frame(0x08, b""), 1002, 1002),
        ("a ping of 126 bytes", frame(0x89, &[b'.'; 126]), 1002, 1002),
        ("a close of 126 bytes", frame(0x88, &[3; 126]), 1002, 1002),
        ("a close with half a code", frame(0x88, b"\x03"), 0, 1002),
        (
            "a close with a reason that is not UTF-8",
            frame(0x88, b"\x03\xe8\xff"),
            1002,
            1002,
        ),
        ("a close with code 0", frame(0x88, b"\0\0"), 1002, 1002),
        (
            "a close with code 1005",
            frame(0x88, &1005_u16.to_be_bytes()),
            1002,
            1002,
        ),
        (
            "a close with code 2999",
            frame(0x88, &2999_u16.to_be_bytes()),
            1002,
            1002,
        ),
        ("a frame of 2 GiB", huge, 0, 1009),
        ("a packet of 16 MiB", long, 0, 1009),
    ];
    let (node, _ends) = start(Limits::new()).await;
    for (name, bytes, _go, expected) in cases {
        let mut client = connect(&node).await;
        client.send_bytes(&bytes).await;
        let close = close_frame(&mut client).await;
        let close = close.unwrap_or_else(|| panic!("{name}: no close frame"));
        assert_eq!(code(&close), expected, "{name}");
        client.closed().await;
    }
}

#[tokio::test]
async fn the_client_that_breaks_the_protocol_ends_with_that_reason() {
    for bytes in [frame(0xC2, b""), frame(0x88, b"\x03"), frame(0x88, b"\0\0")] {
        let (node, ends) = start(Limits::new()).await;
        let mut client = connect(&node).await;
        client.send_bytes(&bytes).await;
        assert!(matches!(ends.first().await, CloseReason::Protocol(_)));
    }
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_own_code() {
    let (node, _ends) = start(Limits::new()).await;
    for code in [1000_u16, 1001, 1011, 3000, 4001, 4999] {
        let mut client = connect(&node).await;
        client.send_bytes(&frame(0x88, &code.to_be_bytes())).await;
        assert_eq!(
            close_frame(&mut client).await,
            Some(code.to_be_bytes().to_vec())
        );
        client.closed().await;
    }
    let mut client = connect(&node).await;
    client.send_bytes(&frame(0x88, b"")).await;
    assert_eq!(close_frame(&mut client).await, Some(Vec::new()));
}

/// Go nano takes the bytes of text as those of binary messages.
#[tokio::test]
async fn text_frames_carry_any_bytes() {
    let (node, _ends) = start(Limits::new()).await;
    let mut client = connect(&node).await;
    // An id and a length that are no UTF-8.
    let body = Bytes::from([b"\xff\xfe".repeat(100), b"\xed\xa0\xbd".to_vec()].concat());
    client
        .send_frame(&text(&data(&Message::request(
            300,
            "Echo.Echo",
            body.clone(),
        ))))
        .await;
    assert_eq!(client.response(300).await, body);
    // Cut inside of a character.
    let packet = data(&Message::request(2, "Echo.Echo", Bytes::from("é")));
    let (first, second) = packet.split_at(packet.len() - 1);
    client.send_frame(&text(first)).await;
    client.send_frame(&text(second)).await;
    assert_eq!(client.response(2).await, "é");
}

#[tokio::test]
async fn every_ping_of_a_few_is_answered_also_before_half_a_frame() {
    let (node, _ends) = start(Limits::new()).await;
    let mut client = connect(&node).await;
    let mut bytes: Vec<u8> = (0..10_u8).flat_map(|at| frame(0x89, &[at])).collect();
    let request = frame(
        0x82,
        &data(&Message::request(1, "Echo.Echo", Bytes::from("x"))),
    );
    let (half, rest) = request.split_at(9);
    bytes.extend(half);
    client.send_bytes(&bytes).await;
    for at in 0..10_u8 {
        let pong = client.frame().await.unwrap();
        assert_eq!((pong.opcode, pong.payload), (opcode::PONG, vec![at]));
    }
    client.send_bytes(rest).await;
    assert_eq!(client.response(1).await, "x");
}

#[tokio::test]
async fn empty_fragments_are_taken_and_not_kept() {
    let (node, _ends) = start(Limits::new()).await;
    let mut client = connect(&node).await;
    client.send_bytes(&frame(0x02, b"")).await;
    for _ in 0..10 {
        client.send_bytes(&frame(0x00, b"").repeat(10_000)).await;
    }
    let packet = data(&Message::request(1, "Echo.Echo", Bytes::from("x")));
    client.send_bytes(&frame(0x80, &packet)).await;
    assert_eq!(client.response(1).await, "x");
}

/// They cost the server work, as messages do.
#[tokio::test]
async fn frames_without_a_message_count_against_the_rate() {
    for flood in [frame(0x89, b""), frame(0x8A, b""), frame(0x82, b"")] {
        let limit = RateLimit::disconnect(1, 50);
        let (node, ends) = start(Limits::new().rate_limit(limit)).await;
        let mut client = connect(&node).await;
        client.send_bytes(&flood.repeat(40)).await;
        let request = Message::request(1, "Echo.Echo", Bytes::from("few"));
        client.send_frame(&Frame::binary(data(&request))).await;
        while client.frame().await.expect("an answer").opcode != opcode::BINARY {}
        client.send_bytes(&flood.repeat(40)).await;
        assert_eq!(ends.first().await, CloseReason::RateLimit);
        assert_eq!(
            close_frame(&mut client).await.map(|close| code(&close)),
            Some(1008)
        );
    }
}
