//! A member by hand that speaks the link: what comes at a moment that no real one can be made to
//! choose.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use nano::{Error, Options, Raw, client::Client, code, testing::TestNode};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::Instant,
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::{
    cluster::{Backend, Room, RoomCluster, code_of, member, text},
    go::proto::{HeartbeatRequest, MemberInfo, RegisterRequest, master_client::MasterClient},
    links::{
        Open, again, frame, hello_from, link, open,
        proto::{
            Batch, Frame, Kind,
            link_server::{Link, LinkServer},
        },
    },
    support::{eventually, within},
};

type Answers = UnboundedSender<Result<Batch, Status>>;

#[derive(Clone)]
struct Service {
    frames: UnboundedSender<Frame>,
    answers: Arc<Mutex<Vec<(u32, Answers)>>>,
    run: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Link for Service {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (mut incoming, frames) = (request.into_inner(), self.frames.clone());
        let first = incoming.message().await?.unwrap().frames;
        let (answer, answers) = unbounded_channel();
        self.answers
            .lock()
            .push((first[0].hello.as_ref().unwrap().stream_index, answer));
        tokio::spawn(async move {
            while let Ok(Some(batch)) = incoming.message().await {
                // Nobody reads any more at the end of a test.
                batch
                    .frames
                    .into_iter()
                    .for_each(|frame| _ = frames.send(frame));
            }
        });
        let answers = stream::unfold(answers, |mut answers| async {
            answers.recv().await.map(|batch| (batch, answers))
        });
        let mut response: Response<Self::OpenStream> = Response::new(Box::pin(answers));
        response
            .metadata_mut()
            .insert("nano-incarnation", self.run.load(Ordering::Relaxed).into());
        Ok(response)
    }
}

struct ByHand {
    info: MemberInfo,
    frames: UnboundedReceiver<Frame>,
    answers: Arc<Mutex<Vec<(u32, Answers)>>>,
    run: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl ByHand {
    async fn join(master: &TestNode, incarnation: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let info = MemberInfo {
            service_addr: listener.local_addr().unwrap().to_string(),
            services: vec!["Hand".to_owned()],
            incarnation,
            link: true,
            ..MemberInfo::default()
        };
        let (sender, frames) = unbounded_channel();
        let answers = Arc::new(Mutex::default());
        let run = Arc::new(AtomicU64::new(incarnation));
        let service = LinkServer::new(Service {
            frames: sender,
            answers: Arc::clone(&answers),
            run: run.clone(),
        });
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        let channel = Endpoint::from_shared(format!("http://{}", master.address()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut master = MasterClient::new(channel);
        master
            .register(RegisterRequest {
                member_info: Some(info.clone()),
            })
            .await
            .unwrap();
        let beat = HeartbeatRequest {
            member_info: Some(info.clone()),
            digest: 0,
        };
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                // The master may be gone at the end of a test.
                let _ = master.heartbeat(beat.clone()).await;
            }
        });
        Self {
            info,
            frames,
            answers,
            run,
            tasks: vec![serving, beating],
        }
    }

    /// The next frame of this kind; others are passed over.
    async fn next(&mut self, kind: Kind) -> Frame {
        within("a frame", async {
            loop {
                let frame = self.frames.recv().await.unwrap();
                if frame.kind() == kind {
                    return frame;
                }
            }
        })
        .await
    }

    /// Says something on the streams by which the session's frames come.
    fn answer(&self, frame: Frame) {
        let shard = u32::try_from(frame.session % 2).unwrap();
        for (of, answers) in &*self.answers.lock() {
            if *of == shard {
                // Another node's may have ended.
                let _ = answers.send(Ok(Batch {
                    frames: vec![frame.clone()],
                }));
            }
        }
    }

    fn hello(&self, shard: u32) -> Frame {
        hello_from(&self.info.service_addr, self.info.incarnation, shard, 1)
    }

    /// The stream on which this member answers a session.
    async fn way_to(&self, gate: &TestNode, session: i64) -> Open {
        Open::new(gate, self.hello(u32::try_from(session % 2).unwrap())).await
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// How many sessions its gate had opened with this one.
fn number(open: &Frame) -> u64 {
    open.open.as_ref().unwrap().number
}

/// A request that this member will get.
fn ask(client: &Client<Raw>) -> JoinHandle<nano::Result<Bytes>> {
    let client = client.clone();
    tokio::spawn(async move { client.request_raw("Hand.Ask", "").await })
}

#[tokio::test]
async fn an_unknown_session_notice_ends_that_session_and_no_later_one() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ByHand::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;

    let first = ask(&client);
    let (open, message) = (
        member.next(Kind::SessionOpen).await,
        member.next(Kind::Message).await,
    );
    let gone = |open: &Frame| Frame {
        session: open.session,
        opened: number(open),
        ..frame(Kind::SessionUnknown)
    };
    member.answer(gone(&open));
    assert_eq!(
        code_of(within("an answer", first).await.unwrap()),
        code::UNAVAILABLE
    );

    let second = ask(&client);
    let again = member.next(Kind::SessionOpen).await;
    assert!(number(&again) > number(&open), "told apart");
    let question = member.next(Kind::Message).await;
    // It was said before the member had heard that the session is back. What is said behind it,
    // about another session, shows that it was heard.
    member.answer(gone(&open));
    let mut others = Vec::new();
    loop {
        let other = cluster.client().await;
        let (asked, open) = (ask(&other), member.next(Kind::SessionOpen).await);
        others.push(other);
        if open.session % 2 == message.session % 2 {
            member.answer(gone(&open));
            assert_eq!(
                code_of(within("an answer", asked).await.unwrap()),
                code::UNAVAILABLE
            );
            break;
        }
    }
    let way = member.way_to(&cluster.gate, message.session).await;
    way.send(vec![Frame {
        request: question.request,
        body: Bytes::from_static(b"mine"),
        session: message.session,
        ..frame(Kind::Response)
    }]);
    assert_eq!(
        text(&within("an answer", second).await.unwrap().unwrap()),
        "mine"
    );
    client.close();
    assert_eq!(
        member.next(Kind::SessionClosed).await.session,
        message.session,
        "the member hears of its end"
    );
}

#[tokio::test]
async fn an_unverified_incarnation_cannot_replace_a_member() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let client = cluster.client().await;
    client.request_raw("Room.Join", "").await.unwrap();

    for (node, victim) in [(&cluster.gate, backend), (backend, &cluster.gate)] {
        let claim = hello_from(&victim.address(), u64::MAX, 0, 1);
        assert_eq!(link(node, vec![vec![claim]]).await, Err(Code::Unavailable));
    }
    assert_eq!(client.request_raw("Room.Who", "").await.unwrap(), "a");
    assert_eq!((room.closed(), room.group().count()), (Vec::new(), 1));
}

#[tokio::test]
async fn another_incarnation_gets_no_messages_of_the_first_and_may_replace_it() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ByHand::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;
    let asked = ask(&client);
    member.next(Kind::Message).await;

    // It is started again, and nobody says so.
    member.run.store(8, Ordering::Relaxed);
    member.answers.lock().clear();
    assert_eq!(
        code_of(within("an answer", asked).await.unwrap()),
        code::UNAVAILABLE
    );
    while member.frames.try_recv().is_ok() {}
    let hello = hello_from(&member.info.service_addr, 8, 0, 1);
    let _way = within("the next run to be found", async {
        loop {
            match Open::try_new(&cluster.gate, hello.clone()).await {
                Ok(way) => return way,
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    })
    .await;
    assert_eq!(
        code_of(client.request_raw("Hand.Ask", "").await),
        code::UNAVAILABLE,
        "no member before the master says so"
    );
    let mut frames = Vec::new();
    while let Ok(frame) = member.frames.try_recv() {
        frames.push(frame.kind());
    }
    assert!(
        frames
            .iter()
            .all(|kind| matches!(kind, Kind::ResyncDone | Kind::Keepalive)),
        "nothing of the first: {frames:?}"
    );
}

#[tokio::test]
async fn unverified_peers_are_bounded_and_make_way_for_members() {
    let cluster = RoomCluster::with(&["a"]).await;
    let at = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let stranger = |address: String| hello_from(&address, u64::MAX, 0, 1);
    let mut strangers = vec![Open::new(&cluster.gate, stranger(at.clone())).await];
    let refused = loop {
        let hello = stranger(format!("127.0.0.1:{}", strangers.len()));
        match within("an answer", Open::try_new(&cluster.gate, hello)).await {
            Ok(stranger) => strangers.push(stranger),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (refused.code(), strangers.len()),
        (Code::ResourceExhausted, 64)
    );

    // Where one of them says to be a member starts.
    let room = Room::new("b");
    let app = member(&cluster.master)
        .listen(at.clone())
        .component_with(room.clone(), Options::new().name("Other"));
    let _other = TestNode::start(app).await;
    cluster.gate.knows(3).await;
    let client = cluster.client().await;
    assert_eq!(again(&client, "Other.Who").await, "b");
}

#[tokio::test]
async fn a_message_of_a_session_that_has_ended_is_answered_and_opens_nothing() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut gate = ByHand::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let mut way = gate.way_to(backend, 5).await;
    let message = |request| Frame {
        session: 5,
        request,
        route: Bytes::from_static(b"Room.Join"),
        ..frame(Kind::Message)
    };
    way.send(vec![open(5, 3, false), frame(Kind::ResyncDone), message(1)]);
    assert!(!gate.next(Kind::Response).await.error);
    way.send(vec![
        Frame {
            session: 5,
            ..frame(Kind::SessionClosed)
        },
        message(2),
        message(0),
    ]);
    let refused = gate.next(Kind::Response).await;
    assert_eq!(
        (
            refused.request,
            refused.error,
            Error::from_body(&refused.body).code()
        ),
        (2, true, code::UNAVAILABLE)
    );
    let mut gone = Vec::new();
    while gone.len() < 2 {
        gone.extend(
            within("an answer", way.answers.message())
                .await
                .unwrap()
                .unwrap()
                .frames,
        );
    }
    assert_eq!(
        gone,
        vec![
            Frame {
                session: 5,
                opened: 3,
                ..frame(Kind::SessionUnknown)
            };
            2
        ]
    );
    eventually("its callback", || room.closed().len() == 1).await;
    assert_eq!(
        (backend.handle().sessions().count(), room.group().count()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_member_that_stops_handles_messages_until_every_gate_has_drained() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut gate = ByHand::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let ways = [gate.way_to(backend, 4).await, gate.way_to(backend, 5).await];
    ways[1].send(vec![open(5, 1, false), frame(Kind::ResyncDone)]);
    let message = |request, route| Frame {
        session: 5,
        request,
        route: Bytes::from_static(route),
        ..frame(Kind::Message)
    };
    ways[1].send(vec![message(1, b"Room.Who")]);
    gate.next(Kind::Response).await;

    let begun = Instant::now();
    let gate = async {
        gate.next(Kind::Goaway).await;
        gate.next(Kind::Goaway).await;
        ways[0].send(vec![frame(Kind::Drained)]);
        // Sent before it was known, and later than the other stream's.
        for id in 2..100 {
            ways[1].send(vec![message(id, b"Room.Who")]);
            assert_eq!(gate.next(Kind::Response).await.body, "a");
        }
        ways[1].send(vec![message(100, b"Room.Hold"), frame(Kind::Drained)]);
        eventually("it is held", || room.held().len() == 1).await;
        room.held()
            .remove(0)
            .respond(&Bytes::from_static(b"late"))
            .unwrap();
        assert_eq!(gate.next(Kind::Response).await.body, "late");
        gate
    };
    let (_, _gate) = tokio::join!(backend.stop(), gate);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "not for half of its time: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_gate_sends_nothing_more_to_a_member_that_stops() {
    let cluster = RoomCluster::with(&["a"]).await;
    let mut member = ByHand::join(&cluster.master, 7).await;
    cluster.gate.knows(3).await;
    let client = cluster.client().await;
    let asked = ask(&client);
    let question = member.next(Kind::Message).await;
    let ways = [
        member.way_to(&cluster.gate, 0).await,
        member.way_to(&cluster.gate, 1).await,
    ];
    for way in &ways {
        way.send(vec![frame(Kind::Goaway)]);
    }
    member.next(Kind::Drained).await;
    member.next(Kind::Drained).await;

    let refused = client.request_raw("Hand.Ask", "").await;
    assert_eq!(code_of(refused), code::UNAVAILABLE, "nobody else has it");
    // What was sent before is answered still.
    let answer = Frame {
        session: question.session,
        request: question.request,
        body: Bytes::from_static(b"done"),
        ..frame(Kind::Response)
    };
    ways[usize::try_from(question.session % 2).unwrap()].send(vec![answer]);
    assert_eq!(
        text(&within("an answer", asked).await.unwrap().unwrap()),
        "done"
    );
    client.close();
    eventually("the session to be gone", || {
        cluster.gate.handle().sessions().count() == 0
    })
    .await;
    let mut later = Vec::new();
    while let Ok(frame) = member.frames.try_recv() {
        later.push(frame.kind());
    }
    assert!(
        !later.contains(&Kind::Message) && !later.contains(&Kind::SessionOpen),
        "{later:?}"
    );
}

#[tokio::test]
async fn a_bind_holds_until_its_gate_has_it_and_is_sent_again_if_it_may_be_lost() {
    let cluster = RoomCluster::with(&["a"]).await;
    let backend = &cluster.backends[0].node;
    let mut gate = ByHand::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let way = gate.way_to(backend, 5).await;
    let mut session = open(5, 1, false);
    session.open.as_mut().unwrap().client_address = "127.0.0.1:9".to_owned();
    way.send(vec![session, frame(Kind::ResyncDone)]);
    let message = |request, route, body| {
        let (route, body) = (Bytes::from_static(route), Bytes::from_static(body));
        Frame {
            session: 5,
            request,
            route,
            body,
            ..frame(Kind::Message)
        }
    };
    let bound = |uid, binds| Frame {
        session: 5,
        uid,
        binds,
        ..frame(Kind::Bound)
    };
    let bind = |uid, binds| Frame {
        session: 5,
        uid,
        binds,
        ..frame(Kind::Bind)
    };

    // The streams are up, so that nothing is said twice.
    way.send(vec![message(9, b"Room.Who", b"")]);
    gate.next(Kind::Response).await;
    way.send(vec![
        message(1, b"Room.Bind", b"10"),
        message(2, b"Room.Bind", b"20"),
    ]);
    assert_eq!(
        [gate.next(Kind::Bind).await, gate.next(Kind::Bind).await],
        [bind(10, 1), bind(20, 2)]
    );
    gate.next(Kind::Response).await;
    // The echo of the first is late; then somebody else has bound it after the second.
    for (echo, uid) in [
        (bound(10, 1), "5 20 127.0.0.1:9"),
        (bound(20, 2), "5 20 127.0.0.1:9"),
        (bound(30, 2), "5 30 127.0.0.1:9"),
    ] {
        way.send(vec![echo, message(3, b"Room.Info", b"")]);
        assert_eq!(text(&gate.next(Kind::Response).await.body), uid);
    }

    way.send(vec![message(4, b"Room.Bind", b"40")]);
    assert_eq!(gate.next(Kind::Bind).await, bind(40, 3));
    // The streams by which the gate is told end, and others begin.
    gate.answers.lock().clear();
    assert_eq!(gate.next(Kind::Bind).await, bind(40, 3));
}

#[tokio::test]
async fn a_bind_that_is_sent_again_does_not_undo_a_later_one() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ByHand::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;
    let _asked = ask(&client);
    let id = member.next(Kind::Message).await.session;
    let way = member.way_to(&cluster.gate, id).await;
    let bind = Frame {
        session: id,
        uid: 50,
        binds: 1,
        ..frame(Kind::Bind)
    };
    let bound = |uid| Frame {
        session: id,
        uid,
        binds: 1,
        ..frame(Kind::Bound)
    };

    way.send(vec![bind.clone()]);
    assert_eq!(member.next(Kind::Bound).await, bound(50));
    let session = cluster.gate.handle().session(id).unwrap();
    session.bind(60).unwrap();
    assert_eq!(member.next(Kind::Bound).await, bound(60));
    way.send(vec![bind]);
    assert_eq!(member.next(Kind::Bound).await, bound(60));
    assert_eq!(session.uid(), 60);
}
