//! Addresses of listeners, of clients, and of players as the application sees them.

use std::{net::SocketAddr, time::Duration};

use nano::{App, Node, Timeouts, client::Client as RustClient};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    harness::{Client, Echo, start},
    support::{eventually, within},
};

async fn listening(address: &str) -> Node {
    let app = App::new().component(Echo).tcp(address);
    app.start().await.unwrap()
}

async fn echoes(address: SocketAddr) -> Client {
    let stream = within("a connection", TcpStream::connect(address)).await;
    let mut client = Client::over(stream.unwrap());
    client.shake_hands().await;
    assert_eq!(client.ask("Echo.Echo", "hello").await.unwrap(), "hello");
    client
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
    ]
}

#[tokio::test]
async fn a_listener_for_all_addresses_or_for_a_name_serves_both_families() {
    for address in [":0", "[::]:0", ":::0", "[::0]:0", "localhost:0"] {
        let node = listening(address).await;
        let port = node.addresses()[0].port();
        assert_ne!(port, 0);
        for address in loopback(port) {
            echoes(address).await;
        }
        // The name of a listener is one address, and both sockets end with the node.
        assert_eq!(node.addresses().len(), 1);
        within("a shutdown", node.shutdown()).await;
        for address in loopback(port) {
            assert!(TcpStream::connect(address).await.is_err(), "{address}");
        }
    }
}

#[tokio::test]
async fn players_have_canonical_addresses_on_every_listener() {
    for (listen, index, expected) in [
        ("[::]:0", 0, "127.0.0.1"),
        (":0", 0, "127.0.0.1"),
        (":0", 1, "::1"),
        ("[::ffff:127.0.0.1]:0", 0, "127.0.0.1"),
        ("::1:00000", 1, "::1"),
    ] {
        let node = listening(listen).await;
        let _client = echoes(loopback(node.addresses()[0].port())[index]).await;
        let session = node.handle().sessions().list().remove(0);
        assert_eq!(
            session.remote_addr().unwrap().ip().to_string(),
            expected,
            "{listen}"
        );
    }
}

#[tokio::test]
async fn an_invalid_listen_address_is_an_error_that_shows_the_right_form() {
    for (address, shown) in [
        ("::1:4101", "[::1]:4101"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:65536", "from 0 to 65535"),
        ("http://10.0.0.1:34580", "without http://"),
        ("0:34580", "not an IPv4 address"),
        ("127.0.0.1:0 ", "a space"),
    ] {
        let error = App::new()
            .component(Echo)
            .tcp(address)
            .start()
            .await
            .unwrap_err();
        let message = error.message();
        assert!(message.contains(shown), "{message}");
        assert!(message.contains(&format!("{address:?}")), "{message}");
    }
}

#[tokio::test]
async fn a_port_that_one_family_of_a_name_has_not_free_is_an_error() {
    let taken = std::net::TcpListener::bind("[::1]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let app = App::new().component(Echo).tcp(format!("localhost:{port}"));
    let error = app.start().await.unwrap_err();
    assert!(
        error.message().contains(&format!("localhost:{port}")),
        "{error}"
    );
}

#[tokio::test]
async fn the_client_finds_a_server_in_either_family_of_a_name() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let node = listening(address).await;
        let port = node.addresses()[0].port();
        let url = format!("tcp://localhost:{port}");
        let client = RustClient::connect(&url);
        within("a connection", client).await.unwrap();
    }
}

/// A socket whose listen backlog is full: the system answers no further connection.
///
/// `None` if another process has the port.
async fn silent(address: SocketAddr) -> Option<(tokio::net::TcpListener, Vec<TcpStream>)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.unwrap();
    socket.bind(address).ok()?;
    let listener = socket.listen(1).unwrap();
    let mut fillers = Vec::new();
    let window = Duration::from_millis(200);
    while let Ok(stream) = tokio::time::timeout(window, TcpStream::connect(address)).await {
        fillers.push(stream.unwrap());
    }
    Some((listener, fillers))
}

/// A server in one family of `localhost`, and a port of the same number in the other one that is silent.
async fn half_silent(served: usize, dead: usize) -> (Node, impl Sized) {
    loop {
        let node = listening(&loopback(0)[served].to_string()).await;
        let port = node.addresses()[0].port();
        if let Some(silent) = silent(loopback(port)[dead]).await {
            return (node, silent);
        }
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_holds_the_client_up_for_a_moment_only() {
    for (served, dead) in [(0, 1), (1, 0)] {
        let (node, _dead) = half_silent(served, dead).await;
        let port = node.addresses()[0].port();
        let begun = tokio::time::Instant::now();
        let url = format!("tcp://localhost:{port}");
        let client = RustClient::connect(&url);
        within("a connection", client).await.unwrap();
        // The system would repeat its packet after a second, and again for minutes.
        assert!(begun.elapsed() < Duration::from_millis(900));
    }
}

/// The kind of timer that runs for a socket of the server: 2 is keepalive.
#[cfg(target_os = "linux")]
fn timer(server: SocketAddr, client: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ends_with = |field: &str, port: u16| field.ends_with(&format!(":{port:04X}"));
        let is_it = ends_with(fields[1], server.port()) && ends_with(fields[2], client.port());
        is_it.then(|| fields[5].to_owned())
    })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn client_sockets_are_probed_unless_switched_off() {
    let app = |timeouts| App::new().component(Echo).timeouts(timeouts);
    for (interval, kind) in [(Some(Duration::from_secs(3600)), "02"), (None, "00")] {
        let node = start(app(Timeouts::new().tcp_keepalive(interval))).await;
        let server = node.addresses()[0];
        let stream = TcpStream::connect(server).await.unwrap();
        let near = stream.local_addr().unwrap();
        let mut client = Client::over(stream);
        client.shake_hands().await;
        // Other timers of the socket end when everything is acknowledged.
        eventually("the socket is idle", || {
            timer(server, near).is_some_and(|timer| {
                timer.starts_with(kind) && (interval.is_none() || timer[3..] > *"00010000")
            })
        })
        .await;
    }
    let too_often = app(Timeouts::new().tcp_keepalive(Duration::from_millis(999)));
    let error = too_often.start().await.unwrap_err();
    assert!(
        error.message().contains("timeouts.tcp_keepalive"),
        "{error}"
    );
}
