//! A cluster of a master, a gate, and backends with one room each.

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
    App, CloseReason, Cluster, Component, Error, Group, Handle, Handlers, Options, Raw, Responder,
    Result, Scheduler, Session, Timeouts,
    client::Client,
    kick::{Kick, Reconnect},
    testing::TestNode,
};
use parking_lot::{Mutex, MutexGuard};

use crate::support::MemberApp;

/// A service that does what a test asks for. Bodies are bytes.
#[derive(Clone)]
pub(crate) struct Room(Arc<RoomState>);

struct RoomState {
    name: String,
    group: Group<Raw>,
    held: Mutex<Vec<Responder<Raw>>>,
    started: Mutex<HashMap<i64, Vec<u64>>>,
    closed: Mutex<Vec<(i64, CloseReason)>>,
    handled: AtomicUsize,
}

/// The kick of `Room.KickWith`.
pub(crate) fn moved() -> Kick {
    Kick::new("ROOM-MOVED", "the room has moved")
        .with_reconnect(Reconnect::Elsewhere)
        .with_retry_after(Duration::ZERO)
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

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn group(&self) -> &Group<Raw> {
        &self.0.group
    }

    /// The requests of `Hold`, unanswered.
    pub(crate) fn held(&self) -> MutexGuard<'_, Vec<Responder<Raw>>> {
        self.0.held.lock()
    }

    /// The numbers that `Number` received, by session.
    pub(crate) fn started(&self) -> MutexGuard<'_, HashMap<i64, Vec<u64>>> {
        self.0.started.lock()
    }

    /// How often `Who` ran.
    pub(crate) fn handled(&self) -> usize {
        self.0.handled.load(Ordering::Relaxed)
    }

    /// The sessions that ended on the room's node.
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

    fn kick_with(&self, session: &Session<Raw>, _: Bytes) -> Result<()> {
        session.kick_with(moved());
        Ok(())
    }

    fn bind(&self, session: &Session<Raw>, body: Bytes) -> Result<()> {
        session.bind(std::str::from_utf8(&body)?.parse::<i64>()?)?;
        session.push_raw("onBound", Bytes::new())?;
        session.respond_raw(Bytes::new())
    }

    /// Binds a service to an address, or to none, and says so in a push and a one-way message.
    fn route(&self, session: &Session<Raw>, body: Bytes) -> Result<()> {
        let (service, address) = split(&body);
        match text(&address) {
            "" => session.router().delete(&service)?,
            address => session.router().bind(&service, address)?,
        }
        session.push_raw("onRouted", Bytes::new())?;
        session.rpc("Room.Say", &b"routed"[..])?;
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
            .on("KickWith", Self::kick_with)
            .on("Bind", Self::bind)
            .on("Route", Self::route)
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

/// A node of these suites, with this part in the cluster.
/// A node with this part in a cluster.
pub(crate) fn node(cluster: Cluster) -> MemberApp {
    let cluster = cluster
        .listen("127.0.0.1:0")
        .heartbeat(Duration::from_millis(100));
    MemberApp::new(app(), cluster)
}

/// A node of these suites, without a cluster.
pub(crate) fn app() -> App {
    App::new()
        .scheduler_threads(2)
        .timeouts(Timeouts::new().request(Duration::from_secs(8)))
}

/// A master to be started.
pub(crate) fn master_app() -> MemberApp {
    node(Cluster::master())
}

pub(crate) async fn master() -> TestNode {
    TestNode::start(master_app()).await
}

/// A member to be started.
pub(crate) fn member(master: &TestNode) -> MemberApp {
    node(Cluster::join([master.address()]))
}

/// A master, a gate, and backends with one room each.
pub(crate) struct RoomCluster {
    pub(crate) master: TestNode,
    pub(crate) gate: TestNode,
    pub(crate) backends: Vec<Backend>,
}

/// A node, and the room it serves.
pub(crate) struct Backend {
    pub(crate) node: TestNode,
    pub(crate) room: Room,
}

impl RoomCluster {
    pub(crate) async fn with(backends: &[&str]) -> Self {
        Self::configured(backends, |app| app).await
    }

    pub(crate) async fn configured(
        backends: &[&str],
        configure: impl Fn(MemberApp) -> MemberApp,
    ) -> Self {
        let master = TestNode::start(configure(master_app())).await;
        let gate = TestNode::start(configure(member(&master)).tcp("127.0.0.1:0")).await;
        let mut cluster = Self {
            master,
            gate,
            backends: Vec::new(),
        };
        for name in backends {
            let backend = cluster.backend(name, &configure).await;
            cluster.backends.push(backend);
        }
        cluster.gate.knows(1 + backends.len()).await;
        cluster
    }

    pub(crate) async fn backend(
        &self,
        name: &str,
        configure: impl Fn(MemberApp) -> MemberApp,
    ) -> Backend {
        let room = Room::new(name);
        let app = configure(member(&self.master))
            .component_with(room.clone(), Options::new().name("Room"));
        Backend {
            node: TestNode::start(app.label(name)).await,
            room,
        }
    }

    /// Waits until the client has gone, and no node has a session left.
    pub(crate) async fn is_empty_after(&self, client: Client<Raw>) {
        client.close();
        self.is_empty().await;
    }

    /// Waits until no node has a session left.
    pub(crate) async fn is_empty(&self) {
        for Backend { node, .. } in &self.backends {
            node.has_no_sessions().await;
        }
        self.gate.has_no_sessions().await;
    }

    /// A client of the gate.
    pub(crate) async fn client(&self) -> Client<Raw> {
        self.gate.client_of().await
    }
}

pub(crate) fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

pub(crate) fn code_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().code().to_string()
}
