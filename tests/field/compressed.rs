//! Bodies that pitaya's C client compresses unless `disable_compression` is set. Go nano hands the
//! zlib bytes to the handler.

use nano::{App, Component, Handlers, Limits, Result, Session, message::Message};
use serde_json::Value;

use crate::support::{RawClient, Server};

struct T;

impl Component for T {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Typed", Self::typed)
    }
}

impl T {
    fn typed(&self, _: &Session, body: Value) -> Result<Value> {
        Ok(body)
    }
}

/// `{"a":"x","n":1}` as zlib writes it at its default level.
const ZLIB: &str = "789cab564a54b252aa50d251ca53b232ac05001efa03dd";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

async fn send(client: &mut RawClient, flag: u8, id: u8, body: &[u8]) {
    let mut message = vec![flag];
    if flag & 0x0E == 0 {
        message.push(id);
    }
    message.extend(b"\x07T.Typed");
    message.extend(body);
    client.send_packet(nano::packet::Kind::Data, &message).await;
}

async fn error(client: &mut RawClient, id: u64) -> String {
    let Message {
        id: answered, body, ..
    } = client.message().await;
    assert_eq!(answered, id);
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_compressed_body_is_inflated_within_the_packet_limit() {
    let limits = Limits::new().max_packet(64);
    let server = Server::start(App::new().component(T).limits(limits)).await;
    for mut client in [server.client().await, server.websocket_client().await] {
        let body = bytes(ZLIB);
        send(&mut client, 0x10, 1, &body).await;
        assert_eq!(client.response(1).await, r#"{"a":"x","n":1}"#);
        // Without the header the bit means nothing.
        send(&mut client, 0x10, 2, b"[1]").await;
        assert_eq!(client.response(2).await, "[1]");
        send(&mut client, 0x10, 3, &body[..12]).await;
        let text = error(&mut client, 3).await;
        assert!(
            text.contains("NANO-400") && text.contains("compressed body: invalid"),
            "{text}"
        );
        // 65 spaces.
        send(&mut client, 0x10, 4, &bytes("789c5350a01000000c700821")).await;
        let text = error(&mut client, 4).await;
        assert!(
            text.contains("NANO-400") && text.contains("over 64 bytes"),
            "{text}"
        );
        // Not JSON that is invalid, but a format that is not inflated.
        send(&mut client, 0x10, 6, b"\x1f\x8b\x08\0\0\0\0\0").await;
        let text = error(&mut client, 6).await;
        assert!(text.contains("compressed body: gzip"), "{text}");
        // A broken notify has no answer, and the connection stays.
        send(&mut client, 0x12, 0, &body[..12]).await;
        send(&mut client, 0x00, 5, b"{}").await;
        assert_eq!(client.response(5).await, "{}");
    }
}
