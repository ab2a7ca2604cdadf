//! Messages cut and glued by the network: reported to pomelo #171 and godot-websocket #4. Go nano
//! decodes them, and so does this crate.

use std::sync::Arc;

use bytes::Bytes;
use nano::{App, CloseReason, Component, Handlers, Raw, Result, Session, message::Message, packet};
use parking_lot::Mutex;

use crate::support::{Frame, RawClient, Server, eventually, opcode};

struct Echo;

impl Component<Raw> for Echo {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo)
    }
}

impl Echo {
    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }
}

fn encoded(kind: packet::Kind, body: &[u8]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    packet::encode(kind, body, &mut out).unwrap();
    out.to_vec()
}

fn request(id: u64, body: &Bytes) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    Message::request(id, "Echo.Echo", body.clone())
        .encode(&Default::default(), &mut out)
        .unwrap();
    encoded(packet::Kind::Data, &out)
}

/// A body that makes the packet's own body this long.
fn body(packet: usize) -> Bytes {
    let head = "Echo.Echo".len() + 3;
    (head..packet).map(|at| (at % 251) as u8).collect()
}

/// Around a segment of 536 bytes, one of 1448, the length field's bytes and the limit.
const LENGTHS: [usize; 7] = [401, 532, 536, 1_448, 1_449, 65_535, 65_536];

#[tokio::test]
async fn packets_cut_at_any_segment_size_arrive_whole() {
    let server = Server::start(App::new().component(Echo)).await;
    for (mut client, name) in [
        (server.client().await, "TCP"),
        (server.websocket_client().await, "WebSocket"),
    ] {
        for (id, len) in (1..).zip(LENGTHS) {
            for piece in request(id, &body(len)).chunks(536) {
                client.send(piece).await;
            }
            assert_eq!(client.response(id).await, body(len), "{name}, {len} bytes");
        }
    }
}

#[tokio::test]
async fn two_messages_and_half_a_header_in_one_piece_are_two_messages_and_a_third() {
    let server = Server::start(App::new().component(Echo)).await;
    for mut client in [server.client().await, server.websocket_client().await] {
        let bodies = [body(100), body(300), body(401)];
        let heartbeat = encoded(packet::Kind::Heartbeat, b"");
        let third = request(3, &bodies[2]);
        for cut in 1..=5 {
            let first: Vec<u8> = [
                &heartbeat[..],
                &request(1, &bodies[0]),
                &request(2, &bodies[1]),
                &third[..cut],
            ]
            .concat();
            client.send(&first).await;
            client.send(&third[cut..]).await;
            for (id, body) in (1..).zip(&bodies) {
                assert_eq!(client.response(id).await, body, "cut after {cut} bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_packet_byte_by_byte_in_fragments_of_one_message_arrives_whole() {
    let server = Server::start(App::new().component(Echo)).await;
    let mut client: RawClient = server.websocket_client().await;
    let bytes = request(1, &body(401));
    for (at, byte) in bytes.iter().enumerate() {
        let frame = Frame {
            opcode: if at == 0 {
                opcode::BINARY
            } else {
                opcode::CONTINUATION
            },
            last: at + 1 == bytes.len(),
            payload: vec![*byte],
        };
        client.send_frame(&frame).await;
    }
    assert_eq!(client.response(1).await, body(401));
}

/// Seen with clients that send one request and close their direction at once.
#[tokio::test]
async fn a_client_that_closes_its_direction_behind_a_request_is_gone() {
    let reasons = Arc::<Mutex<Vec<CloseReason>>>::default();
    let seen = reasons.clone();
    let app = App::new()
        .component(Echo)
        .on_session_closed(move |_, reason| seen.lock().push(reason.clone()));
    let server = Server::start(app).await;
    for count in 1..=5 {
        let mut client = server.client().await;
        client.send(&request(1, &body(100))).await;
        client.finish().await;
        // The reply may arrive before the end.
        while client.bytes().await.is_some() {}
        eventually("the session ends", || reasons.lock().len() == count).await;
    }
    assert!(reasons.lock().iter().all(|it| *it == CloseReason::Client));
    assert_eq!(server.node.handle().sessions().count(), 0);
}
