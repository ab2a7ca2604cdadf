//! Callbacks and subscriptions.

use std::sync::Arc;

use nano::{
    client::{Client, DisconnectReason},
    code,
    message::Message,
    packet::Kind,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    fake::{Peer, REPLY, Server, connected, connected_with, data, encode},
    within,
};

/// Waits until the client has read all that was sent so far.
async fn settle(client: &Client, peer: &mut Peer) {
    let answer = async {
        let request = peer.message().await.unwrap();
        peer.send(Message::response(request.id, false, "")).await;
    };
    let (reply, ()) = tokio::join!(within(client.request_raw("Settle.Settle", "")), answer);
    reply.unwrap();
}

#[tokio::test]
async fn listeners_of_the_builder_hear_what_comes_right_behind_the_handshake() {
    let server = Server::bind().await;
    let url = server.url();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut builder = Client::builder().on("onFirst", {
        let heard = heard.clone();
        move |body| heard.lock().push(body)
    });
    let mut subscription = builder.subscribe("onFirst");
    let serve = async {
        let mut peer = server.accept().await;
        let early = [
            data(Message::push("onFirst", "1")),
            data(Message::push("onOther", "x")),
            data(Message::push("onFirst", "2")),
        ]
        .concat();
        peer.shake_hands(REPLY, &early).await;
        peer
    };
    let (client, _peer) = tokio::join!(builder.connect(&url), serve);
    assert_eq!(within(subscription.recv()).await.unwrap(), "1");
    assert_eq!(within(subscription.recv()).await.unwrap(), "2");
    assert_eq!(*heard.lock(), ["1", "2"]);
    assert_eq!(client.unwrap().close_reason(), None);
}

#[tokio::test]
async fn callbacks_run_in_order_and_may_use_the_client() {
    let (client, mut peer) = connected().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    client.on("onNews", {
        let (heard, client) = (heard.clone(), client.clone());
        move |body| {
            heard.lock().push(body);
            let more = heard.clone();
            client.on("onMore", move |body| more.lock().push(body));
        }
    });
    for (route, body) in [
        ("onMore", "no subscriber yet"),
        ("onNews", "a"),
        ("onMore", "b"),
        ("onNews", "c"),
        ("onMore", "d"),
    ] {
        peer.send(Message::push(route, body)).await;
    }
    settle(&client, &mut peer).await;
    assert_eq!(*heard.lock(), ["a", "b", "c", "d", "d"]);

    // It would keep the connection open for ever if the end of the connection did not let go of it.
    drop(peer);
    within(client.closed()).await;
    assert_eq!(Arc::strong_count(&heard), 1);
}

#[tokio::test]
async fn a_panic_in_a_callback_ends_that_call_alone() {
    let (client, mut peer) = connected().await;
    client.on("onNews", |body| {
        assert_eq!(body, "good", "this panic is expected")
    });
    let mut after = client.subscribe("onNews");
    peer.send(Message::push("onNews", "bad")).await;
    peer.send(Message::push("onNews", "good")).await;
    assert_eq!(within(after.recv()).await.unwrap(), "bad");
    assert_eq!(within(after.recv()).await.unwrap(), "good");
    settle(&client, &mut peer).await;
}

#[tokio::test]
async fn a_subscription_decodes_and_ends_with_the_connection() {
    let (client, mut peer) = connected().await;
    let mut news = client.subscribe("onNews");
    assert_eq!(news.try_recv(), None);
    for body in [r#"{"n":1}"#, "no json", "2"] {
        peer.send(Message::push("onNews", body)).await;
    }
    assert_eq!(
        within(news.recv_as::<Value>()).await.unwrap().unwrap(),
        json!({ "n": 1 })
    );
    assert_eq!(
        within(news.recv_as::<Value>())
            .await
            .unwrap()
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
    settle(&client, &mut peer).await;
    drop(peer);
    within(client.closed()).await;
    assert_eq!(news.try_recv().unwrap(), "2");
    assert_eq!(within(news.recv()).await, None);
    assert_eq!(within(client.subscribe("onNews").recv()).await, None);
}

#[tokio::test]
async fn a_subscription_that_is_not_read_keeps_the_latest_and_counts_the_rest() {
    let mut builder = Client::builder();
    let mut slow = builder.subscribe("onTick");
    let (client, mut peer) = connected_with(builder, REPLY).await;
    let ticks: Vec<u8> = (0..1030)
        .flat_map(|n: u32| data(Message::push("onTick", n.to_string())))
        .collect();
    peer.write(&ticks).await;
    settle(&client, &mut peer).await;
    assert_eq!(slow.missed(), 6);
    for n in 6..1030 {
        assert_eq!(slow.try_recv().unwrap(), n.to_string());
    }
    assert_eq!(slow.try_recv(), None);
}

#[tokio::test]
async fn a_dropped_subscription_leaves_the_others_alone() {
    let (client, mut peer) = connected().await;
    let [mut first, second] = [client.subscribe("onNews"), client.subscribe("onNews")];
    drop(second);
    peer.send(Message::push("onNews", "still here")).await;
    assert_eq!(within(first.recv()).await.unwrap(), "still here");
    drop(first);
    peer.send(Message::push("onNews", "without a subscriber"))
        .await;
    settle(&client, &mut peer).await;
    client.close();
    assert_eq!(within(client.closed()).await, DisconnectReason::Local);
}

#[tokio::test]
async fn pushes_yields_all_routes_in_their_order_of_arrival() {
    let server = Server::bind().await;
    let url = server.url();
    let mut builder = Client::builder();
    let mut pushes = builder.pushes();
    let serve = async {
        let mut peer = server.accept().await;
        let early = [
            data(Message::push("onFirst", "1")),
            data(Message::push("onOther", "2")),
        ]
        .concat();
        peer.shake_hands(REPLY, &early).await;
        peer
    };
    let (client, mut peer) = tokio::join!(builder.connect(&url), serve);
    let client = client.unwrap();
    let mut late = client.pushes();
    peer.send(Message::push("onFirst", "3")).await;
    drop(peer);
    within(client.closed()).await;

    let mut all = Vec::new();
    while let Some(push) = within(pushes.recv()).await {
        all.push((push.route().to_owned(), push.decode::<u32>().unwrap()));
    }
    let expected = [("onFirst", 1), ("onOther", 2), ("onFirst", 3)];
    assert_eq!(all, expected.map(|(route, n)| (route.to_owned(), n)));
    // It may have been made before or after the early pushes were read.
    let last = std::iter::from_fn(|| late.try_recv()).last().unwrap();
    assert_eq!((last.route(), &last.body()[..]), ("onFirst", &b"3"[..]));
    assert!(within(client.pushes().recv()).await.is_none());
}

#[tokio::test]
async fn pushes_that_are_not_read_keep_the_latest_and_count_the_rest() {
    let mut builder = Client::builder();
    let mut slow = builder.pushes();
    let (client, mut peer) = connected_with(builder, REPLY).await;
    let ticks: Vec<u8> = (0..1030)
        .flat_map(|n: u32| data(Message::push(format!("on{}", n % 7), n.to_string())))
        .collect();
    peer.write(&ticks).await;
    settle(&client, &mut peer).await;
    assert_eq!(slow.missed(), 6);
    for n in 6..1030_u32 {
        assert_eq!(slow.try_recv().unwrap().decode::<u32>().unwrap(), n);
    }
    assert!(slow.try_recv().is_none());
}

/// Some servers push to clients that have not finished their handshake.
#[tokio::test]
async fn a_push_in_front_of_the_handshake_reply_is_delivered_behind_it() {
    let server = Server::bind().await;
    let url = server.url();
    let mut builder = Client::builder();
    let mut pushes = builder.pushes();
    let serve = async {
        let mut peer = server.accept().await;
        peer.packet().await.unwrap();
        let coded = encode(Kind::Data, &[0x07, 0, 7, b'2']);
        let early = [data(Message::push("onNews", "1")), coded].concat();
        peer.write(&early).await;
        let reply = br#"{"code":200,"sys":{"dict":{"onCoded":7},"servertime":0}}"#;
        peer.write(&encode(Kind::Handshake, reply)).await;
        peer.send(Message::push("onNews", "3")).await;
        peer.ack().await;
        peer
    };
    let (client, _peer) = tokio::join!(builder.connect(&url), serve);
    let _client = client.unwrap();
    for (route, body) in [("onNews", "1"), ("onCoded", "2"), ("onNews", "3")] {
        let push = within(pushes.recv()).await.unwrap();
        assert_eq!((push.route(), &push.body()[..]), (route, body.as_bytes()));
    }
}
