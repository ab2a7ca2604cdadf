//! Who may connect: the deny list and the limits by address, before and behind proxies.

use std::net::SocketAddr;

use nano::{
    App, CloseReason, Limits, Listener, Network, Node,
    axum::{Router, routing::get},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    harness::{Client, Echo, Ends, start},
    listeners::web_socket,
    support::{eventually, websocket::upgrade, within},
};

pub(crate) fn networks<const N: usize>(texts: [&str; N]) -> [Network; N] {
    texts.map(|text| text.parse().unwrap())
}

/// A connection from another address of the loopback network.
pub(crate) async fn from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    within("a connection", socket.connect(to)).await.unwrap()
}

/// Whether the node closes the connection without a byte.
async fn is_refused(mut stream: TcpStream) -> bool {
    let mut byte = [0];
    // A reset is a refusal as well.
    within("the end", stream.read(&mut byte)).await.unwrap_or(0) == 0
}

async fn is_served(stream: TcpStream) -> Client {
    let mut client = Client::over(stream);
    client.shake_hands().await;
    client
}

async fn session_count(node: &Node, count: usize) {
    eventually("the number of sessions", || {
        node.handle().sessions().count() == count
    })
    .await;
}

#[tokio::test]
async fn a_denied_network_is_refused_from_the_start_until_it_is_taken_from_the_list() {
    let app = App::new()
        .component(Echo)
        .deny(networks(["127.0.2.0/24", "::ffff:127.0.3.3"]));
    let (app, ends) = Ends::of(app);
    let node = start(app).await;
    let address = node.addresses()[0];
    for denied in [[127, 0, 2, 1], [127, 0, 2, 255], [127, 0, 3, 3]] {
        assert!(is_refused(from(denied, address).await).await);
    }
    for allowed in [[127, 0, 1, 255], [127, 0, 3, 0], [127, 0, 3, 4]] {
        is_served(from(allowed, address).await).await;
    }
    let list = node.handle().deny_list();
    list.remove(networks(["127.0.2.0/24"]));
    is_served(from([127, 0, 2, 1], address).await).await;
    assert_eq!(list.networks(), networks(["127.0.3.3/32"]));
    assert!(list.contains("::ffff:127.0.3.3".parse().unwrap()));
    // No session was opened for those that were refused.
    eventually("the others close", || ends.count() == 4).await;
}

#[tokio::test]
async fn a_network_that_is_denied_loses_its_connections_and_no_other_does() {
    let (app, ends) = Ends::of(App::new().component(Echo));
    let node = start(app).await;
    let address = node.addresses()[0];
    let mut denied = is_served(from([127, 0, 2, 1], address).await).await;
    let mut other = is_served(from([127, 0, 1, 1], address).await).await;
    node.handle().deny_list().add(networks(["127.0.2.0/24"]));
    assert_eq!(denied.end().await, None);
    assert_eq!(ends.first().await, CloseReason::Denied);
    assert_eq!(other.ask("Echo.Echo", "hello").await.unwrap(), "hello");
    assert!(is_refused(from([127, 0, 2, 1], address).await).await);
    node.handle().deny_list().set([]);
    is_served(from([127, 0, 2, 1], address).await).await;
}

#[tokio::test]
async fn a_connection_that_has_no_session_yet_is_refused_when_it_gets_one() {
    let (app, ends) = Ends::of(App::new().component(Echo));
    let node = start(app).await;
    let mut stream = from([127, 0, 2, 1], node.addresses()[0]).await;
    node.handle().deny_list().add(networks(["127.0.2.1"]));
    // Accepted before or after the change: it may not be served in either case.
    let _ = stream.write_all(&crate::harness::greeting()).await;
    assert!(is_refused(stream).await);
    session_count(&node, 0).await;
    assert!(ends.count() <= 1);
}

#[tokio::test]
async fn each_client_address_may_have_its_number_of_connections() {
    let limits = Limits::new().max_connections_per_address(2);
    let node = start(App::new().component(Echo).limits(limits)).await;
    let address = node.addresses()[0];
    let first = is_served(from([127, 0, 1, 1], address).await).await;
    let _second = is_served(from([127, 0, 1, 1], address).await).await;
    assert!(is_refused(from([127, 0, 1, 1], address).await).await);
    // Another address has its own number.
    let _other = is_served(from([127, 0, 1, 2], address).await).await;
    drop(first);
    session_count(&node, 2).await;
    // The session ends before its socket is closed.
    let mut served = false;
    while !served {
        let mut stream = from([127, 0, 1, 1], address).await;
        let greeting = crate::harness::greeting();
        let mut byte = [0];
        served = stream.write_all(&greeting).await.is_ok()
            && stream.read(&mut byte).await.unwrap_or(0) == 1;
    }
}

#[tokio::test]
async fn forwarded_addresses_are_believed_of_trusted_proxies_only() {
    let listener =
        Listener::websocket("127.0.0.1:0", "/nano").forwarded_for(networks(["127.0.9.0/24"]));
    let app = App::new()
        .component(Echo)
        .limits(Limits::new().max_connections_per_address(2))
        .listen(listener);
    let node = app.start().await.unwrap();
    let open = async |ip: [u8; 4], forwarded: &'static str| {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let mut request = "ws://localhost/nano".into_client_request().unwrap();
        if !forwarded.is_empty() {
            request
                .headers_mut()
                .insert("x-forwarded-for", forwarded.parse().unwrap());
        }
        let stream = from(ip, node.addresses()[0]).await;
        web_socket(stream, request).await
    };
    for (ip, forwarded, expected) in [
        ([127, 0, 9, 1], "198.51.100.7", "198.51.100.7"),
        ([127, 0, 9, 1], "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ([127, 0, 9, 1], "198.51.100.7, 127.0.9.2", "198.51.100.7"),
        ([127, 0, 9, 1], "::ffff:198.51.100.7", "198.51.100.7"),
        ([127, 0, 9, 1], "2001:db8::7", "2001:db8::7"),
        ([127, 0, 9, 1], "garbage", "127.0.9.1"),
        ([127, 0, 9, 1], "", "127.0.9.1"),
        // Not a proxy: its header is its own invention.
        ([127, 0, 1, 1], "198.51.100.7", "127.0.1.1"),
    ] {
        let mut client = Client::over(open(ip, forwarded).await);
        client.shake_hands().await;
        let session = node.handle().sessions().list().remove(0);
        let remote = session.remote_addr().unwrap().ip();
        assert_eq!(remote.to_string(), expected, "{ip:?} {forwarded:?}");
        drop(client);
        session_count(&node, 0).await;
    }

    // The limit counts the clients, not the proxy.
    let mut clients = Vec::new();
    for forwarded in ["198.51.100.1", "198.51.100.1", "198.51.100.2"] {
        let mut client = Client::over(open([127, 0, 9, 1], forwarded).await);
        client.shake_hands().await;
        clients.push(client);
    }
}

/// The status of the answer to a request that a proxy passes on for a client.
async fn status(node: &Node, path: &str, client: &str) -> String {
    let mut stream = from([127, 0, 9, 1], node.addresses()[0]).await;
    let forwarded = format!("X-Forwarded-For: {client}\r\n");
    let request = upgrade(path, &forwarded);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; "HTTP/1.1 101".len()];
    let read = stream.read_exact(&mut status);
    within("an answer", read).await.unwrap();
    String::from_utf8_lossy(&status["HTTP/1.1 ".len()..]).into_owned()
}

#[tokio::test]
async fn a_client_cannot_pretend_with_the_header_that_its_proxy_does_not_write() {
    let listener = Listener::websocket("127.0.0.1:0", "/nano");
    let node = App::new()
        .component(Echo)
        .deny(networks(["198.51.100.66"]))
        .listen(listener.forwarded_for(networks(["127.0.9.0/24"])))
        .start()
        .await
        .unwrap();
    let with = |client: &str, invented: &str| format!("{client}\r\nForwarded: {invented}");
    for client in ["198.51.100.66", "198.51.100.67"] {
        for invented in ["for=203.0.113.9", "for=unknown", "garbage", ""] {
            let headers = with(client, invented);
            assert_eq!(status(&node, "/nano", &headers).await, "400", "{headers}");
        }
    }
    // A proxy may write both.
    let denied = with("198.51.100.66", "for=198.51.100.66");
    assert_eq!(status(&node, "/nano", &denied).await, "403");
    let served = with("203.0.113.9, 198.51.100.67", "for=198.51.100.67");
    assert_eq!(status(&node, "/nano", &served).await, "101");
}

#[tokio::test]
async fn a_client_behind_a_proxy_that_may_not_connect_is_refused_before_the_upgrade() {
    let page = Router::new().route("/page", get(async || "hello"));
    let listener = Listener::websocket("127.0.0.1:0", "/nano")
        .forwarded_for(networks(["127.0.9.0/24"]))
        .http(page);
    let (app, ends) = Ends::of(App::new().component(Echo));
    let node = app
        .deny(networks(["198.51.100.66", "2001:db8:6::/48"]))
        .limits(Limits::new().max_connections_per_address(1))
        .listen(listener)
        .start()
        .await
        .unwrap();
    for denied in [
        "198.51.100.66",
        "1.2.3.4, ::ffff:198.51.100.66",
        "2001:db8:6::1",
    ] {
        for path in ["/nano", "/page", "/elsewhere"] {
            assert_eq!(status(&node, path, denied).await, "403", "{path} {denied}");
        }
    }
    assert_eq!(status(&node, "/page", "198.51.100.67").await, "200");

    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = "ws://localhost/nano".into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", "198.51.100.67".parse().unwrap());
    let stream = from([127, 0, 9, 1], node.addresses()[0]).await;
    let mut first = Client::over(web_socket(stream, request).await);
    first.shake_hands().await;
    // The limit is one of connections, and pages are none.
    assert_eq!(status(&node, "/nano", "198.51.100.67").await, "429");
    assert_eq!(status(&node, "/page", "198.51.100.67").await, "200");
    assert_eq!(status(&node, "/nano", "198.51.100.68").await, "101");
    // A refused one does not count for its address.
    drop(first);
    eventually("the first and the last to end", || ends.count() == 2).await;
    within("the socket of the first to be closed", async {
        while status(&node, "/nano", "198.51.100.67").await != "101" {}
    })
    .await;
}
