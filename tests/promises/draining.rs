//! A node that drains: what clients, probes and components see of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use nano::{
    App, CloseReason, Cluster, Component, Handle, Handlers, Raw, Readiness, Session, Timeouts,
    kick::Reconnect,
};
use tokio::{net::TcpStream, time::Instant};

use crate::{
    harness::{Echo, Ends, start},
    log::Log,
    support::{RawClient, eventually, within},
};

const LONG: Duration = Duration::from_secs(3600);

/// Tells players when the node begins to drain.
struct Farewell;

impl Component<Raw> for Farewell {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Ping", |_: &Self, _: &Session<Raw>, _: bytes::Bytes| {
            nano::Result::<()>::Ok(())
        })
    }

    fn before_drain(self: &Arc<Self>, node: &Handle) {
        for session in node.sessions().list() {
            session.push_raw("onDrain", "soon").unwrap();
        }
    }
}

async fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}

#[tokio::test]
async fn it_listens_for_the_delay_and_then_waits_until_players_have_left() {
    let delay = Duration::from_millis(300);
    let app = App::new().component(Echo).component(Farewell);
    let (app, ends) = Ends::of(app.timeouts(Timeouts::new().shutdown_delay(delay)));
    let node = start(app).await;
    let address = node.addresses()[0];
    assert_eq!(node.handle().readiness(), Readiness::Ready);
    let mut client = RawClient::tcp(address).await;
    client.handshake().await;

    let begun = Instant::now();
    node.handle().drain(LONG);
    assert_eq!(node.handle().readiness(), Readiness::Draining);
    assert_eq!(client.push("onDrain").await, "soon");
    // A load balancer has not heard of it yet.
    let mut late = RawClient::tcp(address).await;
    late.handshake().await;
    within("the end of the listener", async {
        while !is_refused(address).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    assert_eq!(client.call(1, "Echo.Echo", "here").await, "here");
    drop(late);
    eventually("one session is left", || {
        node.handle().sessions().count() == 1
    })
    .await;
    assert_eq!(client.call(2, "Echo.Echo", "still").await, "still");
    assert_eq!(node.handle().readiness(), Readiness::Draining);

    drop(client);
    within("the end of the node", node.stopped()).await;
    assert_eq!(node.handle().readiness(), Readiness::Stopping);
    assert_eq!(ends.count(), 2);
    assert_eq!(ends.last(), CloseReason::Client);
}

#[tokio::test]
async fn at_the_deadline_players_are_sent_elsewhere() {
    let (app, ends) = Ends::of(App::new().component(Echo));
    let node = start(app).await;
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    client.handshake().await;
    node.handle().drain(LONG);
    // The earliest deadline counts.
    node.handle().drain(Duration::from_millis(50));
    node.handle().drain(LONG);
    let kick = within("the kick", client.kick()).await;
    assert_eq!(kick.reconnect, Some(Reconnect::Elsewhere));
    within("the end of the node", node.stopped()).await;
    assert_eq!(ends.last(), CloseReason::Shutdown);
}

#[tokio::test]
async fn a_shutdown_ends_the_wait() {
    let delay = Timeouts::new().shutdown_delay(Duration::from_secs(60));
    let node = start(App::new().component(Echo).timeouts(delay)).await;
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    client.handshake().await;
    node.handle().drain(LONG);
    node.handle().shutdown();
    client.kicked().await;
    within("the end of the node", node.stopped()).await;
    assert!(is_refused(node.addresses()[0]).await);
    // Of a node that has stopped, nothing follows.
    node.handle().drain(LONG);
    assert_eq!(node.handle().readiness(), Readiness::Stopping);
}

#[tokio::test]
async fn a_node_without_players_stops_after_the_delay() {
    let delay = Duration::from_millis(100);
    let node = start(App::new().timeouts(Timeouts::new().shutdown_delay(delay))).await;
    let begun = Instant::now();
    node.handle().drain(LONG);
    within("the end of the node", node.stopped()).await;
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn the_log_says_how_many_sessions_stay_and_why_at_the_beginning_and_at_the_deadline() {
    let log = Log::captured();
    let master = Cluster::master().listen("127.0.0.1:0");
    let gates = [
        (App::new().cluster(master), r#"obstacles="3 not_resumable""#),
        (App::new(), r#"obstacles="3 no_cluster""#),
    ];
    for (app, obstacles) in gates {
        let node = start(app.component(Echo)).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = RawClient::tcp(node.addresses()[0]).await;
            client.handshake().await;
            clients.push(client);
        }
        node.handle().drain(LONG);
        if obstacles.contains("resumable") {
            let stay = || log.count(&["do not move to another gate sessions=3", obstacles]);
            eventually("they stay", || stay() == 1).await;
        }
        node.handle().drain(Duration::ZERO);
        within("the end of the node", node.stopped()).await;
        let lost = log.count(&["drain deadline passed", "sessions=3", obstacles]);
        assert_eq!(lost, 1, "{obstacles}");
    }
}
