//! The PROXY protocol on listeners of every kind.

use std::time::Duration;

use nano::{App, CloseReason, Limits, Listener, Node, Timeouts};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    denied::{from, networks},
    harness::{Client, Echo, Ends, greeting},
    listeners::{Certificate, web_socket},
    support::{eventually, within},
};

const PROXY: [u8; 4] = [127, 0, 9, 1];
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2: command, family and protocol, then what follows.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &len, rest].concat()
}

fn v4_addresses() -> Vec<u8> {
    [
        &[198, 51, 100, 7][..],
        &[10, 0, 0, 1],
        &4711_u16.to_be_bytes(),
        &443_u16.to_be_bytes(),
    ]
    .concat()
}

fn v6_addresses(ip: &str) -> Vec<u8> {
    let ip: std::net::Ipv6Addr = ip.parse().unwrap();
    [&ip.octets()[..], &ip.octets(), &[0x12, 0x67, 1, 187]].concat()
}

/// Two fields behind the addresses: ALPN, and one of no known type.
fn fields() -> Vec<u8> {
    let mut fields = b"\x01\x00\x04nano\xee\x04\x00".to_vec();
    fields.resize(fields.len() + 1024, b'x');
    fields
}

async fn node(listener: Listener) -> Node {
    let app = App::new()
        .component(Echo)
        .listen(listener.proxy_protocol(networks(["127.0.9.0/24"])));
    app.start().await.unwrap()
}

async fn remote(node: &Node) -> String {
    let session = node.handle().sessions().list().remove(0);
    session.remote_addr().unwrap().to_string()
}

#[tokio::test]
async fn the_client_is_the_one_in_the_header_however_its_bytes_arrive() {
    let node = node(Listener::tcp("127.0.0.1:0")).await;
    let unknown = "127.0.9.1:";
    let cases = [
        (
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n".to_vec(),
            "198.51.100.7:4711",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(),
            "[2001:db8::7]:4711",
        ),
        (
            b"PROXY TCP6 ::ffff:198.51.100.7 ::1 4711 443\r\n".to_vec(),
            "198.51.100.7:4711",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), unknown),
        (
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
            unknown,
        ),
        (v2(1, 0x11, &v4_addresses()), "198.51.100.7:4711"),
        (
            v2(1, 0x11, &[v4_addresses(), fields()].concat()),
            "198.51.100.7:4711",
        ),
        (
            v2(1, 0x21, &v6_addresses("2001:db8::7")),
            "[2001:db8::7]:4711",
        ),
        (
            v2(1, 0x21, &v6_addresses("::ffff:198.51.100.7")),
            "198.51.100.7:4711",
        ),
        (v2(0, 0x00, b""), unknown),
        (v2(0, 0x11, &v4_addresses()), unknown),
        // A proxy that speaks for itself may fill in anything.
        (v2(0, 0x11, b"abc"), unknown),
        (v2(0, 0x44, b"x"), unknown),
        (v2(1, 0x00, b""), unknown),
        (v2(1, 0x00, &fields()), unknown),
        (v2(1, 0x31, &[0; 216]), unknown),
    ];
    for (header, expected) in cases {
        for is_split in [false, true] {
            let mut stream = from(PROXY, node.addresses()[0]).await;
            stream.set_nodelay(true).unwrap();
            let bytes = [&header[..], &greeting()].concat();
            if is_split {
                for byte in bytes {
                    stream.write_all(&[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            } else {
                stream.write_all(&bytes).await.unwrap();
            }
            let mut client = Client::over(stream);
            let text = String::from_utf8_lossy(&header);
            assert!(client.packet().await.is_some(), "{text:?}");
            let remote = remote(&node).await;
            assert!(remote.starts_with(expected), "{remote} {text:?}");
            drop(client);
            eventually("the session ends", || node.handle().sessions().count() == 0).await;
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_without_a_valid_header_is_disconnected_and_opens_no_session() {
    let (app, ends) = Ends::of(App::new().component(Echo));
    let listener = Listener::tcp("127.0.0.1:0").proxy_protocol(networks(["127.0.9.0/24"]));
    let app = app
        .listen(listener)
        .timeouts(Timeouts::new().handshake(Duration::from_millis(500)));
    let node = app.start().await.unwrap();
    let long_v1 = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    let endless_v1 = format!("PROXY TCP4 {}", "1".repeat(1000));
    let cases = [
        greeting(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 99999\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP5 198.51.100.7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\n".to_vec(),
        b"proxy TCP4 198.51.100.7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(),
        long_v1.into_bytes(),
        endless_v1.into_bytes(),
        b"PROXY TCP4 198.51".to_vec(),
        SIGNATURE.to_vec(),
        v2(1, 0x11, &v4_addresses()[..11]),
        v2(2, 0x11, &v4_addresses()),
        v2(1, 0x41, &v4_addresses()),
        v2(1, 0x11, &[v4_addresses(), vec![0; 8 * 1024]].concat()),
        [&v2(1, 0x11, &v4_addresses())[..20]].concat(),
        [SIGNATURE, &[0x11, 0x11, 0, 12], &v4_addresses()].concat(),
    ];
    for bytes in cases {
        let mut stream = from(PROXY, node.addresses()[0]).await;
        stream.write_all(&bytes).await.unwrap();
        let mut reply = Vec::new();
        // Reset if bytes were left unread.
        let _ = within("the end", stream.read_to_end(&mut reply)).await;
        assert_eq!(reply, b"", "{:?}", String::from_utf8_lossy(&bytes));
    }
    // Silent ones end by the deadline, and health checks close by themselves.
    let mut silent = from(PROXY, node.addresses()[0]).await;
    assert_eq!(within("the end", silent.read(&mut [0])).await.unwrap(), 0);
    drop(from(PROXY, node.addresses()[0]).await);
    assert_eq!(ends.count(), 0);
    assert_eq!(node.handle().sessions().count(), 0);
}

#[tokio::test]
async fn clients_beside_the_proxy_need_no_header_and_cannot_pretend() {
    let (app, ends) = Ends::of(App::new().component(Echo));
    let listener = Listener::tcp("127.0.0.1:0").proxy_protocol(networks(["127.0.9.0/24"]));
    let node = app.listen(listener).start().await.unwrap();
    let mut client = Client::over(from([127, 0, 1, 1], node.addresses()[0]).await);
    client.shake_hands().await;
    assert!(remote(&node).await.starts_with("127.0.1.1:"));
    let mut liar = from([127, 0, 1, 1], node.addresses()[0]).await;
    liar.write_all(b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n")
        .await
        .unwrap();
    let mut reply = Vec::new();
    let _ = within("the end", liar.read_to_end(&mut reply)).await;
    assert!(matches!(ends.first().await, CloseReason::Protocol(_)));
}

#[tokio::test]
async fn the_header_comes_before_tls_and_http() {
    let header = b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n";
    let connect = async |node: &Node| -> TcpStream {
        let mut stream = from(PROXY, node.addresses()[0]).await;
        stream.write_all(header).await.unwrap();
        stream
    };
    let certificate = Certificate::new();
    let secure = |listener: Listener| listener.tls(&certificate.chain, &certificate.key);
    let url = "ws://localhost/nano";

    let plain = node(Listener::websocket("127.0.0.1:0", "/nano")).await;
    let mut client = Client::over(web_socket(connect(&plain).await, url).await);
    client.shake_hands().await;
    assert_eq!(remote(&plain).await, "198.51.100.7:4711");

    let tls = node(secure(Listener::tcp("127.0.0.1:0"))).await;
    let mut client = Client::over(certificate.connect(connect(&tls).await).await);
    client.shake_hands().await;
    assert_eq!(remote(&tls).await, "198.51.100.7:4711");

    let both = node(secure(Listener::websocket("127.0.0.1:0", "/nano"))).await;
    let stream = certificate.connect(connect(&both).await).await;
    let mut client = Client::over(web_socket(stream, url).await);
    client.shake_hands().await;
    assert_eq!(remote(&both).await, "198.51.100.7:4711");
}

#[tokio::test]
async fn deny_list_and_limits_hold_for_the_client_behind_the_proxy() {
    let listener = Listener::tcp("127.0.0.1:0").proxy_protocol(networks(["127.0.9.0/24"]));
    let app = App::new()
        .component(Echo)
        .deny(networks(["2001:db8::/32"]))
        .limits(Limits::new().max_connections_per_address(1))
        .listen(listener);
    let node = app.start().await.unwrap();
    let behind = async |client: &str| {
        let family = if client.contains(':') { 6 } else { 4 };
        let mut stream = from(PROXY, node.addresses()[0]).await;
        let header = format!("PROXY TCP{family} {client} {client} 4711 443\r\n");
        stream.write_all(header.as_bytes()).await.unwrap();
        // It may be refused by now.
        let _ = stream.write_all(&greeting()).await;
        Client::over(stream)
    };
    let mut first = behind("198.51.100.7").await;
    assert!(first.packet().await.is_some());
    let mut second = behind("198.51.100.8").await;
    assert!(second.packet().await.is_some());
    for refused in ["198.51.100.7", "2001:db8::7"] {
        assert!(behind(refused).await.packet().await.is_none(), "{refused}");
    }
    node.handle().deny_list().add(networks(["198.51.100.7"]));
    while first.packet().await.is_some() {}
}
