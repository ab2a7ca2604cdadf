//! Backends of ours behind a gate of Go nano, as recorded in s05, s12, s23 and s29.

use nano::{CloseReason, Error, Options, code, testing::TestNode};
use tonic::{Code, Status};

use crate::{
    cluster::{Backend, Room, RoomCluster, member, text},
    go::{
        Call, GoNode, client,
        proto::{NotifyMessage, RequestMessage, ResponseMessage, SessionClosedRequest},
    },
    go_backends::join,
    support::eventually,
};

fn request(gate: &GoNode, session_id: i64, id: u64, route: &str, data: &str) -> RequestMessage {
    RequestMessage {
        gate_addr: gate.address.clone(),
        session_id,
        id,
        route: route.to_owned(),
        data: data.to_owned().into(),
    }
}

fn notify(gate: &GoNode, session_id: i64, route: &str, data: &str) -> NotifyMessage {
    NotifyMessage {
        gate_addr: gate.address.clone(),
        session_id,
        route: route.to_owned(),
        data: data.to_owned().into(),
    }
}

fn response(session_id: i64, id: u64, data: &str) -> Call {
    Call::Response(ResponseMessage {
        session_id,
        id,
        data: data.to_owned().into(),
    })
}

async fn cluster() -> (RoomCluster, GoNode) {
    let cluster = RoomCluster::with(&["a"]).await;
    let gate = join(&cluster.master, &["GateSvc"]).await;
    cluster.backends[0].node.knows(3).await;
    (cluster, gate)
}

fn unknown(status: &Status) -> &str {
    assert_eq!(status.code(), Code::Unknown);
    status.message()
}

#[tokio::test]
async fn a_go_gate_takes_no_bindings_and_the_handler_learns_it() {
    let (cluster, mut gate) = cluster().await;
    let backend = &cluster.backends[0].node;
    let body = format!("Room {}", backend.address());
    client(&backend.address())
        .handle_request(request(&gate, 777, 5, "Room.Route", &body))
        .await
        .unwrap();
    let Call::Response(answer) = gate.message().await else {
        panic!("not a response")
    };
    assert!(
        text(&answer.data).contains(code::UNSUPPORTED.as_str()),
        "{answer:?}"
    );
}

#[tokio::test]
async fn requests_are_acknowledged_and_answered_to_their_gate() {
    let (cluster, mut gate) = cluster().await;
    let backend = &cluster.backends[0].node;
    let mut client = client(&backend.address());

    client
        .handle_request(request(&gate, 777, 5, "Room.Echo", "hello"))
        .await
        .unwrap();
    assert_eq!(gate.message().await, response(777, 5, "hello"));

    client
        .handle_request(request(&gate, 777, 1 << 63, "Room.Push", "pp"))
        .await
        .unwrap();
    let Call::Push(first) = gate.message().await else {
        panic!("not a push")
    };
    let Call::Push(second) = gate.message().await else {
        panic!("not a push")
    };
    assert_eq!(
        (
            first.session_id,
            &*first.route,
            &*second.route,
            text(&second.data)
        ),
        (777, "onA", "onB", "pp")
    );
    assert_eq!(gate.message().await, response(777, 1 << 63, "pp"));

    // The id is the gate's, and a uid stays on this node.
    client
        .handle_request(request(&gate, 777, 6, "Room.Bind", "5"))
        .await
        .unwrap();
    assert!(matches!(gate.message().await, Call::Push(_)));
    assert_eq!(gate.message().await, response(777, 6, ""));
    let session = backend.handle().sessions_by_uid(5).pop().unwrap();
    assert_eq!((session.id(), session.remote_addr()), (777, None));
}

#[tokio::test]
async fn errors_travel_as_plain_responses() {
    let (cluster, mut gate) = cluster().await;
    let mut client = client(&cluster.backends[0].node.address());

    client
        .handle_request(request(&gate, 1, 1, "Room.Fail", "why"))
        .await
        .unwrap();
    let Call::Response(answer) = gate.message().await else {
        panic!("not a response")
    };
    let error = Error::from_body(&answer.data);
    assert_eq!(
        (error.code().as_str(), error.message()),
        ("ROOM-FULL", "why")
    );
    for route in ["Room.Nope", "Nope.Nope"] {
        let refused = client
            .handle_request(request(&gate, 1, 1, route, ""))
            .await
            .unwrap_err();
        assert_eq!(
            unknown(&refused),
            format!("service not found in current node: {route}")
        );
        let refused = client
            .handle_notify(notify(&gate, 1, route, ""))
            .await
            .unwrap_err();
        assert_eq!(
            unknown(&refused),
            format!("service not found in current node: {route}")
        );
    }
    client
        .handle_notify(notify(&gate, 1, "Room.Fail", "x"))
        .await
        .unwrap();
    client
        .handle_request(request(&gate, 1, 2, "Room.Echo", "next"))
        .await
        .unwrap();
    assert_eq!(
        gate.message().await,
        response(1, 2, "next"),
        "a notify has no answer"
    );
}

#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_queued() {
    let (cluster, mut gate) = cluster().await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut client = client(&backend.address());

    client
        .handle_request(request(&gate, 1, 1, "Room.Hold", ""))
        .await
        .unwrap();
    client
        .handle_request(request(&gate, 1, 2, "Room.Echo", "x"))
        .await
        .unwrap();
    assert_eq!(gate.message().await, response(1, 2, "x"));
    room.held()
        .drain(..)
        .for_each(|held| held.respond(&bytes::Bytes::from_static(b"late")).unwrap());
    assert_eq!(gate.message().await, response(1, 1, "late"));
}

#[tokio::test]
async fn rpc_goes_on_in_the_name_of_the_gate() {
    let (cluster, gate) = cluster().await;
    let backend = &cluster.backends[0].node;
    let mut other = join(&cluster.master, &["Other"]).await;
    backend.knows(4).await;
    let mut client = client(&backend.address());

    client
        .handle_request(request(&gate, 777, 5, "Room.Rpc", "Other.Do rpcbody"))
        .await
        .unwrap();
    assert_eq!(
        other.message().await,
        Call::Notify(notify(&gate, 777, "Other.Do", "rpcbody"))
    );
}

#[tokio::test]
async fn a_session_that_its_gate_has_closed_does_not_come_back() {
    let (cluster, mut gate) = cluster().await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut client = client(&backend.address());
    client
        .handle_request(request(&gate, 9, 1, "Room.Join", ""))
        .await
        .unwrap();
    assert_eq!(gate.message().await, response(9, 1, "1"));

    client
        .session_closed(SessionClosedRequest { session_id: 9 })
        .await
        .unwrap();
    client
        .session_closed(SessionClosedRequest { session_id: 12345 })
        .await
        .unwrap();
    eventually("the callback", || room.closed().len() == 1).await;
    assert_eq!(
        (backend.handle().sessions().count(), room.group().count()),
        (0, 0)
    );
    let late = client
        .handle_request(request(&gate, 9, 2, "Room.Echo", "late"))
        .await
        .unwrap_err();
    assert_eq!(unknown(&late), "session not found: 9");
    assert_eq!(backend.handle().sessions().count(), 0);
}

#[tokio::test]
async fn a_member_closes_a_session_at_its_gate() {
    let (cluster, mut gate) = cluster().await;
    let mut client = client(&cluster.backends[0].node.address());
    client
        .handle_request(request(&gate, 3, 1, "Room.Close", "bye"))
        .await
        .unwrap();
    assert_eq!(gate.message().await, response(3, 1, "bye"));
    assert_eq!(gate.message().await, Call::CloseSession(3));
}

#[tokio::test]
async fn a_gate_that_leaves_takes_its_sessions_with_it() {
    let (cluster, gate) = cluster().await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut client = client(&backend.address());
    for session in 100..103 {
        client
            .handle_request(request(&gate, session, 1, "Room.Join", "j"))
            .await
            .unwrap();
    }
    eventually("three members", || room.group().count() == 3).await;

    gate.leave(&cluster.master.address()).await;
    eventually("no session left", || {
        backend.handle().sessions().count() == 0 && room.group().count() == 0
    })
    .await;
    eventually("every callback", || room.closed().len() == 3).await;
    assert!(
        room.closed()
            .iter()
            .all(|(_, reason)| matches!(reason, CloseReason::Broken(_)))
    );
}

#[tokio::test]
async fn a_hung_gate_delays_no_other_gate() {
    let (cluster, hung) = cluster().await;
    let mut other = join(&cluster.master, &["GateSvc"]).await;
    let backend = &cluster.backends[0].node;
    backend.knows(4).await;
    hung.hang();
    let mut client = client(&backend.address());
    for id in 1..=20 {
        client
            .handle_request(request(&hung, 1, id, "Room.Echo", "to hung gate"))
            .await
            .unwrap();
        client
            .handle_request(request(&other, 1, id, "Room.Echo", "to ok gate"))
            .await
            .unwrap();
        assert_eq!(
            other.message().await,
            response(1, id, "to ok gate"),
            "equal ids of two gates are two sessions"
        );
    }
}

#[tokio::test]
async fn internal_services_are_open_to_go_nodes_only_if_they_are_trusted() {
    let cluster = RoomCluster::with(&[]).await;
    let start = async |app: crate::support::MemberApp| {
        TestNode::start(app.component_with(Room::new("in"), Options::new().name("Room").internal()))
            .await
    };
    let closed = start(member(&cluster.master)).await;
    let open = start(member(&cluster.master).cluster(nano::Cluster::trust_go_nodes)).await;
    let mut gate = join(&cluster.master, &["GateSvc"]).await;
    open.knows(4).await;
    closed.knows(4).await;

    client(&closed.address())
        .handle_request(request(&gate, 1, 1, "Room.Echo", "x"))
        .await
        .unwrap();
    let Call::Response(answer) = gate.message().await else {
        panic!("not a response")
    };
    assert_eq!(Error::from_body(&answer.data).code(), code::NOT_FOUND);
    client(&open.address())
        .handle_request(request(&gate, 1, 2, "Room.Echo", "x"))
        .await
        .unwrap();
    assert_eq!(gate.message().await, response(1, 2, "x"));
}

#[tokio::test]
async fn answers_over_what_gos_grpc_takes_become_errors() {
    let (cluster, mut gate) = cluster().await;
    let mut client = client(&cluster.backends[0].node.address());
    client
        .handle_request(request(
            &gate,
            1,
            1,
            "Room.Echo",
            &"x".repeat(4 * 1024 * 1024 - 500),
        ))
        .await
        .unwrap();
    let Call::Response(answer) = gate.message().await else {
        panic!("not a response")
    };
    assert_eq!(Error::from_body(&answer.data).code(), code::TOO_LARGE);
}
