//! Resume, with a server that loses connections, forgets sessions, and counts wrongly.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nano::{
    Result,
    client::{Client, DisconnectReason, Event, Subscription},
    code,
    message::Message,
    packet::Kind,
    resume::Lost,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    fake::{Peer, REPLY, Server, encode},
    within,
};

/// Nearly as much as a client keeps.
const LARGE: usize = 200 * 1024;

/// A handshake reply that grants `token`, with more fields of `sys.resume`.
fn grant(token: &str, more: Value) -> String {
    granting(token, more).to_string()
}

fn granting(token: &str, more: Value) -> Value {
    let mut resume = json!({ "token": token, "window": 60, "received": 0 });
    let fields = more.as_object().unwrap().clone();
    resume.as_object_mut().unwrap().extend(fields);
    json!({ "code": 200, "sys": { "servertime": 0, "resume": resume } })
}

fn none() -> Value {
    json!({})
}

/// A client that asks to resume its session, and its server.
struct Resumable {
    client: Arc<Client>,
    server: Server,
    events: Arc<Mutex<Vec<Event>>>,
    pushes: Subscription,
}

impl Resumable {
    /// Connects to a server that answers the first handshake with this.
    async fn connect(reply: &str) -> (Self, Peer) {
        let (server, events) = (Server::bind().await, Arc::new(Mutex::new(Vec::new())));
        let seen = events.clone();
        let mut builder = Client::builder().resume(true);
        builder = builder.on_event(move |event| seen.lock().push(event));
        let pushes = builder.subscribe("on");
        let url = server.url();
        let serve = async {
            let mut peer = server.accept().await;
            assert_eq!(asked(&peer.shake_hands(reply, &[]).await), none());
            peer.ack().await;
            peer
        };
        let (client, peer) = tokio::join!(builder.connect(&url), serve);
        let resumable = Self {
            client: Arc::new(client.unwrap()),
            server,
            events,
            pushes,
        };
        (resumable, peer)
    }

    /// A request that is on its way.
    async fn request(&self, peer: &mut Peer) -> JoinHandle<Result<Bytes>> {
        let client = self.client.clone();
        let request = tokio::spawn(async move { client.request_raw("Echo.Echo", "").await });
        assert_eq!(&*peer.message().await.unwrap().route, "Echo.Echo");
        request
    }

    /// Loses the connection, and answers the next handshake. Returns what the client asks for, too.
    async fn comes_back(&self, peer: Peer, reply: &str) -> (Peer, Value) {
        drop(peer);
        let mut peer = self.server.accept().await;
        let asked = asked(&peer.shake_hands(reply, &[]).await);
        (peer, asked)
    }

    /// Waits for a push, so that the client has looked at everything before it.
    async fn is_pushed(&mut self, peer: &mut Peer) {
        peer.send(Message::push("on", "1")).await;
        within(self.pushes.recv()).await.unwrap();
    }

    async fn tell(&self, body: impl Into<Bytes>) {
        within(self.client.notify_raw("Echo.Sink", body))
            .await
            .unwrap();
    }

    /// How the client has ended.
    async fn end(&self) -> DisconnectReason {
        within(self.client.closed()).await
    }

    /// The events so far, by name.
    fn events(&self) -> Vec<String> {
        let name = |event: &Event| match event {
            Event::Reconnecting(_) => "reconnecting".to_owned(),
            Event::Resumed => "resumed".to_owned(),
            Event::Lost(lost) => format!("lost: {lost}"),
            event => panic!("{event:?}"),
        };
        self.events.lock().iter().map(name).collect()
    }
}

/// `sys.resume` of a handshake.
fn asked(handshake: &str) -> Value {
    let handshake: Value = serde_json::from_str(handshake).unwrap();
    handshake["sys"]["resume"].clone()
}

/// A heartbeat that says how many data packets have arrived.
fn count(bytes: &[u8]) -> Vec<u8> {
    encode(Kind::Heartbeat, bytes)
}

async fn next_count(peer: &mut Peer) -> Vec<u8> {
    let packet = peer.packet().await.unwrap();
    assert_eq!(packet.kind, Kind::Heartbeat);
    packet.body.to_vec()
}

async fn lost(request: JoinHandle<Result<Bytes>>) -> String {
    let error = within(request).await.unwrap().unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
    error.message().to_owned()
}

#[tokio::test]
async fn after_a_loss_what_is_missing_is_sent_again_and_a_request_gets_its_answer() {
    let (mut session, mut peer) = Resumable::connect(&grant("T1", none())).await;
    let request = session.request(&mut peer).await;
    session.is_pushed(&mut peer).await;
    for body in ["one", "two"] {
        session.tell(body).await;
        peer.message().await.unwrap();
    }
    // The request and the first notify have arrived.
    let reply = grant("T2", json!({ "received": 2 }));
    let (mut peer, asked) = session.comes_back(peer, &reply).await;
    assert_eq!(asked, json!({ "token": "T1", "received": 1 }));
    peer.ack().await;
    session.tell("three").await;
    for body in ["two", "three"] {
        assert_eq!(peer.message().await.unwrap().body, body);
    }
    peer.send(Message::response(1, false, "late")).await;
    assert_eq!(within(request).await.unwrap().unwrap(), "late");

    let (_peer, asked) = session
        .comes_back(peer, &grant("T3", json!({ "received": 4 })))
        .await;
    assert_eq!(
        asked,
        json!({ "token": "T2", "received": 2 }),
        "of the last reply"
    );
    assert_eq!(session.events()[..2], ["reconnecting", "resumed"]);
}

#[tokio::test]
async fn a_client_whose_window_is_over_without_a_server_has_lost_its_session_and_ends() {
    let (session, mut peer) = Resumable::connect(&grant("T1", json!({ "window": 0.3 }))).await;
    let request = session.request(&mut peer).await;
    let begun = Instant::now();
    let Resumable {
        client,
        server,
        events,
        pushes: _pushes,
    } = session;
    drop((peer, server));
    assert_eq!(within(client.closed()).await, DisconnectReason::Server);
    assert!(begun.elapsed() >= Duration::from_millis(300), "not before");
    assert_eq!(
        lost(request).await,
        "the connection is closed: closed by the server"
    );
    let seen = [
        Event::Reconnecting(DisconnectReason::Server),
        Event::Lost(Lost::Expired),
    ];
    assert_eq!(*events.lock(), seen);
}

#[tokio::test]
async fn requests_in_flight_fail_with_their_session_and_the_next_one_counts_anew() {
    for (said, reason) in [("expired", "expired"), ("a reason of later", "unknown")] {
        let (mut session, mut peer) = Resumable::connect(&grant("T1", none())).await;
        session.is_pushed(&mut peer).await;
        let request = session.request(&mut peer).await;
        session.tell("lost with it").await;
        let reply = grant("T2", json!({ "lost": said }));
        let (mut peer, _) = session.comes_back(peer, &reply).await;
        assert_eq!(
            lost(request).await,
            format!("the session is lost: {reason}")
        );
        peer.ack().await;
        assert_eq!(
            session.events(),
            ["reconnecting", &format!("lost: {reason}")]
        );
        session.tell("anew").await;
        assert_eq!(peer.message().await.unwrap().body, "anew");
        // Nothing of the session before is sent or counted.
        let reply = grant("T3", json!({ "received": 1 }));
        let (mut peer, asked) = session.comes_back(peer, &reply).await;
        assert_eq!(asked, json!({ "token": "T2", "received": 0 }));
        peer.ack().await;
        session.is_pushed(&mut peer).await;
        assert_eq!(session.events()[2..], ["reconnecting", "resumed"]);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_without_resume_has_lost_the_session() {
    let (mut session, mut peer) = Resumable::connect(&grant("T1", none())).await;
    let request = session.request(&mut peer).await;
    let (mut peer, _) = session.comes_back(peer, REPLY).await;
    assert_eq!(lost(request).await, "the session is lost: unsupported");
    peer.ack().await;
    session.is_pushed(&mut peer).await;
    // The session is a plain one now.
    drop(peer);
    assert_eq!(session.end().await, DisconnectReason::Server);
    assert_eq!(session.events(), ["reconnecting", "lost: unsupported"]);
}

#[tokio::test]
async fn at_a_server_that_resumes_nothing_the_client_is_a_plain_one() {
    let (session, mut peer) = Resumable::connect(REPLY).await;
    let request = session.request(&mut peer).await;
    drop(peer);
    assert_eq!(session.end().await, DisconnectReason::Server);
    assert_eq!(
        lost(request).await,
        "the connection is closed: closed by the server"
    );
    assert_eq!(session.events(), [""; 0]);
}

#[tokio::test]
async fn a_new_session_with_another_dictionary_ends_the_client() {
    let mut reply = granting("T1", none());
    reply["sys"]["dict"] = json!({ "Echo.Sink": 1 });
    let (session, mut peer) = Resumable::connect(&reply.to_string()).await;
    let request = session.request(&mut peer).await;
    // A resumed session keeps its dictionary, whatever the reply has.
    let (peer, _) = session
        .comes_back(peer, &grant("T2", json!({ "received": 1 })))
        .await;
    let (_peer, asked) = session
        .comes_back(peer, &grant("T3", json!({ "lost": "unknown" })))
        .await;
    assert_eq!(asked["token"], "T2");
    let fault = "session lost: unknown, and the server has another dictionary";
    assert_eq!(
        session.end().await,
        DisconnectReason::Broken(fault.to_owned())
    );
    assert_eq!(
        lost(request).await,
        format!("the connection is closed: connection broken: {fault}")
    );
    assert_eq!(
        session.events(),
        ["reconnecting", "resumed", "reconnecting"]
    );
}

#[tokio::test]
async fn an_impossible_count_ends_the_client() {
    for (reply, fault) in [
        (json!({ "received": 2 }), "invalid"),
        (json!({ "received": 0 }), "invalid"),
    ] {
        let (mut session, mut peer) = Resumable::connect(&grant("T1", none())).await;
        session.tell("arrives").await;
        peer.message().await.unwrap();
        peer.write(&count(b"\x01")).await;
        session.is_pushed(&mut peer).await;
        let (_peer, _) = session.comes_back(peer, &grant("T2", reply)).await;
        let fault = format!("invalid count in the handshake reply: {fault}");
        assert_eq!(session.end().await, DisconnectReason::Protocol(fault));
        assert_eq!(session.events(), ["reconnecting"]);
    }
    for (bytes, fault) in [
        (&b"\x02"[..], "more was acknowledged than was sent"),
        (b"\x00", "less was acknowledged than before"),
        (b"\x80\x80", "the body of a heartbeat is not a count"),
        (b"\x01\x01", "the body of a heartbeat is not a count"),
    ] {
        let (session, mut peer) = Resumable::connect(&grant("T1", none())).await;
        session.tell("arrives").await;
        peer.message().await.unwrap();
        peer.write(&[count(b"\x01"), count(bytes)].concat()).await;
        assert_eq!(
            session.end().await,
            DisconnectReason::Protocol(fault.to_owned())
        );
        assert_eq!(session.events(), [""; 0], "no loss that can be resumed");
    }
}

#[tokio::test]
async fn a_client_that_keeps_as_much_as_it_may_waits_for_the_server_and_forgets_nothing() {
    let (mut session, mut peer) = Resumable::connect(&grant("T1", none())).await;
    let large = |byte: &str| byte.repeat(LARGE);
    session.tell(large("a")).await;
    assert_eq!(peer.message().await.unwrap().body, large("a"));
    // More than half of what is kept: the server is asked for its count.
    assert_eq!(next_count(&mut peer).await, b"\x00");
    session.tell(large("b")).await;
    assert_eq!(peer.message().await.unwrap().body, large("b"));
    session.tell(large("c")).await;
    let client = session.client.clone();
    let fourth = large("d");
    let waits = tokio::spawn(async move { client.notify_raw("Echo.Sink", fourth).await });
    session.is_pushed(&mut peer).await;
    // A count that says nothing new is answered, and nothing else is sent.
    peer.write(&count(b"\x00")).await;
    assert_eq!(next_count(&mut peer).await, b"\x01");
    assert!(!waits.is_finished(), "the queue is full");

    // Nothing of it was received.
    let (mut peer, _) = session.comes_back(peer, &grant("T2", none())).await;
    peer.ack().await;
    for byte in ["a", "b"] {
        assert_eq!(peer.message().await.unwrap().body, large(byte));
    }
    assert_eq!(session.events(), ["reconnecting", "resumed"]);
    peer.write(&count(b"\x02")).await;
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let packet = peer.packet().await.unwrap();
        if packet.kind == Kind::Data {
            bodies.push(packet.body.slice(packet.body.len() - LARGE..));
        }
    }
    assert_eq!(bodies, [large("c"), large("d")]);
    within(waits).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_return_that_is_cut_is_tried_again_and_one_that_is_refused_is_final() {
    let (session, peer) = Resumable::connect(&grant("T1", none())).await;
    drop(peer);
    for _ in 0..2 {
        // Ends inside the reply.
        let mut peer = session.server.accept().await;
        peer.packet().await.unwrap();
        peer.write(&encode(Kind::Handshake, grant("T2", none()).as_bytes())[..20])
            .await;
    }
    let mut peer = session.server.accept().await;
    let refusal = r#"{"code":501,"sys":{}}"#;
    let asked = asked(&peer.shake_hands(refusal, &[]).await);
    assert_eq!(asked, json!({ "token": "T1", "received": 0 }));
    match session.end().await {
        DisconnectReason::Broken(fault) => assert!(fault.starts_with("cannot return: "), "{fault}"),
        reason => panic!("{reason}"),
    }
    assert_eq!(session.events(), ["reconnecting"]);
}

#[tokio::test]
async fn a_close_ends_the_session_and_a_client_that_is_closed_while_away_does_not_return() {
    let (session, mut peer) = Resumable::connect(&grant("T1", none())).await;
    session.client.close();
    assert_eq!(peer.packet().await.unwrap().kind, Kind::Kick);
    assert_eq!(peer.packet().await, None);
    drop(peer);
    assert_eq!(session.end().await, DisconnectReason::Local);
    assert_eq!(session.events(), [""; 0]);

    let (session, peer) = Resumable::connect(&grant("T1", none())).await;
    let Resumable { client, server, .. } = session;
    drop(peer);
    // The handshake of the return is not answered.
    let mut away = server.accept().await;
    away.packet().await.unwrap();
    client.close();
    assert_eq!(within(client.closed()).await, DisconnectReason::Local);
    assert!(away.packet().await.is_none());
}
