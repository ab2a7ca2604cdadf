//! Where handlers run: on the node's scheduler, on one of several, on a room's, or off all of them
//! for a while.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use nano::{Handle, Options, Scheduler};
use tokio::{sync::Notify, time::Instant};

use super::*;

/// Meets others: a handler that leaves only when two are inside at once, or when it has waited for
/// long.
#[derive(Default)]
struct Meeting {
    inside: AtomicUsize,
}

impl Component for Meeting {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Meet", Self::meet)
    }
}

impl Meeting {
    fn meet(&self, _: &Session, wait_ms: u64) -> Result<bool> {
        let end = Instant::now() + Duration::from_millis(wait_ms);
        self.inside.fetch_add(1, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) < 2 && Instant::now() < end {
            thread::yield_now();
        }
        let met = self.inside.load(Ordering::SeqCst) == 2;
        if !met {
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(met)
    }
}

async fn meet(app: App, wait_ms: u64) -> (bool, bool) {
    let (node, client) = serve(app.scheduler_threads(2)).await;
    // Ids count up, so that these two sessions are neighbours.
    let other = connect(&node).await;
    let (one, two) = tokio::join!(
        client.request::<bool, _>("Meeting.Meet", &wait_ms),
        other.request::<bool, _>("Meeting.Meet", &wait_ms)
    );
    node.shutdown().await;
    (one.unwrap(), two.unwrap())
}

#[tokio::test]
async fn a_spread_service_runs_on_several_schedulers() {
    let app = App::new().component_with(Meeting::default(), Options::new().spread(2));
    assert_eq!(meet(app, 8_000).await, (true, true));
}

#[tokio::test]
async fn any_other_service_runs_one_handler_at_a_time() {
    let app = App::new().component(Meeting::default());
    assert_eq!(meet(app, 50).await, (false, false));
}

/// Pins sessions to a scheduler of its own.
#[derive(Default)]
struct Lobby {
    node: OnceLock<Handle>,
    room: OnceLock<Scheduler>,
}

impl Component for Lobby {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Enter", Self::enter)
            .on("Leave", Self::leave)
            .on("Inside", Self::inside)
            .on("Tell", Self::tell)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        self.node.get_or_init(|| node.clone());
        self.room.get_or_init(|| node.new_scheduler("room"));
        Ok(())
    }
}

impl Lobby {
    fn enter(&self, session: &Session, (): ()) -> Result<bool> {
        let room = self.room.get().unwrap();
        session.pin("room", room);
        session.set("scheduler", room.clone());
        Ok(room.is_current())
    }

    fn leave(&self, session: &Session, (): ()) -> Result<bool> {
        Ok(session.unpin("room", self.room.get().unwrap()))
    }

    fn inside(&self, _: &Session, (): ()) -> Result<bool> {
        Ok(self.node.get().unwrap().scheduler().is_current())
    }

    fn tell(&self, session: &Session, text: String) -> Result<&'static str> {
        session.rpc("Backstage.Say", &text)?;
        let unknown = session.rpc("Backstage.Unknown", &text).unwrap_err();
        assert_eq!(unknown.code(), code::NOT_FOUND);
        Ok("told")
    }
}

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Here", |_: &Self, session: &Session, (): ()| {
            Ok::<_, Error>(
                session
                    .value::<Scheduler>("scheduler")
                    .is_some_and(|room| room.is_current()),
            )
        })
        .on("HereAfterwards", Self::here_afterwards)
    }
}

impl Room {
    async fn here_afterwards(self: Arc<Self>, session: Session, (): ()) -> Result<bool> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(session
            .value::<Scheduler>("scheduler")
            .is_some_and(|room| room.is_current()))
    }
}

#[tokio::test]
async fn a_pinned_service_runs_on_the_scheduler_of_the_session() {
    let app = App::new()
        .component(Lobby::default())
        .component_with(Room, Options::new().scheduler("room"));
    let (node, client) = serve(app).await;
    assert!(
        client
            .request::<bool, _>("Lobby.Inside", &())
            .await
            .unwrap()
    );

    let unpinned = client
        .request::<bool, _>("Room.Here", &())
        .await
        .unwrap_err();
    assert_eq!(unpinned.code(), code::UNAVAILABLE);
    assert!(!client.request::<bool, _>("Lobby.Enter", &()).await.unwrap());
    assert!(client.request::<bool, _>("Room.Here", &()).await.unwrap());
    assert!(
        client
            .request::<bool, _>("Room.HereAfterwards", &())
            .await
            .unwrap()
    );

    client.request::<bool, _>("Lobby.Leave", &()).await.unwrap();
    let unpinned = client
        .request::<bool, _>("Room.Here", &())
        .await
        .unwrap_err();
    assert_eq!(unpinned.code(), code::UNAVAILABLE);
    node.shutdown().await;
}

/// For nodes only.
struct Backstage;

impl Component for Backstage {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Say", |_: &Self, session: &Session, text: String| {
            assert_eq!(session.request_id(), 0);
            session.push("onSay", &text)
        })
    }
}

#[tokio::test]
async fn an_internal_service_is_there_for_handlers_only() {
    let app = App::new()
        .component(Lobby::default())
        .component_with(Backstage, Options::new().internal());
    let (node, client) = serve(app).await;
    let mut said = client.subscribe("onSay");

    let refused = client
        .request::<(), _>("Backstage.Say", "client")
        .await
        .unwrap_err();
    let unknown = client
        .request::<(), _>("Backstage.Unknown", "client")
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), unknown.code()),
        (code::NOT_FOUND, code::NOT_FOUND)
    );
    client.notify("Backstage.Say", "client").await.unwrap();

    assert_eq!(
        client
            .request::<String, _>("Lobby.Tell", "handler")
            .await
            .unwrap(),
        "told"
    );
    assert_eq!(said.recv_as::<String>().await.unwrap().unwrap(), "handler");
    node.shutdown().await;
}

/// Open to clients but for one handler, which announces itself by a push.
struct Counter;

impl Component for Counter {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Reset", |_: &Self, session: &Session, (): ()| {
            session.push("onReset", &session.id())
        })
        .internal()
        .on("Ask", |_: &Self, session: &Session, (): ()| {
            session.rpc("Counter.Reset", &())?;
            Ok::<_, Error>(true)
        })
    }
}

#[tokio::test]
async fn an_internal_handler_exists_for_other_handlers_only() {
    let (node, client) = serve(App::new().component(Counter)).await;
    let mut reset = client.subscribe("onReset");
    let refused = client
        .request::<(), _>("Counter.Reset", &())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), code::NOT_FOUND);
    assert!(client.request::<bool, _>("Counter.Ask", &()).await.unwrap());
    reset.recv_as::<i64>().await.unwrap().unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_modifier_before_any_handler_keeps_the_node_from_starting() {
    struct Misplaced;

    impl Component for Misplaced {
        fn handlers(h: Handlers<Self>) -> Handlers<Self> {
            h.internal()
                .on("Ask", |_: &Self, _: &Session, (): ()| Ok::<_, Error>(true))
        }
    }

    let error = App::new().component(Misplaced).start().await.unwrap_err();
    assert_eq!(error.code(), code::BAD_REQUEST);
    assert!(error.message().contains("Misplaced: internal()"), "{error}");
}

#[tokio::test]
async fn components_and_the_program_share_an_arc() {
    let meeting = Arc::new(Meeting::default());
    let app = App::new()
        .component(meeting.clone())
        .component_with(meeting.clone(), Options::new().name("Other"));
    let (node, client) = serve(app).await;
    meeting.inside.store(1, Ordering::SeqCst);
    assert!(client.request::<bool, _>("Meeting.Meet", &0).await.unwrap());
    meeting.inside.store(1, Ordering::SeqCst);
    assert!(client.request::<bool, _>("Other.Meet", &0).await.unwrap());
    node.shutdown().await;
}

/// An async login, and what relies on it.
#[derive(Default)]
struct Account {
    verified: Notify,
}

impl Component for Account {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
            .sequential()
            .on("Slow", Self::login)
            .on("Uid", |_: &Self, session: &Session, (): ()| {
                Ok::<_, Error>(session.uid())
            })
            .on("Verify", |account: &Self, _: &Session, (): ()| {
                account.verified.notify_one();
                Ok::<_, Error>(true)
            })
    }
}

impl Account {
    async fn login(self: Arc<Self>, session: Session, uid: i64) -> Result<bool> {
        self.verified.notified().await;
        session.bind(uid)?;
        Ok(true)
    }
}

#[tokio::test]
async fn the_next_message_waits_for_a_sequential_handler() {
    let (node, client) = serve(App::new().component(Account::default())).await;
    let other = connect(&node).await;
    // The clients send in this order; another session's message ends the login.
    let (login, uid, again, verified) = tokio::join!(
        client.request::<bool, _>("Account.Login", &7),
        client.request::<i64, _>("Account.Uid", &()),
        client.request::<i64, _>("Account.Uid", &()),
        other.request::<bool, _>("Account.Verify", &()),
    );
    assert!(login.unwrap() && verified.unwrap());
    assert_eq!((uid.unwrap(), again.unwrap()), (7, 7));

    let (slow, uid, verified) = tokio::join!(
        client.request::<bool, _>("Account.Slow", &8),
        client.request::<i64, _>("Account.Uid", &()),
        client.request::<bool, _>("Account.Verify", &()),
    );
    assert!(slow.unwrap() && verified.unwrap());
    assert_eq!(uid.unwrap(), 7, "only a sequential handler is waited for");
    node.shutdown().await;
}

/// Sends work off its scheduler and takes the result back onto it.
#[derive(Default)]
struct Bank {
    opened: Arc<Notify>,
}

impl Component for Bank {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Ask", Self::ask)
            .on("Open", Self::open)
            .on("Fail", Self::fail)
    }
}

impl Bank {
    /// A database that answers once it is opened.
    fn ask(&self, session: &Session, account: i64) -> Result {
        let (opened, here) = (self.opened.clone(), Scheduler::current());
        let work = async move {
            opened.notified().await;
            (account * 100, Scheduler::current())
        };
        // The client asserts what this says.
        session.spawn(work, move |session, (balance, there)| {
            session.respond(&(balance, there.is_none(), Scheduler::current() == here))
        });
        Ok(())
    }

    fn open(&self, _: &Session, (): ()) -> Result<&'static str> {
        self.opened.notify_one();
        Ok("open")
    }

    fn fail(&self, session: &Session, (): ()) -> Result {
        session.spawn(async { panic!("the database is gone") }, |session, ()| {
            session.respond("never")
        });
        Ok(())
    }
}

#[tokio::test]
async fn work_off_the_scheduler_comes_back_onto_it() {
    for options in [Options::new(), Options::new().spread(3)] {
        let (node, client) = serve(App::new().component_with(Bank::default(), options)).await;
        let ask = client.request::<(i64, bool, bool), _>("Bank.Ask", &7);
        let (balance, open) = tokio::join!(ask, client.request::<String, _>("Bank.Open", &()));
        // `Open` ran behind `Ask` on the same scheduler, so `Ask` did not keep it.
        assert_eq!(
            (balance.unwrap(), open.as_deref().unwrap()),
            ((700, true, true), "open")
        );
        node.shutdown().await;
    }
}

#[tokio::test]
async fn work_that_panics_off_the_scheduler_ends_its_request() {
    let (node, client) = serve(App::new().component(Bank::default())).await;
    let error = client
        .request::<String, _>("Bank.Fail", &())
        .await
        .unwrap_err();
    assert_eq!(error.code(), code::INTERNAL, "{error}");
    node.shutdown().await;
}
