//! A cluster of gates without components, and of backends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nano::{
    App, CloseReason, Component, Group, Handlers, Raw, Result, Session, Timeouts,
    testing::{TestCluster, TestNode},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::harness::{Log, MINUTE};

pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Slow enough that no member is evicted on a busy machine.
pub(crate) const SLOW: Duration = Duration::from_secs(5);

/// What a backend has seen.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) name: &'static str,
    pub(crate) group: Group<Raw>,
    pub(crate) log: Log,
    /// Lets `Slow` answer.
    pub(crate) answer: Arc<Notify>,
    /// Notifies and requests, by session and number, in the order of their arrival.
    pub(crate) told: Arc<Mutex<Vec<(i64, u32)>>>,
    pub(crate) asked: Arc<Mutex<Vec<(i64, u32)>>>,
}

impl Component<Raw> for Room {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo)
            .on("Name", Self::name)
            .on("Enter", Self::enter)
            .on("Slow", Self::slow)
            .on("Tell", Self::tell)
            .on("Ask", Self::ask)
    }
}

impl Room {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            group: Group::new("room"),
            log: Log::default(),
            answer: Arc::default(),
            told: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn name(&self, _: &Session<Raw>, _: ()) -> Result<Bytes> {
        Ok(Bytes::from_static(self.name.as_bytes()))
    }

    fn enter(&self, session: &Session<Raw>, _: ()) -> Result<Bytes> {
        session.bind(7)?;
        session.shared().set("level", &3)?;
        self.group.add(session)?;
        let log = self.log.clone();
        session.on_closed(move |_, reason| log.add(format!("closed: {reason}")));
        self.log.add("entered");
        Ok(Bytes::new())
    }

    async fn slow(self: Arc<Self>, _: Session<Raw>, body: Bytes) -> Result<Bytes> {
        self.log.add("slow");
        self.answer.notified().await;
        Ok(body)
    }

    fn tell(&self, session: &Session<Raw>, body: Bytes) -> Result {
        self.told.lock().push((session.id(), number(&body)));
        Ok(())
    }

    /// A push in front of each response: the client sees them in this order.
    fn ask(&self, session: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        self.asked.lock().push((session.id(), number(&body)));
        session.push_raw("onAsked", body.clone())?;
        Ok(body)
    }
}

pub(crate) fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(body[..4].try_into().unwrap())
}

/// A cluster of gates and backends.
pub(crate) struct World {
    pub(crate) cluster: TestCluster,
    pub(crate) heartbeat: Duration,
    pub(crate) rooms: Vec<Room>,
    pub(crate) backends: Vec<TestNode>,
}

impl World {
    pub(crate) async fn new(heartbeat: Duration, backends: usize) -> Self {
        let master = TestCluster::master_options().heartbeat(heartbeat);
        let cluster = TestCluster::with_master(App::new(), master).await;
        let mut world = Self {
            cluster,
            heartbeat,
            rooms: Vec::new(),
            backends: Vec::new(),
        };
        for name in ["one", "two"].into_iter().take(backends) {
            let room = Room::new(name);
            let log = room.log.clone();
            let app = App::new().component(room.clone()).on_session_closed(
                move |_, reason: &CloseReason| log.add(format!("gone: {reason}")),
            );
            let backend = TestNode::start(app.cluster(world.member())).await;
            world.rooms.push(room);
            world.backends.push(backend);
        }
        world
    }

    pub(crate) fn member(&self) -> nano::Cluster {
        self.cluster.member_options().heartbeat(self.heartbeat)
    }

    /// Starts a gate without components.
    pub(crate) async fn gate(&self) -> (TestNode, Log) {
        self.gate_with(|app| app).await
    }

    pub(crate) async fn gate_with(&self, more: impl FnOnce(App) -> App) -> (TestNode, Log) {
        let log = Log::default();
        let [detached, resumed, closed] = [log.clone(), log.clone(), log.clone()];
        let app = App::new()
            .tcp("127.0.0.1:0")
            .timeouts(Timeouts::new().resume_window(MINUTE))
            .on_detached(move |_| detached.add("detached"))
            .on_resumed(move |_| resumed.add("resumed"))
            .on_session_closed(move |_, reason: &CloseReason| {
                closed.add(format!("closed: {reason}"));
            });
        let gate = TestNode::start(more(app).cluster(self.member())).await;
        (gate, log)
    }

    pub(crate) async fn converged(&self, gates: &[&TestNode]) {
        let all: Vec<_> = self.backends.iter().chain(gates.iter().copied()).collect();
        self.cluster.converged(&all).await;
    }
}

pub(crate) fn count(node: &TestNode) -> usize {
    node.handle().sessions().count()
}

/// The only session of a backend.
pub(crate) fn served(node: &TestNode) -> Session {
    let mut sessions = node.handle().sessions().list();
    assert_eq!(sessions.len(), 1);
    sessions.remove(0)
}
