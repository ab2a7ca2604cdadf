//! What must not be lost, brought back or sent astray when nodes stop, break, or speak another
//! tongue.

use std::time::Duration;

use bytes::Bytes;
use nano::{Limits, Options, Raw, Timeouts, code, testing::TestNode};

use crate::{
    cluster::*,
    go::{
        client,
        proto::{NotifyMessage, SessionClosedRequest},
    },
    go_backends::join,
    proxy::Proxy,
    support::eventually,
};

#[tokio::test]
async fn an_answer_given_while_the_way_back_is_down_goes_with_the_next_stream() {
    let master = master().await;
    let (to_gate, to_backend) = (Proxy::new().await, Proxy::new().await);
    let on = |proxy: &Proxy| {
        let app = member(&master)
            .advertise(&proxy.address)
            .listen(&proxy.listen);
        app.partition_grace(Duration::from_secs(60))
            .timeouts(Timeouts::new().request(None))
    };
    let gate = TestNode::start(on(&to_gate).tcp("127.0.0.1:0")).await;
    let room = Room::new("a");
    let _backend =
        TestNode::start(on(&to_backend).component_with(room.clone(), Options::new().name("Room")))
            .await;
    gate.knows(2).await;
    let client = gate.client_of::<Raw>().await;
    let ask = |route: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.request_raw(route, "").await })
    };
    client.request_raw("Room.Who", "").await.unwrap();
    let held = ask("Room.Hold");
    eventually("it is held", || room.held().len() == 1).await;
    to_gate.cut();
    // The gate sees the stream break that would have brought the answer.
    assert_eq!(held.await.unwrap().unwrap_err().code(), code::UNAVAILABLE);
    let asked = ask("Room.Who");
    eventually("it is handled", || room.handled() == 2).await;
    // Long enough for attempts to connect that fail.
    tokio::time::sleep(Duration::from_millis(800)).await;
    to_gate.heal();
    asked.await.unwrap().unwrap();
}

#[tokio::test]
async fn large_answers_given_while_a_backend_stops_all_arrive() {
    let cluster = RoomCluster::configured(&["a"], |app| {
        app.limits(
            Limits::new()
                .send_queue_bytes(64 << 20)
                .send_queue_messages(1000),
        )
    })
    .await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    // All on one stream, so that the other one ends long before.
    let mut clients = Vec::new();
    while clients.len() < 8 {
        let client = cluster.client().await;
        let info = client.request_raw("Room.Info", "").await.unwrap();
        let id: i64 = text(&info).split(' ').next().unwrap().parse().unwrap();
        if id % 2 == 1 {
            clients.push(client);
        }
    }
    let asked: Vec<_> = clients
        .iter()
        .cloned()
        .map(|client| tokio::spawn(async move { client.request_raw("Room.Hold", "").await }))
        .collect();
    eventually("all are held", || room.held().len() == clients.len()).await;
    let held = std::mem::take(&mut *room.held());
    let body = Bytes::from(vec![7; 4 << 20]);
    let answer = async {
        eventually("it stops", || backend.handle().is_shutting_down()).await;
        for responder in held {
            responder.session().respond_raw(body.clone()).unwrap();
        }
    };
    tokio::join!(backend.stop(), answer);
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().len(), body.len());
    }
}

#[tokio::test]
async fn calls_go_to_nodes_that_can_answer_though_others_have_the_service_too() {
    let cluster = RoomCluster::with(&["a"]).await;
    let _go = join(&cluster.master, &["Room"]).await;
    cluster.gate.knows(3).await;
    for _ in 0..20 {
        cluster
            .gate
            .handle()
            .call("Room.Who")
            .raw("")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_late_message_of_a_session_this_node_never_knew_does_not_open_it() {
    let cluster = RoomCluster::with(&["a"]).await;
    let gate = join(&cluster.master, &["GateSvc"]).await;
    let Backend { node: backend, .. } = &cluster.backends[0];
    backend.knows(3).await;
    let mut to = client(&backend.address());
    to.session_closed(SessionClosedRequest { session_id: 900 })
        .await
        .unwrap();
    let late = NotifyMessage {
        gate_addr: gate.address.clone(),
        session_id: 900,
        route: "Room.Who".to_owned(),
        data: Bytes::new(),
    };
    // Refused or taken and dropped: what counts is that nothing stays.
    let _ = to.handle_notify(late).await;
    assert!(backend.handle().session(900).is_none());
}

#[tokio::test]
async fn a_late_message_of_a_go_node_does_not_bring_back_a_session() {
    let cluster = RoomCluster::with(&["a"]).await;
    let _go = join(&cluster.master, &["Other"]).await;
    let backend = &cluster.backends[0].node;
    backend.knows(3).await;
    cluster.gate.knows(3).await;
    let mut to = client(&backend.address());
    let told = |session_id| NotifyMessage {
        gate_addr: cluster.gate.address(),
        session_id,
        route: "Room.Who".to_owned(),
        data: Bytes::new(),
    };
    for was_here in [true, false] {
        let client = cluster.client().await;
        let id = cluster.gate.handle().sessions().list()[0].id();
        if was_here {
            client.request_raw("Room.Who", "").await.unwrap();
        } else {
            to.handle_notify(told(id)).await.unwrap();
            eventually("the session to be here", || {
                backend.handle().session(id).is_some()
            })
            .await;
        }
        cluster.is_empty_after(client).await;
        let late = to.handle_notify(told(id)).await.unwrap_err();
        assert_eq!(late.message(), format!("session not found: {id}"));
        assert_eq!(backend.handle().sessions().count(), 0);
    }
}
