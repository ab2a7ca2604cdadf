//! Invalid options are errors that name them, before anything listens.

use std::time::Duration;

use nano::{App, Cluster, ClusterTls};

use crate::nodes::free_address;

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
            "cluster.listen must be host:port",
        ),
        (
            master().listen("127.0.0.1"),
            "cluster.listen must be host:port",
        ),
        (
            master().advertise("127.0.0.1"),
            "cluster.advertise must be host:port",
        ),
        (
            master().listen("0.0.0.0:34567"),
            "cluster.advertise is missing",
        ),
        (
            master().advertise("127.0.0.1:0"),
            "cluster.advertise needs the port",
        ),
        (
            master().listen("256.1.1.1:1"),
            "cluster.listen: cannot listen on 256.1.1.1:1",
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
            Cluster::join(["not an address"]).listen("127.0.0.1:0"),
            "not the address of a node: not an address",
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
