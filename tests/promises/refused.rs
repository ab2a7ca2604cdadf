//! Clients that a node refuses or disconnects: its log says so, a line in ten seconds for each cause.

use std::net::SocketAddr;

use nano::{App, Limits, Listener, RateLimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    denied::networks,
    harness::{Client, Echo, start},
    listeners::Certificate,
    log::Log,
    support::{eventually, within},
};

/// Connects, says something, and waits for the end. Returns where from.
async fn say(to: SocketAddr, text: &str) -> SocketAddr {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let from = stream.local_addr().unwrap();
    // It may be closed already.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let end = within("the end", stream.read_to_end(&mut answer)).await;
    drop(end);
    from
}

#[tokio::test]
async fn clients_that_are_refused_are_logged_with_the_reason() {
    let log = Log::captured();
    let certificate = Certificate::new();
    let tls = Listener::tcp("127.0.0.1:0").tls(&certificate.chain, &certificate.key);
    let websocket = Listener::websocket("127.0.0.1:0", "/game");
    let node = App::new().listen(tls).listen(websocket).start().await;
    let node = node.unwrap();
    let [tls, websocket] = [0, 1].map(|at| node.addresses()[at]);
    let from = say(tls, "this is no TLS at all").await;
    let refused = |reason: &str, from: SocketAddr| {
        let (reason, from) = (format!("reason=\"{reason}\""), from.to_string());
        log.count(&["connection refused", &reason, &from])
    };
    eventually("a line about TLS", || refused("tls", from) == 1).await;
    let again = say(tls, "nor is this").await;
    // A scan of the port makes no lines.
    let upgrade =
        "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n";
    let from = say(websocket, &format!("GET /gme HTTP/1.1\r\n{upgrade}")).await;
    eventually("a line about the path", || refused("upgrade", from) == 1).await;
    assert_eq!(log.count(&["/gme", &from.to_string()]), 1);
    assert_eq!(refused("tls", again), 0);

    node.shutdown().await;

    let full = start(App::new().limits(Limits::new().max_connections(1))).await;
    let _only = Client::connect(&full).await;
    let from = say(full.addresses()[0], "").await;
    eventually("a line about the limit", || refused("limit", from) == 1).await;
    full.shutdown().await;
}

#[tokio::test]
async fn denied_clients_are_logged_with_their_ports_where_there_are_some() {
    let log = Log::captured();
    let node = start(App::new().deny(networks(["127.0.0.1"]))).await;
    let line = |client: &str| {
        let client = format!(" client={client} ");
        log.count(&["connection refused", "reason=\"denied\"", &client])
    };
    let from = say(node.addresses()[0], "").await;
    eventually("a line about the client", || line(&from.to_string()) == 1).await;
    node.shutdown().await;

    // A proxy tells no port.
    let listener = Listener::websocket("127.0.0.1:0", "/game");
    let listener = listener.forwarded_for(networks(["127.0.0.0/8"]));
    let denied = networks(["198.51.100.77"]);
    let node = App::new().listen(listener).deny(denied).start().await;
    let node = node.unwrap();
    let request = "GET /game HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.77\r\nConnection: close\r\n\r\n";
    say(node.addresses()[0], request).await;
    eventually("a line about the client", || line("198.51.100.77") == 1).await;
    node.shutdown().await;
}

#[tokio::test]
async fn clients_that_are_disconnected_for_what_they_do_are_logged() {
    let log = Log::captured();
    let limits = Limits::new().rate_limit(RateLimit::disconnect(1, 1));
    let node = start(App::new().component(Echo).limits(limits)).await;
    let mut client = Client::connect(&node).await;
    let session = client.session(&node).await;
    session.bind(4_711_004).unwrap();
    for _ in 0..3 {
        client.notify("Echo.Echo", "hello").await;
    }
    let line = ["client disconnected", "4711004", "rate"];
    eventually("a line about the client", || log.count(&line) == 1).await;
    node.shutdown().await;
}
