//! The cluster that the tests play with.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use nano::{
    App, CloseReason, Component, Error, Group, Handle, Handlers, Node, Options, Raw, Responder,
    Result, Scheduler, Session, Timeouts, client::Client,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::support::{RawClient, eventually, within};

/// A service that does what a test asks for. Bodies are bytes.
#[derive(Clone)]
pub(crate) struct Room(pub(crate) Arc<RoomState>);

pub(crate) struct RoomState {
    pub(crate) name: String,
    pub(crate) group: Group<Raw>,
    pub(crate) held: Mutex<Vec<Responder<Raw>>>,
    pub(crate) started: Mutex<HashMap<i64, Vec<u64>>>,
    pub(crate) closed: Mutex<Vec<(i64, CloseReason)>>,
    pub(crate) handled: AtomicUsize,
}

impl Room {
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::new(RoomState {
            name: name.to_owned(),
            group: Group::new(name),
            held: Mutex::default(),
            started: Mutex::default(),
            closed: Mutex::default(),
            handled: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn closed(&self) -> Vec<(i64, CloseReason)> {
        self.0.closed.lock().clone()
    }

    fn who(&self, _: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        self.0.handled.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.name.clone().into())
    }

    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn huge(&self, _: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        Ok(vec![0; 40 * 1024 * 1024].into())
    }

    fn info(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        Ok(format!(
            "{} {} {}",
            session.id(),
            session.uid(),
            session.remote_addr().unwrap()
        )
        .into())
    }

    fn fail(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Err(
            Error::new("ROOM-FULL", String::from_utf8_lossy(&body).into_owned())
                .with_metadata("limit", "3"),
        )
    }

    fn panic(&self, _: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        panic!("boom")
    }

    fn push(&self, session: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        session.push_raw("onA", body.clone())?;
        session.push_raw("onB", body.clone())?;
        Ok(body)
    }

    fn close(&self, session: &Session<Raw>, body: Bytes) -> Result<()> {
        session.respond_raw(body)?;
        session.close_because("enough");
        Ok(())
    }

    fn kick(&self, session: &Session<Raw>, _: Bytes) -> Result<()> {
        session.kick("cheating");
        Ok(())
    }

    fn bind(&self, session: &Session<Raw>, body: Bytes) -> Result<()> {
        session.bind(std::str::from_utf8(&body)?.parse()?)?;
        session.push_raw("onBound", Bytes::new())?;
        session.respond_raw(Bytes::new())
    }

    fn join(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        self.0.group.add(session)?;
        Ok(self.0.group.count().to_string().into())
    }

    fn say(&self, _: &Session<Raw>, body: Bytes) -> Result<()> {
        self.0.group.broadcast_raw("onSay", body)
    }

    /// Keeps the request unanswered.
    fn hold(&self, session: &Session<Raw>, _: Bytes) -> Result<()> {
        self.0.held.lock().push(session.responder());
        Ok(())
    }

    /// Numbers its messages; a third of them are answered late.
    fn number(&self, session: &Session<Raw>, body: Bytes) -> Result<()> {
        let number: u64 = std::str::from_utf8(&body)?.parse()?;
        self.0
            .started
            .lock()
            .entry(session.id())
            .or_default()
            .push(number);
        session.push_raw("onNumber", body.clone())?;
        if number.is_multiple_of(3) {
            let responder = session.responder();
            let scheduler = Scheduler::current().unwrap();
            scheduler.offload(
                tokio::time::sleep(Duration::from_millis(number % 7)),
                move |()| responder.respond(&body).unwrap(),
            );
            return Ok(());
        }
        session.respond_raw(body)
    }

    async fn ask(self: Arc<Self>, session: Session<Raw>, body: Bytes) -> Result<Bytes> {
        let (route, body) = split(&body);
        session.call(&route).raw(body).await
    }

    fn rpc(&self, session: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        let (route, body) = split(&body);
        session.rpc(&route, &body[..])?;
        Ok(Bytes::from_static(b"sent"))
    }
}

fn split(body: &Bytes) -> (String, Bytes) {
    let at = body.iter().position(|byte| *byte == b' ').unwrap();
    (
        String::from_utf8(body[..at].to_vec()).unwrap(),
        body.slice(at + 1..),
    )
}

impl Component<Raw> for Room {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Who", Self::who)
            .on("Echo", Self::echo)
            .on("Huge", Self::huge)
            .on("Info", Self::info)
            .on("Fail", Self::fail)
            .on("Panic", Self::panic)
            .on("Push", Self::push)
            .on("Close", Self::close)
            .on("Kick", Self::kick)
            .on("Bind", Self::bind)
            .on("Join", Self::join)
            .on("Say", Self::say)
            .on("Hold", Self::hold)
            .on("Number", Self::number)
            .on("Ask", Self::ask)
            .on("Rpc", Self::rpc)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let state = self.0.clone();
        node.on_session_closed(move |session, reason| {
            state.closed.lock().push((session.id(), reason.clone()))
        });
        Ok(())
    }
}

/// A node on a runtime of its own, so that it can die without a goodbye.
pub(crate) struct Machine {
    pub(crate) node: Arc<Node>,
    runtime: Option<Runtime>,
}

impl Machine {
    pub(crate) async fn start(app: App) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let node = within("a node to start", runtime.spawn(app.start()))
            .await
            .unwrap()
            .unwrap();
        Self {
            node: Arc::new(node),
            runtime: Some(runtime),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.node.handle()
    }

    /// What other nodes call.
    pub(crate) fn address(&self) -> String {
        self.handle().member().unwrap().address().to_owned()
    }

    /// Ends all its tasks and connections at once.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(crate) async fn stop(&self) {
        let node = self.node.clone();
        let stopped = self
            .runtime
            .as_ref()
            .unwrap()
            .spawn(async move { node.shutdown().await });
        within("a node to stop", stopped).await.unwrap();
    }

    /// Waits until it knows so many others.
    pub(crate) async fn knows(&self, others: usize) {
        eventually("members to be known", || {
            self.handle().members().len() == others
        })
        .await;
    }

    pub(crate) async fn client(&self) -> Client<Raw> {
        Client::builder()
            .typed::<Raw>()
            .connect(&format!("tcp://{}", self.node.addresses()[0]))
            .await
            .unwrap()
    }
}

impl Machine {
    pub(crate) async fn raw_client(&self) -> RawClient {
        let mut client = RawClient::tcp(self.node.addresses()[0]).await;
        client.handshake().await;
        client
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.node.handle().shutdown();
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn app() -> App {
    App::new()
        .scheduler_threads(2)
        .cluster_heartbeat(Duration::from_millis(100))
        .timeouts(Timeouts::new().request(Duration::from_secs(8)))
}

pub(crate) async fn master() -> Machine {
    Machine::start(app().service_addr("127.0.0.1:0").master()).await
}

pub(crate) fn member(master: &Machine) -> App {
    app()
        .service_addr("127.0.0.1:0")
        .advertise_addr(master.address())
}

/// A master, a gate, and backends with one room each.
pub(crate) struct House {
    pub(crate) master: Machine,
    pub(crate) gate: Machine,
    pub(crate) backends: Vec<(Machine, Room)>,
}

impl House {
    pub(crate) async fn with(backends: &[&str]) -> Self {
        Self::build(backends, |app| app).await
    }

    pub(crate) async fn build(backends: &[&str], configure: impl Fn(App) -> App) -> Self {
        let master = Machine::start(configure(app().service_addr("127.0.0.1:0").master())).await;
        let gate = Machine::start(configure(member(&master)).tcp("127.0.0.1:0")).await;
        let mut house = Self {
            master,
            gate,
            backends: Vec::new(),
        };
        for name in backends {
            let backend = house.backend(name, &configure).await;
            house.backends.push(backend);
        }
        house.gate.knows(1 + backends.len()).await;
        house
    }

    pub(crate) async fn backend(
        &self,
        name: &str,
        configure: impl Fn(App) -> App,
    ) -> (Machine, Room) {
        let room = Room::new(name);
        let app = configure(member(&self.master))
            .component_with(room.clone(), Options::new().name("Room"));
        (Machine::start(app.label(name)).await, room)
    }

    /// Waits until the client has gone, and no node has a session left.
    pub(crate) async fn is_empty_after(&self, client: Client<Raw>) {
        client.close();
        self.is_empty().await;
    }

    /// Waits until no node has a session left.
    pub(crate) async fn is_empty(&self) {
        let machines = self
            .backends
            .iter()
            .map(|(machine, _)| machine)
            .chain([&self.gate]);
        for machine in machines {
            eventually("sessions to be gone", || {
                machine.handle().sessions().count() == 0
            })
            .await;
        }
    }
}

pub(crate) fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

pub(crate) fn code_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().code().to_owned()
}
