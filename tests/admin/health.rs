//! Whether the node is alive, and whether it serves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use nano::{App, Cluster, Component, Handle, Handlers, Result, Session, metrics as names};
use serde_json::json;

use crate::{
    harness::{Echo, Latch, start},
    http::{admin, get},
    metrics::values,
    support::{eventually, free_address},
};

#[tokio::test]
async fn a_node_that_serves_is_healthy_and_ready() {
    let node = start(App::new().admin("127.0.0.1:0").component(Echo)).await;
    let address = admin(&node);
    assert_ne!(address.port(), 0);
    assert_eq!(get(address, "/healthz").await.body, "ok\n");
    let ready = get(address, "/readyz").await.ok();
    assert_eq!(ready, json!({"ready": true, "missing": []}));
    assert!(node.handle().is_ready());
    node.shutdown().await;
    assert!(!node.handle().is_ready());
}

#[tokio::test]
async fn without_the_option_there_is_no_server() {
    let node = start(App::new().component(Echo)).await;
    assert_eq!(node.handle().admin_address(), None);
    assert!(node.handle().is_ready());
    node.shutdown().await;
}

#[tokio::test]
async fn the_address_is_free_when_the_node_has_stopped() {
    let node = start(App::new().admin("127.0.0.1:0")).await;
    let address = admin(&node);
    node.shutdown().await;
    let again = start(App::new().admin(address.to_string())).await;
    assert_eq!(admin(&again), address);
    again.shutdown().await;
}

#[tokio::test]
async fn an_address_in_use_and_an_empty_token_fail_the_start() {
    let node = start(App::new().admin("127.0.0.1:0")).await;
    let address = admin(&node).to_string();
    let failed = App::new().admin(address.as_str()).start().await;
    assert!(failed.unwrap_err().message().contains(&address));
    for token in ["", "a b", "ä"] {
        let admin = nano::Admin::new("127.0.0.1:0").token(token);
        let failed = App::new().admin(admin).start().await;
        assert!(failed.unwrap_err().message().contains("admin.token"));
    }
    node.shutdown().await;
}

/// Holds the start of its node, and its end.
struct Slow(Arc<Latch>);

impl Component for Slow {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Any", |_: &Self, _: &Session, _: ()| {
            Ok::<_, nano::Error>(())
        })
    }

    fn init(self: &Arc<Self>, _: &Handle) -> Result {
        self.0.wait();
        Ok(())
    }

    fn shutdown(self: &Arc<Self>, _: &Handle) {
        self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_or_stops_is_alive_and_not_ready() {
    let latch = Arc::new(Latch::default());
    let slow = Slow(latch.clone());
    let address: SocketAddr = free_address().parse().unwrap();
    let app = App::new().admin(address.to_string()).component(slow);
    let starting = tokio::spawn(start(app));
    latch.reached(1).await;
    assert_eq!(get(address, "/healthz").await.status, 200);
    let ready = get(address, "/readyz").await;
    assert_eq!(ready.status, 503);
    let missing = json!(["components", "cluster", "listeners"]);
    assert_eq!(ready.json()["missing"], missing);
    let in_metrics = async || values(address).await[names::READY];
    assert_eq!(in_metrics().await, 0.0);
    latch.open();
    let node = starting.await.unwrap();
    assert_eq!(in_metrics().await, 1.0);
    assert_eq!(get(address, "/readyz").await.status, 200);

    node.handle().shutdown();
    let ready = get(address, "/readyz").await;
    // The node may have stopped by now.
    assert!([0, 503].contains(&ready.status), "{ready:?}");
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_master_is_not_ready() {
    let master = free_address();
    let address: SocketAddr = free_address().parse().unwrap();
    let app = App::new().admin(address.to_string()).cluster(
        Cluster::join([&master])
            .listen("127.0.0.1:0")
            .retry_interval(Duration::from_millis(50)),
    );
    let joining = tokio::spawn(app.start());
    let mut missing = serde_json::Value::Null;
    let deadline = tokio::time::Instant::now() + crate::support::DEADLINE;
    while missing != json!(["cluster", "listeners"]) {
        assert!(tokio::time::Instant::now() < deadline, "{missing}");
        let answer = get(address, "/readyz").await;
        if answer.status == 503 {
            missing = answer.json()["missing"].clone();
        }
    }
    let node = App::new().cluster(Cluster::master().listen(&master));
    let node = node.start().await.unwrap();
    let member = joining.await.unwrap().unwrap();
    assert_eq!(get(address, "/readyz").await.status, 200);
    eventually("the member is known", || node.handle().members().len() == 1).await;
    member.shutdown().await;
    node.shutdown().await;
}
