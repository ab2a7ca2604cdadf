//! Logins wait for the close callbacks on the nodes that served the session before, also on one that
//! ended it because its gate was out of reach.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nano::{App, Options, Raw, Unique, client::Client, testing::TestNode};
use tokio::time::Instant;

use crate::{
    cluster::{Room, master, member},
    proxy::Proxy,
    support::{eventually, within},
};

/// How a login and a close callback meet.
#[derive(Clone, Default)]
struct Meeting {
    login_waits: Arc<AtomicBool>,
    callback_is_done: Arc<AtomicBool>,
}

impl Meeting {
    /// A close callback that goes on until a login has waited for it.
    fn callback(&self, app: App) -> App {
        let meeting = self.clone();
        app.on_session_closed(move |session, _| {
            if session.user().is_none() {
                return;
            }
            let begun = Instant::now();
            while !meeting.login_waits.load(Ordering::SeqCst) {
                assert!(begun.elapsed() < Duration::from_secs(10), "no login");
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(200));
            meeting.callback_is_done.store(true, Ordering::SeqCst);
        })
    }
}

#[tokio::test]
async fn a_login_waits_for_a_node_that_has_lost_the_session_before() {
    let meeting = Meeting::default();
    let (master, proxy) = (master().await, Proxy::new().await);
    let unique = |app: App| app.unique_users(Unique::Replace);
    let gate = member(&master).app(unique).tcp("127.0.0.1:0");
    let gate = TestNode::start(gate.partition_grace(Duration::from_millis(200))).await;
    let backend = member(&master)
        .app(|app| meeting.callback(unique(app)))
        .component_with(Room::new("a"), Options::new().name("Room"))
        .advertise(&proxy.address)
        .listen(&proxy.listen);
    let backend = TestNode::start(backend).await;
    gate.knows(2).await;
    let first: Client<Raw> = gate.client_of().await;
    first.request_raw("Room.Who", "").await.unwrap();
    let old = gate.handle().sessions().list().pop().unwrap();
    within("a login", old.login("ann")).await.unwrap();
    let known = || backend.handle().session(old.id()).and_then(|it| it.user());
    eventually("the backend knows the user", || known().is_some()).await;

    proxy.cut();
    let bound = || old.router().find("Room");
    eventually("the gate gives the link up", || bound().is_none()).await;
    proxy.heal();
    backend.has_no_sessions().await;
    let second: Client<Raw> = gate.client_of().await;
    let sessions = gate.handle().sessions().list();
    let new = sessions.into_iter().find(|it| it.id() != old.id()).unwrap();
    meeting.login_waits.store(true, Ordering::SeqCst);
    let login = within("a login", new.login("ann")).await.unwrap();
    assert!(login.replaced && !login.late, "{login:?}");
    assert!(meeting.callback_is_done.load(Ordering::SeqCst));
    within("the end of the first session", first.closed()).await;
    assert_eq!(second.close_reason(), None);
}
