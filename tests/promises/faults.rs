//! Promise 6: a panic ends the call it happened in, and nothing a client sends does more.

use std::{fmt, sync::Arc, time::Duration};

use nano::{
    Accept, App, CloseReason, Component, Error, Group, Handle, Handlers, Limits, Node, Result,
    Session, code,
    message::Message,
    packet::{self, Kind},
};
use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    harness::{Client, Ends, data, greeting, packet, start},
    support::eventually,
};

/// Panics when it is read or written.
struct Grenade;

impl<'de> Deserialize<'de> for Grenade {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("a test's panic")
    }
}

impl Serialize for Grenade {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a test's panic")
    }
}

/// Panics when it is dropped.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("a test's panic")
    }
}

#[derive(Default)]
struct Mine {
    group: Group,
    ticks: Arc<Mutex<usize>>,
}

impl Component for Mine {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Handler", |_: &Self, _: &Session, _: ()| -> Result {
            panic!("a test's panic")
        })
        .on("Async", Self::later)
        .on("Decode", |_: &Self, _: &Session, _: Grenade| {
            Ok::<_, Error>(())
        })
        .on("Encode", |_: &Self, _: &Session, _: ()| {
            Ok::<_, Error>(Grenade)
        })
        .on("Push", |_: &Self, session: &Session, _: ()| {
            session.push("onBang", &Grenade)
        })
        .on("Filter", Self::filter)
        .on("Callback", Self::callback)
        .on("Echo", |_: &Self, _: &Session, text: String| {
            Ok::<_, Error>(text)
        })
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let ticks = self.ticks.clone();
        node.scheduler()
            .interval(Duration::from_millis(5), move || {
                *ticks.lock() += 1;
                panic!("a test's panic")
            })?;
        Ok(())
    }

    fn before_shutdown(self: &Arc<Self>, _: &Handle) {
        panic!("a test's panic")
    }
}

impl Mine {
    async fn later(self: Arc<Self>, _: Session, _: ()) -> Result {
        let _trap = Trap;
        tokio::task::yield_now().await;
        Ok(())
    }

    fn filter(&self, session: &Session, _: ()) -> Result {
        if self.group.count() == 0 {
            self.group.add(session)?;
        }
        self.group
            .multicast("on", "x", |_| panic!("a test's panic"))
    }

    fn callback(&self, session: &Session, _: ()) -> Result<bool> {
        session.on_closed(|_, _| panic!("a test's panic"));
        Ok(true)
    }
}

async fn expect_alive(client: &mut Client) {
    assert_eq!(client.ask("Mine.Echo", r#""x""#).await.unwrap(), r#""x""#);
}

#[tokio::test]
async fn a_panic_ends_the_call_it_happened_in() {
    let mine = Mine::default();
    let ticks = mine.ticks.clone();
    let node = start(App::new().component(mine)).await;
    let mut client = Client::connect(&node).await;
    for route in [
        "Mine.Handler",
        "Mine.Async",
        "Mine.Decode",
        "Mine.Encode",
        "Mine.Push",
        "Mine.Filter",
    ] {
        client.notify(route, "null").await;
        assert_eq!(
            client.ask_in_vain(route, "{").await,
            code::INTERNAL,
            "{route}"
        );
        expect_alive(&mut client).await;
    }
    let task = || panic!("a test's panic");
    node.handle().push_task(task).unwrap();
    node.handle()
        .scheduler()
        .offload(async { panic!("a test's panic") }, |()| {});
    let before = *ticks.lock();
    eventually("a timer goes on", || *ticks.lock() >= before + 3).await;
    expect_alive(&mut client).await;
}

#[tokio::test]
async fn a_panic_of_a_close_callback_does_not_keep_the_others_from_running() {
    let app = App::new()
        .component(Mine::default())
        .on_session_closed(|_, _| panic!("a test's panic"));
    let (app, ends) = Ends::of(app);
    let node = start(app).await;
    for _ in 0..2 {
        let mut client = Client::connect(&node).await;
        client.ask("Mine.Callback", "").await.unwrap();
    }
    eventually("both callbacks have run", || ends.count() == 2).await;
    expect_alive(&mut Client::connect(&node).await).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_panic_of_the_handshake_hook_refuses_one_client() {
    let (app, ends) = Ends::of(
        App::new()
            .component(Mine::default())
            .on_handshake(|handshake| match &*handshake.request().sys.kind {
                "test" => Ok(Accept::new()),
                _ => panic!("a test's panic"),
            }),
    );
    let node = start(app).await;
    let mut refused = Client::dial(node.addresses()[0]).await;
    refused.send(&greeting()).await;
    assert!(refused.packet().await.is_none());
    assert!(matches!(
        ends.first().await,
        CloseReason::HandshakeRefused(_)
    ));
    expect_alive(&mut Client::connect(&node).await).await;
}

#[tokio::test]
async fn a_panic_of_the_error_hook_still_ends_the_request() {
    let node = start(
        App::new()
            .component(Mine::default())
            .on_error(|_, _, _| panic!("a test's panic")),
    )
    .await;
    let mut client = Client::connect(&node).await;
    for route in [
        "No.Where",
        "Mine.Handler",
        "Mine.Async",
        "Mine.Decode",
        "Mine.Echo",
    ] {
        assert_eq!(
            client.ask_in_vain(route, "{").await,
            code::INTERNAL,
            "{route}"
        );
        expect_alive(&mut client).await;
    }
    drop(client);
    eventually("the session closes", || {
        node.handle().sessions().count() == 0
    })
    .await;
}

/// Something a client could send, good or bad.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let body = || vec(any::<u8>(), 0..40);
    let route = prop_oneof![
        Just("Mine.Echo".to_owned()),
        Just("Mine.Handler".to_owned()),
        Just("Mine.Decode".to_owned()),
        ".{0,12}"
    ];
    prop_oneof![
        1 => body(),
        2 => (1..=5_u8, body()).prop_map(|(kind, body)| packet(Kind::try_from(kind).unwrap(), &body)),
        4 => (any::<u64>(), route, body()).prop_map(|(id, route, body)| data(&Message::request(id, route, body))),
        1 => Just(greeting()),
        1 => (any::<[u8; 4]>(), body()).prop_map(|(header, body)| [&header[..], &body].concat()),
    ]
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

async fn survives(node: &Node, bytes: &[u8]) {
    let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    // The node may have closed it already.
    let _ = stream.write_all(bytes).await;
    drop(stream);
    eventually(&format!("it forgets {}", Hex(bytes)), || {
        node.handle().sessions().count() == 0
    })
    .await;
}

#[test]
fn no_bytes_of_a_client_outlive_its_connection() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(start(
        App::new()
            .component(Mine::default())
            .limits(Limits::new().max_packet(packet::MAX_BODY)),
    ));
    proptest!(ProptestConfig { max_shrink_iters: 10, failure_persistence: None, ..ProptestConfig::with_cases(200) }, |(greet in any::<bool>(), words in vec(words(), 0..12))| {
        let bytes = [if greet { greeting() } else { Vec::new() }, words.concat()].concat();
        runtime.block_on(survives(&node, &bytes));
    });
    runtime.block_on(async { expect_alive(&mut Client::connect(&node).await).await });
}
