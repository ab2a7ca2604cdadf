//! A scripted peer: a member that speaks the link and sends each frame when a test says so.

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
use nano::{Raw, client::Client, testing::TestNode};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{
    go::proto::{
        HeartbeatRequest, MemberInfo, RegisterRequest, UnregisterRequest,
        master_client::MasterClient,
    },
    raw_link::{
        RawLink, hello_from,
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
    incarnation: Arc<AtomicU64>,
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
                // The receiver is gone at the end of a test.
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
        response.metadata_mut().insert(
            "nano-incarnation",
            self.incarnation.load(Ordering::Relaxed).into(),
        );
        Ok(response)
    }
}

/// A member whose frames a test writes.
pub(crate) struct ScriptedPeer {
    info: MemberInfo,
    frames: UnboundedReceiver<Frame>,
    answers: Arc<Mutex<Vec<(u32, Answers)>>>,
    incarnation: Arc<AtomicU64>,
    master: MasterClient<Channel>,
    serving: JoinHandle<()>,
    beating: JoinHandle<()>,
}

impl ScriptedPeer {
    pub(crate) async fn join(master: &TestNode, incarnation: u64) -> Self {
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
        let current = Arc::new(AtomicU64::new(incarnation));
        let service = LinkServer::new(Service {
            frames: sender,
            answers: Arc::clone(&answers),
            incarnation: current.clone(),
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
                ..Default::default()
            })
            .await
            .unwrap();
        let beat = HeartbeatRequest {
            member_info: Some(info.clone()),
            digest: 0,
            ..Default::default()
        };
        let mut beaten = master.clone();
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                // The master may be gone at the end of a test.
                let _ = beaten.heartbeat(beat.clone()).await;
            }
        });
        Self {
            info,
            frames,
            answers,
            incarnation: current,
            master,
            serving,
            beating,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.info.service_addr
    }

    /// Leaves the cluster.
    pub(crate) async fn leave(mut self) {
        self.beating.abort();
        let leaving = UnregisterRequest {
            service_addr: self.info.service_addr.clone(),
            incarnation: self.info.incarnation,
        };
        self.master.unregister(leaving).await.unwrap();
    }

    /// Breaks its streams. They are opened again.
    pub(crate) fn break_streams(&self) {
        self.answers.lock().clear();
    }

    /// Breaks its streams and goes on as another incarnation, unknown to the master.
    pub(crate) fn restart_as(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.break_streams();
    }

    /// The kinds of the frames that have arrived and were not looked at.
    pub(crate) fn arrived(&mut self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        while let Ok(frame) = self.frames.try_recv() {
            kinds.push(frame.kind());
        }
        kinds
    }

    /// The next frame of this kind; others are passed over.
    pub(crate) async fn next(&mut self, kind: Kind) -> Frame {
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

    /// Sends a frame on the stream that carries the session.
    pub(crate) fn answer(&self, frame: Frame) {
        let stream = u32::try_from(frame.session % 2).unwrap();
        for (of, answers) in &*self.answers.lock() {
            if *of == stream {
                // That of another node may have ended.
                let _ = answers.send(Ok(Batch {
                    frames: vec![frame.clone()],
                }));
            }
        }
    }

    fn hello(&self, stream: u32) -> Frame {
        hello_from(self.address(), self.info.incarnation, stream, 1)
    }

    /// The stream on which this member answers a session.
    pub(crate) async fn stream_to(&self, gate: &TestNode, session: i64) -> RawLink {
        RawLink::new(gate, self.hello(u32::try_from(session % 2).unwrap())).await
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.serving.abort();
        self.beating.abort();
    }
}

/// The number of the session among those its gate has opened.
pub(crate) fn number(open: &Frame) -> u64 {
    open.open.as_ref().unwrap().number
}

/// A request that this member will get.
pub(crate) fn ask(client: &Client<Raw>) -> JoinHandle<nano::Result<Bytes>> {
    let client = client.clone();
    tokio::spawn(async move { client.request_raw("Hand.Ask", "").await })
}
