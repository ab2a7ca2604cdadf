//! Requests and notifies.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use nano::{
    Error, Protobuf,
    client::{Client, DisconnectReason},
    code,
    message::Message,
    packet::Kind,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    fake::{REPLY, connected, connected_with, encode},
    within,
};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Greeting {
    name: String,
}

#[tokio::test]
async fn typed_messages_are_json_unless_said_otherwise() {
    let (client, mut peer) = connected().await;
    let serve = async {
        for _ in 0..3 {
            let request = peer.message().await.unwrap();
            peer.send(Message::response(request.id, false, request.body))
                .await;
        }
        peer.message().await.unwrap()
    };
    let hello = Greeting { name: "a<b".into() };
    let call = async {
        let reply: Greeting = client.request("Echo.Echo", &hello).await.unwrap();
        assert_eq!(reply, hello);
        let pong = client
            .typed::<Protobuf>()
            .request::<String, String>("Echo.Echo", &"x".to_owned())
            .await
            .unwrap();
        assert_eq!(pong, "x");
        let error = client
            .typed::<nano::Raw>()
            .request_raw("Echo.Echo", "no json")
            .await;
        assert_eq!(error.unwrap(), "no json");
        client.notify("Echo.Sink", &hello).await.unwrap();
    };
    let (notify, ()) = tokio::join!(serve, call);
    assert_eq!(
        notify,
        Message::notify("Echo.Sink", r#"{"name":"a\u003cb"}"#)
    );
}

#[tokio::test]
async fn an_answer_of_another_form_is_an_error_and_unit_takes_any() {
    let (client, mut peer) = connected().await;
    let serve = async {
        for _ in 0..2 {
            let request = peer.message().await.unwrap();
            peer.send(Message::response(request.id, false, "no json"))
                .await;
        }
    };
    let call = async {
        let error = client
            .request::<Greeting, _>("Echo.Echo", &())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code::BAD_REQUEST);
        client.request::<(), _>("Echo.Echo", &()).await.unwrap();
    };
    tokio::join!(serve, call);
}

#[tokio::test]
async fn many_requests_are_in_flight_and_leave_in_one_write() {
    let (client, mut peer) = connected().await;
    let calls = join_all((0..100).map(|n: u32| client.request_raw("Echo.Echo", n.to_string())));
    let serve = async {
        let mut requests = vec![peer.message().await.unwrap()];
        assert_eq!(peer.arrived(), 99, "in the same read");
        for _ in 1..100 {
            requests.push(peer.message().await.unwrap());
        }
        let ids: Vec<u64> = requests.iter().map(|request| request.id).collect();
        assert_eq!(ids, (1..=100).collect::<Vec<u64>>());
        for request in requests.into_iter().rev() {
            peer.send(Message::response(request.id, false, request.body))
                .await;
        }
    };
    let (replies, ()) = tokio::join!(within(calls), serve);
    for (n, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), n.to_string());
    }
}

#[tokio::test]
async fn an_error_reply_is_the_servers_error() {
    let (client, mut peer) = connected().await;
    let failure = Error::new("ROOM-FULL", "the room is full").with_metadata("limit", "4");
    let serve = async {
        for body in [failure.to_body(), Bytes::from_static(b"out of order")] {
            let request = peer.message().await.unwrap();
            peer.send(Message::response(request.id, true, body)).await;
        }
    };
    let call = async {
        let error = client.request_raw("Room.Join", "").await.unwrap_err();
        assert_eq!(
            (
                error.code().as_str(),
                error.message(),
                &error.metadata()["limit"][..]
            ),
            ("ROOM-FULL", "the room is full", "4")
        );
        let error = client
            .request::<Greeting, _>("Room.Join", &())
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (code::INTERNAL, "out of order")
        );
    };
    tokio::join!(serve, call);
}

#[tokio::test]
async fn late_answers_and_answers_without_a_request_are_dropped() {
    let (client, mut peer) = connected_with(
        Client::builder().request_timeout(Duration::from_secs(1)),
        REPLY,
    )
    .await;
    let error = within(client.request_raw("Slow.Slow", ""))
        .await
        .unwrap_err();
    assert_eq!(error.code(), code::TIMEOUT);
    assert!(error.message().contains("Slow.Slow"), "{error}");
    assert!(
        timeout(
            Duration::from_millis(5),
            client.request_raw("Slow.Slow", "")
        )
        .await
        .is_err(),
        "this one is given up"
    );

    let serve = async {
        for id in [1, 2] {
            let request = peer.message().await.unwrap();
            assert_eq!(request.id, id);
            peer.send(Message::response(id, false, "late")).await;
        }
        peer.send(Message::response(77, true, "never asked")).await;
        peer.send(Message::response(0, false, "")).await;
        let request = peer.message().await.unwrap();
        peer.send(Message::response(request.id, false, "in time"))
            .await;
        peer.send(Message::response(request.id, false, "twice"))
            .await;
    };
    let (reply, ()) = tokio::join!(client.request_raw("Echo.Echo", ""), serve);
    assert_eq!(reply.unwrap(), "in time");
    assert_eq!(client.close_reason(), None);
}

#[tokio::test]
async fn the_dictionary_shortens_routes_in_both_directions() {
    let reply = r#"{"code":200,"sys":{"dict":{"Echo.Echo":1,"onEcho":258,"first":3,"second":3}}}"#;
    let mut builder = Client::builder();
    let mut pushes = builder.subscribe("onEcho");
    let (client, mut peer) = connected_with(builder, reply).await;
    for (route, bytes) in [
        ("Echo.Echo", &b"\x03\x00\x01b"[..]),
        ("second", b"\x02\x06secondb"),
    ] {
        client.notify_raw(route, "b").await.unwrap();
        assert_eq!(peer.packet().await.unwrap().body, bytes);
    }
    // A route that only the server knows the code of is dropped, and what follows it is not.
    peer.write(
        &[
            encode(Kind::Data, b"\x07\x00\x03lost"),
            encode(Kind::Data, b"\x07\x01\x02body"),
        ]
        .concat(),
    )
    .await;
    assert_eq!(within(pushes.recv()).await.unwrap(), "body");
}

#[tokio::test]
async fn a_message_that_fits_no_wire_is_refused_and_the_next_one_is_not() {
    let (client, mut peer) = connected().await;
    assert_eq!(
        client
            .notify_raw("r".repeat(256).as_str(), "")
            .await
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
    assert_eq!(
        client
            .request_raw("Echo.Echo", vec![0; 1 << 24])
            .await
            .unwrap_err()
            .code(),
        code::TOO_LARGE
    );
    client
        .notify_raw("r".repeat(255).as_str(), "")
        .await
        .unwrap();
    assert_eq!(peer.message().await.unwrap().route.len(), 255);
}

#[tokio::test]
async fn a_server_that_does_not_read_makes_senders_wait_and_loses_nothing() {
    let (client, mut peer) = connected().await;
    let body = |n: u32| [&n.to_be_bytes()[..], &vec![b'x'; 60_000]].concat();
    let mut sent = 0;
    // Until the kernel's buffers and the queue are full.
    while timeout(
        Duration::from_millis(200),
        client.notify_raw("Echo.Sink", body(sent)),
    )
    .await
    .is_ok_and(|sent| sent.is_ok())
    {
        sent += 1;
        assert!(sent < 2_000, "the queue has no bound");
    }
    let send = async {
        // Larger than the whole queue.
        client
            .notify_raw("Echo.Sink", vec![1; 1 << 20])
            .await
            .unwrap();
    };
    let serve = async {
        for n in 0..sent {
            assert_eq!(peer.message().await.unwrap().body, body(n));
        }
        peer.message().await.unwrap().body
    };
    let ((), last) = within(async { tokio::join!(send, serve) }).await;
    assert_eq!(last.len(), 1 << 20);
}

#[tokio::test]
async fn a_connection_that_closes_ends_every_wait() {
    let (client, peer) = connected().await;
    let calls = join_all((0..10).map(|_| client.request_raw("Echo.Echo", "")));
    let close = async {
        let mut peer = peer;
        peer.message().await.unwrap();
        drop(peer);
    };
    let (replies, ()) = tokio::join!(within(calls), close);
    for reply in replies {
        assert_eq!(reply.unwrap_err().code(), code::CLOSED);
    }
    assert!(!matches!(
        within(client.closed()).await,
        DisconnectReason::Local
    ));
    assert_eq!(
        client
            .request_raw("Echo.Echo", "")
            .await
            .unwrap_err()
            .code(),
        code::CLOSED
    );
    assert_eq!(
        client.notify_raw("Echo.Sink", "").await.unwrap_err().code(),
        code::CLOSED
    );
}

#[test]
fn all_of_it_can_be_moved_between_threads() {
    fn is_send<T: Send>(_: T) {}
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    is_shared::<Client>();
    is_shared::<Client<Protobuf>>();
    is_send(Client::connect("ws://127.0.0.1"));
    let _ = |client: &Client| {
        is_send(client.request::<Greeting, _>("Echo.Echo", "x"));
        is_send(client.notify("Echo.Sink", "x"));
        is_send(client.closed());
    };
}
