//! Sessions: ids, uids, data, how they are found, and how they end.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use nano::{App, CloseReason, Component, Handle, Handlers, Node, Options, Result, Session, code};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::{
    harness::{Client, Ends, Latch, start},
    support::{eventually, within},
};

/// A player may be logged in once.
#[derive(Default)]
struct Login {
    node: RwLock<Option<Handle>>,
    latch: Arc<Latch>,
}

impl Component for Login {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
            .on("Id", Self::id)
            .on("Remember", Self::remember)
            .on("Block", Self::block)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        *self.node.write() = Some(node.clone());
        Ok(())
    }
}

impl Login {
    fn login(&self, session: &Session, uid: i64) -> Result<i64> {
        let node = self.node.read();
        for old in node.iter().flat_map(|node| node.sessions_by_uid(uid)) {
            old.close_because("logged in elsewhere");
        }
        session.bind(uid)?;
        Ok(session.id())
    }

    fn id(&self, session: &Session, _: ()) -> Result<i64> {
        Ok(session.id())
    }

    fn remember(&self, session: &Session, words: String) -> Result<bool> {
        session.set("words", words);
        Ok(true)
    }

    fn block(&self, session: &Session, _: ()) -> Result {
        self.latch.wait();
        session.set("words", "after all".to_owned());
        Ok(())
    }
}

async fn login(app: App) -> (Node, Arc<Latch>) {
    let login = Login::default();
    let latch = login.latch.clone();
    let elsewhere = Login {
        latch: latch.clone(),
        ..Login::default()
    };
    (
        start(
            app.component(login)
                .component_with(elsewhere, Options::new().name("Elsewhere").spread(1)),
        )
        .await,
        latch,
    )
}

#[tokio::test]
async fn ids_are_unique_positive_and_fit_into_a_javascript_number() {
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let (node, _) = login(App::new()).await;
        for _ in 0..20 {
            let mut client = Client::connect(&node).await;
            let id: i64 =
                serde_json::from_slice(&client.ask("Login.Id", "").await.unwrap()).unwrap();
            assert!((1..1 << 53).contains(&id), "{id}");
            assert!(ids.insert(id), "{id}");
        }
    }
}

#[tokio::test]
async fn sessions_are_found_by_id_and_by_uid() {
    let (node, _) = login(App::new()).await;
    let (mut first, second) = (Client::connect(&node).await, Client::connect(&node).await);
    let (one, two) = (first.session(&node).await, second.session(&node).await);
    let handle = node.handle();
    assert_eq!(
        (
            one.uid(),
            handle.sessions().count(),
            handle.sessions().list().len()
        ),
        (0, 2, 2)
    );
    assert_eq!(handle.session(one.id()), Some(one.clone()));
    assert_eq!(handle.session(one.id() - 1), None);

    one.bind(7).unwrap();
    two.bind(7).unwrap();
    assert_eq!(handle.sessions_by_uid(7), [one.clone(), two.clone()]);
    one.bind(8).unwrap();
    assert_eq!(
        (handle.sessions_by_uid(7), handle.sessions_by_uid(8)),
        (vec![two.clone()], vec![one.clone()])
    );
    two.clear();
    assert_eq!(
        (
            two.uid(),
            handle.sessions_by_uid(7),
            handle.sessions_by_uid(0)
        ),
        (0, vec![], vec![])
    );
    for uid in [0, -1] {
        assert_eq!(one.bind(uid).unwrap_err().code(), code::BAD_REQUEST);
    }
    assert_eq!(one.uid(), 8);
    assert!(first.ask("Login.Id", "").await.is_ok());
    drop(first);
    eventually("it is gone", || handle.sessions().count() == 1).await;
    assert_eq!(
        (handle.session(one.id()), handle.sessions_by_uid(8)),
        (None, vec![])
    );
}

#[tokio::test]
async fn a_second_login_can_replace_the_first() {
    let (app, ends) = Ends::of(App::new());
    let (node, _) = login(app).await;
    let (mut first, mut second) = (Client::connect(&node).await, Client::connect(&node).await);
    first.ask("Login.Login", "5").await.unwrap();
    second.ask("Login.Login", "5").await.unwrap();
    assert_eq!(
        first.end().await,
        None,
        "the client is not told by this way of closing"
    );
    assert_eq!(
        ends.first().await,
        CloseReason::Closed("logged in elsewhere".to_owned())
    );
    assert_eq!(
        node.handle().sessions_by_uid(5),
        [second.session(&node).await]
    );
}

#[tokio::test]
async fn a_kick_tells_the_client_why_behind_everything_it_was_sent_before() {
    let (app, ends) = Ends::of(App::new());
    let (node, _) = login(app).await;
    let mut client = Client::connect(&node).await;
    let session = client.session(&node).await;
    for number in 0..100 {
        session.push("on", &number).unwrap();
    }
    session.kick("you <won>");
    session.kick("again");
    assert_eq!(
        session.push("on", "too late").unwrap_err().code(),
        code::CLOSED
    );
    for number in 0..100 {
        assert_eq!(client.push("on").await, number.to_string());
    }
    assert_eq!(client.end().await.as_deref(), Some("you <won>"));
    assert_eq!(
        ends.first().await,
        CloseReason::Kicked("you <won>".to_owned())
    );
}

#[tokio::test]
async fn close_callbacks_come_after_the_last_handler_and_see_reason_uid_and_data() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let app = App::new().on_session_closed(move |session, reason| {
        let words = session.value::<String>("words");
        log.lock().push((
            "node",
            session.uid(),
            words,
            reason.clone(),
            session.closed(),
        ));
    });
    let (node, latch) = login(app).await;
    let mut client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let log = seen.clone();
    session.on_closed(move |session, reason| {
        let words = session.value_or_default("words");
        log.lock().push((
            "session",
            session.uid(),
            Some(words),
            reason.clone(),
            session.closed(),
        ));
    });
    client.ask("Login.Login", "5").await.unwrap();
    client.ask("Login.Remember", r#""hello""#).await.unwrap();
    // Not on the scheduler that callbacks run on.
    client.notify("Elsewhere.Block", "").await;
    latch.reached(1).await;
    drop(client);
    eventually("the session is gone", || {
        node.handle().sessions().count() == 0
    })
    .await;
    let (done, wait) = oneshot::channel();
    node.handle().push_task(|| done.send(()).unwrap()).unwrap();
    within("the task", wait).await.unwrap();
    assert_eq!(seen.lock().len(), 0, "a handler of this session still runs");
    latch.open();

    eventually("both are called", || seen.lock().len() == 2).await;
    let (words, reason) = (Some("after all".to_owned()), CloseReason::Client);
    let expected = ["session", "node"]
        .map(|who| (who, 5, words.clone(), reason.clone(), Some(reason.clone())));
    assert_eq!(*seen.lock(), expected);
}

#[tokio::test]
async fn handlers_have_the_session_of_their_own_client() {
    let (node, _) = login(App::new()).await;
    for _ in 0..3 {
        let mut client = Client::connect(&node).await;
        let session = client.session(&node).await;
        assert_eq!(
            client.ask("Login.Id", "").await.unwrap(),
            session.id().to_string()
        );
        client.ask("Login.Remember", r#""mine""#).await.unwrap();
        assert_eq!(
            (
                session.value_or_default::<String>("words").as_str(),
                session.value::<i64>("words")
            ),
            ("mine", None)
        );
    }
}

#[tokio::test]
async fn data_does_not_touch_pins() {
    let (node, _) = login(App::new()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let (room, next) = (
        node.handle().new_scheduler("room"),
        node.handle().new_scheduler("next"),
    );
    session.pin("room", &room);
    session.set("room", 5);
    session.restore(session.state());
    session.remove("room");
    session.clear();
    assert_eq!(session.pinned("room"), Some(room.clone()));
    assert!(!session.has_key("room"));
    session.pin("room", &next);
    assert!(!session.unpin("room", &room), "it is pinned to another");
    assert_eq!(session.pinned("room"), Some(next.clone()));
    assert!(session.unpin("room", &next));
    assert_eq!(session.pinned("room"), None);
}

#[tokio::test]
async fn extensions_are_kept_by_type_and_apart_from_data() {
    let (node, _) = login(App::new()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let extensions = session.extensions();
    assert_eq!(extensions.insert(1_u8), None);
    assert_eq!(extensions.insert(2_u8).as_deref(), Some(&1));
    assert_eq!(*extensions.get_or_insert_with(|| 3_u8), 2);
    assert_eq!(*extensions.get_or_insert_with(|| "text"), "text");
    session.set("u8", 9);
    session.clear();
    assert_eq!(
        node.handle()
            .session(session.id())
            .unwrap()
            .extensions()
            .count(),
        2
    );
    assert_eq!(extensions.get::<u16>(), None);
    assert_eq!(extensions.remove::<u8>().as_deref(), Some(&2));
    assert_eq!(extensions.get::<u8>(), None);
    extensions.clear();
    assert_eq!(extensions.count(), 0);
}

#[tokio::test]
async fn a_withdrawn_close_callback_does_not_run_and_a_dropped_handle_withdraws_nothing() {
    let (node, _) = login(App::new()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let ran = Arc::new(Mutex::new(Vec::new()));
    let on_closed = |name| {
        let ran = ran.clone();
        session.on_closed(move |_, _| ran.lock().push(name))
    };
    let first = on_closed("first");
    drop(on_closed("second"));
    let third = on_closed("third");
    let fourth = on_closed("fourth");
    assert!(third.cancel());
    session.close();
    eventually("the others run", || {
        *ran.lock() == ["first", "second", "fourth"]
    })
    .await;
    assert!(!first.cancel(), "it has run");
    assert!(!fourth.cancel(), "it has run");
    let late = on_closed("late");
    assert_eq!(
        ran.lock().last(),
        Some(&"late"),
        "at once on a closed session"
    );
    assert!(!late.cancel());
}

#[tokio::test]
async fn handles_of_one_session_are_equal_and_hash_alike() {
    let (node, _) = login(App::new()).await;
    let (client, other) = (Client::connect(&node).await, Client::connect(&node).await);
    let session = client.session(&node).await;
    let state = RandomState::new();
    let same = session.with_request(7);
    assert_eq!(session, same);
    assert_eq!(state.hash_one(&session), state.hash_one(&same));
    assert_ne!(session, other.session(&node).await);
}

#[tokio::test]
async fn a_session_knows_its_node() {
    let (node, _) = login(App::new()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let found = session.node().unwrap().session(session.id());
    assert_eq!(found, Some(session.clone()));
    let (outside, _) = nano::mock::session();
    assert_eq!(outside.node().unwrap_err().code(), code::UNAVAILABLE);
}
