//! Nodes of Go nano, as they were recorded: they know the old fields only, append whoever they are told is new, and remove one entry when they are told
//! that somebody left.

use std::{
    fs,
    future::pending,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;
use prost::Message;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{nodes::HEARTBEAT, proto::*};

/// A call that a fake got, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Register(MemberInfo),
    Unregister(String),
    Heartbeat(MemberInfo),
    New(MemberInfo),
    Del(String),
}

#[derive(Default)]
struct Record {
    calls: Mutex<Vec<(Instant, Call)>>,
    table: Mutex<Vec<MemberInfo>>,
    hung: AtomicBool,
    dead: AtomicBool,
}

/// Who serves a fake's calls; gone when dropped.
pub(crate) struct Fake {
    pub(crate) address: String,
    record: Arc<Record>,
    task: JoinHandle<()>,
    /// Signs of life to a master.
    heartbeats: Mutex<Option<JoinHandle<()>>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Self {
        let record = Arc::<Record>::default();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Server::builder()
            .add_service(member_server::MemberServer::new(Peer(record.clone())))
            .add_service(master_server::MasterServer::new(Peer(record.clone())));
        let task = tokio::spawn(async move { router.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
        Self { address, record, task, heartbeats: Mutex::default() }
    }

    /// What it says of itself.
    pub(crate) fn info(&self, label: &str, services: &[&str]) -> MemberInfo {
        let services = services.iter().map(|&service| service.to_owned()).collect();
        MemberInfo { label: label.to_owned(), service_addr: self.address.clone(), services, ..MemberInfo::default() }
    }

    /// Registers, and then calls every interval; the reply is the beginning of its table.
    pub(crate) async fn join(&self, master: &str, services: &[&str]) -> Vec<MemberInfo> {
        let info = self.info("", services);
        let members = self.register(master, info.clone()).await.unwrap();
        self.show_life(master, info);
        members
    }

    pub(crate) async fn register(&self, master: &str, info: MemberInfo) -> Result<Vec<MemberInfo>, Status> {
        let reply = MasterClient::new(channel(master)).register(RegisterRequest { member_info: Some(info) }).await?.into_inner();
        let members: Vec<_> = reply.members.into_iter().map(as_go_sees).collect();
        self.record.table.lock().extend(members.clone());
        Ok(members)
    }

    pub(crate) fn show_life(&self, master: &str, info: MemberInfo) {
        let mut master = MasterClient::new(channel(master));
        let beat = tokio::spawn(async move {
            loop {
                sleep(HEARTBEAT).await;
                // Go logs what goes wrong, and goes on.
                if let Ok(reply) = master.heartbeat(HeartbeatRequest { member_info: Some(info.clone()), digest: 0 }).await {
                    assert_eq!(*reply.get_ref(), HeartbeatResponse::default(), "the answer Go knows");
                }
            }
        });
        if let Some(before) = self.heartbeats.lock().replace(beat) {
            before.abort();
        }
    }

    pub(crate) fn fall_silent(&self) {
        if let Some(heartbeats) = self.heartbeats.lock().take() {
            heartbeats.abort();
        }
    }

    /// From now on it takes calls and answers none.
    pub(crate) fn hang(&self) {
        self.record.hung.store(true, SeqCst);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.record.calls.lock().iter().map(|(_, call)| call.clone()).collect()
    }

    pub(crate) fn timed_calls(&self) -> Vec<(Instant, Call)> {
        self.record.calls.lock().clone()
    }

    /// The addresses it would route to.
    pub(crate) fn table(&self) -> Vec<String> {
        self.record.table.lock().iter().map(|info| info.service_addr.clone()).collect()
    }

    /// As master: who it says is there.
    pub(crate) fn answer_registrations_with(&self, members: Vec<MemberInfo>) {
        *self.record.table.lock() = members;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
        // Connections outlive the listener.
        self.record.dead.store(true, SeqCst);
        self.fall_silent();
    }
}

pub(crate) fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(crate) use master_client::MasterClient;

struct Peer(Arc<Record>);

impl Peer {
    async fn note<T>(&self, call: Call, reply: T) -> Result<Response<T>, Status> {
        if self.0.dead.load(SeqCst) {
            return Err(Status::unavailable("dead"));
        }
        self.0.calls.lock().push((Instant::now(), call));
        if self.0.hung.load(SeqCst) {
            pending::<()>().await;
        }
        Ok(Response::new(reply))
    }
}

#[async_trait]
impl master_server::Master for Peer {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let members = self.0.table.lock().clone();
        let info = request.into_inner().member_info.unwrap();
        self.note(Call::Register(as_go_sees(info)), RegisterResponse { members }).await
    }

    async fn unregister(&self, request: Request<UnregisterRequest>) -> Result<Response<UnregisterResponse>, Status> {
        self.note(Call::Unregister(request.into_inner().service_addr), UnregisterResponse {}).await
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let info = request.into_inner().member_info.unwrap();
        self.note(Call::Heartbeat(as_go_sees(info)), HeartbeatResponse::default()).await
    }
}

#[async_trait]
impl member_server::Member for Peer {
    async fn new_member(&self, request: Request<NewMemberRequest>) -> Result<Response<NewMemberResponse>, Status> {
        let info = as_go_sees(request.into_inner().member_info.unwrap());
        self.0.table.lock().push(info.clone());
        self.note(Call::New(info), NewMemberResponse {}).await
    }

    async fn del_member(&self, request: Request<DelMemberRequest>) -> Result<Response<DelMemberResponse>, Status> {
        let address = request.into_inner().service_addr;
        let mut table = std::mem::take(&mut *self.0.table.lock());
        if let Some(at) = table.iter().position(|info| info.service_addr == address) {
            table.remove(at);
        }
        *self.0.table.lock() = table;
        self.note(Call::Del(address), DelMemberResponse {}).await
    }

    async fn handle_request(&self, _: Request<RequestMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn handle_notify(&self, _: Request<NotifyMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn handle_push(&self, _: Request<PushMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn handle_response(&self, _: Request<ResponseMessage>) -> Result<Response<MemberHandleResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn session_closed(&self, _: Request<SessionClosedRequest>) -> Result<Response<SessionClosedResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn close_session(&self, _: Request<CloseSessionRequest>) -> Result<Response<CloseSessionResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }
}

/// Without what Go has no fields for.
fn as_go_sees(info: MemberInfo) -> MemberInfo {
    let MemberInfo { label, service_addr, services, .. } = info;
    MemberInfo { label, service_addr, services, ..MemberInfo::default() }
}

/// One step of a recorded conversation between nodes.
pub(crate) struct Step {
    pub(crate) at: String,
    pub(crate) kind: String,
    pub(crate) method: String,
    pub(crate) status: Option<String>,
    bytes: Vec<u8>,
}

impl Step {
    pub(crate) fn load(name: &str) -> Vec<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster").join(format!("{name}.json"));
        let json: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let step = |call: &Value| Self {
            at: text(&call["at"]),
            kind: text(&call["kind"]),
            method: text(&call["method"]).rsplit('/').next().unwrap().to_owned(),
            status: call["details"].as_str().map(str::to_owned),
            bytes: bytes(call["hex"].as_str().unwrap_or_default()),
        };
        json["calls"].as_array().unwrap().iter().map(step).collect()
    }

    /// The message, which must be exactly what our code for it writes: the names and numbers are Go nano's.
    pub(crate) fn message<T: Message + Default>(&self) -> T {
        let message = T::decode(self.bytes.as_slice()).unwrap();
        assert_eq!(message.encode_to_vec(), self.bytes, "{}", self.method);
        message
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
