//! Frames that are none: reported to nakama-js #172, pomelo #856 and libdatachannel #664. Go nano
//! closes such a connection, after a close frame with code 1002 for most. Here too it ends, and no
//! other does.

use std::sync::Arc;

use nano::{App, CloseReason};
use parking_lot::Mutex;

use crate::support::{RawClient, Server, eventually};

/// A masked frame whose head is the test's own, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..126 => bytes.push(0x80 | payload.len() as u8),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

async fn start() -> (Server, Arc<Mutex<Vec<CloseReason>>>) {
    let reasons = Arc::<Mutex<Vec<_>>>::default();
    let seen = reasons.clone();
    let app = App::new().on_session_closed(move |_, reason| seen.lock().push(reason.clone()));
    (Server::start(app).await, reasons)
}

/// Reads to the end, whatever comes before it.
async fn ended(client: &mut RawClient) {
    while client.frame().await.is_some() {}
}

#[tokio::test]
async fn a_client_of_broken_frames_ends_and_no_other_does() {
    let (server, reasons) = start().await;
    let mut other = server.websocket_client().await;
    let heartbeat = [3, 0, 0, 0];
    let broken: [(&str, Vec<u8>); 9] = [
        ("a continuation without a start", frame(0x80, &heartbeat)),
        (
            "a new message inside a fragmented one",
            [frame(0x02, &heartbeat), frame(0x82, &heartbeat)].concat(),
        ),
        (
            "a reserved bit without an extension",
            frame(0xC2, &heartbeat),
        ),
        ("an unknown data opcode", frame(0x83, &heartbeat)),
        ("an unknown control opcode", frame(0x8B, b"")),
        ("a frame without a mask", [0x82, 4, 3, 0, 0, 0].into()),
        ("a ping of 126 bytes", frame(0x89, &[0; 126])),
        ("a fragmented ping", frame(0x09, b"")),
        ("a close frame of one byte", frame(0x88, &[3])),
    ];
    for (count, (what, bytes)) in (1..).zip(&broken) {
        let mut client = server.websocket_client().await;
        client.send_bytes(bytes).await;
        ended(&mut client).await;
        eventually(what, || reasons.lock().len() == count).await;
        assert!(
            matches!(reasons.lock()[count - 1], CloseReason::Protocol(_)),
            "{what}: {:?}",
            reasons.lock()[count - 1]
        );
    }
    other.request(1, "Nope.Nope", "{}").await;
    assert_eq!(other.message().await.id, 1);
    assert_eq!(server.node.handle().sessions().count(), 1);
}

#[tokio::test]
async fn a_hundred_thousand_empty_fragments_cost_nothing() {
    let (server, _reasons) = start().await;
    let mut client = server.websocket_client().await;
    let mut bytes = frame(0x02, &[]);
    for _ in 0..100_000 {
        bytes.extend(frame(0x00, &[]));
    }
    // A request with id 1.
    bytes.extend(frame(0x80, b"\x04\x00\x00\x0e\x00\x01\x09Nope.Nope{}"));
    client.send_bytes(&bytes).await;
    assert_eq!(client.message().await.id, 1);
}

#[tokio::test]
async fn pings_before_half_a_frame_are_answered() {
    let (server, _reasons) = start().await;
    let mut client = server.websocket_client().await;
    let mut bytes: Vec<u8> = (0..10).flat_map(|n| frame(0x89, &[n])).collect();
    let half = frame(0x82, &[3, 0, 0, 0]);
    bytes.extend(&half[..5]);
    client.send_bytes(&bytes).await;
    for n in 0..10 {
        assert_eq!(client.frame().await.unwrap().payload, [n]);
    }
    client.send_bytes(&half[5..]).await;
    client.send_packet(nano::packet::Kind::Heartbeat, b"").await;
    assert_eq!(server.node.handle().sessions().count(), 1);
}
