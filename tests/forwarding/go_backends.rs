//! Backends of Go nano behind a gate of ours, as recorded in s04, s11, s13, s18, s19 and s20.

use std::{sync::atomic::Ordering, time::Duration};

use nano::{Raw, code, testing::TestNode};
use tonic::{Code, Status};

use crate::{
    cluster::{RoomCluster, code_of, text},
    go::{
        self, Call, GoNode,
        proto::{CloseSessionRequest, NotifyMessage, PushMessage, ResponseMessage},
    },
    support::{eventually, within},
};

/// Often enough to be missed soon.
const HEARTBEAT: Duration = Duration::from_millis(50);

pub(crate) async fn join(master: &TestNode, services: &[&str]) -> GoNode {
    GoNode::join(&master.address(), services, HEARTBEAT).await
}

async fn cluster(services: &[&str]) -> (RoomCluster, GoNode) {
    let cluster = RoomCluster::with(&[]).await;
    let backend = join(&cluster.master, services).await;
    cluster.gate.knows(2).await;
    (cluster, backend)
}

fn unknown(status: &Status) -> &str {
    assert_eq!(status.code(), Code::Unknown);
    status.message()
}

#[tokio::test]
async fn a_request_goes_out_as_nanos_do_and_its_answer_reaches_the_client() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    let mut client = cluster.gate.raw_client().await;
    let mut gate = go::client(&cluster.gate.address());

    client.request(300, "Fake.Hello", "{\"x\":1}").await;
    let request = backend.request().await;
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    assert_eq!(
        (
            &request.gate_addr,
            request.session_id,
            request.id,
            &*request.route,
            text(&request.data)
        ),
        (
            &cluster.gate.address(),
            session.id(),
            300,
            "Fake.Hello",
            "{\"x\":1}"
        )
    );
    let push = |session_id, body: &str| PushMessage {
        session_id,
        route: "onX".to_owned(),
        data: body.to_owned().into(),
    };
    let respond = |session_id, id| ResponseMessage {
        session_id,
        id,
        data: "resp".into(),
    };
    gate.handle_push(push(session.id(), "pushed"))
        .await
        .unwrap();
    gate.handle_response(respond(session.id(), 300))
        .await
        .unwrap();
    assert_eq!(client.push("onX").await, "pushed");
    assert_eq!(client.response(300).await, "resp");

    let refused = gate
        .handle_response(respond(session.id(), 0))
        .await
        .unwrap_err();
    assert_eq!(unknown(&refused), "current session working on notify mode");
    assert_eq!(
        unknown(&gate.handle_push(push(12345, "")).await.unwrap_err()),
        "session not found: 12345"
    );
    assert_eq!(
        unknown(&gate.handle_response(respond(12345, 1)).await.unwrap_err()),
        "session not found: 12345"
    );

    client.notify("Fake.Note", "").await;
    let notify = NotifyMessage {
        gate_addr: cluster.gate.address(),
        session_id: session.id(),
        route: "Fake.Note".to_owned(),
        data: bytes::Bytes::new(),
    };
    assert_eq!(backend.message().await, Call::Notify(notify));
}

#[tokio::test]
async fn a_request_that_is_refused_is_answered() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    let client = cluster.client().await;
    *backend.manners().refusal.lock() = Some(Status::unknown(
        "service not found in current node: Fake.Err",
    ));
    assert_eq!(
        code_of(client.request_raw("Fake.Err", "z").await),
        code::NOT_FOUND
    );
    *backend.manners().refusal.lock() = Some(Status::unknown("anything"));
    assert_eq!(
        code_of(client.request_raw("Fake.Err", "z").await),
        code::UNAVAILABLE
    );
    assert_eq!(backend.request().await.route, "Fake.Err");
}

#[tokio::test]
async fn every_go_node_is_notified_when_a_session_ends() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    let mut other = join(&cluster.master, &["Other"]).await;
    cluster.gate.knows(3).await;
    let client = cluster.client().await;
    client.notify_raw("Fake.Note", "").await.unwrap();
    backend.message().await;
    let id = cluster.gate.handle().sessions().list().pop().unwrap().id();

    let mut gate = go::client(&cluster.gate.address());
    gate.close_session(CloseSessionRequest { session_id: id })
        .await
        .unwrap();
    gate.close_session(CloseSessionRequest { session_id: 12345 })
        .await
        .unwrap();
    within("the end", client.closed()).await;
    assert_eq!(backend.traffic().await, Call::SessionClosed(id));
    assert_eq!(
        other.traffic().await,
        Call::SessionClosed(id),
        "also who never saw it"
    );
    eventually("the session to be gone", || {
        cluster.gate.handle().sessions().count() == 0
    })
    .await;
}

#[tokio::test]
async fn one_message_of_a_session_is_under_way_at_a_time_in_order() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    *backend.manners().delay.lock() = Duration::from_millis(1);
    let mut client = cluster.gate.raw_client().await;
    // More than may wait: the client is held up, and nothing is lost.
    for id in 1..=600 {
        client.request(id, "Fake.Hello", "x").await;
    }
    for id in 1..=600 {
        assert_eq!(backend.request().await.id, id);
    }
    assert_eq!(backend.manners().most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn sessions_of_a_backend_that_left_go_to_another() {
    let (cluster, mut first) = cluster(&["Fake"]).await;
    let client = cluster.client().await;
    client.notify_raw("Fake.Hello", "1").await.unwrap();
    first.message().await;
    let mut second = join(&cluster.master, &["Fake"]).await;
    cluster.gate.knows(3).await;
    client.notify_raw("Fake.Hello", "2").await.unwrap();
    assert!(
        matches!(first.message().await, Call::Notify(_)),
        "bound to the first"
    );

    first.leave(&cluster.master.address()).await;
    cluster.gate.knows(2).await;
    client.notify_raw("Fake.Hello", "3").await.unwrap();
    let Call::Notify(notify) = second.message().await else {
        panic!("not a notify")
    };
    assert_eq!(text(&notify.data), "3");
}

#[tokio::test]
async fn requests_to_a_dead_backend_are_answered_at_once() {
    let (cluster, backend) = cluster(&["Fake"]).await;
    let client = cluster.client().await;
    backend.die();
    let error = within("an answer", client.request_raw("Fake.Hello", "x")).await;
    let error = code_of(error);
    assert!(
        error == code::UNAVAILABLE || error == code::NOT_FOUND,
        "{error}"
    );
    cluster.gate.knows(1).await;
    assert_eq!(
        code_of(client.request_raw("Fake.Hello", "x").await),
        code::UNAVAILABLE,
        "evicted"
    );
}

#[tokio::test]
async fn a_hung_backend_does_not_hold_up_the_end_of_a_session() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    let client = cluster.client().await;
    backend.hang();
    client.notify_raw("Fake.Hello", "x").await.unwrap();
    backend.message().await;
    client.close();
    eventually("the session to be gone", || {
        cluster.gate.handle().sessions().count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_gate_that_stops_ends_its_sessions() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    let client = cluster.client().await;
    client.notify_raw("Fake.Hello", "x").await.unwrap();
    let Call::Notify(notify) = backend.message().await else {
        panic!("not a notify")
    };
    cluster.gate.stop().await;
    assert_eq!(
        backend.traffic().await,
        Call::SessionClosed(notify.session_id)
    );
}

#[tokio::test]
async fn a_service_of_go_nodes_cannot_be_called() {
    let (cluster, mut backend) = cluster(&["Fake"]).await;
    let client = cluster.client().await;
    client.notify_raw("Fake.Hello", "x").await.unwrap();
    backend.message().await;
    let session = cluster
        .gate
        .handle()
        .sessions()
        .list()
        .pop()
        .unwrap()
        .typed::<Raw>();

    assert_eq!(
        code_of(within("an error", session.call("Fake.Hello").raw("x")).await),
        code::UNSUPPORTED
    );
    assert_eq!(
        code_of(
            within(
                "an error",
                cluster.gate.handle().call("Fake.Hello").raw("x")
            )
            .await
        ),
        code::UNSUPPORTED
    );
    assert_eq!(
        code_of(
            within(
                "an error",
                cluster
                    .gate
                    .handle()
                    .call("Fake.Hello")
                    .to(&backend.address)
                    .raw("x")
            )
            .await
        ),
        code::UNSUPPORTED
    );
    session.rpc("Fake.Do", &b"one way"[..]).unwrap();
    let Call::Notify(notify) = backend.message().await else {
        panic!("not a notify")
    };
    assert_eq!(
        (notify.session_id, text(&notify.data)),
        (session.id(), "one way")
    );
    assert!(!backend.left_over().iter().any(Call::is_traffic));
}
