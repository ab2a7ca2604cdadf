//! The server answers while everything else is stuck.

use std::{sync::Arc, time::Duration};

use nano::{
    Accept, App, Cluster, Component, Handlers, Node, Result, Session, Timeouts, metrics as names,
};
use serde_json::{Value, json};

use crate::{
    harness::{Client, Latch, greeting, start},
    http::{admin, get},
    metrics::{expect, values},
    support::{eventually, within},
};

struct Hog(Arc<Latch>);

impl Component for Hog {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Hold", |hog: &Self, _: &Session, _: ()| -> Result {
            hog.0.wait();
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_that_holds_a_scheduler_is_named() {
    let latch = Arc::new(Latch::default());
    let app = App::new()
        .admin("127.0.0.1:0")
        .scheduler_threads(1)
        .component(Hog(latch.clone()));
    let node = start(app).await;
    let address = admin(&node);
    let mut client = Client::connect(&node).await;
    for _ in 0..3 {
        client.notify("Hog.Hold", "null").await;
    }
    latch.reached(1).await;
    // All threads of schedulers are blocked now.
    let mut held = serde_json::Value::Null;
    let deadline = tokio::time::Instant::now() + crate::support::DEADLINE;
    while held["held"]["route"] != "Hog.Hold" {
        assert!(tokio::time::Instant::now() < deadline, "{held}");
        let report = get(address, "/api/v1/schedulers").await.ok();
        held = report["schedulers"][0].clone();
    }
    assert_eq!(held["name"], "node");
    assert_eq!(held["waiting"], 2);
    assert_eq!(held["held"]["session"], client.session(&node).await.id());
    assert_eq!(get(address, "/healthz").await.status, 200);
    assert_eq!(get(address, "/readyz").await.status, 200);
    for tasks in [names::SCHEDULER_TASKS, names::SCHEDULER_TASKS_LONGEST] {
        expect(&node, tasks, 2.0).await;
    }
    // It counts as blocked after a second.
    expect(&node, names::SCHEDULERS_BLOCKED, 1.0).await;
    assert!(values(address).await[names::SCHEDULER_BLOCKED_SECONDS] > 0.0);
    let sessions = get(address, "/api/v1/sessions").await.ok();
    assert_eq!(sessions["total"], 1);
    latch.open();
    eventually("the scheduler is free", || {
        node.handle().scheduler().is_empty()
    })
    .await;
    expect(&node, names::SCHEDULERS_BLOCKED, 0.0).await;
    // What it was is known for some minutes.
    let session = client.session(&node).await.id();
    let known = async {
        loop {
            let report = get(address, "/api/v1/schedulers").await.ok();
            let task = report["schedulers"][0]["long_tasks"][0].clone();
            if task != Value::Null {
                return task;
            }
        }
    };
    let task = within("the handler that held it", known).await;
    assert_eq!(
        (&task["route"], &task["session"], &task["times"]),
        (&json!("Hog.Hold"), &json!(session), &json!(1))
    );
    assert!(task["longest_ms"].as_u64() >= Some(1000), "{task}");
    assert_eq!(task["first_ago_ms"], task["last_ago_ms"]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_handler_is_seen_from_another_node() {
    let heartbeat = Duration::from_secs(60);
    let cluster = |cluster: Cluster| {
        let cluster = cluster.listen("127.0.0.1:0").heartbeat(heartbeat);
        App::new().admin("127.0.0.1:0").cluster(cluster)
    };
    let gate = start(cluster(Cluster::master())).await;
    let master = gate.handle().member().unwrap().address().to_owned();
    let latch = Arc::new(Latch::default());
    let room = cluster(Cluster::join([&master]).label("room")).component(Hog(latch.clone()));
    let room = start(room).await;
    // A node whose admin server says nothing of it.
    let mute = App::new().cluster(Cluster::join([&master]).listen("127.0.0.1:0"));
    let mute = start(mute).await;
    let mut client = Client::connect(&room).await;
    client.notify("Hog.Hold", "null").await;
    latch.reached(1).await;

    let of = async |node: &Node| {
        let own = node.handle().member().unwrap().address().to_owned();
        let report = get(admin(&gate), "/api/v1/cluster").await.ok();
        let members = report["members"].as_array().unwrap().clone();
        members.into_iter().find(|member| member["address"] == *own)
    };
    let blocked = async {
        loop {
            let Some(report) = of(&room).await else {
                continue;
            };
            assert_eq!(report["error"], Value::Null);
            let blocked = &report["summary"]["blocked"][0];
            if blocked["route"] == "Hog.Hold" {
                assert_eq!(blocked["scheduler"], "node");
                assert!(blocked["running_ms"].as_u64() >= Some(1000), "{blocked}");
                assert_eq!(report["label"], "room");
                break;
            }
        }
    };
    within("the blocked handler", blocked).await;
    let own = of(&gate).await.unwrap();
    assert_eq!(
        (&own["self"], &own["summary"]["ready"]),
        (&json!(true), &json!(true))
    );
    let other = of(&mute).await.unwrap();
    assert_eq!(
        (&other["summary"], &other["error"]),
        (&Value::Null, &Value::Null)
    );
    latch.open();
    let ended = async {
        loop {
            let report = of(&room).await.unwrap_or_default();
            let summary = &report["summary"];
            if summary["blocked"] == json!([]) && summary["long_tasks"][0]["times"] == 1 {
                return summary["long_tasks"][0].clone();
            }
        }
    };
    let task = within("the handler that has ended", ended).await;
    assert_eq!(
        (&task["route"], &task["scheduler"]),
        (&json!("Hog.Hold"), &json!("node"))
    );
    assert!(task["longest_ms"].as_u64() >= Some(1000), "{task}");
    for node in [room, mute, gate] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_no_handler_answers_stand_out() {
    let latch = Arc::new(Latch::default());
    let app = App::new()
        .admin("127.0.0.1:0")
        .timeouts(Timeouts::new().request(Duration::from_millis(100)))
        .component(Hog(latch.clone()));
    let node = start(app).await;
    let unanswered = async || {
        let report = get(admin(&node), "/api/v1/cluster").await.ok();
        let summary = &report["members"][0]["summary"];
        let rate = summary["unanswered_per_second"].as_f64().unwrap();
        (rate, summary["unanswered_routes"].clone())
    };
    assert_eq!(unanswered().await, (0.0, json!([])));
    let mut client = Client::connect(&node).await;
    let refused = client.ask("Hog.Hold", "null").await.unwrap_err();
    assert_eq!(refused.code(), nano::code::TIMEOUT);
    let seen = async {
        loop {
            if let (rate, routes) = unanswered().await
                && rate > 0.0
            {
                break routes;
            }
        }
    };
    assert_eq!(within("the time-out", seen).await, json!(["Hog.Hold"]));
    latch.open();
    node.shutdown().await;
}

/// Blocks the thread that does the node's I/O.
#[tokio::test(flavor = "multi_thread")]
async fn blocked_io_threads_do_not_stop_it() {
    let latch = Arc::new(Latch::default());
    let hold = latch.clone();
    let app = App::new()
        .admin("127.0.0.1:0")
        .io_threads(1)
        .on_handshake(move |_| {
            hold.wait();
            Ok(Accept::new())
        });
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    client.send(&greeting()).await;
    latch.reached(1).await;
    for path in ["/healthz", "/metrics", "/api/v1/queues", "/api/v1/sessions"] {
        assert_eq!(get(admin(&node), path).await.status, 200, "{path}");
    }
    latch.open();
    node.shutdown().await;
}
