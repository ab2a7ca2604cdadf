//! Promise 7: after any number of connects and disconnects everything is as it was.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use nano::{App, Component, Error, Group, Handle, Handlers, Node, Result, Session, Timeouts, code};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    harness::{Client, Ends, start},
    support::{eventually, sampled},
};

const UIDS: i64 = 10;

#[derive(Default)]
struct Shared {
    group: Group,
    callbacks: AtomicUsize,
    handle: Mutex<Option<Handle>>,
}

struct Lobby(Arc<Shared>);

impl Component for Lobby {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Enter", Self::enter)
            .on("Leave", Self::leave)
            .on("Wait", Self::wait)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        *self.0.handle.lock() = Some(node.clone());
        // A callback may keep what keeps it.
        let keeps = node.clone();
        node.on_session_closed(move |_, _| drop(keeps.clone()));
        let keeps = node.clone();
        node.on_member_left(move |_| drop(keeps.clone()));
        Ok(())
    }

    fn shutdown(self: &Arc<Self>, _: &Handle) {
        self.0.handle.lock().take();
    }
}

impl Lobby {
    fn enter(&self, session: &Session, _: ()) -> Result<i64> {
        session.bind(session.id() % UIDS + 1)?;
        self.0.group.add(session)?;
        session.set("self", session.clone());
        let shared = self.0.clone();
        session.on_closed(move |session, _| {
            shared.callbacks.fetch_add(1, SeqCst);
            session.clear();
        });
        Ok(session.uid())
    }

    fn leave(&self, session: &Session, _: ()) -> Result {
        session.close();
        Ok(())
    }

    async fn wait(self: Arc<Self>, _: Session, _: ()) -> Result {
        std::future::pending().await
    }
}

async fn visit(node: &Node, number: usize) {
    let mut client = match number % 5 {
        // Gone before its handshake.
        0 => return drop(Client::dial(node.addresses()[0]).await),
        _ => Client::connect(node).await,
    };
    client.ask("Lobby.Enter", "").await.unwrap();
    match number % 5 {
        1 => {}
        // Gone with a request in flight.
        2 => {
            client.request("Lobby.Wait", "").await;
        }
        3 => {
            client.request("Lobby.Leave", "").await;
            client.end().await;
        }
        _ => {
            client.send(b"nonsense").await;
            client.end().await;
        }
    }
}

async fn come_and_go(visits: usize) {
    let shared = Arc::new(Shared::default());
    let (app, ends) = Ends::of(App::new().component(Lobby(shared.clone())));
    let node = Arc::new(start(app).await);
    let mut visitors = JoinSet::new();
    for number in 0..visits {
        if visitors.len() == 64 {
            visitors.join_next().await.unwrap().unwrap();
        }
        let node = node.clone();
        visitors.spawn(async move { visit(&node, number).await });
    }
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }

    // A connection that is gone before it is accepted may never become a session.
    let entered = visits - visits.div_ceil(5);
    eventually("every table is empty", || {
        let sessions = node.handle().sessions();
        sessions.count() == 0
            && shared.group.count() == 0
            && shared.callbacks.load(SeqCst) == entered
            && ends.count() >= entered
    })
    .await;
    // The index by user has no other way to show what it holds.
    assert_eq!(
        format!("{:?}", node.handle().sessions()),
        "Sessions { count: 0, users: 0, .. }"
    );
    assert_eq!(
        (node.handle().sessions().list(), shared.group.members()),
        (vec![], vec![])
    );
}

#[tokio::test]
async fn after_thousands_of_connections_every_table_is_empty() {
    come_and_go(3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn after_a_hundred_thousand_connections_every_table_is_empty() {
    come_and_go(sampled(100_000) as usize).await;
}

#[tokio::test]
async fn a_closed_session_cannot_be_brought_back() {
    let shared = Arc::new(Shared::default());
    let node = start(App::new().component(Lobby(shared.clone()))).await;
    let mut client = Client::connect(&node).await;
    client.ask("Lobby.Enter", "").await.unwrap();
    let session = client.session(&node).await;
    drop(client);
    eventually("it is closed", || shared.callbacks.load(SeqCst) == 1).await;

    let code = |result: Result| {
        result
            .map_err(|error: Error| error.code().to_string())
            .unwrap_err()
    };
    assert_eq!(code(session.push("on", "x")), code::CLOSED);
    assert_eq!(code(shared.group.add(&session).map(drop)), code::CLOSED);
    session.bind(7).unwrap();
    session.close();
    session.kick("again");
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    session.on_closed(move |_, _| {
        counter.fetch_add(1, SeqCst);
    });
    assert_eq!(
        called.load(SeqCst),
        1,
        "a callback that comes too late is called at once"
    );
    shared.group.broadcast("on", "x").unwrap();

    assert_eq!(
        (node.handle().sessions().count(), shared.group.count()),
        (0, 0)
    );
    assert!(node.handle().session(session.id()).is_none());
    assert_eq!(node.handle().sessions_by_uid(7), []);
    assert_eq!(shared.callbacks.load(SeqCst), 1, "its callbacks ran once");
}

#[tokio::test]
async fn a_group_that_is_dropped_leaves_nothing_on_its_members() {
    let node = start(App::new().component(Lobby(Arc::default()))).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let before = Arc::strong_count(session.sink());
    for _ in 0..1_000 {
        let group: Group = Group::new("short-lived");
        group.add(&session).unwrap();
    }
    assert_eq!(Arc::strong_count(session.sink()), before);
    assert_eq!(
        session.push("on", "x").map_err(|error| error.to_string()),
        Ok(())
    );
}

#[tokio::test]
async fn a_node_that_has_stopped_is_dropped_with_everything_in_it() {
    let shared = Arc::new(Shared::default());
    let weak = Arc::downgrade(&shared);
    let node = start(
        App::new()
            .component(Lobby(shared))
            .timeouts(Timeouts::new().request(Duration::from_millis(50))),
    )
    .await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(&node).await;
        client.ask("Lobby.Enter", "").await.unwrap();
        client.request("Lobby.Wait", "").await;
        clients.push(client);
    }
    let sink = Arc::downgrade(clients[0].session(&node).await.sink());
    let sessions = Arc::downgrade(node.handle().sessions());
    node.shutdown().await;
    drop((node, clients));
    eventually("all is dropped", || {
        (
            Weak::strong_count(&weak),
            Weak::strong_count(&sink),
            Weak::strong_count(&sessions),
        ) == (0, 0, 0)
    })
    .await;
}
