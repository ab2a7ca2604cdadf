//! What is wrong with options is an error that names them, before anything listens.

use nano::{App, ClusterTls};

use crate::nodes::{free_address, master};

#[tokio::test]
async fn bad_options_are_named() {
    let member = || {
        App::new()
            .service_addr("127.0.0.1:0")
            .advertise_addr("127.0.0.1:1")
    };
    let cases: Vec<(App, &str)> = vec![
        (App::new().master(), "service_addr is missing"),
        (
            App::new().advertise_addr("127.0.0.1:1"),
            "service_addr is missing",
        ),
        (
            App::new().service_addr("127.0.0.1:0"),
            "advertise_addr is missing",
        ),
        (member().master(), "advertise_addr: a master joins nobody"),
        (
            App::new()
                .service_addr("127.0.0.1:1")
                .advertise_addr("127.0.0.1:1"),
            "not this node's",
        ),
        (
            master().service_addr(":34567"),
            "service_addr must be host:port",
        ),
        (
            master().service_addr("127.0.0.1"),
            "service_addr must be host:port",
        ),
        (master().service_addr("0.0.0.0:34567"), "service_listen"),
        (
            master()
                .service_addr("127.0.0.1:0")
                .service_listen("127.0.0.1:0"),
            "service_addr needs the port",
        ),
        (
            master().service_addr("256.1.1.1:1"),
            "service_addr: cannot listen on 256.1.1.1:1",
        ),
        (
            member().retry_interval(std::time::Duration::ZERO),
            "retry_interval",
        ),
        (
            member().cluster_heartbeat(std::time::Duration::ZERO),
            "cluster_heartbeat",
        ),
        (
            member().retry_interval(std::time::Duration::MAX),
            "retry_interval",
        ),
        (
            member().cluster_heartbeat(std::time::Duration::MAX),
            "cluster_heartbeat",
        ),
        (
            member().advertise_addr("not an address"),
            "not the address of a node: not an address",
        ),
        (member().cluster_token(""), "cluster_token"),
        (member().cluster_token("two words"), "cluster_token"),
        (
            member().cluster_tls(ClusterTls::new("missing.pem", "key.pem", "ca.pem")),
            "missing.pem",
        ),
    ];
    for (app, expected) in cases {
        let error = app.start().await.unwrap_err();
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
    let error = master().service_addr(&address).start().await.unwrap_err();
    assert!(error.message().contains(&address), "{error}");
    drop(taken);
}

#[tokio::test]
async fn a_node_may_listen_elsewhere_than_it_is_reached() {
    let listen = free_address();
    let port = listen.rsplit_once(':').unwrap().1;
    let node = master()
        .service_addr(format!("localhost:{port}"))
        .service_listen(&listen)
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
