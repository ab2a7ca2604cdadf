//! Invalid options are errors that name them, before anything listens.

use std::time::Duration;

use nano::{App, Cluster, ClusterTls};

use crate::{log::Log, nodes::free_address, support::eventually};

#[tokio::test]
async fn invalid_cluster_options_are_named() {
    let member = || Cluster::join(["127.0.0.1:1"]).listen("127.0.0.1:0");
    let master = || Cluster::master().listen("127.0.0.1:0");
    let cases = [
        (Cluster::master(), "cluster.listen is missing"),
        (Cluster::join(["127.0.0.1:1"]), "cluster.listen is missing"),
        (
            Cluster::join::<String>([]).listen("127.0.0.1:0"),
            "cluster.join: no master address",
        ),
        (member().listen("127.0.0.1:1"), "this node's own address"),
        (
            master().listen(":34567"),
            "cluster.advertise is missing: other nodes cannot dial an address without a host: :34567",
        ),
        (
            master().listen("127.0.0.1"),
            "cluster.listen: invalid address \"127.0.0.1\"",
        ),
        (
            master().advertise("127.0.0.1"),
            "cluster.advertise: invalid address \"127.0.0.1\"",
        ),
        (
            master().listen("0.0.0.0:34567"),
            "cluster.advertise is missing: other nodes cannot dial an unspecified address: 0.0.0.0:34567",
        ),
        (
            master().listen("[::0]:34567"),
            "unspecified address: [::]:34567",
        ),
        (
            master().listen(":::34567"),
            "unspecified address: [::]:34567",
        ),
        (
            master().advertise("0:34567"),
            "cluster.advertise: invalid address \"0:34567\"",
        ),
        (
            master().advertise(":34567"),
            "cluster.advertise: other nodes cannot dial",
        ),
        (
            master().advertise("[::]:34567"),
            "cluster.advertise: other nodes cannot dial",
        ),
        (
            master().advertise("[::ffff:0.0.0.0]:34567"),
            "unspecified address: 0.0.0.0:34567",
        ),
        (
            master().advertise("[fe80::1]:34567"),
            "a link-local address",
        ),
        (master().advertise("224.0.0.1:34567"), "a multicast address"),
        (
            master().advertise("http://10.0.0.1:34567"),
            "write host:port, without http://",
        ),
        (master().advertise("fd00::5:3458"), "write [fd00::5]:3458"),
        (
            member().listen("[::ffff:127.0.0.1]:1"),
            "this node's own address",
        ),
        (
            Cluster::join(["127.0.0.1:0"]).listen("127.0.0.1:0"),
            "needs the port of the master",
        ),
        (
            Cluster::join(["::1:4101"]).listen("127.0.0.1:0"),
            "write [::1]:4101",
        ),
        (
            master().advertise("127.0.0.1:0"),
            "cluster.advertise needs the port",
        ),
        (
            master().listen("256.1.1.1:1"),
            "cluster.listen: invalid address \"256.1.1.1:1\"",
        ),
        (
            member().retry_interval(Duration::ZERO),
            "cluster.retry_interval",
        ),
        (member().heartbeat(Duration::ZERO), "cluster.heartbeat"),
        (
            member().retry_interval(Duration::MAX),
            "cluster.retry_interval",
        ),
        (member().heartbeat(Duration::MAX), "cluster.heartbeat"),
        (
            member().link_idle_timeout(Duration::ZERO),
            "cluster.link_idle_timeout",
        ),
        (
            Cluster::join(["not an address"]).listen("127.0.0.1:0"),
            "cluster.join: invalid address \"not an address\"",
        ),
        (member().token(""), "cluster.token"),
        (member().label("l".repeat(257)), "cluster: a label of more"),
        (member().token("two words"), "cluster.token"),
        (
            member().tls(ClusterTls::new("missing.pem", "key.pem", "ca.pem")),
            "missing.pem",
        ),
    ];
    for (cluster, expected) in cases {
        let error = App::new().cluster(cluster).start().await.unwrap_err();
        assert!(
            error.message().contains(expected),
            "{:?} instead of {expected:?}",
            error.message()
        );
    }
}

#[tokio::test]
async fn an_invalid_version_is_named() {
    for (version, expected) in [
        ("1".repeat(65), "version: a version of more than 64 bytes"),
        (
            "1\n2".to_owned(),
            "version: a version with control characters",
        ),
    ] {
        let error = App::new().version(version).start().await.unwrap_err();
        assert_eq!(error.message(), expected);
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let address = free_address();
    let taken = std::net::TcpListener::bind(&address).unwrap();
    let cluster = Cluster::master().listen(&address);
    let error = App::new().cluster(cluster).start().await.unwrap_err();
    assert!(error.message().contains(&address), "{error}");
    drop(taken);
}

#[tokio::test]
async fn a_node_may_advertise_another_address_than_it_listens_on() {
    let listen = free_address();
    let port = listen.rsplit_once(':').unwrap().1;
    let node = App::new()
        .cluster(
            Cluster::master()
                .listen(&listen)
                .advertise(format!("localhost:{port}")),
        )
        .start()
        .await
        .unwrap();
    assert_eq!(
        node.handle().member().unwrap().address(),
        format!("localhost:{port}")
    );
    assert!(std::net::TcpStream::connect(&listen).is_ok());
    node.shutdown().await;
}

#[tokio::test]
async fn a_loopback_address_beside_a_master_on_another_machine_is_warned_of() {
    let log = Log::captured();
    let warned = |master: &str| log.count(&["loopback: set cluster.advertise", master]);
    // Of a network for examples, which nothing answers from.
    let cluster = Cluster::join(["192.0.2.1:34567"]).listen("127.0.0.1:0");
    let start = tokio::spawn(App::new().cluster(cluster).start());
    eventually("the warning", || warned("192.0.2.1:34567") == 1).await;
    start.abort();

    let master = free_address();
    let cluster = Cluster::master().listen(&master);
    let node = App::new().cluster(cluster).start().await.unwrap();
    let member = Cluster::join([&master]).listen("127.0.0.1:0");
    let member = App::new().cluster(member).start().await.unwrap();
    assert_eq!(warned(&master), 0);
    member.shutdown().await;
    node.shutdown().await;
}
