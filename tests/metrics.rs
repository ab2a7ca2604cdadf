//! Every name in `nano::metrics` counts what it says. In a process of its own, because a recorder
//! is for all nodes of one.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "promises/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the promises, which use all of it"
)]
mod harness;
#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use nano::{
    App, Component, Error, Handlers, Limits, Pipeline, Responder, Result, Session, SlowClient,
    Timeouts, code, metrics as names,
};
use parking_lot::Mutex;

use harness::{Client, start};
use support::eventually;

/// What was counted so far. A histogram counts its samples.
struct Counts {
    snapshotter: Snapshotter,
    totals: BTreeMap<String, f64>,
}

impl Counts {
    fn update(&mut self) {
        // A snapshot takes what it shows, so each is the difference to the one before.
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{{{}={}}}", label.key(), label.value()))
                .collect();
            *self
                .totals
                .entry(format!("{}{}", key.name(), labels.concat()))
                .or_default() += match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.0,
                DebugValue::Histogram(samples) => samples.len() as f64,
            };
        }
    }

    async fn expect(&mut self, name: &str, count: usize) {
        eventually(&format!("{name} is {count}"), || {
            self.update();
            self.totals.get(name).copied().unwrap_or_default() == count as f64
        })
        .await;
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<Responder>>);

struct Till(Arc<Kept>);

impl Component for Till {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", |_: &Self, _: &Session, text: String| {
            Ok::<_, Error>(text)
        })
        .on("Fail", |_: &Self, _: &Session, _: ()| -> Result {
            Err(Error::new("TILL-EMPTY", "no"))
        })
        .on("Panic", |_: &Self, _: &Session, _: ()| -> Result {
            panic!("a test's panic")
        })
        .on("Keep", |till: &Self, session: &Session, _: ()| {
            till.0.0.lock().push(session.responder());
            Ok::<_, Error>(())
        })
    }
}

#[tokio::test]
async fn every_metric_counts_what_it_says() {
    let recorder = DebuggingRecorder::new();
    let mut counts = Counts {
        snapshotter: recorder.snapshotter(),
        totals: BTreeMap::new(),
    };
    recorder.install().unwrap();
    let pipeline = Pipeline::new();
    pipeline
        .outbound()
        .push_back(|_, message| match &*message.body {
            br#""refuse""# => Err(Error::new("REFUSED", "no")),
            _ => Ok(()),
        });
    let kept = Arc::new(Kept::default());
    let app = App::new()
        .component(Till(kept.clone()))
        .pipeline(pipeline)
        .limits(
            Limits::new()
                .max_connections(2)
                .send_queue_bytes(64 * 1024)
                .send_queue_messages(usize::MAX)
                .slow_client(SlowClient::DropPushes),
        )
        .timeouts(
            Timeouts::new()
                .heartbeat(None)
                // Longer than a panic that prints its backtrace takes.
                .request(Duration::from_secs(1)),
        )
        .on_session_closed(|_, reason| assert_ne!(reason.label(), "kicked", "a test's panic"));
    let node = start(app).await;

    let (mut client, second) = (Client::connect(&node).await, Client::connect(&node).await);
    let session = client.session(&node).await;
    assert!(
        Client::dial(node.addresses()[0])
            .await
            .packet()
            .await
            .is_none()
    );
    counts.expect(names::CONNECTIONS_ACCEPTED, 2).await;
    counts.expect(names::CONNECTIONS_REFUSED, 1).await;
    counts.expect(names::CONNECTIONS, 2).await;
    drop(second);
    counts
        .expect(
            &format!("{}{{reason=client}}", names::CONNECTIONS_CLOSED),
            1,
        )
        .await;
    counts.expect(names::CONNECTIONS, 1).await;

    client.ask("Till.Echo", r#""x""#).await.unwrap();
    counts.expect(names::MESSAGES_RECEIVED, 1).await;
    counts.expect(names::HANDLER_SECONDS, 1).await;
    let before = counts.totals[names::BYTES_RECEIVED] as usize;
    let (sent, received) = (client.sent, client.received);
    let sent_before = counts.totals[names::BYTES_SENT] as usize;
    for failed in 1..=2 {
        assert_eq!(client.ask_in_vain("Till.Fail", "").await, "TILL-EMPTY");
        counts.expect(names::REQUESTS_FAILED, failed).await;
    }
    counts
        .expect(names::BYTES_RECEIVED, before + client.sent - sent)
        .await;
    counts
        .expect(names::BYTES_SENT, sent_before + client.received - received)
        .await;

    client.ask_in_vain("Till.Panic", "").await;
    counts.expect(names::PANICS, 1).await;
    counts.expect(names::REQUESTS_FAILED, 3).await;
    client.ask_in_vain("No.Where", "").await;
    client.ask_in_vain("Till.Echo", "{").await;
    counts.expect(names::MESSAGES_REFUSED, 2).await;
    counts.expect(names::REQUESTS_FAILED, 5).await;
    client.ask_in_vain("Till.Echo", r#""refuse""#).await;
    counts.expect(names::REQUESTS_FAILED, 6).await;
    assert_eq!(client.ask_in_vain("Till.Keep", "").await, code::TIMEOUT);
    counts.expect(names::REQUESTS_TIMED_OUT, 1).await;
    counts.expect(names::REQUESTS_FAILED, 7).await;
    kept.0.lock().remove(0).respond("late").unwrap_err();
    counts.expect(names::RESPONSES_DROPPED, 1).await;

    let sent = counts.totals[names::MESSAGES_SENT] as usize;
    for _ in 0..3 {
        session.push("on", "x").unwrap();
        client.push("on").await;
    }
    counts.expect(names::MESSAGES_SENT, sent + 3).await;
    // Without a pause the connection's task does not get to run, so the queue fills up.
    let refused = (0..10)
        .filter(|_| session.push_raw("on", vec![b'x'; 20 * 1024]).is_err())
        .count();
    assert_eq!(refused, 7);
    counts.expect(names::PUSHES_DROPPED, refused).await;

    session.kick("enough");
    counts
        .expect(
            &format!("{}{{reason=kicked}}", names::CONNECTIONS_CLOSED),
            1,
        )
        .await;
    counts.expect(names::PANICS, 2).await;
    client.end().await;
    drop(client);
    counts.expect(names::CONNECTIONS, 0).await;
    node.shutdown().await;
    a_route_function_that_panics_is_counted(&mut counts).await;
}

/// A gate forwards to a member that the application's function chooses, and it panics.
async fn a_route_function_that_panics_is_counted(counts: &mut Counts) {
    let panics = counts.totals[names::PANICS] as usize;
    let node = || {
        App::new()
            .service_addr("127.0.0.1:0")
            .cluster_heartbeat(Duration::from_millis(100))
    };
    let gate = start(
        node()
            .master()
            .remote_service_route(|_, _, _| panic!("a test's panic")),
    )
    .await;
    let master = gate.handle().member().unwrap();
    let backend = start(
        node()
            .advertise_addr(master.address())
            .component(Till(Arc::default())),
    )
    .await;
    eventually("the backend to be a member", || {
        gate.handle().members().len() == 1
    })
    .await;
    // The first connection of the link may take a moment.
    let mut client = Client::connect(&gate).await;
    let code = client.ask_in_vain("Till.Echo", r#""x""#).await;
    assert_eq!(code, code::INTERNAL);
    counts.expect(names::PANICS, panics + 1).await;
    backend.shutdown().await;
    gate.shutdown().await;
}
