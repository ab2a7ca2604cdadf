//! Every name in `nano::metrics` counts what it says, for each node. In a process of its own: a
//! process has one recorder.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "metrics/channels.rs"]
mod channels;
#[path = "metrics/connections.rs"]
mod connections;
#[path = "metrics/counts.rs"]
mod counts;
#[path = "support/go/mod.rs"]
mod go;
#[path = "metrics/groups.rs"]
mod groups;
#[path = "promises/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the promises, which use all of it"
)]
mod harness;
#[path = "metrics/inputs.rs"]
mod inputs;
#[path = "metrics/migrations.rs"]
mod migrations;
#[path = "metrics/named.rs"]
mod named;
#[path = "metrics/nodes.rs"]
mod nodes;
#[path = "forwarding/raw_link.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of links, which use all of it"
)]
mod raw_link;
#[path = "resume/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of resumed sessions, which use all of it"
)]
mod returning;
#[path = "support/mod.rs"]
mod support;
#[path = "metrics/users.rs"]
mod users;

use std::{sync::Arc, time::Duration};

use nano::{
    App, Cluster, Component, Error, Handle, Handlers, Limits, Options, Pipeline, Responder, Result,
    Session, SlowClient, Timeouts, code,
    filter::{self, Flow, LoadShed, RouteTiming},
    message::Message,
    metrics as names,
};
use parking_lot::Mutex;

use counts::{Counts, Series};
use harness::{Client, data, start};
use support::eventually;

#[derive(Default)]
struct Kept(Mutex<Vec<Responder>>);

#[derive(Default)]
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
async fn every_metric_counts_what_its_name_says() {
    let mut counts = Counts::start().await;
    let pipeline = Pipeline::new();
    pipeline
        .outbound()
        .push_back(|_, message| match &*message.body {
            br#""refuse""# => Err(Error::new("REFUSED", "no")),
            _ => Ok(()),
        });
    pipeline
        .inbound()
        .push_back(|_, message| match &*message.body {
            br#""blocked""# => Err(Error::new("BLOCKED", "no")),
            _ => Ok(()),
        });
    let kept = Arc::new(Kept::default());
    let app = App::new()
        .component(Till(kept.clone()))
        .component_with(
            Till(kept.clone()),
            Options::new().name("Pinned").scheduler("desk"),
        )
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
    let series = Series::of(&node);

    let (mut client, second) = (Client::connect(&node).await, Client::connect(&node).await);
    let session = client.session(&node).await;
    assert!(
        Client::dial(node.addresses()[0])
            .await
            .packet()
            .await
            .is_none()
    );
    counts
        .expect(&series.named(names::CONNECTIONS_ACCEPTED), 2)
        .await;
    counts
        .expect(&series.because(names::CONNECTIONS_REFUSED, "limit"), 1)
        .await;
    counts.expect(&series.named(names::CONNECTIONS), 2).await;
    drop(second);
    counts
        .expect(&series.because(names::CONNECTIONS_CLOSED, "client"), 1)
        .await;
    counts.expect(&series.named(names::CONNECTIONS), 1).await;
    drop(Client::dial(node.addresses()[0]).await);
    counts
        .expect(&series.named(names::CONNECTIONS_SILENT), 1)
        .await;
    counts.expect(&series.named(names::CONNECTIONS), 1).await;

    client.ask("Till.Echo", r#""x""#).await.unwrap();
    counts
        .expect(&series.named(names::MESSAGES_RECEIVED), 1)
        .await;
    counts
        .expect(&series.named(names::HANDLER_SECONDS), 1)
        .await;
    let before = counts.total(&series.named(names::BYTES_RECEIVED));
    let (sent, received) = (client.sent, client.received);
    let sent_before = counts.total(&series.named(names::BYTES_SENT));
    for failed in 1..=2 {
        assert_eq!(client.ask_in_vain("Till.Fail", "").await, "TILL-EMPTY");
        counts
            .expect(&series.named(names::REQUESTS_FAILED), failed)
            .await;
    }
    counts
        .expect(
            &series.named(names::BYTES_RECEIVED),
            before + client.sent - sent,
        )
        .await;
    counts
        .expect(
            &series.named(names::BYTES_SENT),
            sent_before + client.received - received,
        )
        .await;

    client.ask_in_vain("Till.Panic", "").await;
    counts.expect(&series.named(names::PANICS), 1).await;
    counts
        .expect(&series.named(names::REQUESTS_FAILED), 3)
        .await;
    client.ask_in_vain("No.Where", "").await;
    client.ask_in_vain("Till.Echo", "{").await;
    for reason in ["route", "body"] {
        let refused = series.because(names::MESSAGES_REFUSED, reason);
        counts.expect(&refused, 1).await;
    }
    counts
        .expect(&series.named(names::REQUESTS_FAILED), 5)
        .await;
    client.send(&data(&Message::push("Till.Echo", "1"))).await;
    let refused = series.because(names::MESSAGES_REFUSED, "kind");
    counts.expect(&refused, 1).await;
    client.notify("Till.Echo", r#""blocked""#).await;
    let refused = series.because(names::MESSAGES_REFUSED, "pipeline");
    counts.expect(&refused, 1).await;
    client.ask_in_vain("Pinned.Echo", r#""x""#).await;
    let refused = series.because(names::MESSAGES_REFUSED, "scheduler");
    counts.expect(&refused, 1).await;
    counts
        .expect(&series.named(names::REQUESTS_FAILED), 6)
        .await;
    client.ask_in_vain("Till.Echo", r#""refuse""#).await;
    counts
        .expect(&series.named(names::REQUESTS_FAILED), 7)
        .await;
    assert_eq!(client.ask_in_vain("Till.Keep", "").await, code::TIMEOUT);
    counts
        .expect(&series.named(names::REQUESTS_TIMED_OUT), 1)
        .await;
    counts
        .expect(&series.named(names::REQUESTS_FAILED), 8)
        .await;
    kept.0.lock().remove(0).respond("late").unwrap_err();
    counts
        .expect(&series.because(names::RESPONSES_DROPPED, "late"), 1)
        .await;

    let sent = counts.total(&series.named(names::MESSAGES_SENT));
    for _ in 0..3 {
        session.push("on", "x").unwrap();
        client.push("on").await;
    }
    counts
        .expect(&series.named(names::MESSAGES_SENT), sent + 3)
        .await;
    // Without a pause the connection's task does not get to run, so the queue fills up.
    let refused = (0..10)
        .filter(|_| session.push_raw("on", vec![b'x'; 20 * 1024]).is_err())
        .count();
    assert_eq!(refused, 7);
    counts
        .expect(&series.because(names::PUSHES_DROPPED, "queue"), refused)
        .await;

    session.kick("enough");
    counts
        .expect(&series.because(names::CONNECTIONS_CLOSED, "kicked"), 1)
        .await;
    counts.expect(&series.named(names::PANICS), 2).await;
    client.end().await;
    drop(client);
    counts.expect(&series.named(names::CONNECTIONS), 0).await;
    node.shutdown().await;
}

/// A gate forwards to a member that the application's function chooses, and it panics.
#[tokio::test]
async fn a_route_function_that_panics_is_counted() {
    let mut counts = Counts::start().await;
    let app = |cluster: Cluster| {
        let cluster = cluster
            .listen("127.0.0.1:0")
            .heartbeat(Duration::from_millis(100));
        App::new().cluster(cluster)
    };
    let master = Cluster::master().select_member(|_, _, _| panic!("a test's panic"));
    let gate = start(app(master)).await;
    let master = gate.handle().member().unwrap().address();
    let backend = app(Cluster::join([master])).component(Till(Arc::default()));
    let backend = start(backend).await;
    eventually("the backend to be a member", || {
        gate.handle().members().len() == 1
    })
    .await;
    // The first connection of the link may take a moment.
    let mut client = Client::connect(&gate).await;
    let code = client.ask_in_vain("Till.Echo", r#""x""#).await;
    assert_eq!(code, code::INTERNAL);
    let series = Series::of(&gate);
    counts.expect(&series.named(names::PANICS), 1).await;
    backend.shutdown().await;
    gate.shutdown().await;
}

/// Nodes of one process share its recorder.
#[tokio::test]
async fn nodes_of_one_process_have_a_label_each() {
    let mut counts = Counts::start().await;
    let (one, two) = (start(App::new()).await, start(App::new()).await);
    let _clients = [
        Client::connect(&one).await,
        Client::connect(&one).await,
        Client::connect(&two).await,
    ];
    for (node, connections) in [(&one, 2), (&two, 1)] {
        let name = Series::of(node).named(names::CONNECTIONS);
        counts.expect(&name, connections).await;
    }

    let listen = "127.0.0.1:0";
    let start = async |cluster: Cluster| App::new().cluster(cluster).start().await.unwrap();
    let mut clusters = Vec::new();
    for members in [1, 2] {
        let mut nodes = vec![start(Cluster::master().listen(listen)).await];
        let master = nodes[0].handle().member().unwrap().address().to_owned();
        for _ in 0..members {
            nodes.push(start(Cluster::join([&master]).listen(listen)).await);
        }
        for node in &nodes {
            eventually("all see all", || node.handle().members().len() == members).await;
        }
        clusters.push(nodes);
    }
    counts.update();
    for (nodes, members) in clusters.iter().zip([1, 2]) {
        for node in nodes {
            let name = Series::of(node).named(names::CLUSTER_MEMBERS);
            assert_eq!(counts.total(&name), members, "{name}");
        }
    }
    for node in clusters.iter().flatten().chain([&one, &two]) {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn panics_of_membership_callbacks_are_counted_and_end_that_call_only() {
    let mut counts = Counts::start().await;
    let listen = "127.0.0.1:0";
    let fail = |_: &nano::Member| panic!("a test's panic");
    let cluster = Cluster::master()
        .listen(listen)
        .on_member_joined(fail)
        .on_member_left(fail)
        .on_unregister(fail);
    let master = App::new().cluster(cluster).start().await.unwrap();
    let panics = Series::of(&master).named(names::PANICS);
    let address = master.handle().member().unwrap().address().to_owned();
    let member = App::new()
        .cluster(Cluster::join([address]).listen(listen))
        .start()
        .await
        .unwrap();
    counts.expect(&panics, 1).await;
    // Its removal waits for the callback, and goes on without it.
    member.shutdown().await;
    assert!(master.handle().members().is_empty());
    counts.expect(&panics, 3).await;
    master.shutdown().await;
}

/// Panics wherever a component or an application may.
struct Faulty;

impl Component for Faulty {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Sync", |_: &Self, _: &Session, _: ()| -> Result {
            panic!("a test's panic")
        })
        .on("Async", |_: Arc<Self>, _: Session, _: ()| async {
            tokio::task::yield_now().await;
            if true {
                panic!("a test's panic")
            }
            Ok::<_, Error>(())
        })
        .on("Decode", |_: &Self, _: &Session, _: Undecodable| {
            Ok::<_, Error>(())
        })
        .on("Fail", |_: &Self, _: &Session, _: ()| -> Result {
            Err(Error::new("FAULTY", "no"))
        })
        .on("Filter", |_: &Self, _: &Session, _: ()| Ok::<_, Error>(1))
    }

    fn before_shutdown(self: &Arc<Self>, _: &Handle) {
        panic!("a test's panic")
    }

    fn shutdown(self: &Arc<Self>, _: &Handle) {
        panic!("a test's panic")
    }
}

struct Undecodable;

impl<'de> serde::Deserialize<'de> for Undecodable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("a test's panic")
    }
}

#[tokio::test]
async fn a_panic_is_counted_once_wherever_it_happens() {
    let mut counts = Counts::start().await;
    let pipeline = Pipeline::new();
    pipeline.inbound().push_back(|_, message| {
        assert!(message.route != "Faulty.Filter", "a test's panic");
        Ok(())
    });
    let app = App::new()
        .component(Faulty)
        .pipeline(pipeline)
        .on_error(|_, _, error| {
            assert!(error.code() != "FAULTY", "a test's panic");
            error
        });
    let node = start(app).await;
    let panics = Series::of(&node).named(names::PANICS);
    let mut client = Client::connect(&node).await;
    for (before, route) in ["Sync", "Async", "Decode", "Fail", "Filter"]
        .into_iter()
        .enumerate()
    {
        let route = format!("Faulty.{route}");
        assert_eq!(client.ask_in_vain(&route, "1").await, code::INTERNAL);
        counts.expect(&panics, before + 1).await;
    }
    drop(client);
    node.shutdown().await;
    counts.expect(&panics, 7).await;
}

#[tokio::test]
async fn filters_count_panics_refusals_and_shed_messages_and_time_routes() {
    let mut counts = Counts::start().await;
    let app = App::new()
        .component(Till(Arc::default()))
        .filter(RouteTiming)
        .filter(LoadShed::new(Duration::ZERO).keep_notifies())
        .filter(filter::before(|call| match call.message::<String>() {
            Some(text) if text == "panic" => panic!("a test's panic"),
            _ => Ok(Flow::Continue),
        }));
    let node = start(app).await;
    let series = Series::of(&node);
    let mut client = Client::connect(&node).await;
    client.notify("Till.Echo", r#""pass""#).await;
    client.notify("Till.Echo", r#""panic""#).await;
    let route = format!("{}{{route=Till.Echo}}", series.named(names::ROUTE_SECONDS));
    counts.expect(&series.named(names::PANICS), 1).await;
    counts.expect(&route, 1).await;
    counts
        .expect(&series.named(names::HANDLER_SECONDS), 1)
        .await;
    assert_eq!(
        client.ask_in_vain("Till.Echo", r#""pass""#).await,
        code::TOO_MANY
    );
    counts.expect(&series.named(names::MESSAGES_SHED), 1).await;
    counts
        .expect(&series.because(names::MESSAGES_REFUSED, "filter"), 2)
        .await;
    counts.expect(&route, 1).await;
}
