//! What clients of pomelo and pitaya send and expect beside nano's own protocol.

use std::sync::Arc;

use nano::{Accept, App, Component, Handlers, Raw, Result, Session, bytes::Bytes, packet::Kind};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{RawClient, Server};

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

/// Sends a request with this id as it stands. Returns the id of the reply.
async fn id_of_reply(client: &mut RawClient, id: &[u8]) -> Vec<u8> {
    let message = [&[0], id, b"\x09Echo.Echox"].concat();
    client.send_packet(Kind::Data, &message).await;
    let reply = client.packet_of(Kind::Data).await;
    let id = reply[1..].strip_suffix(b"x").unwrap();
    assert_eq!(reply[0], 4, "a response");
    id.to_vec()
}

/// Seen with clients that stay connected for weeks, and with two million requests of one client: ids
/// grow past 2, 3, .. bytes. Go nano reads and writes up to 64 bits, too.
#[tokio::test]
async fn request_ids_of_every_length_come_back_as_they_were() {
    let server = Server::start(App::new().component(Echo)).await;
    let mut client = server.client().await;
    for bits in 1..64 {
        for id in [1_u64 << bits, (1 << bits) - 1, u64::MAX >> (63 - bits)] {
            let mut bytes = Vec::new();
            let mut rest = id;
            while rest >= 128 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            assert_eq!(id_of_reply(&mut client, &bytes).await, bytes, "{id}");
        }
    }
}

/// npm's pomelo-client-websocket writes ids big-endian. Go nano reads them as this crate does, so that
/// the replies to its ids 128, 256, .. find no callback.
#[tokio::test]
async fn ids_in_more_bytes_than_needed_are_answered_in_as_few_as_needed() {
    let server = Server::start(App::new().component(Echo)).await;
    let mut client = server.client().await;
    for (written, read) in [
        (&[0x81, 0][..], &[1][..]),
        (&[0x80, 0x80, 1], &[0x80, 0x80, 1]),
    ] {
        assert_eq!(id_of_reply(&mut client, written).await, read);
    }
    for written in [&[0xAC, 0x82, 0][..], &[0xAC, 0x82, 0x80, 0x80, 0]] {
        assert_eq!(id_of_reply(&mut client, written).await, [0xAC, 2]);
    }
}

/// libpitaya says in `sys.serializer` what it speaks, and takes that of the reply for the server's.
/// Go nano sends none, and neither does this crate: JSON is what libpitaya falls back to. The
/// application finds the client's in the handshake.
#[tokio::test]
async fn a_serializer_in_the_handshake_is_the_applications_to_read() {
    let seen = Arc::<Mutex<Value>>::default();
    let of_client = seen.clone();
    let app = App::new().on_handshake(move |handshake| {
        let serializer = handshake.request().sys.others.get("serializer");
        *of_client.lock() = serializer.cloned().unwrap_or_default();
        Ok(Accept::new())
    });
    let server = Server::start(app).await;
    let mut client = RawClient::tcp(server.tcp).await;
    let request =
        json!({ "sys": { "platform": "mac", "libVersion": "0.4.6", "serializer": "protobuf" } });
    let reply = client.handshake_with(request.to_string().as_bytes()).await;
    assert_eq!(*seen.lock(), "protobuf");
    assert_eq!(reply["code"], 200);
    assert_eq!(reply["sys"].get("serializer"), None);
}

/// libpomelo2, libpitaya and pypomelo do not read `sys.dict`, and a push by its code ends them. A push
/// whose route is in no dictionary says its route to all clients.
#[tokio::test]
async fn a_push_outside_the_dictionary_says_its_route() {
    let server = Server::start(App::new().dictionary([("Echo.Echo", 1), ("onCoded", 300)])).await;
    let mut client = server.client().await;
    let session = server.node.handle().sessions().list().remove(0);
    session.push_raw("onPlain", "1").unwrap();
    session.push_raw("onCoded", "2").unwrap();
    assert_eq!(client.packet_of(Kind::Data).await, b"\x06\x07onPlain1"[..]);
    assert_eq!(client.packet_of(Kind::Data).await, b"\x07\x01\x2c2"[..]);
}
