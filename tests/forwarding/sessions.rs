use nano::{CloseReason, client, code};

use crate::{
    cluster::{Backend, RoomCluster, code_of, moved, text},
    support::{eventually, within},
};

#[tokio::test]
async fn a_message_reaches_the_member_that_has_the_service_and_is_answered() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;

    assert_eq!(
        text(&client.request_raw("Room.Who", "").await.unwrap()),
        "a"
    );
    let body = vec![7; 60_000];
    assert_eq!(
        client.request_raw("Room.Echo", body.clone()).await.unwrap(),
        body
    );
}

#[tokio::test]
async fn a_session_stays_with_its_member() {
    let cluster = RoomCluster::with(&["a", "b"]).await;
    let mut chosen = Vec::new();
    for _ in 0..24 {
        let client = cluster.client().await;
        let first = client.request_raw("Room.Who", "").await.unwrap();
        for _ in 0..5 {
            assert_eq!(client.request_raw("Room.Who", "").await.unwrap(), first);
        }
        chosen.push(text(&first).to_owned());
    }
    assert!(
        chosen.contains(&"a".to_owned()) && chosen.contains(&"b".to_owned()),
        "{chosen:?}"
    );
}

#[tokio::test]
async fn a_session_is_moved_by_its_router() {
    let cluster = RoomCluster::with(&["a", "b"]).await;
    let client = cluster.client().await;
    client.request_raw("Room.Who", "").await.unwrap();
    let session = cluster.gate.handle().sessions().list().pop().unwrap();

    for at in [0, 1, 0] {
        session
            .router()
            .bind("Room", cluster.backends[at].node.address())
            .unwrap();
        assert_eq!(
            text(&client.request_raw("Room.Who", "").await.unwrap()),
            cluster.backends[at].room.name()
        );
    }
}

#[tokio::test]
async fn what_fails_is_answered() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;

    let error = client
        .request_raw("Room.Fail", "no room")
        .await
        .unwrap_err();
    assert_eq!(
        (
            error.code().as_str(),
            error.message(),
            &*error.metadata()["limit"]
        ),
        ("ROOM-FULL", "no room", "3")
    );
    assert_eq!(
        code_of(client.request_raw("Room.Panic", "").await),
        code::INTERNAL
    );
    assert_eq!(
        code_of(client.request_raw("Room.None", "").await),
        code::NOT_FOUND
    );
    assert_eq!(
        code_of(client.request_raw("None.Who", "").await),
        code::NOT_FOUND
    );
    assert_eq!(
        code_of(client.request_raw("nodot", "").await),
        code::NOT_FOUND
    );
    assert_eq!(
        text(&client.request_raw("Room.Who", "").await.unwrap()),
        "a"
    );
}

#[tokio::test]
async fn the_member_sees_the_session_as_its_gate_does() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;

    let info = client.request_raw("Room.Info", "").await.unwrap();
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    assert_eq!(
        text(&info),
        format!("{} 0 {}", session.id(), session.remote_addr().unwrap())
    );
    session.bind(77).unwrap();
    let info = client.request_raw("Room.Info", "").await.unwrap();
    assert_eq!(
        text(&info).split(' ').nth(1),
        Some("77"),
        "a bind on the gate reaches the member before the next message"
    );
}

#[tokio::test]
async fn a_bind_on_a_member_reaches_the_gate_before_what_follows_and_the_other_members_too() {
    let mut cluster = RoomCluster::with(&["a"]).await;
    let other = cluster.backend("b", |app| app).await;
    cluster.backends.push(other);
    cluster.gate.knows(3).await;
    let client = cluster.client().await;
    let mut bound = client.subscribe("onBound");
    client.request_raw("Room.Who", "").await.unwrap();
    let session = cluster.gate.handle().sessions().list().pop().unwrap();
    for at in [0, 1] {
        session
            .router()
            .bind("Room", cluster.backends[at].node.address())
            .unwrap();
        client.request_raw("Room.Who", "").await.unwrap();
    }

    client.request_raw("Room.Bind", "4711").await.unwrap();
    assert!(bound.recv().await.is_some());
    assert_eq!(session.uid(), 4711);
    assert_eq!(cluster.gate.handle().sessions_by_uid(4711).len(), 1);
    for Backend { node, .. } in &cluster.backends {
        eventually("the uid everywhere", || {
            node.handle().sessions_by_uid(4711).len() == 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_too_large_for_a_link_is_an_error_and_breaks_nothing() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;
    client.request_raw("Room.Join", "").await.unwrap();
    let huge = cluster
        .gate
        .handle()
        .call("Room.Echo")
        .raw(vec![0; 16 * 1024 * 1024]);
    assert_eq!(code_of(within("an error", huge).await), code::TOO_LARGE);
    assert_eq!(
        code_of(client.request_raw("Room.Huge", "").await),
        code::TOO_LARGE
    );
    assert_eq!(
        text(&client.request_raw("Room.Who", "").await.unwrap()),
        "a"
    );
    assert!(cluster.backends[0].room.closed().is_empty());
}

#[tokio::test]
async fn a_push_and_the_response_behind_it_keep_their_order() {
    let cluster = RoomCluster::with(&["a"]).await;
    let client = cluster.client().await;
    let (mut a, mut b) = (client.subscribe("onA"), client.subscribe("onB"));

    client.request_raw("Room.Push", "x").await.unwrap();
    // Both are here: they came before the response.
    assert_eq!(
        (a.try_recv(), b.try_recv()),
        (Some("x".into()), Some("x".into()))
    );
}

#[tokio::test]
async fn a_member_closes_and_kicks_its_sessions() {
    let cluster = RoomCluster::with(&["a"]).await;
    let room = &cluster.backends[0].room;
    let client = cluster.client().await;
    assert_eq!(
        client.request_raw("Room.Close", "bye").await.unwrap(),
        "bye",
        "the response before the end"
    );
    within("the end", client.closed()).await;
    let kicked = cluster.client().await;
    let _ = kicked.request_raw("Room.Kick", "").await;
    assert_eq!(
        within("the kick", kicked.closed()).await,
        client::DisconnectReason::Kicked("cheating".to_owned())
    );

    eventually("close callbacks", || room.closed().len() == 2).await;
    let reasons: Vec<_> = room
        .closed()
        .into_iter()
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(
        reasons,
        [
            CloseReason::Closed("enough".to_owned()),
            CloseReason::Kicked("cheating".to_owned())
        ]
    );
    cluster.is_empty().await;
}

#[tokio::test]
async fn a_kick_of_a_member_keeps_its_code_on_every_node() {
    let cluster = RoomCluster::with(&["a"]).await;
    let room = &cluster.backends[0].room;
    let client = cluster.client().await;
    let _ = client.request_raw("Room.KickWith", "").await;
    within("the kick", client.closed()).await;
    assert_eq!(client.kick(), Some(&moved()));
    eventually("the close callback", || room.closed().len() == 1).await;
    assert_eq!(room.closed()[0].1, CloseReason::KickedWith(moved()));
}

#[tokio::test]
async fn a_client_that_goes_ends_its_sessions_everywhere_once() {
    let cluster = RoomCluster::with(&["a", "b"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = cluster.client().await;
        client.request_raw("Room.Join", "").await.unwrap();
        clients.push(client);
    }
    let served: usize = cluster
        .backends
        .iter()
        .map(|backend| backend.node.handle().sessions().count())
        .sum();
    assert_eq!(served, 20);

    drop(clients);
    cluster.is_empty().await;
    let callbacks = || {
        cluster
            .backends
            .iter()
            .map(|backend| backend.room.closed().len())
            .sum::<usize>()
    };
    eventually("every callback", || callbacks() == 20).await;
    assert!(
        cluster
            .backends
            .iter()
            .all(|backend| backend.room.group().count() == 0),
        "groups forget them"
    );
    assert!(
        cluster
            .backends
            .iter()
            .flat_map(|backend| backend.room.closed())
            .all(|(_, reason)| reason == CloseReason::Client)
    );
}

#[tokio::test]
async fn a_group_on_a_member_reaches_all_its_clients() {
    let cluster = RoomCluster::with(&["a"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = cluster.client().await;
        let said = client.subscribe("onSay");
        client.request_raw("Room.Join", "").await.unwrap();
        clients.push((client, said));
    }
    clients[0].0.notify_raw("Room.Say", "one").await.unwrap();
    clients[0].0.notify_raw("Room.Say", "two").await.unwrap();

    for (_, said) in &mut clients {
        assert_eq!(within("the broadcast", said.recv()).await.unwrap(), "one");
        assert_eq!(within("the broadcast", said.recv()).await.unwrap(), "two");
    }
}
