//! A member by hand that speaks the link: what comes at a moment that no real one can be made to choose.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use nano::{Raw, client::Client, code};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::{
    fake::proto::{HeartbeatRequest, MemberInfo, RegisterRequest, master_client::MasterClient},
    house::{House, Machine, code_of, text},
    links::{
        Open, frame, hello,
        proto::{
            Batch, Frame, Kind,
            link_server::{Link, LinkServer},
        },
    },
    support::within,
};

type Answers = UnboundedSender<Result<Batch, Status>>;

#[derive(Clone)]
struct Service {
    frames: UnboundedSender<Frame>,
    answers: Arc<Mutex<Vec<(u32, Answers)>>>,
}

#[tonic::async_trait]
impl Link for Service {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

    async fn open(&self, request: Request<Streaming<Batch>>) -> Result<Response<Self::OpenStream>, Status> {
        let (mut incoming, frames) = (request.into_inner(), self.frames.clone());
        let first = incoming.message().await?.unwrap().frames;
        let (answer, answers) = unbounded_channel();
        self.answers.lock().push((first[0].credit, answer));
        tokio::spawn(async move {
            while let Ok(Some(batch)) = incoming.message().await {
                // Nobody reads any more at the end of a test.
                batch.frames.into_iter().for_each(|frame| _ = frames.send(frame));
            }
        });
        Ok(Response::new(Box::pin(stream::unfold(answers, |mut answers| async { answers.recv().await.map(|batch| (batch, answers)) }))))
    }
}

struct ByHand {
    info: MemberInfo,
    frames: UnboundedReceiver<Frame>,
    answers: Arc<Mutex<Vec<(u32, Answers)>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl ByHand {
    async fn join(master: &Machine, incarnation: u64) -> Self {
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
        let service = LinkServer::new(Service { frames: sender, answers: Arc::clone(&answers) });
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        let channel = Endpoint::from_shared(format!("http://{}", master.address())).unwrap().connect().await.unwrap();
        let mut master = MasterClient::new(channel);
        master.register(RegisterRequest { member_info: Some(info.clone()) }).await.unwrap();
        let beat = HeartbeatRequest { member_info: Some(info.clone()), digest: 0 };
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                // The master may be gone at the end of a test.
                let _ = master.heartbeat(beat.clone()).await;
            }
        });
        Self { info, frames, answers, tasks: vec![serving, beating] }
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
                let _ = answers.send(Ok(Batch { frames: vec![frame.clone()] }));
            }
        }
    }

    fn hello(&self, shard: u32) -> Frame {
        Frame { address: self.info.service_addr.clone(), id: self.info.incarnation, ..hello(shard, 1) }
    }

    /// The stream on which this member answers a session.
    async fn way_to(&self, gate: &Machine, session: i64) -> Open {
        Open::new(gate, self.hello(u32::try_from(session % 2).unwrap())).await
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A request that this member will get.
fn ask(client: &Client<Raw>) -> JoinHandle<nano::Result<Bytes>> {
    let client = client.clone();
    tokio::spawn(async move { client.request_raw("Hand.Ask", "").await })
}

#[tokio::test]
async fn word_that_a_session_is_gone_ends_what_it_is_about_and_nothing_later() {
    let house = House::with(&[]).await;
    let mut member = ByHand::join(&house.master, 7).await;
    house.gate.knows(2).await;
    let client = house.gate.client().await;

    let first = ask(&client);
    let (open, message) = (member.next(Kind::Open).await, member.next(Kind::Message).await);
    let gone = |open: &Frame| Frame { session: open.session, id: open.id, ..frame(Kind::Gone) };
    member.answer(gone(&open));
    assert_eq!(code_of(within("an answer", first).await.unwrap()), code::UNAVAILABLE);

    let second = ask(&client);
    let again = member.next(Kind::Open).await;
    assert!(again.id > open.id, "told apart: {} {}", again.id, open.id);
    let question = member.next(Kind::Message).await;
    // It was said before the member had heard that the session is back. What is said behind it, about another session, shows that it was heard.
    member.answer(gone(&open));
    let mut others = Vec::new();
    loop {
        let other = house.gate.client().await;
        let (asked, open) = (ask(&other), member.next(Kind::Open).await);
        others.push(other);
        if open.session % 2 == message.session % 2 {
            member.answer(gone(&open));
            assert_eq!(code_of(within("an answer", asked).await.unwrap()), code::UNAVAILABLE);
            break;
        }
    }
    let way = member.way_to(&house.gate, message.session).await;
    way.send(vec![Frame { id: question.id, body: Bytes::from_static(b"mine"), session: message.session, ..frame(Kind::Response) }]);
    assert_eq!(text(&within("an answer", second).await.unwrap().unwrap()), "mine");
    client.close();
    assert_eq!(member.next(Kind::Closed).await.session, message.session, "the member hears of its end");
}
