//! What is counted of other members and of the links to them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use nano::{
    App, Cluster, Error, Unique, code, metrics as names,
    testing::{TestCluster, TestNode},
};
use tonic::Code;

use crate::{
    counts::{Counts, Series},
    go::{
        MasterClient, channel,
        proto::{RegisterRequest, UnregisterRequest},
    },
    harness::Client,
    raw_link::{
        RawLink, frame, hello, link,
        proto::{Frame, Kind, Share, SharedValue},
    },
    support::free_address,
};

/// Slow enough that no member is evicted during a test.
const SLOW: Duration = Duration::from_secs(5);

#[tokio::test]
async fn members_that_join_leave_and_crash_are_counted() {
    let mut counts = Counts::start().await;
    let cluster = TestCluster::start().await;
    let series = Series::of(cluster.master().node());
    let first = cluster.add(App::new()).await;
    let mut second = cluster.add(App::new()).await;
    let members = series.named(names::CLUSTER_MEMBERS);
    counts.expect(&series.named(names::CLUSTER_JOINED), 2).await;
    counts.expect(&members, 2).await;
    first.stop().await;
    counts.expect(&series.named(names::CLUSTER_LEFT), 1).await;
    counts.expect(&members, 1).await;
    second.kill();
    counts
        .expect(&series.named(names::CLUSTER_EVICTED), 1)
        .await;
    counts.expect(&series.named(names::CLUSTER_LEFT), 2).await;
    counts.expect(&members, 0).await;
    let leads = series.named(names::CLUSTER_LEADS);
    counts.expect(&leads, 1).await;
    cluster.master().stop().await;
    counts.expect(&leads, 0).await;
}

#[tokio::test]
async fn gauges_that_are_computed_reach_the_recorder_without_a_scrape() {
    let mut counts = Counts::start().await;
    let app = App::new().tcp("127.0.0.1:0").admin("127.0.0.1:0");
    let node = TestNode::start(app).await;
    let series = Series::of(node.node());
    counts.expect(&series.named(names::SCHEDULERS), 1).await;
    let clients = series.with(names::SESSIONS, ("client", "local"));
    counts.expect(&clients, 0).await;
}

#[tokio::test]
async fn refused_connections_of_nodes_are_counted_by_reason() {
    let mut counts = Counts::start().await;
    let options = TestCluster::master_options()
        .max_unauthenticated_connections(2)
        .authentication_timeout(Duration::from_millis(300));
    let master = TestNode::start(App::new().cluster(options)).await;
    let of = Series::of(master.node());
    let refused = |reason| of.because(names::CLUSTER_CONNECTIONS_REFUSED, reason);
    let connect = |node: &TestNode| std::net::TcpStream::connect(node.address()).unwrap();
    let silent: Vec<_> = (0..3).map(|_| connect(&master)).collect();
    counts.expect(&refused("displaced"), 1).await;
    counts.expect(&refused("deadline"), 2).await;
    counts
        .expect(&of.named(names::CLUSTER_CONNECTIONS), 0)
        .await;
    assert!(counts.has_none(&refused("limit")));
    drop(silent);

    let options = TestCluster::master_options;
    for (options, reason) in [
        (options().max_connections(1), "limit"),
        (options().max_connections_per_address(1), "address_limit"),
    ] {
        let master = TestNode::start(App::new().cluster(options)).await;
        let of = Series::of(master.node());
        let open = of.named(names::CLUSTER_CONNECTIONS);
        counts.expect(&open, 0).await;
        let mut client = MasterClient::new(channel(&master.address()));
        // The call is authenticated, for there is no token, and that is all.
        let call = client.register(RegisterRequest::default()).await;
        call.unwrap_err();
        counts.expect(&open, 1).await;
        let _refused = connect(&master);
        let refused = of.because(names::CLUSTER_CONNECTIONS_REFUSED, reason);
        counts.expect(&refused, 1).await;
        counts.expect(&open, 1).await;
        drop(client);
        counts.expect(&open, 0).await;
    }
}

#[tokio::test]
async fn every_node_states_the_master_that_leads_and_whom_it_reports_to() {
    let mut counts = Counts::start().await;
    let addresses: [_; 3] = std::array::from_fn(|_| free_address());
    let start = |address: &String| {
        let options = TestCluster::master_options().listen(address);
        TestNode::start(App::new().cluster(options.masters(&addresses)))
    };
    // Each waits for a majority.
    let masters = join_all(addresses.iter().map(start)).await;
    let member = Cluster::join(&addresses).listen("127.0.0.1:0");
    let member = TestNode::start(App::new().cluster(member)).await;
    let nodes: Vec<_> = masters.iter().chain([&member]).collect();
    let leads = |node: &TestNode| Series::of(node.node()).named(names::CLUSTER_LEADS);
    let reports_to = |node: &TestNode, master: &str| {
        Series::of(node.node()).of_master(names::CLUSTER_REPORTS_TO, master)
    };
    let first = member.handle().master().unwrap();
    for node in &nodes {
        let own = node.address();
        counts.expect(&leads(node), usize::from(own == first)).await;
        counts.expect(&reports_to(node, &first), 1).await;
    }

    let former = masters.iter().find(|master| master.address() == first);
    former.unwrap().stop().await;
    counts.expect(&leads(former.unwrap()), 0).await;
    counts.expect(&reports_to(&member, &first), 0).await;
    let next = member.handle().master().unwrap();
    assert_ne!(next, first);
    for node in nodes.iter().filter(|node| node.address() != first) {
        let own = node.address();
        counts.expect(&leads(node), usize::from(own == next)).await;
        counts.expect(&reports_to(node, &next), 1).await;
        counts.expect(&reports_to(node, &first), 0).await;
    }
}

#[tokio::test]
async fn calls_between_the_master_and_members_that_fail_are_counted() {
    let mut counts = Counts::start().await;
    let options = TestCluster::master_options().heartbeat(SLOW);
    let mut master = TestNode::start(App::new().cluster(options)).await;
    let member = async |heartbeat| {
        let options = Cluster::join([master.address()]).listen("127.0.0.1:0");
        TestNode::start(App::new().cluster(options.heartbeat(heartbeat))).await
    };
    let mut crashed = member(SLOW).await;
    crashed.kill();
    let other = member(Duration::from_millis(100)).await;
    let failed = Series::of(master.node()).named(names::CLUSTER_ANNOUNCEMENTS_FAILED);
    counts.expect_at_least(&failed, 1).await;
    master.kill();
    let failed = Series::of(other.node()).named(names::CLUSTER_HEARTBEATS_FAILED);
    counts.expect_at_least(&failed, 1).await;
}

#[tokio::test]
async fn refused_calls_of_nodes_are_counted_by_reason() {
    let mut counts = Counts::start().await;
    let options = TestCluster::master_options().token("secret");
    let guarded = TestNode::start(App::new().cluster(options)).await;
    let refused =
        |node: &TestNode, reason| Series::of(node.node()).because(names::CLUSTER_REFUSED, reason);
    let unverified = link(&guarded, vec![vec![hello(0, 1)]]).await;
    assert_eq!(unverified.unwrap_err(), Code::Unauthenticated);
    counts
        .expect(&refused(&guarded, "unauthenticated"), 1)
        .await;

    let cluster = TestCluster::start().await;
    let master = cluster.master();
    let mut client = MasterClient::new(channel(&master.address()));
    client
        .register(RegisterRequest::default())
        .await
        .unwrap_err();
    counts.expect(&refused(master, "malformed"), 1).await;
    let unknown = UnregisterRequest {
        service_addr: "127.0.0.1:1".to_owned(),
        ..UnregisterRequest::default()
    };
    client.unregister(unknown).await.unwrap_err();
    counts.expect(&refused(master, "membership"), 1).await;
}

#[tokio::test]
async fn frames_that_are_dropped_are_counted_by_reason_and_so_are_broken_links() {
    let mut counts = Counts::start().await;
    let app = App::new().tcp("127.0.0.1:0");
    let node = TestNode::start(app.cluster(TestCluster::master_options())).await;
    let series = Series::of(node.node());
    let refused = |reason| series.because(names::CLUSTER_FRAMES_REFUSED, reason);
    let raw = RawLink::new(&node, hello(0, 1)).await;
    raw.send(vec![Frame {
        session: 8,
        route: Bytes::from_static(b"Room.Say"),
        ..frame(Kind::Message)
    }]);
    counts.expect(&refused("ended"), 1).await;
    raw.send(vec![frame(Kind::Credit), frame(Kind::None)]);
    counts.expect(&refused("malformed"), 2).await;
    let value = SharedValue {
        key: "bag".to_owned(),
        value: Bytes::from(format!("\"{}\"", "x".repeat(100_000))),
    };
    let share = Share {
        values: vec![value],
        all: false,
    };
    let client = Client::connect(node.node()).await;
    let session = client.session(node.node()).await.id();
    raw.send(vec![Frame {
        session,
        binds: 1,
        share: Some(Box::new(share)),
        ..frame(Kind::Share)
    }]);
    counts.expect(&refused("limit"), 1).await;
    // Nothing listens where the peer says it is.
    let broken = series.named(names::CLUSTER_LINKS_BROKEN);
    counts.expect_at_least(&broken, 1).await;
}

#[tokio::test]
async fn messages_that_no_member_takes_are_counted() {
    let mut counts = Counts::start().await;
    let options = TestCluster::master_options()
        .select_member(|_, _, _| Err(Error::new(code::UNAVAILABLE, "closed for tonight")));
    let app = App::new().tcp("127.0.0.1:0");
    let cluster = TestCluster::with_master(app, options).await;
    let backend = cluster
        .add(App::new().component(crate::Till::default()))
        .await;
    cluster.converged(&[&backend]).await;
    let gate = cluster.master().node();
    let mut client = Client::connect(gate).await;
    let code = client.ask_in_vain("Till.Echo", r#""x""#).await;
    assert_eq!(code, code::UNAVAILABLE);
    let series = Series::of(gate);
    let refused = series.because(names::MESSAGES_REFUSED, "member");
    counts.expect(&refused, 1).await;

    // And a message that comes from another node.
    let raw = RawLink::new(cluster.master(), hello(0, 1)).await;
    raw.send(vec![Frame {
        session: client.session(gate).await.id(),
        route: Bytes::from_static(b"Till.Echo"),
        ..frame(Kind::RpcViaGate)
    }]);
    let refused = series.because(names::CLUSTER_FRAMES_REFUSED, "other");
    counts.expect(&refused, 1).await;
}

#[tokio::test]
async fn pushes_and_logins_that_fail_because_a_gate_is_away_are_counted() {
    let mut counts = Counts::start().await;
    let options = TestCluster::master_options().heartbeat(SLOW);
    let app = || App::new().unique_users(Unique::Replace);
    let master = app().component(crate::Till::default());
    let cluster = TestCluster::with_master(master, options).await;
    let options = cluster.member_options().heartbeat(SLOW);
    let app = app().tcp("127.0.0.1:0").cluster(options);
    let mut gate = TestNode::start(app).await;
    cluster.converged(&[&gate]).await;
    let mut client = Client::connect(gate.node()).await;
    client.ask("Till.Echo", r#""x""#).await.unwrap();
    let master = cluster.master();
    let group = nano::Group::<nano::Json>::new("room");
    let session = master.handle().sessions().list().pop().unwrap();
    group.add(&session).unwrap();
    gate.kill();
    let series = Series::of(master.node());
    let dropped = series.because(names::PUSHES_DROPPED, "link");
    // Together more than may wait for a gate that is away.
    let body = Bytes::from(vec![b'x'; 1_000_000]);
    for _ in 0..100 {
        group.broadcast_raw("on", body.clone()).unwrap();
    }
    counts.expect_at_least(&dropped, 1).await;
    // Nor is a login decided by the session's gate.
    session.login("ann").await.unwrap_err();
    let failed = series.with(names::LOGINS, ("outcome", "failed"));
    counts.expect(&failed, 1).await;
}

#[tokio::test]
async fn publications_that_a_gate_misses_because_of_a_link_are_counted() {
    let mut counts = Counts::start().await;
    let options = TestCluster::master_options().heartbeat(SLOW);
    let cluster = TestCluster::with_master(App::new(), options).await;
    let options = cluster.member_options().heartbeat(SLOW);
    let app = App::new().tcp("127.0.0.1:0").cluster(options);
    let mut gate = TestNode::start(app).await;
    cluster.converged(&[&gate]).await;
    let _client = Client::connect(gate.node()).await;
    let session = gate.handle().sessions().list().pop().unwrap();
    // Each node owns some of them.
    let channels = (0..60).map(|at| format!("guild.{at}"));
    let channels: Vec<_> = channels.collect();
    for name in &channels {
        gate.handle()
            .channel(name.as_str())
            .join(&session)
            .await
            .unwrap();
    }
    let master = cluster.master();
    let [links, others] =
        [gate.node(), master.node()].map(|node| Series::of(node).named(names::CLUSTER_LINKS));
    counts.expect_at_least(&links, 1).await;
    counts.expect_at_least(&others, 1).await;
    gate.kill();
    counts.expect(&others, 0).await;
    // Together more than may wait for a gate that is away.
    let body = Bytes::from(vec![b'x'; 1_000_000]);
    let publish = channels.iter().map(|name| {
        let channel = master.handle().channel(name.as_str());
        let body = body.clone();
        async move { channel.publish_raw("on", body).await.is_ok() }
    });
    let published = join_all(publish).await;
    assert!(published.contains(&true));
    let dropped = Series::of(master.node()).because(names::CHANNEL_DROPPED, "link");
    counts.expect_at_least(&dropped, 1).await;
}

#[tokio::test]
async fn publications_that_are_late_are_counted() {
    let mut counts = Counts::start().await;
    let app = App::new().tcp("127.0.0.1:0");
    let node = TestNode::start(app.cluster(TestCluster::master_options())).await;
    let client = Client::connect(node.node()).await;
    let session = client.session(node.node()).await;
    let guild = node.handle().channel("guild");
    guild.join(&session).await.unwrap();
    let late = Series::of(node.node()).because(names::CHANNEL_DROPPED, "late");
    counts.expect(&late, 0).await;
    // A publication to the channel `guild` without a position, which is the first of all.
    let raw = RawLink::new(&node, hello(0, 1)).await;
    raw.send(vec![Frame {
        route: Bytes::from_static(b"Channels.Deliver"),
        body: Bytes::from_static(b"\x0a\x05guild\x12\x02\x0a\x00"),
        ..frame(Kind::NodeCall)
    }]);
    counts.expect(&late, 1).await;
}
