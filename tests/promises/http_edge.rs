//! The HTTP before a WebSocket: what Go nano does with odd requests, and what a node does.

use std::time::Duration;

use nano::{
    App, Listener, Node, Timeouts,
    axum::{
        Router,
        body::Bytes,
        routing::{get, post},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::Echo,
    support::{
        RawClient, eventually,
        websocket::{http, upgrade},
        within,
    },
};

/// All that makes a request an upgrade.
const UPGRADE: [&str; 5] = [
    "Host: 127.0.0.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

async fn start(listener: impl FnOnce(Listener) -> Listener) -> Node {
    App::new()
        .component(Echo)
        .timeouts(Timeouts::new().handshake(Duration::from_secs(1)))
        .listen(listener(Listener::websocket("127.0.0.1:0", "/nano")))
        .start()
        .await
        .unwrap()
}

/// A request whose headers are those of an upgrade, except that each of `with` replaces the one of
/// its name, or removes it if it has no value.
fn request(line: &str, with: &[&str]) -> String {
    let name = |header: &str| header.split(':').next().unwrap().to_ascii_lowercase();
    let kept = UPGRADE
        .into_iter()
        .filter(|header| !with.iter().any(|other| name(other) == name(header)));
    let added = with.iter().filter(|header| header.contains(':')).copied();
    let headers: Vec<_> = kept.chain(added).collect();
    format!("{line}\r\n{}\r\n\r\n", headers.join("\r\n"))
}

/// Each row: what is odd, the request, the status of Go nano (0: it closes without a response), the
/// status of a node.
#[tokio::test]
async fn an_upgrade_is_checked_as_go_nano_checks_it() {
    const GET: &str = "GET /nano HTTP/1.1";
    let many: Vec<_> = (0..500).map(|at| format!("X-{at}: {at}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let crowd = many.repeat(3);
    let large = format!("X-Large: {}", "x".repeat(100_000));
    let cases = [
        ("nothing", request(GET, &[]), 101, 101),
        (
            "an empty key",
            request(GET, &["Sec-WebSocket-Key:"]),
            400,
            400,
        ),
        (
            "a blank key",
            request(GET, &["Sec-WebSocket-Key:   "]),
            400,
            400,
        ),
        ("no key", request(GET, &["Sec-WebSocket-Key"]), 400, 400),
        (
            "a key that is no base64",
            request(GET, &["Sec-WebSocket-Key: ???"]),
            101,
            101,
        ),
        (
            "a list of versions",
            request(GET, &["Sec-WebSocket-Version: 13, 8"]),
            101,
            101,
        ),
        (
            "the version last",
            request(GET, &["Sec-WebSocket-Version: 8,13"]),
            101,
            101,
        ),
        (
            "two version headers",
            request(
                GET,
                &["Sec-WebSocket-Version: 8", "sec-websocket-version: 13"],
            ),
            101,
            101,
        ),
        (
            "another version",
            request(GET, &["Sec-WebSocket-Version: 8"]),
            400,
            400,
        ),
        (
            "no version",
            request(GET, &["Sec-WebSocket-Version"]),
            400,
            400,
        ),
        (
            "a list of connection options",
            request(GET, &["Connection: keep-alive, uPgRaDe"]),
            101,
            101,
        ),
        (
            "two connection headers",
            request(GET, &["Connection: keep-alive", "connection: upgrade"]),
            101,
            101,
        ),
        (
            "another case",
            request(GET, &["upgrade: WebSocket", "CONNECTION: UPGRADE"]),
            101,
            101,
        ),
        (
            "no connection header",
            request(GET, &["Connection"]),
            400,
            400,
        ),
        ("no upgrade header", request(GET, &["Upgrade"]), 400, 400),
        (
            "an upgrade to something else",
            request(GET, &["Upgrade: h2c"]),
            400,
            400,
        ),
        ("500 headers", request(GET, &many), 101, 101),
        ("more than 1,000 headers", request(GET, &crowd), 101, 431),
        (
            "a header of 100,000 bytes",
            request(GET, &[&large]),
            101,
            431,
        ),
        (
            "an encoded path",
            request("GET /%6eano HTTP/1.1", &[]),
            101,
            101,
        ),
        (
            "a query",
            request("GET /nano?token=t HTTP/1.1", &[]),
            101,
            101,
        ),
        (
            "an absolute URI",
            request("GET http://127.0.0.1/nano HTTP/1.1", &[]),
            101,
            101,
        ),
        ("two slashes", request("GET //nano HTTP/1.1", &[]), 301, 301),
        ("dots", request("GET /x/../nano HTTP/1.1", &[]), 301, 301),
        (
            "a slash behind",
            request("GET /nano/ HTTP/1.1", &[]),
            404,
            404,
        ),
        (
            "another path",
            request("GET /other HTTP/1.1", &[]),
            404,
            404,
        ),
        ("no host", request(GET, &["Host"]), 400, 400),
        ("two hosts", request(GET, &["Host: a", "Host: b"]), 400, 400),
        (
            "a host that is none",
            request(GET, &["Host: a b"]),
            400,
            400,
        ),
        ("an empty host", request(GET, &["Host:"]), 101, 101),
        (
            "a literal host",
            request(GET, &["Host: [::1]:80"]),
            101,
            101,
        ),
        ("HTTP/1.0", request("GET /nano HTTP/1.0", &[]), 101, 400),
        ("POST", request("POST /nano HTTP/1.1", &[]), 405, 405),
        (
            "PUT",
            request("PUT /nano HTTP/1.1", &["Content-Length: 0"]),
            405,
            405,
        ),
        (
            "a length of no body",
            request(GET, &["Content-Length: 0"]),
            101,
            101,
        ),
        (
            "a body",
            request(GET, &["Content-Length: 5"]) + "hello",
            0,
            400,
        ),
        (
            "a body that does not arrive",
            request(GET, &["Content-Length: 5", "Expect: 100-continue"]),
            101,
            400,
        ),
        (
            "a body in chunks",
            request(GET, &["Transfer-Encoding: chunked"]) + "5\r\nhello\r\n0\r\n\r\n",
            0,
            400,
        ),
        (
            "bare line feeds",
            request(GET, &[]).replace("\r\n", "\n"),
            101,
            101,
        ),
        (
            "a folded header",
            request(GET, &["X-Folded: a\r\n b"]),
            101,
            400,
        ),
        ("a space in a name", request(GET, &["X Y: z"]), 400, 400),
        ("a space behind a name", request(GET, &["X : y"]), 400, 400),
        (
            "a version behind nothing",
            request(GET, &["Sec-WebSocket-Version: ,13"]),
            400,
            101,
        ),
        (
            "an option behind nothing",
            request(GET, &["Connection: ,,upgrade,"]),
            400,
            101,
        ),
        (
            "a quoted option",
            request(GET, &["Connection: \"Upgrade\""]),
            400,
            400,
        ),
        (
            "a protocol with a version",
            request(GET, &["Upgrade: websocket/13"]),
            400,
            400,
        ),
        (
            "a list of protocols",
            request(GET, &["Upgrade: h2c, websocket"]),
            101,
            101,
        ),
        ("HTTP/1.2", request("GET /nano HTTP/1.2", &[]), 101, 400),
        ("HTTP/0.9", request("GET /nano HTTP/0.9", &[]), 505, 400),
        ("a fragment", request("GET /nano#x HTTP/1.1", &[]), 404, 101),
        (
            "a path that is not encoded well",
            request("GET /nano%zz HTTP/1.1", &[]),
            400,
            404,
        ),
        ("no path", request("GET * HTTP/1.1", &[]), 400, 404),
        (
            "another expectation",
            request(GET, &["Expect: foo"]),
            417,
            101,
        ),
        (
            "another transfer coding",
            request(GET, &["Transfer-Encoding: gzip"]),
            501,
            400,
        ),
        (
            "two lengths",
            request(GET, &["Content-Length: 0", "Content-Length: 1"]),
            400,
            400,
        ),
        (
            "an empty line ahead",
            "\r\n".to_owned() + &request(GET, &[]),
            400,
            101,
        ),
        (
            "no HTTP at all",
            "\x16\x03\x01\x02\r\n\r\n".to_owned(),
            400,
            400,
        ),
        (
            "HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            400,
            505,
        ),
    ];
    let node = start(|listener| listener).await;
    for (name, request, _go, expected) in cases {
        let (_stream, head) = http(node.addresses()[0], &request).await;
        let status = head.split(' ').nth(1).unwrap();
        assert_eq!(status, expected.to_string(), "{name}: {head}");
    }
}

#[tokio::test]
async fn a_plain_request_for_the_path_learns_what_is_missing() {
    let node = start(|listener| listener).await;
    let plain = "GET /nano HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (mut stream, head) = http(node.addresses()[0], plain).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(head.contains("\r\nSec-Websocket-Version: 13\r\n"), "{head}");
    let mut body = String::new();
    within("the body", stream.read_to_string(&mut body))
        .await
        .unwrap();
    assert!(body.contains("Connection: Upgrade"), "{body}");
}

#[tokio::test]
async fn a_page_of_the_application_may_have_the_path_of_the_websocket() {
    let router = Router::new().route("/nano", get(|| async { "a page" }));
    let node = start(|listener| listener.http(router)).await;
    let (_stream, head) = http(node.addresses()[0], "GET /nano HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut client = RawClient::websocket(node.addresses()[0], "/nano").await;
    client.handshake().await;
}

#[tokio::test]
async fn an_upgrade_follows_the_responses_to_requests_before_it() {
    let router = Router::new().route("/page", get(|| async { "a page" }));
    let node = start(|listener| listener.http(router)).await;
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let requests = page.repeat(3) + &upgrade("/nano", "");
    let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("Sec-WebSocket-Accept: s3pP") {
        let count = within("a response", stream.read_buf(&mut read))
            .await
            .unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
    }
    let text = String::from_utf8(read).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}

#[tokio::test]
async fn the_first_subprotocol_of_the_listener_that_the_client_offers_is_chosen() {
    let node = start(|listener| listener.subprotocols(["nano.v2", "nano"])).await;
    for (offer, chosen) in [
        ("Sec-WebSocket-Protocol: nano, jwt.abc\r\n", Some("nano")),
        (
            "Sec-WebSocket-Protocol: nano\r\nSec-WebSocket-Protocol: nano.v2\r\n",
            Some("nano.v2"),
        ),
        ("Sec-WebSocket-Protocol: pomelo\r\n", None),
        ("", None),
    ] {
        let (_stream, head) = http(node.addresses()[0], &upgrade("/nano", offer)).await;
        let line = chosen.map(|chosen| format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        match line {
            Some(line) => assert!(head.contains(&line), "{offer}: {head}"),
            None => assert!(!head.contains("Protocol: "), "{offer}: {head}"),
        }
    }
}

async fn slow_pages() -> Node {
    let page = Bytes::from(vec![b'.'; 64 << 10]);
    let large = Bytes::from(vec![b'.'; 32 << 20]);
    let router = Router::new()
        .route("/page", get(move || async { page }))
        .route("/large", get(move || async { large }))
        .route("/body", post(|body: Bytes| async { body }));
    start(|listener| listener.http(router)).await
}

/// Writes until the server has closed the connection, without reading.
async fn refused(stream: &mut TcpStream) {
    within("the end of the connection", async {
        while stream.write_all(b" ").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn responses_that_the_client_does_not_read_end_the_connection() {
    let node = slow_pages().await;
    // Small ones fill what the sockets hold as well as a large one.
    for (path, count) in [("/large", 1), ("/page", 512)] {
        let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream
            .write_all(get.repeat(count).as_bytes())
            .await
            .unwrap();
        refused(&mut stream).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_ends_the_connection() {
    let node = slow_pages().await;
    let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    let head = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // A drip is no progress.
    within("the end of the connection", async {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while stream.write_all(b".").await.is_ok() {
            pause.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_response() {
    let node = slow_pages().await;
    let (mut stream, _head) = http(
        node.addresses()[0],
        "GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    let mut rest = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut rest)).await;
    eventually("no session was opened", || {
        node.handle().sessions().count() == 0
    })
    .await;
}
