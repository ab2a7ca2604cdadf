//! A client of bare packets that returns.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nano::{
    App, CloseReason, Component, Handlers, Node, Raw, Result, Session, Timeouts, packet::Kind,
    testing::RawClient,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What the application observed, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

pub(crate) struct Game(Log);

impl Component<Raw> for Game {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo)
            .on("Bind", Self::bind)
            .on("Never", Self::never)
    }
}

impl Game {
    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn bind(&self, session: &Session<Raw>, _: ()) -> Result {
        session.bind(7)
    }

    async fn never(self: Arc<Self>, _: Session<Raw>, _: ()) -> Result<Bytes> {
        self.0.add("request never answered");
        std::future::pending().await
    }
}

/// An app whose hooks are logged.
pub(crate) fn app(window: Duration) -> (App, Log) {
    let log = Log::default();
    let [detached, resumed, closed] = [log.clone(), log.clone(), log.clone()];
    let app = App::new()
        .component(Game(log.clone()))
        .timeouts(Timeouts::new().resume_window(window))
        .on_detached(move |_| detached.add("detached"))
        .on_resumed(move |session| {
            resumed.add("resumed");
            let _ = session.push_raw("onResumed", "");
        })
        .on_session_closed(move |_, reason: &CloseReason| closed.add(format!("closed: {reason}")));
    (app, log)
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A raw client and its token.
pub(crate) struct Returning {
    pub(crate) client: RawClient,
    pub(crate) token: String,
}

impl Returning {
    /// Connects and asks for a session that it can return to.
    pub(crate) async fn connect(node: &Node) -> Self {
        let mut client = RawClient::tcp(node.addresses()[0]).await;
        let granted = greet(&mut client, json!({})).await;
        assert_eq!(granted["received"], 0);
        assert_eq!(granted.get("lost"), None);
        let token = granted["token"].as_str().unwrap().to_owned();
        Self { client, token }
    }

    /// Returns on another connection, after so many data packets were received.
    pub(crate) async fn again(&self, node: &Node, received: u64) -> Self {
        let (client, granted) = come_back(node, &self.token, json!(received)).await;
        assert_eq!(granted.get("lost"), None, "{granted}");
        let token = granted["token"].as_str().unwrap().to_owned();
        Self { client, token }
    }
}

/// Comes back with a token; the client and what it is granted.
pub(crate) async fn come_back(node: &Node, token: &str, received: Value) -> (RawClient, Value) {
    let mut client = RawClient::tcp(node.addresses()[0]).await;
    let ask = json!({ "token": token, "received": received });
    let granted = greet(&mut client, ask).await;
    (client, granted)
}

/// Shakes hands with this `sys.resume`; that of the reply.
pub(crate) async fn greet(client: &mut RawClient, ask: Value) -> Value {
    let request = json!({ "sys": { "type": "test", "version": "1", "resume": ask } });
    client
        .send_packet(Kind::Handshake, request.to_string().as_bytes())
        .await;
    let reply: Value = serde_json::from_slice(&client.packet_of(Kind::Handshake).await).unwrap();
    client.send_packet(Kind::Ack, b"").await;
    reply["sys"]["resume"].clone()
}

/// The only session of a node.
pub(crate) fn session(node: &Node) -> Session {
    let mut sessions = node.handle().sessions().list();
    assert_eq!(sessions.len(), 1);
    sessions.remove(0)
}
