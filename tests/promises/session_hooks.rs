//! Hooks that may refuse: when a session opens, and before it is bound to a user.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{
    Accept, App, CloseReason, Component, Error, Handlers, Result, Session, Timeouts, Unique,
    UserId, code, kick::Kick, message::Message, packet,
};
use tokio::sync::Notify;

use crate::{
    harness::{Client, Echo, Ends, data, greeting, start},
    support::{eventually, within},
};

async fn kick(client: &mut Client) -> Kick {
    loop {
        let packet = client.packet().await.expect("a kick before the end");
        if packet.kind == packet::Kind::Kick {
            return Kick::decode(&packet.body);
        }
    }
}

/// Refuses in the way that the number of the session says.
fn refusal(number: usize) -> Result {
    match number {
        0 => Ok(()),
        1 => Err(Error::new("GAME-FULL", "no room")),
        2 => Err(Error::from(io::Error::other("table players"))),
        _ => panic!("a test's panic"),
    }
}

const REFUSALS: [(&str, &str); 3] = [
    ("GAME-FULL", "no room"),
    // The text of a foreign error is not for clients.
    (code::INTERNAL.as_str(), "internal error"),
    (code::INTERNAL.as_str(), "panicked"),
];

#[tokio::test]
async fn a_session_that_may_not_open_is_kicked_with_the_code_of_the_refusal() {
    let number = || {
        let next = AtomicUsize::new(0);
        move || next.fetch_add(1, Ordering::SeqCst)
    };
    let (first, second) = (number(), number());
    let app = || App::new().component(Echo);
    for app in [
        app().on_session_open(move |_| refusal(first())),
        app().on_session_open_async(move |_| {
            let number = second();
            async move { refusal(number) }
        }),
    ] {
        let (app, ends) = Ends::of(app);
        let node = start(app).await;
        let mut bystander = Client::connect(&node).await;
        assert_eq!(bystander.ask("Echo.Echo", "x").await.unwrap(), "x");
        for (count, (code, reason)) in REFUSALS.into_iter().enumerate() {
            let mut client = Client::dial(node.addresses()[0]).await;
            // The request behind the acknowledgement reaches no handler.
            let request = data(&Message::request(1, "Echo.Echo", "x"));
            client.send(&[greeting(), request].concat()).await;
            let kick = kick(&mut client).await;
            assert_eq!((&*kick.code, &*kick.reason), (code, reason));
            assert!(client.packet().await.is_none());
            eventually("its session ends", || ends.count() == count + 1).await;
            assert_eq!(ends.last(), CloseReason::KickedWith(kick));
        }
        assert_eq!(bystander.ask("Echo.Echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn what_a_client_sends_waits_for_the_hook_that_opens_its_session() {
    let (opens, running) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (waits, counter) = (opens.clone(), running.clone());
    let app = App::new()
        .component(Echo)
        .on_session_open_async(move |session: Session| {
            let (waits, counter) = (waits.clone(), counter.clone());
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
                waits.notified().await;
                session.push_raw("onWelcome", "")
            }
        })
        // Shorter than the hook takes: a client that waits for it misses no heartbeat.
        .timeouts(Timeouts::new().heartbeat(Duration::from_millis(50)));
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    let request = data(&Message::request(1, "Echo.Echo", "x"));
    client.send(&[greeting(), request].concat()).await;
    eventually("the hook runs", || running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(client.packet().await.unwrap().kind, packet::Kind::Handshake);
    let early = tokio::time::timeout(Duration::from_millis(200), client.packet()).await;
    assert!(early.is_err(), "{early:?}");
    opens.notify_one();
    assert_eq!(client.message().await.route, "onWelcome");
    assert_eq!(client.answer(1).await.unwrap(), "x");
    assert_eq!(running.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_hook_that_hangs_ends_with_its_client_or_at_the_deadline() {
    let held = Arc::new(());
    let hold = held.clone();
    let app = App::new()
        .component(Echo)
        .on_session_open_async(move |_| {
            let hold = hold.clone();
            async move {
                let _hold = hold;
                pending().await
            }
        })
        .timeouts(Timeouts::new().handshake_check(Duration::from_millis(200)));
    let (app, ends) = Ends::of(app);
    let node = start(app).await;
    let mut client = Client::connect(&node).await;
    let kick = kick(&mut client).await;
    assert_eq!(kick.code, code::TIMEOUT);
    drop(Client::connect(&node).await);
    eventually("both sessions end", || ends.count() == 2).await;
    assert_eq!(ends.last(), CloseReason::Client);
    // The hook of the node itself, and this test's.
    eventually("both hooks are dropped", || Arc::strong_count(&held) == 2).await;
}

struct Accounts;

impl Component for Accounts {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Bind", |_: &Self, session: &Session, user: i64| {
            session.bind(user).map(|()| true)
        })
        .on("Login", Self::login)
    }
}

impl Accounts {
    async fn login(self: Arc<Self>, session: Session, user: i64) -> Result<bool> {
        session.login(user).await.map(|_| true)
    }
}

fn not_666(_: &Session, user: &UserId) -> Result {
    match user.number() {
        Some(666) => Err(Error::new("BANNED", "for good")),
        Some(667) => panic!("a test's panic"),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn a_user_that_is_refused_is_not_bound_and_the_caller_gets_the_error() {
    let app = || App::new().component(Accounts).on_bind(not_666);
    for app in [app(), app().unique_users(Unique::Replace)] {
        let node = start(app).await;
        let mut client = Client::connect(&node).await;
        let session = client.session(&node).await;
        client.ask("Accounts.Login", "5").await.unwrap();
        for route in ["Accounts.Bind", "Accounts.Login"] {
            let error = client.ask(route, "666").await.unwrap_err();
            assert_eq!(
                (error.code().as_str(), error.message()),
                ("BANNED", "for good")
            );
            let error = client.ask(route, "667").await.unwrap_err();
            assert_eq!(error.code(), code::INTERNAL);
            assert_eq!(session.uid(), 5, "{route}");
        }
        assert!(node.handle().sessions_by_uid(666).is_empty());
        client.ask("Accounts.Bind", "6").await.unwrap();
        assert_eq!(session.uid(), 6);
    }
}

#[tokio::test]
async fn a_handshake_that_binds_a_refused_user_is_refused() {
    let app = App::new()
        .component(Echo)
        .on_bind(|_, _| Err(Error::new("403", "banned")))
        .on_handshake(|_| Ok(Accept::new().bind(7)));
    let (app, ends) = Ends::of(app);
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    client.send(&greeting()).await;
    let reply = within("a reply", client.packet()).await.unwrap();
    let reply = nano::handshake::Reply::decode(&reply.body).unwrap();
    assert_eq!(
        (reply.code, reply.message.as_deref()),
        (403, Some("banned"))
    );
    assert_eq!(
        ends.first().await,
        CloseReason::HandshakeRefused("banned".to_owned())
    );
}
