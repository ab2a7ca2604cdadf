//! How a node starts and stops: hooks in order, and clients only in between.

use std::{io::ErrorKind, net::TcpListener, sync::Arc, time::Duration};

use nano::{App, Component, Error, Handle, Handlers, Options, Result, Session, Timeouts};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::{
    harness::{Client, Latch},
    support::{DEADLINE, eventually, free_address, within},
};

type Log = Arc<Mutex<Vec<String>>>;

/// Records its hooks, and fails where configured.
struct Actor {
    name: &'static str,
    fails_in: &'static str,
    log: Log,
    latch: Arc<Latch>,
}

impl Actor {
    fn note(&self, hook: &str) -> Result {
        self.log.lock().push(format!("{} {hook}", self.name));
        match self.fails_in {
            fails if fails == hook => Err(Error::new("STAGE-FRIGHT", "not today")),
            fails if fails.strip_prefix("panic in ") == Some(hook) => panic!("a test's panic"),
            fails if fails.strip_prefix("wait in ") == Some(hook) => {
                self.latch.wait();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Component for Actor {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Act", |actor: &Self, _: &Session, _: ()| actor.note("act"))
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let actor = self.clone();
        node.push_task(move || drop(actor.note("task of init")))?;
        self.note("init")
    }

    fn after_init(self: &Arc<Self>, node: &Handle) -> Result {
        assert_eq!(node.routes(), ["A.Act", "B.Act"]);
        self.note("after_init")
    }

    fn before_shutdown(self: &Arc<Self>, node: &Handle) {
        assert_eq!(node.sessions().count(), 0, "the last client has gone");
        drop(self.note("before_shutdown"));
    }

    fn shutdown(self: &Arc<Self>, _: &Handle) {
        drop(self.note("shutdown"));
    }
}

/// An application of two components, of which B may fail; its address, log, and latch.
fn play(fails_in: &'static str) -> (App, String, Log, Arc<Latch>) {
    let (log, latch) = (Log::default(), Arc::new(Latch::default()));
    let actor = |name, fails_in| Actor {
        name,
        fails_in,
        log: log.clone(),
        latch: latch.clone(),
    };
    // Port 0 is not known before the node listens.
    let address = free_address();
    let app = App::new()
        .component_with(actor("a", ""), Options::new().name("A"))
        .component_with(actor("b", fails_in), Options::new().name("B"))
        .timeouts(Timeouts::new().shutdown(DEADLINE))
        .tcp(&address);
    (app, address, log.clone(), latch)
}

async fn expect_refusal(address: &str) {
    assert_eq!(
        within("a refusal", TcpStream::connect(address))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn hooks_run_in_order_and_stop_in_reverse() {
    let (app, address, log, _) = play("");
    let node = app.start().await.unwrap();
    let mut client = Client::connect(&node).await;
    client.notify("A.Act", "").await;
    eventually("it has acted", || {
        log.lock().last().is_some_and(|last| last == "a act")
    })
    .await;
    node.shutdown().await;
    let expected = [
        "a init",
        "b init",
        "a task of init",
        "b task of init",
        "a after_init",
        "b after_init",
        "a act",
        "b before_shutdown",
        "a before_shutdown",
        "b shutdown",
        "a shutdown",
    ];
    assert_eq!(*log.lock(), expected);
    expect_refusal(&address).await;
}

#[tokio::test]
async fn clients_are_refused_until_every_component_is_initialised() {
    let (app, address, log, latch) = play("wait in after_init");
    let starting = tokio::spawn(app.start());
    latch.reached(1).await;
    expect_refusal(&address).await;
    assert_eq!(log.lock().last().unwrap(), "b after_init");
    latch.open();
    let node = within("the start of the node", starting)
        .await
        .unwrap()
        .unwrap();
    Client::connect(&node).await;
}

#[tokio::test]
async fn a_hook_that_fails_or_panics_keeps_the_node_from_starting() {
    for (fails_in, message) in [
        ("init", "init of component B: not today"),
        ("panic in init", "init of component B: panicked"),
        ("after_init", "after_init of component B: not today"),
        ("panic in after_init", "after_init of component B: panicked"),
    ] {
        let (app, address, ..) = play(fails_in);
        assert_eq!(
            within("an error", app.start()).await.unwrap_err().message(),
            message
        );
        expect_refusal(&address).await;
        // Its address is free again.
        TcpListener::bind(&address).unwrap();
    }
}

#[tokio::test]
async fn a_panic_in_a_shutdown_hook_does_not_keep_the_others_from_running() {
    let (app, _, log, _) = play("panic in before_shutdown");
    let node = app.start().await.unwrap();
    node.shutdown().await;
    assert_eq!(
        log.lock()[6..],
        [
            "b before_shutdown",
            "a before_shutdown",
            "b shutdown",
            "a shutdown"
        ]
    );
}

#[tokio::test]
async fn a_shutdown_ends_at_its_deadline_whatever_is_stuck() {
    for stuck in ["wait in act", "wait in before_shutdown"] {
        let (app, address, _, latch) = play(stuck);
        let node = app
            .timeouts(Timeouts::new().shutdown(Duration::from_millis(400)))
            .start()
            .await
            .unwrap();
        let mut client = Client::connect(&node).await;
        if stuck == "wait in act" {
            client.request("B.Act", "").await;
            latch.reached(1).await;
        }
        let begun = tokio::time::Instant::now();
        node.shutdown().await;
        assert!(
            (Duration::from_millis(390)..Duration::from_secs(3)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(
            client.end().await.as_deref(),
            Some("server is shutting down")
        );
        expect_refusal(&address).await;
        latch.open();
    }
}
