//! Links that break, come back, hang, and are abused.

use std::time::Duration;

use bytes::Bytes;
use nano::{CloseReason, Options, code, testing::TestNode};
use tonic::{Code, transport::Endpoint};

use self::proto::{Batch, Close, Frame, Hello, Kind, SessionOpen, link_client::LinkClient};
use crate::{
    cluster::{Backend, Room, RoomCluster, code_of, master, member, text},
    network::Way,
    support::{eventually, within},
};

#[allow(clippy::all, unreachable_pub, rust_2018_idioms)]
pub(crate) mod proto {
    include!("../../src/cluster/generated/nano.link.v1.rs");
}

/// A gate and a backend, with a network between them; the master is reached without it.
struct Cable {
    cluster: RoomCluster,
    to_gate: Way,
    to_backend: Way,
}

impl Cable {
    async fn new(cut_off_after: Duration) -> Self {
        let master = master().await;
        let (to_gate, to_backend) = (Way::new().await, Way::new().await);
        let on = |way: &Way| {
            member(&master)
                .advertise(&way.address)
                .listen(&way.listen)
                .partition_grace(cut_off_after)
        };
        let gate = TestNode::start(on(&to_gate).tcp("127.0.0.1:0")).await;
        let room = Room::new("a");
        let backend = TestNode::start(
            on(&to_backend).component_with(room.clone(), Options::new().name("Room")),
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

    fn each(&self, act: impl Fn(&Way)) {
        act(&self.to_gate);
        act(&self.to_backend);
    }
}

const LONG: Duration = Duration::from_secs(60);

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
        let cable = Cable::new(LONG).await;
        let client = cable.cluster.client().await;
        let mut said = client.subscribe("onSay");
        client.request_raw("Room.Join", "").await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.request_raw("Room.Hold", "").await }
        });
        eventually("the request to arrive", || cable.room().held().len() == 1).await;

        match direction {
            0 => cable.to_backend.interrupt(),
            1 => cable.to_gate.interrupt(),
            _ => cable.each(Way::interrupt),
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
            (cable.room().closed(), cable.room().group().count()),
            (Vec::new(), 1)
        );
        cable.cluster.is_empty_after(client).await;
    }
}

#[tokio::test]
async fn what_is_pushed_while_the_link_is_down_arrives_later_in_order() {
    let cable = Cable::new(LONG).await;
    let client = cable.cluster.client().await;
    let mut said = client.subscribe("onSay");
    client.request_raw("Room.Join", "").await.unwrap();

    cable.each(Way::cut);
    // One by each stream.
    for _ in 0..2 {
        let gate = cable.cluster.gate.address();
        let answer = within(
            "the break to be seen",
            cable.backend().handle().call("No.Where").to(&gate).raw(""),
        )
        .await;
        assert_eq!(code_of(answer), code::UNAVAILABLE);
    }
    for number in 0..50 {
        cable
            .room()
            .group()
            .broadcast_raw("onSay", number.to_string())
            .unwrap();
    }
    cable.each(Way::heal);
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
    let cable = Cable::new(LONG).await;
    let (leaver, stayer) = (cable.cluster.client().await, cable.cluster.client().await);
    for client in [&leaver, &stayer] {
        client.request_raw("Room.Join", "").await.unwrap();
    }
    cable.each(Way::cut);
    again_fails(&stayer).await;
    leaver.close();
    eventually("the gate to forget it", || {
        cable.cluster.gate.handle().sessions().count() == 1
    })
    .await;
    assert_eq!(cable.backend().handle().sessions().count(), 2);

    cable.each(Way::heal);
    eventually("the end", || cable.room().closed().len() == 1).await;
    assert_eq!(again(&stayer, "Room.Who").await, "a");
    assert_eq!(
        (
            cable.backend().handle().sessions().count(),
            cable.room().group().count()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn nodes_unreachable_for_the_partition_grace_end_shared_sessions() {
    let cable = Cable::new(Duration::from_millis(300)).await;
    let client = cable.cluster.client().await;
    client.request_raw("Room.Join", "").await.unwrap();
    let session = cable.cluster.gate.handle().sessions().list().pop().unwrap();

    cable.each(Way::cut);
    eventually("the end on the member", || cable.room().closed().len() == 1).await;
    assert!(matches!(cable.room().closed()[0].1, CloseReason::Broken(_)));
    eventually("the end of the binding", || {
        session.router().find("Room").is_none()
    })
    .await;
    assert_eq!(
        cable.cluster.gate.handle().members().len(),
        2,
        "both are still members"
    );
    assert!(client.close_reason().is_none());

    cable.each(Way::heal);
    assert_eq!(again(&client, "Room.Who").await, "a");
    assert_eq!(
        cable.backend().handle().sessions().count(),
        1,
        "a new session, of the same client"
    );
    cable.cluster.is_empty_after(client).await;
    eventually("its own callback", || cable.room().closed().len() == 2).await;
}

#[tokio::test]
async fn a_hung_member_is_noticed() {
    let cable = Cable::new(LONG).await;
    let client = cable.cluster.client().await;
    client.request_raw("Room.Who", "").await.unwrap();
    cable.each(Way::freeze);
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
    cable.each(Way::heal);
    assert_eq!(again(&client, "Room.Who").await, "a");
}

pub(crate) fn frame(kind: Kind) -> Frame {
    Frame {
        kind: kind.into(),
        ..Frame::default()
    }
}

pub(crate) fn hello(stream_index: u32, stream: u64) -> Frame {
    hello_from("127.0.0.1:1", 7, stream_index, stream)
}

/// The first frame of a stream of another node.
pub(crate) fn hello_from(address: &str, incarnation: u64, stream_index: u32, stream: u64) -> Frame {
    let hello = Hello {
        address: address.to_owned(),
        incarnation,
        stream_index,
        stream,
    };
    Frame {
        hello: Some(Box::new(hello)),
        ..frame(Kind::Hello)
    }
}

/// Opens a link by hand. What it was answered, or the refusal.
pub(crate) async fn link(node: &TestNode, batches: Vec<Vec<Frame>>) -> Result<Vec<Frame>, Code> {
    let channel = Endpoint::from_shared(format!("http://{}", node.address()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let batches = futures_util::stream::iter(batches.into_iter().map(|frames| Batch { frames }));
    let answers = LinkClient::new(channel)
        .open(batches)
        .await
        .map_err(|status| status.code())?
        .into_inner();
    let mut frames = Vec::new();
    let mut answers = answers;
    while let Some(batch) = within("the end of the stream", answers.message())
        .await
        .map_err(|status| status.code())?
    {
        frames.extend(batch.frames);
    }
    Ok(frames)
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

    // The stranger never joined, so that what it opened ends with its link.
    eventually("the stranger to be gone", || {
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

/// A session of a gate by hand.
pub(crate) fn open(session: i64, number: u64, resumed: bool) -> Frame {
    let open = SessionOpen {
        number,
        resumed,
        ..SessionOpen::default()
    };
    Frame {
        session,
        open: Some(Box::new(open)),
        ..frame(Kind::SessionOpen)
    }
}

/// A link by hand that stays open.
pub(crate) struct Open {
    batches: tokio::sync::mpsc::UnboundedSender<Batch>,
    pub(crate) answers: tonic::Streaming<Batch>,
}

impl Open {
    pub(crate) async fn new(node: &TestNode, hello: Frame) -> Self {
        Self::try_new(node, hello).await.unwrap()
    }

    pub(crate) async fn try_new(node: &TestNode, hello: Frame) -> Result<Self, tonic::Status> {
        let channel = Endpoint::from_shared(format!("http://{}", node.address()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (batches, queue) = tokio::sync::mpsc::unbounded_channel();
        let queue = futures_util::stream::unfold(queue, |mut queue| async {
            queue.recv().await.map(|batch| (batch, queue))
        });
        batches
            .send(Batch {
                frames: vec![hello],
            })
            .unwrap();
        let answers = LinkClient::new(channel).open(queue).await?.into_inner();
        Ok(Self { batches, answers })
    }

    pub(crate) fn send(&self, frames: Vec<Frame>) {
        self.batches.send(Batch { frames }).unwrap();
    }
}

#[tokio::test]
async fn sessions_that_a_gate_does_not_name_on_its_next_link_have_ended() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let open = |session, resumed| open(session, 0, resumed);
    let first = Open::new(backend, hello(0, 1)).await;
    first.send(vec![open(2, false), open(4, false), open(6, false)]);
    eventually("three sessions", || {
        backend.handle().sessions().count() == 3
    })
    .await;

    let mut second = Open::new(backend, hello(0, 2)).await;
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
    let _first = Open::new(backend, hello(0, 5)).await;

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
