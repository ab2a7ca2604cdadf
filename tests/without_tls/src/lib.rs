//! A program without the feature `tls` refuses what needs it, by name, and never goes on in the
//! clear.
//!
//! A package of its own, because the dependencies of the other tests turn the feature on. Run it
//! alone: `cargo test -p without-tls`.
#![cfg(test)]

use nano::{App, Cluster, ClusterTls, Error, Json, Listener, code};
use nano_client::Client;

#[track_caller]
fn assert_names(error: &Error, option: &str) {
    assert_eq!(error.code(), code::UNSUPPORTED, "{error}");
    let text = error.to_string();
    assert!(text.contains("the feature `tls`"), "{text}");
    assert!(text.contains(option), "{text}");
}

#[tokio::test]
async fn a_listener_with_tls_fails_the_start_and_names_its_files() {
    for listener in [
        Listener::tcp("127.0.0.1:0"),
        Listener::websocket("127.0.0.1:0", "/nano"),
    ] {
        let listener = listener.tls("gate.pem", "gate.key");
        let error = App::new().listen(listener).start().await.unwrap_err();
        assert_names(&error, "gate.pem, gate.key");
    }
    let listener = Listener::tcp("127.0.0.1:0")
        .tls("gate.pem", "gate.key")
        .client_authorities("players.pem");
    let error = App::new().listen(listener).start().await.unwrap_err();
    assert_names(&error, "players.pem");
}

#[tokio::test]
async fn a_cluster_with_tls_fails_the_start() {
    let cluster = Cluster::master()
        .listen("127.0.0.1:0")
        .tls(ClusterTls::new("node.pem", "node.key", "ca.pem"));
    let error = App::new().cluster(cluster).start().await.unwrap_err();
    assert_names(&error, "node.pem");
}

#[tokio::test]
async fn a_client_of_an_encrypted_address_fails_before_it_sends_a_byte() {
    let server = App::new().tcp("127.0.0.1:0").start().await.unwrap();
    let address = server.addresses()[0];
    for url in [format!("tls://{address}"), format!("wss://{address}/nano")] {
        let error = Client::<Json>::connect(&url).await.unwrap_err();
        assert_names(&error, "tls:// and wss://");
    }
    assert_eq!(server.handle().sessions().count(), 0);
    server.shutdown().await;
}
