//! Links that break, come back, hang, and are abused.

use std::time::Duration;

use bytes::Bytes;
use nano::{CloseReason, Limits, Options, code, testing::TestNode};
use tonic::Code;

use crate::{
    cluster::{Backend, Room, RoomCluster, code_of, master, member, text},
    proxy::Proxy,
    raw_link::{
        RawLink, frame, hello, hello_from, link, open,
        proto::{Close, Frame, Kind},
    },
    support::{eventually, within},
};

/// A gate and a backend that reach each other by proxies; both reach the master directly.
struct ProxiedCluster {
    cluster: RoomCluster,
    to_gate: Proxy,
    to_backend: Proxy,
}

impl ProxiedCluster {
    async fn new(partition_grace: Duration) -> Self {
        Self::limited(partition_grace, Limits::new()).await
    }

    /// With limits for the backend.
    async fn limited(partition_grace: Duration, limits: Limits) -> Self {
        let master = master().await;
        let (to_gate, to_backend) = (Proxy::new().await, Proxy::new().await);
        let on = |proxy: &Proxy| {
            member(&master)
                .advertise(&proxy.address)
                .listen(&proxy.listen)
                .partition_grace(partition_grace)
        };
        let gate = TestNode::start(on(&to_gate).tcp("127.0.0.1:0")).await;
        let room = Room::new("a");
        let backend = TestNode::start(
            on(&to_backend)
                .limits(limits)
                .component_with(room.clone(), Options::new().name("Room")),
        )
        .await;
        gate.knows(2).await;
        Self {
            cluster: RoomCluster {
                master,
                gate,
                backends: vec![Backend {
                    node: backend,
                    room,
                }],
            },
            to_gate,
            to_backend,
        }
    }

    fn backend(&self) -> &TestNode {
        &self.cluster.backends[0].node
    }

    fn room(&self) -> &Room {
        &self.cluster.backends[0].room
    }

    fn each(&self, act: impl Fn(&Proxy)) {
        act(&self.to_gate);
        act(&self.to_backend);
    }
}

/// A partition grace that no test outlasts.
const LONG_GRACE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub(crate) async fn again(client: &nano::client::Client<nano::Raw>, route: &str) -> Bytes {
    within("the link", async {
        loop {
            match client.request_raw(route, "").await {
                Ok(answer) => return answer,
                Err(error) => assert_eq!(error.code(), code::UNAVAILABLE),
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_broken_link_fails_its_requests_at_once_and_keeps_its_sessions() {
    for direction in 0..3 {
        let proxied = ProxiedCluster::new(LONG_GRACE).await;
        let client = proxied.cluster.client().await;
        let mut said = client.subscribe("onSay");
        client.request_raw("Room.Join", "").await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.request_raw("Room.Hold", "").await }
        });
        eventually("the request to arrive", || proxied.room().held().len() == 1).await;

        match direction {
            0 => proxied.to_backend.interrupt(),
            1 => proxied.to_gate.interrupt(),
            _ => proxied.each(Proxy::interrupt),
        }
        assert_eq!(
            code_of(within("an answer", waiting).await.unwrap()),
            code::UNAVAILABLE
        );
        assert_eq!(again(&client, "Room.Who").await, "a");
        client.notify_raw("Room.Say", "still here").await.unwrap();
        assert_eq!(
            within("the broadcast", said.recv()).await.unwrap(),
            "still here"
        );
        assert_eq!(
            (proxied.room().closed(), proxied.room().group().count()),
            (Vec::new(), 1)
        );
        proxied.cluster.is_empty_after(client).await;
    }
}

#[tokio::test]
async fn what_is_pushed_while_the_link_is_down_arrives_later_in_order() {
    let proxied = ProxiedCluster::new(LONG_GRACE).await;
    let client = proxied.cluster.client().await;
    let mut said = client.subscribe("onSay");
    client.request_raw("Room.Join", "").await.unwrap();

    proxied.each(Proxy::cut);
    // One by each stream.
    for _ in 0..2 {
        let gate = proxied.cluster.gate.address();
        let answer = within(
            "the break to be seen",
            proxied
                .backend()
                .handle()
                .call("No.Where")
                .to(&gate)
                .raw(""),
        )
        .await;
        assert_eq!(code_of(answer), code::UNAVAILABLE);
    }
    for number in 0..50 {
        proxied
            .room()
            .group()
            .broadcast_raw("onSay", number.to_string())
            .unwrap();
    }
    proxied.each(Proxy::heal);
    for number in 0..50 {
        assert_eq!(
            text(&within("the broadcast", said.recv()).await.unwrap()),
            number.to_string()
        );
    }
}

async fn again_fails(client: &nano::client::Client<nano::Raw>) {
    within("the break to be seen", async {
        while client.request_raw("Room.Who", "").await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_while_the_link_is_down_ends_everywhere_once_it_is_back() {
    let proxied = ProxiedCluster::new(LONG_GRACE).await;
    let (leaver, stayer) = (
        proxied.cluster.client().await,
        proxied.cluster.client().await,
    );
    for client in [&leaver, &stayer] {
        client.request_raw("Room.Join", "").await.unwrap();
    }
    proxied.each(Proxy::cut);
    again_fails(&stayer).await;
    leaver.close();
    eventually("the gate to forget it", || {
        proxied.cluster.gate.handle().sessions().count() == 1
    })
    .await;
    assert_eq!(proxied.backend().handle().sessions().count(), 2);

    proxied.each(Proxy::heal);
    eventually("the end", || proxied.room().closed().len() == 1).await;
    assert_eq!(again(&stayer, "Room.Who").await, "a");
    assert_eq!(
        (
            proxied.backend().handle().sessions().count(),
            proxied.room().group().count()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn nodes_unreachable_for_the_partition_grace_end_shared_sessions() {
    let proxied = ProxiedCluster::new(Duration::from_millis(300)).await;
    let client = proxied.cluster.client().await;
    client.request_raw("Room.Join", "").await.unwrap();
    let session = proxied
        .cluster
        .gate
        .handle()
        .sessions()
        .list()
        .pop()
        .unwrap();

    proxied.each(Proxy::cut);
    eventually("the end on the member", || {
        proxied.room().closed().len() == 1
    })
    .await;
    assert!(matches!(
        proxied.room().closed()[0].1,
        CloseReason::Broken(_)
    ));
    eventually("the end of the binding", || {
        session.router().find("Room").is_none()
    })
    .await;
    assert_eq!(
        proxied.cluster.gate.handle().members().len(),
        2,
        "both are still members"
    );
    assert!(client.close_reason().is_none());

    proxied.each(Proxy::heal);
    assert_eq!(again(&client, "Room.Who").await, "a");
    assert_eq!(
        proxied.backend().handle().sessions().count(),
        1,
        "a new session, of the same client"
    );
    proxied.cluster.is_empty_after(client).await;
    eventually("its own callback", || proxied.room().closed().len() == 2).await;
}

#[tokio::test]
async fn a_hung_member_is_noticed() {
    let proxied = ProxiedCluster::new(LONG_GRACE).await;
    let client = proxied.cluster.client().await;
    client.request_raw("Room.Who", "").await.unwrap();
    proxied.each(Proxy::freeze);
    // Long before the timeout of requests.
    let asked = tokio::time::Instant::now();
    assert_eq!(
        code_of(within("an answer", client.request_raw("Room.Who", "")).await),
        code::UNAVAILABLE
    );
    assert!(
        asked.elapsed() < Duration::from_secs(6),
        "{:?}",
        asked.elapsed()
    );
    proxied.each(Proxy::heal);
    assert_eq!(again(&client, "Room.Who").await, "a");
}

#[tokio::test]
async fn malformed_links_are_refused() {
    let cluster = RoomCluster::with(&["a"]).await;
    let backend = &cluster.backends[0].node;
    for first in [
        vec![],
        vec![vec![]],
        vec![vec![frame(Kind::SessionOpen)]],
        vec![vec![frame(Kind::Hello)]],
        vec![vec![hello(9, 1)]],
        vec![vec![hello(0, 0)]],
    ] {
        assert_eq!(
            link(backend, first.clone()).await,
            Err(Code::InvalidArgument),
            "{first:?}"
        );
    }
    let client = cluster.client().await;
    assert_eq!(client.request_raw("Room.Who", "").await.unwrap(), "a");
}

#[tokio::test]
async fn frames_that_make_no_sense_do_nothing() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let client = cluster.client().await;
    client.request_raw("Room.Join", "").await.unwrap();
    let victim = cluster.gate.handle().sessions().list().pop().unwrap().id();

    let mut frames = vec![hello(0, 1)];
    for kind in 0..64 {
        for session in [0, 4, 5, -8, victim, i64::MIN, i64::MAX] {
            let route = Bytes::from_static(b"Room.Who");
            let base = Frame {
                kind,
                session,
                request: 1,
                route,
                sessions: vec![4, 6],
                uid: -3,
                close: Some(Box::new(Close {
                    reason: "x".to_owned(),
                    detail: "y".to_owned(),
                })),
                ..Frame::default()
            };
            frames.push(Frame {
                route: Bytes::from_static(&[0xFF, 0xFE]),
                ..base.clone()
            });
            // A second hello, and one that opens sessions, are tried elsewhere.
            frames.push(base);
        }
    }
    let frames = frames
        .into_iter()
        .filter(|frame| frame.kind() != Kind::Goaway)
        .collect::<Vec<_>>();
    within("the end", link(backend, vec![frames.clone()]))
        .await
        .unwrap();
    // Members may do as they like with the sessions of a gate, so to the gate without the one that
    // is looked at.
    let frames = frames
        .into_iter()
        .filter(|frame| frame.session != victim)
        .collect();
    within("the end", link(&cluster.gate, vec![frames]))
        .await
        .unwrap();

    // The unverified peer never joined, so the sessions it opened end with its link.
    eventually("the unverified peer to be gone", || {
        backend.handle().sessions().count() == 1
    })
    .await;
    assert_eq!(client.request_raw("Room.Who", "").await.unwrap(), "a");
    assert_eq!(
        room.group().count(),
        1,
        "the session of another gate is none of its business"
    );
}

#[tokio::test]
async fn sessions_that_a_gate_does_not_name_on_its_next_link_have_ended() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let open = |session, resumed| open(session, 0, resumed);
    let first = RawLink::new(backend, hello(0, 1)).await;
    first.send(vec![open(2, false), open(4, false), open(6, false)]);
    eventually("three sessions", || {
        backend.handle().sessions().count() == 3
    })
    .await;

    let mut second = RawLink::new(backend, hello(0, 2)).await;
    second.send(vec![
        open(2, true),
        open(6, true),
        open(8, true),
        frame(Kind::ResyncDone),
    ]);
    let gone = within("an answer", second.answers.message())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        gone.frames,
        [Frame {
            session: 8,
            ..frame(Kind::SessionUnknown)
        }],
        "one that only the gate knows"
    );
    eventually("the end of the one that is not named", || {
        room.closed().len() == 1
    })
    .await;
    assert_eq!(
        (room.closed()[0].0, backend.handle().sessions().count()),
        (4, 2)
    );
}

#[tokio::test]
async fn an_old_link_and_an_old_incarnation_are_refused() {
    let cluster = RoomCluster::with(&["a"]).await;
    let backend = &cluster.backends[0].node;
    let _first = RawLink::new(backend, hello(0, 5)).await;

    assert_eq!(
        link(backend, vec![vec![hello(0, 4)]]).await,
        Err(Code::FailedPrecondition)
    );
    assert_eq!(
        link(backend, vec![vec![hello_from("127.0.0.1:1", 6, 0, 9)]]).await,
        Err(Code::FailedPrecondition)
    );
    assert_eq!(
        link(backend, vec![vec![hello(0, 6)]]).await,
        Ok(Vec::new()),
        "a newer one takes its place"
    );
}

/// What may be on its way beside the queues: the flow control windows of both streams.
const WINDOWS: usize = 2 * 4 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_to_a_member_that_stalls_keep_the_memory_budget_of_the_node() {
    const MIB: usize = 1024 * 1024;
    let limits = Limits::new().send_queue_bytes(MIB).memory(4 * MIB);
    let proxied = ProxiedCluster::limited(LONG_GRACE, limits).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = proxied.cluster.client().await;
        client.request_raw("Room.Join", "").await.unwrap();
        clients.push(client);
    }
    let sessions = proxied.backend().handle().sessions().list();
    assert_eq!(sessions.len(), clients.len());

    // 80 MiB could be queued, 4 MiB for each session, up to 16 MiB for each stream.
    proxied.to_gate.freeze();
    let body = Bytes::from(vec![0; 16 * 1024]);
    let (mut queued, mut refused) = (0, 0);
    while refused < 5 * sessions.len() {
        for session in &sessions {
            match session.push_raw("onSay", body.clone()) {
                Ok(()) => queued += body.len(),
                Err(error) => {
                    assert_eq!(error.code(), code::TOO_MANY);
                    refused += 1;
                }
            }
        }
    }
    assert!(queued <= 4 * MIB + WINDOWS, "{queued} bytes");

    proxied.to_gate.heal();
    eventually("room for pushes", || {
        sessions
            .iter()
            .all(|session| session.push_raw("onSay", "room").is_ok())
    })
    .await;
    for client in &clients {
        assert_eq!(client.request_raw("Room.Who", "").await.unwrap(), "a");
    }
}
