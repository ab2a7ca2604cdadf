//! A node as Go nano's look from outside: plain gRPC, the old fields, errors with the code UNKNOWN.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use self::proto::{master_client::MasterClient, member_client::MemberClient, member_server::MemberServer, *};
use crate::{house::Machine, support::within};

#[allow(clippy::all, unreachable_pub, rust_2018_idioms)]
pub(crate) mod proto {
    include!("../../src/cluster/generated/clusterpb.rs");
}

/// A call that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Request(RequestMessage),
    Notify(NotifyMessage),
    Push(PushMessage),
    Response(ResponseMessage),
    SessionClosed(i64),
    CloseSession(i64),
}

/// How it behaves.
#[derive(Default)]
pub(crate) struct Manners {
    /// What it answers to messages instead of OK.
    pub(crate) refusal: Mutex<Option<Status>>,
    /// Whether it answers nothing at all.
    pub(crate) hangs: AtomicBool,
    pub(crate) delay: Mutex<Duration>,
    pub(crate) woken: Notify,
    under_way: AtomicUsize,
    /// How many calls were ever under way at once.
    pub(crate) most: AtomicUsize,
}

#[derive(Clone)]
struct Service {
    manners: Arc<Manners>,
    calls: mpsc::UnboundedSender<Call>,
}

pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) manners: Arc<Manners>,
    calls: mpsc::UnboundedReceiver<Call>,
    master: MasterClient<Channel>,
    tasks: Vec<JoinHandle<()>>,
}

impl Fake {
    /// Listens, joins, and sends heartbeats.
    pub(crate) async fn join(master: &Machine, services: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, calls) = mpsc::unbounded_channel();
        let manners = Arc::new(Manners::default());
        let service = MemberServer::new(Service { manners: manners.clone(), calls: sender });
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        let mut master = MasterClient::new(channel(&master.address()).await);
        let info = MemberInfo {
            service_addr: address.clone(),
            services: services.iter().map(|&service| service.to_owned()).collect(),
            ..MemberInfo::default()
        };
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        master.register(RegisterRequest { member_info: Some(info.clone()) }).await.unwrap();
        let mut heart = master.clone();
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                // The master may be gone at the end of a test.
                let _ = heart.heartbeat(HeartbeatRequest { member_info: Some(info.clone()), digest: 0 }).await;
            }
        });
        Self { address, manners, calls, master, tasks: vec![serving, beating] }
    }

    pub(crate) async fn leave(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let request = UnregisterRequest { service_addr: self.address.clone(), incarnation: 0 };
        self.master.unregister(request).await.unwrap();
    }

    /// Ends its server and its heartbeats without a word.
    pub(crate) fn die(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// The next call that is not the end of a session.
    pub(crate) async fn call(&mut self) -> Call {
        loop {
            let call = within("a call", self.calls.recv()).await.unwrap();
            if !matches!(call, Call::SessionClosed(_)) {
                return call;
            }
        }
    }

    pub(crate) async fn any_call(&mut self) -> Call {
        within("a call", self.calls.recv()).await.unwrap()
    }

    pub(crate) async fn request(&mut self) -> RequestMessage {
        match self.call().await {
            Call::Request(request) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    pub(crate) fn nothing_came(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }

    pub(crate) async fn client(&self, of: &Machine) -> MemberClient<Channel> {
        MemberClient::new(channel(&of.address()).await)
    }
}

async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.die();
    }
}

impl Service {
    async fn take(&self, call: Call) -> Result<Response<MemberHandleResponse>, Status> {
        let now = self.manners.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.manners.most.fetch_max(now, Ordering::SeqCst);
        // Nobody listens any more at the end of a test.
        let _ = self.calls.send(call);
        let delay = *self.manners.delay.lock();
        tokio::time::sleep(delay).await;
        self.hang().await;
        self.manners.under_way.fetch_sub(1, Ordering::SeqCst);
        let refusal = self.manners.refusal.lock().clone();
        refusal.map_or(Ok(Response::new(MemberHandleResponse {})), Err)
    }

    async fn hang(&self) {
        while self.manners.hangs.load(Ordering::SeqCst) {
            self.manners.woken.notified().await;
        }
    }
}

#[tonic::async_trait]
impl member_server::Member for Service {
    async fn handle_request(&self, request: Request<RequestMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        self.take(Call::Request(request.into_inner())).await
    }

    async fn handle_notify(&self, request: Request<NotifyMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        self.take(Call::Notify(request.into_inner())).await
    }

    async fn handle_push(&self, request: Request<PushMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        self.take(Call::Push(request.into_inner())).await
    }

    async fn handle_response(&self, request: Request<ResponseMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        self.take(Call::Response(request.into_inner())).await
    }

    async fn new_member(&self, _: Request<NewMemberRequest>) -> Result<Response<NewMemberResponse>, Status> {
        Ok(Response::new(NewMemberResponse {}))
    }

    async fn del_member(&self, _: Request<DelMemberRequest>) -> Result<Response<DelMemberResponse>, Status> {
        Ok(Response::new(DelMemberResponse {}))
    }

    async fn session_closed(&self, request: Request<SessionClosedRequest>) -> Result<Response<SessionClosedResponse>, Status> {
        self.hang().await;
        let _ = self.calls.send(Call::SessionClosed(request.into_inner().session_id));
        Ok(Response::new(SessionClosedResponse {}))
    }

    async fn close_session(&self, request: Request<CloseSessionRequest>) -> Result<Response<CloseSessionResponse>, Status> {
        let _ = self.calls.send(Call::CloseSession(request.into_inner().session_id));
        Ok(Response::new(CloseSessionResponse {}))
    }
}
