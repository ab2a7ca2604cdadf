//! Bit 0x20 of an error reply goes to clients that know it only. The other clients are read here as
//! libpomelo and libpomelo2 read: without a mask, and with the end of the connection for any message
//! type they do not know.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use nano::{
    App, Component, Error, Handlers, Limits, Node, Pipeline, Responder, Result, Session, Timeouts,
    code, message::Message, testing::RawClient,
};

use parking_lot::Mutex;

use crate::harness::start;

const RESPONSE: u8 = 2;
const PUSH: u8 = 3;
/// What the two libraries say of themselves.
const LIBPOMELO: &[u8] = br#"{"sys":{"version":"0.3.4","type":"c"}}"#;
const LIBPOMELO2: &[u8] = br#"{"sys":{"type":"desktop","version":"0.3.5-release"}}"#;
const PITAYA: &[u8] = br#"{"sys":{"platform":"mac","libVersion":"0.3.5-release","clientBuildNumber":"20","clientVersion":"2.1"}}"#;

#[derive(Default)]
struct Room {
    kept: Mutex<Vec<Responder>>,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", |_: &Self, _: &Session, text: String| {
            Ok::<_, Error>(text)
        })
        .on("Fail", |_: &Self, _: &Session, _: ()| {
            Err::<(), _>(Error::new("ROOM-FULL", "no seat"))
        })
        .on("Panic", |_: &Self, _: &Session, _: ()| -> Result {
            panic!("a test's panic")
        })
        .on("Never", Self::never)
        .on("Keep", Self::keep)
    }
}

impl Room {
    async fn never(self: Arc<Self>, _: Session, _: ()) -> Result {
        pending().await
    }

    fn keep(&self, session: &Session, _: ()) -> Result {
        self.kept.lock().push(session.responder());
        Ok(())
    }
}

/// Each route fails for another reason.
const FAILURES: [(&str, &str, &str); 6] = [
    ("Nope.Nope", "{}", code::NOT_FOUND.as_str()),
    ("Room.Nope", "{}", code::NOT_FOUND.as_str()),
    ("Room.Echo", "{", code::BAD_REQUEST.as_str()),
    ("Room.Fail", "null", "ROOM-FULL"),
    ("Room.Panic", "null", code::INTERNAL.as_str()),
    ("Room.Echo", r#""refuse""#, "CENSORED"),
];

async fn room() -> Node {
    let pipeline = Pipeline::new();
    pipeline
        .inbound()
        .push_back(|_: &Session, message: &mut Message| {
            if message.body == r#""refuse""# {
                return Err(Error::new("CENSORED", "not this"));
            }
            Ok(())
        });
    start(App::new().component(Room::default()).pipeline(pipeline)).await
}

/// The flag byte and the body of the response to a request whose id has one byte.
async fn response(client: &mut RawClient, id: u8) -> (u8, Bytes) {
    let packet = client.bytes().await.expect("the connection ended");
    assert_eq!(
        (packet[0], packet[5]),
        (4, id),
        "not the response: {packet:?}"
    );
    (packet[4], Bytes::from(packet).slice(6..))
}

async fn shaken(node: &Node, handshake: &[u8]) -> RawClient {
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    client.handshake_with(handshake).await;
    client
}

#[tokio::test]
async fn no_error_reply_ends_the_connection_of_a_client_that_does_not_know_the_bit() {
    let node = room().await;
    let handshakes = [
        LIBPOMELO,
        LIBPOMELO2,
        b"{}",
        b"",
        br#"{"sys":{"type":"js-websocket","version":"0.0.1"}}"#,
        br#"{"sys":{"errorFlag":false,"platform":"mac","libVersion":"1"}}"#,
        br#"{"sys":{"errorFlag":1}}"#,
        br#"{"sys":{"platform":"mac"}}"#,
        br#"{"sys":{"platform":7,"libVersion":8}}"#,
    ];
    for handshake in handshakes {
        let mut client = shaken(&node, handshake).await;
        for (id, (route, body, code)) in (1..).zip(FAILURES) {
            client.request(id.into(), route, body).await;
            let (flag, body) = response(&mut client, id).await;
            let kind = flag >> 1;
            assert!(kind <= PUSH, "unknown message type {kind} for {code}");
            assert_eq!(kind, RESPONSE);
            assert_eq!(Error::from_body(&body).code(), code);
        }
        assert_eq!(client.call(100, "Room.Echo", r#""on""#).await, r#""on""#);
    }
}

#[tokio::test]
async fn a_client_that_knows_the_bit_gets_it() {
    let node = room().await;
    for handshake in [PITAYA, br#"{"sys":{"errorFlag":true}}"#] {
        let mut client = shaken(&node, handshake).await;
        for (id, (route, body, code)) in (1..).zip(FAILURES) {
            client.request(id.into(), route, body).await;
            let (flag, body) = response(&mut client, id).await;
            assert_eq!(flag, RESPONSE << 1 | 0x20, "for {code}");
            assert_eq!(Error::from_body(&body).code(), code);
        }
    }
}

#[tokio::test]
async fn requests_that_time_out_have_no_bit_either() {
    let timeouts = Timeouts::new().request(Duration::from_millis(50));
    let node = start(App::new().component(Room::default()).timeouts(timeouts)).await;
    let mut client = shaken(&node, LIBPOMELO).await;
    client.request(1, "Room.Never", "null").await;
    let (flag, body) = response(&mut client, 1).await;
    assert_eq!(flag, RESPONSE << 1);
    assert_eq!(Error::from_body(&body).code(), code::TIMEOUT);
}

#[tokio::test]
async fn requests_over_the_limit_and_those_a_shutdown_ends_have_no_bit_either() {
    let limits = Limits::new().max_in_flight(1);
    let app = App::new().component(Room::default()).limits(limits);
    let node = start(app.timeouts(Timeouts::new().shutdown(Duration::from_millis(100)))).await;
    let mut client = shaken(&node, LIBPOMELO2).await;
    client.request(1, "Room.Keep", "null").await;
    client.request(2, "Room.Keep", "null").await;
    let (flag, body) = response(&mut client, 2).await;
    assert_eq!(flag, RESPONSE << 1);
    assert_eq!(Error::from_body(&body).code(), code::TOO_MANY);
    let (_, (flag, body)) = tokio::join!(node.shutdown(), response(&mut client, 1));
    assert_eq!(flag, RESPONSE << 1);
    assert_eq!(Error::from_body(&body).code(), code::UNAVAILABLE);
}
