//! Bindings that a backend makes: they reach the gate, in order with what follows.

use bytes::Bytes;
use nano::code;

use crate::{
    cluster::{RoomCluster, code_of, text},
    raw_link::{
        frame, open,
        proto::{Frame, Kind},
    },
    scripted_peer::ScriptedPeer,
    support::eventually,
};

#[tokio::test]
async fn a_backend_moves_a_session_ahead_of_what_it_sends_afterwards() {
    let cluster = RoomCluster::with(&["a", "b"]).await;
    for backend in &cluster.backends {
        backend.node.knows(3).await;
    }
    let client = cluster.client().await;
    let mut routed = client.subscribe("onRouted");
    for to in [0, 1, 0, 1, 1, 0] {
        let target = &cluster.backends[to];
        let before = target.room.handled();
        let move_there = format!("Room {}", target.node.address());
        let moved = client.request_raw("Room.Route", move_there);
        let next = async {
            routed.recv().await.unwrap();
            client.request_raw("Room.Who", "").await
        };
        let (moved, next) = tokio::join!(moved, next);
        moved.unwrap();
        assert_eq!(text(&next.unwrap()), target.room.name());
        // Also the backend's own message for the session, which goes by way of the gate.
        eventually("its message has moved too", || {
            target.room.handled() > before
        })
        .await;
    }
    client.request_raw("Room.Route", "Room ").await.unwrap();
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    assert_eq!(session.router().find("Room"), None);
}

#[tokio::test]
async fn a_binding_that_cannot_work_is_an_error_and_changes_nothing() {
    let cluster = RoomCluster::with(&["a"]).await;
    let backend = &cluster.backends[0];
    backend.node.knows(2).await;
    let client = cluster.client().await;
    client.request_raw("Room.Who", "").await.unwrap();
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    let (here, gate) = (backend.node.address(), cluster.gate.address());
    for (service, address) in [
        ("Nothing", &*here),
        ("Room", &*gate),
        ("Room", "127.0.0.1:1"),
        ("", &*here),
    ] {
        let body = format!("{service} {address}");
        let answer = client.request_raw("Room.Route", body).await;
        assert_eq!(code_of(answer), code::NOT_FOUND, "{service} {address}");
        // On the gate it is the same.
        let error = session.router().bind(service, address).unwrap_err();
        assert_eq!(error.code(), code::NOT_FOUND);
        assert_eq!(session.router().find("Room").as_deref(), Some(&*here));
    }
}

#[tokio::test]
async fn a_binding_is_sent_again_until_the_gate_has_it() {
    let cluster = RoomCluster::with(&["a"]).await;
    let backend = &cluster.backends[0].node;
    let mut gate = ScriptedPeer::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let stream = gate.stream_to(backend, 5).await;
    let mut session = open(5, 1, false);
    session.open.as_mut().unwrap().client_address = "127.0.0.1:9".to_owned();
    stream.send(vec![session, frame(Kind::ResyncDone)]);
    let message = |request, name, body: String| Frame {
        session: 5,
        request,
        route: Bytes::from_static(name),
        body: body.into(),
        ..frame(Kind::Message)
    };
    let address = backend.address();
    let route = |address: &str, binds| Frame {
        session: 5,
        route: Bytes::from_static(b"Room"),
        body: address.to_owned().into(),
        binds,
        ..frame(Kind::Route)
    };
    stream.send(vec![message(9, b"Room.Who", String::new())]);
    gate.next(Kind::Response).await;
    stream.send(vec![
        message(1, b"Room.Route", format!("Room {address}")),
        message(2, b"Room.Bind", "10".to_owned()),
        message(3, b"Room.Route", "Room ".to_owned()),
    ]);
    assert_eq!(gate.next(Kind::Route).await, route(&address, 1));
    assert_eq!(gate.next(Kind::Bind).await.binds, 2);
    assert_eq!(gate.next(Kind::Route).await, route("", 3));
    // The streams to the gate end, and others begin: the last of each is sent again, in order.
    gate.break_streams();
    assert_eq!(gate.next(Kind::Bind).await.binds, 2);
    assert_eq!(gate.next(Kind::Route).await, route("", 3));
}
