//! Promises over WebSocket, where packets travel in frames and frames of others between them.

use std::time::Duration;

use bytes::Bytes;
use nano::{
    App, CloseReason, Limits, Node, Session, Timeouts,
    message::{Dictionary, Kind, Message},
    packet,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
};

use crate::{
    harness::{Echo, Ends, data, greeting},
    support::{
        RawClient, eventually,
        websocket::{Frame, http, opcode, upgrade},
        within,
    },
};

/// Around each length at which the head of a frame changes its form, or a packet is no longer
/// copied.
const LENGTHS: [usize; 12] = [
    0, 1, 100, 115, 116, 126, 4_070, 4_096, 65_520, 65_536, 70_000, 300_000,
];

async fn start(app: App) -> (Node, Ends) {
    let (app, ends) = Ends::of(app.component(Echo));
    (
        app.websocket("127.0.0.1:0", "/nano").start().await.unwrap(),
        ends,
    )
}

async fn connect(node: &Node) -> RawClient {
    let mut client = RawClient::websocket(node.addresses()[0], "/nano").await;
    client.handshake().await;
    client
}

async fn session(node: &Node) -> Session {
    eventually("the session opens", || node.handle().sessions().count() > 0).await;
    node.handle().sessions().list().remove(0)
}

/// A body that tells where in it a byte belongs.
fn body(len: usize) -> Bytes {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn control(opcode: u8, payload: &[u8]) -> Frame {
    Frame {
        opcode,
        last: true,
        payload: payload.to_vec(),
    }
}

#[tokio::test]
async fn packets_of_any_length_come_each_in_a_frame_of_its_own() {
    let (node, _ends) = start(App::new()).await;
    let mut client = connect(&node).await;
    let session = session(&node).await;
    // All at once, so that small and large ones are written together.
    for len in LENGTHS.into_iter().chain(LENGTHS.into_iter().rev()) {
        session.push_raw("onLength", body(len)).unwrap();
    }
    for len in LENGTHS.into_iter().chain(LENGTHS.into_iter().rev()) {
        assert_eq!(client.push("onLength").await, body(len));
    }
}

#[tokio::test]
async fn requests_come_in_pieces_of_any_length() {
    let (node, _ends) = start(App::new().limits(Limits::new().max_packet(1 << 20))).await;
    let mut client = connect(&node).await;
    let requests = |ids: &[u64]| -> Vec<u8> {
        ids.iter()
            .zip(LENGTHS)
            .flat_map(|(id, len)| data(&Message::request(*id, "Echo.Echo", body(len))))
            .collect()
    };
    let ids: Vec<_> = (1..=LENGTHS.len() as u64).collect();
    // One message of all, cut in three.
    let all = requests(&ids);
    let (first, rest) = all.split_at(777);
    let (second, third) = rest.split_at(200_000);
    let fragment = |opcode, last, payload: &[u8]| Frame {
        opcode,
        last,
        payload: payload.to_vec(),
    };
    client
        .send_frame(&fragment(opcode::BINARY, false, first))
        .await;
    client
        .send_frame(&fragment(opcode::CONTINUATION, false, second))
        .await;
    client
        .send_frame(&control(opcode::PING, b"between fragments"))
        .await;
    client
        .send_frame(&fragment(opcode::CONTINUATION, true, third))
        .await;
    // The packets of a fragment are handled before the next fragment comes.
    let mut answers = ids.iter().zip(LENGTHS);
    for _ in 0..=ids.len() {
        let frame = client.frame().await.unwrap();
        if frame.opcode == opcode::PONG {
            assert_eq!(frame, control(opcode::PONG, b"between fragments"));
            continue;
        }
        let (id, len) = answers.next().unwrap();
        let message = Message::decode(
            Bytes::from(frame.payload).slice(packet::HEADER..),
            &Dictionary::default(),
        )
        .unwrap();
        assert_eq!((message.id, message.body), (*id, body(len)));
    }
}

#[tokio::test]
async fn many_messages_that_arrive_together_are_all_answered() {
    let (node, _ends) = start(App::new()).await;
    let (mut stream, _head) = http(node.addresses()[0], &upgrade("/nano", "")).await;
    let mut frames = Frame::binary(greeting()).encode();
    for id in 1..=500 {
        frames.extend(Frame::binary(data(&Message::request(id, "Echo.Echo", body(300)))).encode());
    }
    within("room to send", stream.write_all(&frames))
        .await
        .unwrap();
    let mut answered = 0;
    while answered < 500 {
        let first = within("an answer", stream.read_u8()).await.unwrap();
        let frame = within("an answer", Frame::read(&mut stream, first)).await;
        if frame.payload[0] == packet::Kind::Data as u8 {
            let message = Message::decode(
                Bytes::from(frame.payload).slice(packet::HEADER..),
                &Dictionary::default(),
            )
            .unwrap();
            answered += 1;
            assert_eq!(
                (message.kind, message.id, message.body),
                (Kind::Response, answered, body(300))
            );
        }
    }
}

#[tokio::test]
async fn a_pong_never_lands_within_a_packet() {
    let (node, _ends) = start(
        App::new().limits(
            Limits::new()
                .send_queue_bytes(usize::MAX)
                .send_queue_messages(usize::MAX),
        ),
    )
    .await;
    let mut client = connect(&node).await;
    let session = session(&node).await;
    // More than its socket holds, so that a packet is cut where the ping arrives.
    for _ in 0..200 {
        session.push_raw("onFill", body(100_000)).unwrap();
    }
    client
        .send_frame(&control(opcode::PING, b"are you there"))
        .await;
    let (mut pushes, mut pongs) = (0, 0);
    while pushes + pongs < 201 {
        let frame = client.frame().await.unwrap();
        if frame.opcode == opcode::PONG {
            assert_eq!(frame, control(opcode::PONG, b"are you there"));
            pongs += 1;
        } else if frame.payload[0] == packet::Kind::Data as u8 {
            let message = Message::decode(
                Bytes::from(frame.payload).slice(packet::HEADER..),
                &Dictionary::default(),
            )
            .unwrap();
            assert_eq!((&*message.route, message.body), ("onFill", body(100_000)));
            pushes += 1;
        }
    }
    assert_eq!((pushes, pongs), (200, 1));
}

/// What it does not read is not kept for it; only the last ping is sure to be answered.
#[tokio::test]
async fn pongs_do_not_pile_up_for_a_client_that_does_not_read() {
    let (node, _ends) = start(
        App::new().timeouts(
            Timeouts::new()
                .heartbeat(None)
                .handshake(Duration::from_secs(60)),
        ),
    )
    .await;
    let mut client = connect(&node).await;
    for _ in 0..200 {
        client
            .send_bytes(&control(opcode::PING, &[b'.'; 125]).encode().repeat(1_000))
            .await;
    }
    client.send_frame(&control(opcode::PING, b"the last")).await;
    let mut pongs = 0;
    while client.frame().await.unwrap() != control(opcode::PONG, b"the last") {
        pongs += 1;
    }
    assert!(pongs < 100_000, "{pongs}");
    assert_eq!(client.call(1, "Echo.Echo", "and more").await, "and more");
}

/// What it still sends is taken and forgotten for a while, as over TCP: a reset could overtake the
/// last packets.
#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection_in_order() {
    let (node, ends) = start(App::new().limits(Limits::new().max_packet(1_000))).await;
    let mut client = connect(&node).await;
    client.send_frame(&Frame::binary(body(10_000))).await;
    client.closed().await;
    assert!(matches!(ends.first().await, CloseReason::Protocol(_)));
    client.send_bytes(&body(10_000)).await;
    client.send_bytes(&body(10_000)).await;
}

#[tokio::test]
async fn a_client_may_go_without_a_closing_frame() {
    let (node, ends) = start(App::new()).await;
    let mut client = connect(&node).await;
    client.finish().await;
    client.closed().await;
    assert_eq!(ends.first().await, CloseReason::Client);
}

#[tokio::test]
async fn nothing_follows_a_closing_frame() {
    let (node, ends) = start(
        App::new().limits(
            Limits::new()
                .send_queue_bytes(usize::MAX)
                .send_queue_messages(usize::MAX),
        ),
    )
    .await;
    let mut client = connect(&node).await;
    let session = session(&node).await;
    // More than its socket holds, so that there is something left to follow.
    for _ in 0..200 {
        session.push_raw("onFill", body(100_000)).unwrap();
        yield_now().await;
    }
    client
        .send_frame(&control(opcode::CLOSE, &1_000_u16.to_be_bytes()))
        .await;
    let last = loop {
        let frame = client.frame().await.unwrap();
        if frame.opcode != opcode::BINARY {
            break frame;
        }
    };
    assert_eq!(last, control(opcode::CLOSE, &1_000_u16.to_be_bytes()));
    client.closed().await;
    assert_eq!(ends.first().await, CloseReason::Client);
}
