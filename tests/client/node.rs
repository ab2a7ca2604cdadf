//! The client against a node of ours, over every transport.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use nano::{
    App, Component, Handlers, Listener, Node, Protobuf, Result, Session, Timeouts,
    client::{Client, DisconnectReason},
    code,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::within;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Text {
    text: String,
}

struct Echo;

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", Self::echo)
            .raw("Raw", Self::raw)
            .on("Push", Self::push)
            .on("Kick", Self::kick)
    }
}

impl Echo {
    fn echo(&self, _: &Session, text: Text) -> Result<Text> {
        Ok(text)
    }

    fn raw(&self, _: &Session, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn push(&self, session: &Session, text: Text) -> Result {
        session.push("onText", &text)
    }

    fn kick(&self, session: &Session, reason: String) -> Result {
        session.kick(reason);
        Ok(())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ping {
    #[prost(string, tag = "1")]
    content: String,
}

struct Pb;

impl Component<Protobuf> for Pb {
    fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
        h.on("Echo", Self::echo)
    }
}

impl Pb {
    fn echo(&self, _: &Session<Protobuf>, ping: Ping) -> Result<Ping> {
        Ok(ping)
    }
}

/// Certificates for `localhost`.
struct Certificates {
    directory: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(directory.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(
            directory.path().join("key.pem"),
            signing_key.serialize_pem(),
        )
        .unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn on(&self, listener: Listener) -> Listener {
        listener.tls(self.path("cert.pem"), self.path("key.pem"))
    }
}

fn app() -> App {
    App::new()
        .component(Echo)
        .component(Pb)
        .dictionary_from_routes(["onText"])
}

async fn serving(listener: Listener) -> Node {
    app().listen(listener).start().await.unwrap()
}

fn url(scheme: &str, node: &Node, path: &str) -> String {
    format!("{scheme}://{}{path}", node.addresses()[0])
}

fn text(text: &str) -> Text {
    Text {
        text: text.to_owned(),
    }
}

async fn converse(client: Client) {
    assert!(!client.handshake().dictionary.is_empty());
    let mut pushes = client.subscribe("onText");
    assert_eq!(
        client
            .request::<Text, _>("Echo.Echo", &text("hello"))
            .await
            .unwrap(),
        text("hello")
    );
    let large = Bytes::from(vec![b'x'; 60_000]);
    assert_eq!(
        client.request_raw("Echo.Raw", large.clone()).await.unwrap(),
        large
    );
    let ping = Ping {
        content: "hello".into(),
    };
    assert_eq!(
        client
            .typed::<Protobuf>()
            .request::<Ping, _>("Pb.Echo", &ping)
            .await
            .unwrap(),
        ping
    );
    for n in ["1", "2", "3"] {
        client.notify("Echo.Push", &text(n)).await.unwrap();
    }
    for n in ["1", "2", "3"] {
        assert_eq!(pushes.recv_as::<Text>().await.unwrap().unwrap(), text(n));
    }
    assert_eq!(
        client.request_raw("No.Where", "").await.unwrap_err().code(),
        code::NOT_FOUND
    );
    assert_eq!(
        client
            .request_raw("Echo.Echo", "no json")
            .await
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
    client.notify("Echo.Kick", "bye").await.unwrap();
    assert_eq!(
        client.closed().await,
        DisconnectReason::Kicked("bye".into())
    );
}

#[tokio::test]
async fn over_tcp() {
    let node = serving(Listener::tcp("127.0.0.1:0")).await;
    within(converse(
        Client::connect(&url("tcp", &node, "")).await.unwrap(),
    ))
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn over_websocket() {
    let node = serving(Listener::websocket("127.0.0.1:0", "/nano")).await;
    within(converse(
        Client::connect(&url("ws", &node, "/nano")).await.unwrap(),
    ))
    .await;
    assert_eq!(
        Client::connect(&url("ws", &node, "/other"))
            .await
            .unwrap_err()
            .code(),
        code::UNAVAILABLE
    );
    node.shutdown().await;
}

#[tokio::test]
async fn over_tls() {
    let certificates = Certificates::new();
    let node = serving(certificates.on(Listener::tcp("127.0.0.1:0"))).await;
    let builder = || Client::builder().ca_file(certificates.path("cert.pem"));
    within(converse(
        builder()
            .server_name("localhost")
            .connect(&url("tls", &node, ""))
            .await
            .unwrap(),
    ))
    .await;

    for server_name in ["127.0.0.1", "example.com"] {
        let error = within(
            builder()
                .server_name(server_name)
                .connect(&url("tls", &node, "")),
        )
        .await
        .unwrap_err();
        assert_eq!(error.code(), code::UNAVAILABLE);
        assert!(error.message().contains("certificate"), "{error}");
    }
    let error = builder()
        .server_name("no name")
        .connect(&url("tls", &node, ""))
        .await
        .unwrap_err();
    assert_eq!(error.code(), code::BAD_REQUEST);
    for file in ["key.pem", "missing.pem"] {
        let error = Client::builder()
            .ca_file(certificates.path(file))
            .connect(&url("tls", &node, ""))
            .await
            .unwrap_err();
        assert_eq!(error.code(), code::BAD_REQUEST);
        assert!(error.message().contains(file), "{error}");
    }
    assert_eq!(
        within(Client::connect(&url("tls", &node, "")))
            .await
            .unwrap_err()
            .code(),
        code::UNAVAILABLE
    );
    node.shutdown().await;
}

#[tokio::test]
async fn over_websocket_and_tls() {
    let certificates = Certificates::new();
    let node = serving(certificates.on(Listener::websocket("127.0.0.1:0", "/nano"))).await;
    let builder = Client::builder()
        .ca_file(certificates.path("cert.pem"))
        .server_name("localhost");
    within(converse(
        builder.connect(&url("wss", &node, "/nano")).await.unwrap(),
    ))
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn an_idle_connection_stays_open() {
    let node = app()
        .timeouts(Timeouts::new().heartbeat(Duration::from_millis(100)))
        .tcp("127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let client = Client::connect(&url("tcp", &node, "")).await.unwrap();
    let idle = tokio::time::timeout(Duration::from_millis(1500), client.closed()).await;
    assert!(idle.is_err(), "{idle:?}");
    node.shutdown().await;
    assert!(matches!(
        within(client.closed()).await,
        DisconnectReason::Kicked(_)
    ));
}

#[tokio::test]
async fn a_dropped_client_leaves_no_session() {
    let node = serving(Listener::tcp("127.0.0.1:0")).await;
    let clients = futures_util::future::join_all(
        (0..20).map(|_| async { Client::connect(&url("tcp", &node, "")).await.unwrap() }),
    )
    .await;
    assert_eq!(node.handle().sessions().count(), 20);
    drop(clients);
    within(async {
        while node.handle().sessions().count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    node.shutdown().await;
}
