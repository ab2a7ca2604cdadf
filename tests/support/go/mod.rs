//! A model of a Go nano node as seen from outside: plain gRPC, the old fields, errors with the code
//! UNKNOWN, a table that appends every announced join and removes one entry for every leave.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

mod call;
mod service;

/// The protocol, from the same code as the library's own.
pub(crate) mod proto {
    #![allow(clippy::all, missing_docs, unreachable_pub, rust_2018_idioms)]
    pub(crate) use super::MemberInfo;
    use tonic_prost::ProstCodec as Codec;

    include!("../../../src/cluster/generated/clusterpb.rs");
}

#[path = "../../../src/cluster/member_info.rs"]
mod member_info;

pub(crate) use self::{
    call::{Call, as_go_sees, exact},
    member_info::MemberInfo,
    proto::{master_client::MasterClient, member_client::MemberClient},
};
use self::{
    proto::{
        HeartbeatRequest, HeartbeatResponse, RegisterRequest, RequestMessage, UnregisterRequest,
        master_server::MasterServer, member_server::MemberServer,
    },
    service::Service,
};
use super::support::within;

/// How it behaves.
#[derive(Default)]
pub(crate) struct Manners {
    /// The error it answers messages with, instead of OK.
    pub(crate) refusal: Mutex<Option<Status>>,
    /// Whether it accepts calls and answers none.
    pub(crate) hangs: AtomicBool,
    pub(crate) woken: Notify,
    /// How long it takes to answer a message.
    pub(crate) delay: Mutex<Duration>,
    under_way: AtomicUsize,
    /// The most messages that were under way to it at once.
    pub(crate) most: AtomicUsize,
    dead: AtomicBool,
}

#[derive(Default)]
struct State {
    manners: Manners,
    /// The calls that arrived, and when.
    calls: Mutex<Vec<(Instant, Call)>>,
    arrived: Notify,
    /// The members it routes to; as master, the reply to registrations.
    table: Mutex<Vec<MemberInfo>>,
}

/// A running model node. Dropping it kills it.
pub(crate) struct GoNode {
    pub(crate) address: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
    /// The task that sends heartbeats to a master.
    heart: Mutex<Option<JoinHandle<()>>>,
    /// Which of the calls a test has taken.
    seen: HashSet<usize>,
}

impl GoNode {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Self {
        let state = Arc::<State>::default();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Server::builder()
            .add_service(
                MemberServer::new(Service(state.clone())).max_decoding_message_size(usize::MAX),
            )
            .add_service(MasterServer::new(Service(state.clone())));
        let serving = tokio::spawn(async move {
            router
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap()
        });
        Self {
            address,
            state,
            serving,
            heart: Mutex::default(),
            seen: HashSet::new(),
        }
    }

    /// Listens, registers, and sends a heartbeat every interval.
    pub(crate) async fn join(master: &str, services: &[&str], interval: Duration) -> Self {
        let node = Self::start().await;
        node.register(master, node.info("", services))
            .await
            .unwrap();
        node.show_life(master, node.info("", services), interval);
        node
    }

    /// Its member info.
    pub(crate) fn info(&self, label: &str, services: &[&str]) -> MemberInfo {
        let services = services.iter().map(|&service| service.to_owned()).collect();
        MemberInfo {
            label: label.to_owned(),
            service_addr: self.address.clone(),
            services,
            ..MemberInfo::default()
        }
    }

    /// Registers; the reply is the beginning of its table.
    pub(crate) async fn register(
        &self,
        master: &str,
        info: MemberInfo,
    ) -> Result<Vec<MemberInfo>, Status> {
        let members = call::register(master, info).await?;
        self.state.table.lock().extend(members.clone());
        Ok(members)
    }

    pub(crate) fn show_life(&self, master: &str, info: MemberInfo, interval: Duration) {
        let mut master = MasterClient::new(channel(master));
        let beat = tokio::spawn(async move {
            loop {
                sleep(interval).await;
                // Go logs what goes wrong, and goes on.
                if let Ok(reply) = master
                    .heartbeat(HeartbeatRequest {
                        member_info: Some(info.clone()),
                        digest: 0,
                        ..Default::default()
                    })
                    .await
                {
                    assert_eq!(
                        *reply.get_ref(),
                        HeartbeatResponse::default(),
                        "the answer Go knows"
                    );
                }
            }
        });
        if let Some(before) = self.heart.lock().replace(beat) {
            before.abort();
        }
    }

    pub(crate) fn fall_silent(&self) {
        if let Some(heart) = self.heart.lock().take() {
            heart.abort();
        }
    }

    pub(crate) async fn leave(&self, master: &str) {
        self.fall_silent();
        let unregister = UnregisterRequest {
            service_addr: self.address.clone(),
            incarnation: 0,
        };
        MasterClient::new(channel(master))
            .unregister(unregister)
            .await
            .unwrap();
    }

    /// Ends its server and its heartbeats without unregistering.
    pub(crate) fn die(&self) {
        self.fall_silent();
        self.serving.abort();
        // Connections outlive the listener.
        self.state.manners.dead.store(true, SeqCst);
    }

    pub(crate) fn manners(&self) -> &Manners {
        &self.state.manners
    }

    /// From now on it accepts calls and answers none.
    pub(crate) fn hang(&self) {
        self.state.manners.hangs.store(true, SeqCst);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state
            .calls
            .lock()
            .iter()
            .map(|(_, call)| call.clone())
            .collect()
    }

    pub(crate) fn timed_calls(&self) -> Vec<(Instant, Call)> {
        self.state.calls.lock().clone()
    }

    /// The addresses in its table.
    pub(crate) fn table(&self) -> Vec<String> {
        self.state
            .table
            .lock()
            .iter()
            .map(|info| info.service_addr.clone())
            .collect()
    }

    /// As master: sets the reply to registrations.
    pub(crate) fn answer_registrations_with(&self, members: Vec<MemberInfo>) {
        *self.state.table.lock() = members;
    }

    /// Takes the next of these calls. Other calls stay until they are asked for.
    pub(crate) async fn next_of(&mut self, wanted: impl Fn(&Call) -> bool) -> Call {
        let next = async {
            loop {
                // Counted from here on, so that none is missed.
                let arrived = self.state.arrived.notified();
                let found = self.unseen().into_iter().find(|(_, call)| wanted(call));
                if let Some(found) = found {
                    return found;
                }
                arrived.await;
            }
        };
        let (at, call) = within("a call", next).await;
        self.seen.insert(at);
        call
    }

    /// Waits for a message that has not been taken.
    pub(crate) async fn arrival(&self) {
        loop {
            let arrived = self.state.arrived.notified();
            if self.unseen().iter().any(|(_, call)| call.is_message()) {
                return;
            }
            arrived.await;
        }
    }

    fn unseen(&self) -> Vec<(usize, Call)> {
        let calls = self.state.calls.lock();
        calls
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.seen.contains(at))
            .map(|(at, (_, call))| (at, call.clone()))
            .collect()
    }

    /// The next message of a session.
    pub(crate) async fn message(&mut self) -> Call {
        self.next_of(Call::is_message).await
    }

    /// The next message or end of a session.
    pub(crate) async fn traffic(&mut self) -> Call {
        self.next_of(Call::is_traffic).await
    }

    pub(crate) async fn request(&mut self) -> RequestMessage {
        match self.message().await {
            Call::Request(request) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    /// The calls that have not been taken, without heartbeats.
    pub(crate) fn left_over(&self) -> Vec<Call> {
        self.unseen()
            .into_iter()
            .map(|(_, call)| call)
            .filter(|call| !matches!(call, Call::Heartbeat(_)))
            .collect()
    }
}

impl Drop for GoNode {
    fn drop(&mut self) {
        self.die();
    }
}

/// A channel that connects with its first call.
pub(crate) fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

/// A client for the member service at this address.
pub(crate) fn client(of: &str) -> MemberClient<Channel> {
    MemberClient::new(channel(of)).max_encoding_message_size(usize::MAX)
}
