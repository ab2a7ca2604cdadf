use std::time::Duration;

use futures_util::future::join_all;
use nano::{Component, Handlers, Options, Raw, Result, Session, Timeouts, code, testing::TestNode};

use crate::{
    cluster::{Backend, Room, RoomCluster, code_of, member, text},
    support::{eventually, within},
};

/// A service for nodes only.
struct Store;

impl Store {
    fn read(&self, session: &Session<Raw>, key: bytes::Bytes) -> Result<bytes::Bytes> {
        Ok(format!("{}={}", text(&key), session.uid()).into())
    }

    /// Answers too late for a caller that sets a timeout.
    fn late(&self, session: &Session<Raw>, _: bytes::Bytes) -> Result<()> {
        let deadline = session
            .deadline()
            .map(|deadline| deadline - tokio::time::Instant::now());
        assert!(
            deadline.is_some_and(|left| left < Duration::from_secs(2)),
            "{deadline:?}"
        );
        std::mem::forget(session.clone());
        Ok(())
    }

    fn tell(&self, session: &Session<Raw>, body: bytes::Bytes) -> Result<()> {
        session.push_raw("onTold", body)
    }

    fn drop(&self, _: &Session<Raw>, _: bytes::Bytes) -> Result<()> {
        Ok(())
    }
}

impl Component<Raw> for Store {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Read", Self::read)
            .on("Late", Self::late)
            .on("Tell", Self::tell)
            .on("Drop", Self::drop)
    }
}

async fn store(cluster: &RoomCluster) -> TestNode {
    let app = member(&cluster.master).component_with(Store, Options::new().internal());
    let store = TestNode::start(app).await;
    cluster.gate.knows(2 + cluster.backends.len()).await;
    for Backend { node: backend, .. } in &cluster.backends {
        backend.knows(2 + cluster.backends.len()).await;
    }
    store
}

#[tokio::test]
async fn a_member_calls_another_on_behalf_of_a_session() {
    let cluster = RoomCluster::with(&["a"]).await;
    let _store = store(&cluster).await;
    let client = cluster.client().await;
    client.request_raw("Room.Bind", "5").await.unwrap();

    assert_eq!(
        client
            .request_raw("Room.Ask", "Store.Read key")
            .await
            .unwrap(),
        "key=5"
    );
    assert_eq!(
        client
            .request_raw("Room.Ask", "Room.Echo here")
            .await
            .unwrap(),
        "here",
        "a service of its own"
    );
    assert_eq!(
        code_of(client.request_raw("Room.Ask", "Store.None x").await),
        code::NOT_FOUND
    );
    assert_eq!(
        code_of(client.request_raw("Room.Ask", "None.None x").await),
        code::NOT_FOUND
    );
    assert_eq!(
        client
            .request_raw("Room.Ask", "Room.Fail why")
            .await
            .unwrap_err()
            .message(),
        "why"
    );
    assert_eq!(
        code_of(client.request_raw("Room.Ask", "Store.Drop x").await),
        code::INTERNAL,
        "a handler that does not answer"
    );
}

#[tokio::test]
async fn calls_of_a_member_to_itself_leave_the_window_of_its_sessions_as_it_is() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;
    // Several windows of messages, each with a message of the member to itself.
    for first in (0..600).step_by(50) {
        let asks = (first..first + 50).map(|number| {
            let ask = client.request_raw("Room.Ask", format!("Room.Echo {number}"));
            async move { assert_eq!(text(&ask.await.unwrap()), number.to_string()) }
        });
        join_all(asks).await;
    }
    for _ in 0..600 {
        client.notify_raw("Room.Who", "").await.unwrap();
    }
    assert_eq!(
        text(
            &within("an answer", client.request_raw("Room.Who", ""))
                .await
                .unwrap()
        ),
        "a"
    );
}

#[tokio::test]
async fn a_gate_calls_a_member_on_behalf_of_its_session() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;
    client.request_raw("Room.Who", "").await.unwrap();
    let session = cluster
        .gate
        .handle()
        .sessions()
        .list()
        .pop()
        .unwrap()
        .typed::<Raw>();

    assert_eq!(
        within("the reply", session.call("Room.Echo").raw("x"))
            .await
            .unwrap(),
        "x"
    );
    assert_eq!(
        code_of(within("the reply", session.call("Room.Panic").raw("x")).await),
        code::INTERNAL
    );
}

#[tokio::test]
async fn internal_services_are_closed_to_clients() {
    let cluster = RoomCluster::with(&["a"]).await;
    let store = store(&cluster).await;
    let client = cluster.client().await;

    assert_eq!(
        code_of(client.request_raw("Store.Read", "key").await),
        code::NOT_FOUND
    );
    assert_eq!(
        within(
            "the reply",
            cluster.gate.handle().call("Store.Read").raw("key")
        )
        .await
        .unwrap(),
        "key=0"
    );
    assert_eq!(
        within("the reply", store.handle().call("Store.Read").raw("own"))
            .await
            .unwrap(),
        "own=0"
    );
}

#[tokio::test]
async fn a_node_calls_one_member_or_all() {
    let cluster = RoomCluster::with(&["a", "b"]).await;
    let node = cluster.gate.handle();
    for Backend {
        node: backend,
        room,
    } in &cluster.backends
    {
        let answer = within(
            "the reply",
            node.call("Room.Who").to(backend.address()).raw(""),
        )
        .await
        .unwrap();
        assert_eq!(text(&answer), room.name());
    }
    assert_eq!(
        code_of(within("the reply", node.call("Room.Who").to("127.0.0.1:1").raw("")).await),
        code::NOT_FOUND
    );

    let answers = within("all replies", node.call_all("Room.Who").raw(""))
        .await
        .unwrap();
    let mut names: Vec<_> = answers
        .iter()
        .map(|(_, answer)| text(answer.as_ref().unwrap()))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    let own = within(
        "all replies",
        cluster.backends[0]
            .node
            .handle()
            .call_all("Room.Who")
            .raw(""),
    )
    .await
    .unwrap();
    assert_eq!(
        (own.len(), &own[0].0),
        (2, &cluster.backends[0].node.address()),
        "itself first"
    );
}

#[tokio::test]
async fn json_calls_are_typed() {
    let cluster = RoomCluster::with(&["a"]).await;
    let echo: Vec<u32> = within(
        "the reply",
        cluster.gate.handle().call("Room.Echo").json(&[1, 2, 3]),
    )
    .await
    .unwrap();
    assert_eq!(echo, [1, 2, 3]);
    let wrong = within(
        "the reply",
        cluster
            .gate
            .handle()
            .call("Room.Echo")
            .json::<String, _>(&[1]),
    )
    .await;
    assert_eq!(code_of(wrong), code::BAD_REQUEST);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_which_the_handler_knows() {
    let cluster = RoomCluster::configured(&["a"], |app| {
        app.timeouts(Timeouts::new().request(Duration::from_millis(300)))
    })
    .await;
    let _store = store(&cluster).await;

    assert_eq!(
        code_of(
            within(
                "the timeout",
                cluster.gate.handle().call("Store.Late").raw("")
            )
            .await
        ),
        code::TIMEOUT
    );
}

#[tokio::test]
async fn a_call_may_have_a_timeout_of_its_own() {
    let cluster = RoomCluster::with(&["a"]).await;
    let _store = store(&cluster).await;
    let node = cluster.gate.handle();
    let late = node
        .call("Store.Late")
        .timeout(Duration::from_millis(50))
        .raw("");
    assert_eq!(code_of(within("the timeout", late).await), code::TIMEOUT);
}

#[tokio::test]
async fn rpc_reaches_services_of_this_node_and_of_others() {
    let cluster = RoomCluster::with(&["a"]).await;
    let _store = store(&cluster).await;
    let client = cluster.client().await;
    let mut told = client.subscribe("onTold");
    let mut said = client.subscribe("onA");

    assert_eq!(
        client
            .request_raw("Room.Rpc", "Store.Tell hello")
            .await
            .unwrap(),
        "sent"
    );
    assert_eq!(within("the push", told.recv()).await.unwrap(), "hello");
    assert_eq!(
        client
            .request_raw("Room.Rpc", "Room.Push here")
            .await
            .unwrap(),
        "sent"
    );
    assert_eq!(within("the push", said.recv()).await.unwrap(), "here");
}

#[tokio::test]
async fn a_node_without_a_cluster_calls_itself() {
    let node = TestNode::start(
        crate::cluster::app().component_with(Room::new("alone"), Options::new().name("Room")),
    )
    .await;
    assert_eq!(
        within("the reply", node.handle().call("Room.Who").raw(""))
            .await
            .unwrap(),
        "alone"
    );
    assert_eq!(
        within("the replies", node.handle().call_all("Room.Who").raw(""))
            .await
            .unwrap()
            .len(),
        1
    );
    let answers = within("the replies", node.handle().call_all("Room.Who").raw(""))
        .await
        .unwrap();
    let (address, _) = &answers[0];
    assert_eq!(
        within(
            "the reply",
            node.handle().call("Room.Who").to(address).raw("")
        )
        .await
        .unwrap(),
        "alone",
        "what call_all names, a call reaches"
    );
    let elsewhere = node.handle().call("Room.Who").to("127.0.0.1:1").raw("");
    assert_eq!(
        code_of(within("the reply", elsewhere).await),
        code::NOT_FOUND
    );
    assert_eq!(
        code_of(within("the reply", node.handle().call("Room.None").raw("")).await),
        code::NOT_FOUND
    );
    node.stop().await;
    eventually("an error when it has stopped", || {
        node.handle().is_shutting_down()
    })
    .await;
    assert_eq!(
        code_of(within("the reply", node.handle().call("Room.Who").raw("")).await),
        code::UNAVAILABLE
    );
}
