//! Promise 1: a session's messages start in the order they were sent, and what it is sent arrives
//! in order.

use std::{sync::Arc, thread};

use bytes::Bytes;
use nano::{
    App, Component, Group, Handlers, Limits, Node, Options, Pipeline, Raw, Result, Session,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{
    harness::{Client, Latch, start},
    support::{eventually, within},
};

/// Small, so that readers have to wait as well.
const CAPACITY: usize = 8;

/// What the services of one node have in common.
#[derive(Default)]
struct Stage {
    started: Mutex<Vec<(i64, u32)>>,
    latch: Latch,
    wake: Notify,
}

impl Stage {
    fn enter<S: nano::Serializer>(&self, session: &Session<S>, number: u32) {
        self.started.lock().push((session.id(), number));
    }

    fn of(&self, session: &Session) -> Vec<u32> {
        self.started
            .lock()
            .iter()
            .filter(|(id, _)| *id == session.id())
            .map(|(_, number)| *number)
            .collect()
    }
}

/// One service, which each test node has on several schedulers.
struct Service(Arc<Stage>);

impl Component for Service {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Now", Self::now)
            .on("Later", Self::later)
            .on("Block", Self::block)
            .on("Wait", Self::wait)
            .on("Call", Self::call)
    }
}

impl Service {
    fn now(&self, session: &Session, number: u32) -> Result<u32> {
        thread::yield_now();
        self.0.enter(session, number);
        Ok(number)
    }

    async fn later(self: Arc<Self>, session: Session, number: u32) -> Result<u32> {
        self.0.enter(&session, number);
        tokio::task::yield_now().await;
        Ok(number)
    }

    fn block(&self, session: &Session, number: u32) -> Result<u32> {
        self.0.enter(session, number);
        self.0.latch.wait();
        Ok(number)
    }

    /// Sends one-way messages until one is refused, then holds its scheduler.
    fn call(&self, session: &Session, number: u32) -> Result {
        self.0.enter(session, number);
        while session.rpc("Spread.Now", &(number + 1)).is_ok() {}
        self.0.latch.wait();
        Ok(())
    }

    async fn wait(self: Arc<Self>, session: Session, number: u32) -> Result<u32> {
        self.0.enter(&session, number);
        self.0.wake.notified().await;
        Ok(number)
    }
}

async fn stage() -> (Arc<Stage>, Node) {
    let stage = Arc::new(Stage::default());
    let app = App::new()
        .scheduler_threads(4)
        .limits(Limits::new().scheduler_capacity(CAPACITY))
        .component_with(Service(stage.clone()), Options::new().name("Home"))
        .component_with(
            Service(stage.clone()),
            Options::new().name("Room").scheduler("room"),
        )
        .component_with(
            Service(stage.clone()),
            Options::new().name("Spread").spread(3),
        );
    (stage, start(app).await)
}

async fn pinned(node: &Node) -> (Client, Session) {
    let client = Client::connect(node).await;
    let session = client.session(node).await;
    session.pin("room", &node.handle().new_scheduler("room"));
    (client, session)
}

/// Everything queued on a session's room so far has run when this returns.
async fn flush_room(session: &Session) {
    let (done, wait) = oneshot::channel();
    session
        .pinned("room")
        .unwrap()
        .push_task(|| done.send(()).unwrap())
        .unwrap();
    within("the task", wait).await.unwrap();
}

#[tokio::test]
async fn messages_start_in_the_order_they_were_sent_whatever_schedulers_they_run_on() {
    let (stage, node) = stage().await;
    let routes = [
        "Home.Now",
        "Home.Later",
        "Room.Now",
        "Room.Later",
        "Spread.Now",
        "Spread.Later",
    ];
    let mut players = Vec::new();
    for _ in 0..4 {
        players.push(pinned(&node).await);
    }
    for number in 0..300_u32 {
        for (client, _) in &mut players {
            client
                .notify(
                    routes[(number * 7 + number / 5) as usize % routes.len()],
                    number.to_string(),
                )
                .await;
        }
    }
    eventually("every message has started", || {
        stage.started.lock().len() == 4 * 300
    })
    .await;
    for (_, session) in &players {
        assert_eq!(stage.of(session), Vec::from_iter(0..300));
    }
}

#[tokio::test]
async fn a_message_starts_only_when_the_handler_before_it_has_returned() {
    let (stage, node) = stage().await;
    let (mut client, session) = pinned(&node).await;
    let (blocked, next) = (
        client.request("Home.Block", "1").await,
        client.request("Room.Now", "2").await,
    );
    stage.latch.reached(1).await;
    // An unknown route is answered where messages are read: those before it have been read too.
    client.ask_in_vain("No.Where", "").await;
    flush_room(&session).await;
    assert_eq!(stage.of(&session), [1]);

    stage.latch.open();
    client.answer(blocked).await.unwrap();
    client.answer(next).await.unwrap();
    assert_eq!(stage.of(&session), [1, 2]);
}

#[tokio::test]
async fn a_refused_one_way_message_lets_nothing_overtake_its_sender() {
    let (stage, node) = stage().await;
    let (mut client, session) = pinned(&node).await;
    client.notify("Home.Call", "1").await;
    stage.latch.reached(1).await;
    client.notify("Room.Now", "3").await;
    client.ask_in_vain("No.Where", "").await;
    flush_room(&session).await;
    assert_eq!(stage.of(&session), [1]);

    stage.latch.open();
    eventually("every message has started", || {
        stage.of(&session).len() == CAPACITY + 2
    })
    .await;
    assert_eq!(
        stage.of(&session),
        [vec![1], vec![2; CAPACITY], vec![3]].concat()
    );
}

#[tokio::test]
async fn a_message_starts_when_the_async_handler_before_it_was_first_suspended() {
    let (stage, node) = stage().await;
    let (mut client, session) = pinned(&node).await;
    let waiting = client.request("Home.Wait", "1").await;
    // On its own scheduler and on another one.
    client.ask("Home.Now", "2").await.unwrap();
    client.ask("Room.Now", "3").await.unwrap();
    assert_eq!(stage.of(&session), [1, 2, 3]);

    // Its answer comes late, when it is ready.
    stage.wake.notify_one();
    assert_eq!(client.answer(waiting).await.unwrap(), "1");
}

#[tokio::test]
async fn a_blocked_scheduler_delays_only_the_sessions_on_it() {
    let (stage, node) = stage().await;
    let (mut stuck, _) = pinned(&node).await;
    let (mut free, session) = pinned(&node).await;
    let blocked = stuck.request("Room.Block", "1").await;
    stage.latch.reached(1).await;

    assert_eq!(free.ask("Room.Now", "2").await.unwrap(), "2");
    assert_eq!(free.ask("Home.Now", "3").await.unwrap(), "3");
    assert_eq!(stage.of(&session), [2, 3]);
    stage.latch.open();
    stuck.answer(blocked).await.unwrap();
}

#[tokio::test]
async fn messages_wait_in_order_when_a_session_moves_to_another_scheduler() {
    let (stage, node) = stage().await;
    let (mut client, session) = pinned(&node).await;
    client.notify("Room.Block", "0").await;
    stage.latch.reached(1).await;
    for number in 1..20 {
        session.pin("room", &node.handle().new_scheduler("another room"));
        client.notify("Room.Now", number.to_string()).await;
        client.ask_in_vain("No.Where", "").await;
    }
    stage.latch.open();
    eventually("every message has started", || {
        stage.of(&session).len() == 20
    })
    .await;
    assert_eq!(stage.of(&session), Vec::from_iter(0..20));
}

/// Sends by every way there is, in turn.
#[derive(Default)]
struct Sender {
    group: Group<Raw>,
}

impl Component<Raw> for Sender {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Send", Self::send)
    }
}

impl Sender {
    fn send(&self, session: &Session<Raw>, _: ()) -> Result<Bytes> {
        self.group.add(session)?;
        for number in 0..500 {
            match number % 2 {
                0 => session.push("on", &number.to_string())?,
                _ => self.group.broadcast("on", &number.to_string())?,
            }
        }
        Ok("end".into())
    }
}

#[tokio::test]
async fn what_a_session_is_sent_arrives_in_the_order_it_was_sent() {
    let pipeline = Pipeline::new();
    pipeline.outbound().push_back(|_, _| Ok(()));
    for pipeline in [Pipeline::new(), pipeline] {
        let node = start(App::new().component(Sender::default()).pipeline(pipeline)).await;
        let mut client = Client::connect(&node).await;
        client.request("Sender.Send", "").await;
        for number in 0..500 {
            let message = client.message().await;
            assert_eq!(
                (&*message.route, &*message.body),
                ("on", number.to_string().as_bytes())
            );
        }
        assert_eq!(client.message().await.body, "end");
    }
}
