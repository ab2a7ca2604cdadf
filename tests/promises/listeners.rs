//! Listeners of every kind, with and without TLS, side by side.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nano::{Accept, App, Error, Listener, Session, Timeouts, code, packet::Kind};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    harness::{Client, Echo, Wire, greeting, packet, start},
    support::{eventually, within},
};

/// A certificate for `localhost` that signed itself, in files.
pub(crate) struct Certificate {
    _directory: TempDir,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (
            directory.path().join("chain.pem"),
            directory.path().join("key.pem"),
        );
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self {
            _directory: directory,
            chain,
            key,
        }
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&self.chain).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        within(
            "TLS",
            TlsConnector::from(Arc::new(config))
                .connect(ServerName::try_from("localhost").unwrap(), stream),
        )
        .await
        .unwrap()
    }
}

/// Opens a WebSocket on a stream; its payload as a stream of bytes.
pub(crate) async fn web_socket(
    stream: impl Wire + 'static,
    request: impl IntoClientRequest + Unpin,
) -> DuplexStream {
    let opened = tokio_tungstenite::client_async(request, stream);
    let (mut socket, _) = within("a WebSocket", opened).await.unwrap();
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut chunk = vec![0; 4 * 1024];
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => far.write_all(&bytes).await.unwrap(),
                    Some(Ok(_)) => {}
                    None | Some(Err(_)) => break,
                },
                count = far.read(&mut chunk) => match count.unwrap() {
                    0 => break,
                    count => socket.send(Message::Binary(Bytes::copy_from_slice(&chunk[..count]))).await.unwrap(),
                },
            }
        }
    });
    near
}

#[tokio::test]
async fn sockets_that_listen_already_are_served_also_for_clients_that_came_before() {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (tcp, websocket) = (bind(), bind());
    let addresses = [tcp.local_addr().unwrap(), websocket.local_addr().unwrap()];
    let early = TcpStream::connect(addresses[0]).await.unwrap();
    let node = App::new()
        .component(Echo)
        .listen(Listener::tcp_from(tcp))
        .listen(Listener::websocket_from(websocket, "/nano"))
        .start()
        .await
        .unwrap();
    assert_eq!(node.addresses(), addresses);
    let stream = TcpStream::connect(addresses[1]).await.unwrap();
    for mut client in [
        Client::over(early),
        Client::over(web_socket(stream, "ws://localhost/nano").await),
    ] {
        client.shake_hands().await;
        assert_eq!(client.ask("Echo.Echo", "hello").await.unwrap(), "hello");
    }
    // The node owns the socket: its address is free after the shutdown.
    within("a shutdown", node.shutdown()).await;
    std::net::TcpListener::bind(addresses[0]).unwrap();
}

#[tokio::test]
async fn tls_takes_a_configuration_of_rustls() {
    let certificate = Certificate::new();
    let chain = CertificateDer::pem_file_iter(&certificate.chain)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let node = App::new()
        .component(Echo)
        .listen(Listener::tcp("127.0.0.1:0").tls_config(config))
        .start()
        .await
        .unwrap();
    let stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    let mut client = Client::over(certificate.connect(stream).await);
    client.shake_hands().await;
    assert_eq!(client.ask("Echo.Echo", "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn clients_of_every_kind_meet_on_one_node() {
    let certificate = Certificate::new();
    let secure = |listener: Listener| listener.tls(&certificate.chain, &certificate.key);
    let app = App::new()
        .component(Echo)
        .websocket("127.0.0.1:0", "/nano")
        .listen(secure(Listener::tcp("127.0.0.1:0")))
        .listen(secure(Listener::websocket("127.0.0.1:0", "nano")))
        .tcp("127.0.0.1:0");
    let node = app.start().await.unwrap();
    let mut streams = Vec::new();
    for address in node.addresses() {
        streams.push(TcpStream::connect(address).await.unwrap());
    }
    let [ws, tls, wss, tcp] = streams.try_into().unwrap();
    let mut clients = [
        Client::over(web_socket(ws, "ws://localhost/nano").await),
        Client::over(certificate.connect(tls).await),
        Client::over(web_socket(certificate.connect(wss).await, "ws://localhost/nano").await),
        Client::over(tcp),
    ];
    // Small, larger than any buffer on the way, and as large as a client's packet may be.
    for size in [0, 1, 5_000, 65_000] {
        for client in &mut clients {
            if size == 0 {
                client.shake_hands().await;
            }
            let body = Bytes::from(vec![b'x'; size]);
            assert_eq!(client.ask("Echo.Echo", body.clone()).await.unwrap(), body);
        }
    }
    let mut session_ids: Vec<_> = node
        .handle()
        .sessions()
        .list()
        .iter()
        .map(Session::id)
        .collect();
    session_ids.sort_unstable();
    session_ids.dedup();
    assert_eq!(session_ids.len(), 4);
    for session in node.handle().sessions().list() {
        session.push_raw("onLarge", vec![b'x'; 1_000_000]).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.push("onLarge").await.len(), 1_000_000);
        client.request("Echo.Kick", "").await;
        assert_eq!(client.end().await.as_deref(), Some("enough"));
    }
}

#[tokio::test]
async fn an_origin_check_decides_who_may_open_a_websocket() {
    let listener = Listener::websocket("127.0.0.1:0", "/nano").check_origin(|head| {
        head.headers
            .get("origin")
            .is_some_and(|origin| origin == "http://game")
    });
    let node = App::new()
        .component(Echo)
        .listen(listener)
        .start()
        .await
        .unwrap();
    for (origin, status) in [("http://game", "101"), ("http://other", "403")] {
        let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
        let request = format!(
            "GET /nano HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        within("the head of a response", stream.read_exact(&mut head))
            .await
            .unwrap();
        assert_eq!(head, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test]
async fn the_handshake_tells_heartbeat_time_dictionary_and_what_the_hook_says() {
    let app = App::new()
        .component(Echo)
        .timeouts(Timeouts::new().heartbeat(std::time::Duration::from_millis(1_500)))
        .dictionary_from_routes(["onNews"])
        .on_handshake(|handshake| {
            let kind = handshake.request().sys.kind.clone();
            handshake.session().set("type", kind);
            Ok(Accept::new().user(serde_json::json!({ "bytes": handshake.body().len() })))
        });
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    let reply = client.shake_hands().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    assert_eq!(
        reply.heartbeat,
        Some(std::time::Duration::from_millis(1_500))
    );
    assert!(
        (now - 5..=now).contains(&reply.servertime),
        "{} {now}",
        reply.servertime
    );
    assert_eq!(reply.user.unwrap(), serde_json::json!({ "bytes": 54 }));
    let routes: Vec<_> = reply
        .dictionary
        .iter()
        .map(|(route, _)| route.to_string())
        .collect();
    assert_eq!(routes, ["Echo.Echo", "Echo.Kick", "onNews"]);
    assert_eq!(
        client
            .session(&node)
            .await
            .value_or_default::<String>("type"),
        "test"
    );

    // Both the code and the name of a route are understood.
    let code = reply.dictionary.code("Echo.Echo").unwrap().to_be_bytes();
    client
        .send(&[4, 0, 0, 5, 0x01, 7, code[0], code[1], b'x'])
        .await;
    assert_eq!(client.answer(7).await.unwrap(), "x");
    assert_eq!(client.ask("Echo.Echo", "y").await.unwrap(), "y");
}

#[tokio::test]
async fn a_refused_handshake_is_silent_unless_it_has_a_number() {
    for (code, told) in [("NO-BOTS", None), ("501", Some((501, "too old")))] {
        let (app, ends) = crate::harness::Ends::of(
            App::new()
                .component(Echo)
                .on_handshake(move |_| Err(nano::Error::new(code, "too old"))),
        );
        let node = start(app).await;
        let mut client = Client::dial(node.addresses()[0]).await;
        client.send(&crate::harness::greeting()).await;
        let reply = client
            .packet()
            .await
            .map(|packet| nano::handshake::Reply::decode(&packet.body).unwrap());
        assert_eq!(
            reply.map(|reply| (reply.code, reply.message.unwrap())),
            told.map(|(code, text)| (code, text.to_owned()))
        );
        assert_eq!(client.end().await, None);
        assert_eq!(
            ends.first().await,
            nano::CloseReason::HandshakeRefused("too old".to_owned())
        );
    }
}

/// A client whose connection is encrypted sees every end of it as one, not as a cut.
#[tokio::test]
async fn every_end_of_an_encrypted_connection_is_announced() {
    let certificate = Certificate::new();
    let secure = |listener: Listener| listener.tls(&certificate.chain, &certificate.key);
    let app = App::new()
        .component(Echo)
        .timeouts(Timeouts::new().handshake(Duration::from_millis(300)))
        .listen(secure(Listener::websocket("127.0.0.1:0", "/nano")))
        .on_handshake(|handshake| match handshake.request().user.is_string() {
            true => Err(Error::new(code::FORBIDDEN, "no")),
            false => Ok(Accept::new()),
        });
    let node = start(app.listen(secure(Listener::tcp("127.0.0.1:0")))).await;
    let &[websocket, tcp, ..] = node.addresses() else {
        panic!("three listeners")
    };
    let hello = |body: &str| packet(Kind::Handshake, body.as_bytes());
    let ends: [(&str, SocketAddr, Vec<u8>); 9] = [
        ("silence", tcp, Vec::new()),
        ("no request", websocket, Vec::new()),
        ("half a head", websocket, b"GET / HT".to_vec()),
        ("garbage", tcp, b"garbage".to_vec()),
        ("a handshake that is refused", tcp, hello(r#"{"user":"x"}"#)),
        ("a packet over the limit", tcp, vec![4, 0xFF, 0xFF, 0xFF]),
        ("a kick", tcp, greeting()),
        (
            "a request that is no HTTP",
            websocket,
            b"garbage\r\n\r\n".to_vec(),
        ),
        (
            "HTTP that ends",
            websocket,
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(),
        ),
    ];
    for (what, address, bytes) in ends {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = certificate.connect(stream).await;
        stream.write_all(&bytes).await.unwrap();
        if what == "a kick" {
            eventually("a session", || node.handle().sessions().count() == 1).await;
            node.handle().sessions().list()[0].kick("bye");
        }
        // A cut would be an error, `UnexpectedEof`.
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        within(what, end)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}
