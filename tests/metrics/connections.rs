//! What is counted of connections: clients that return, clients that do not read, HTTP that does
//! not go on.

use std::{
    collections::VecDeque,
    fs,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use nano::{
    App, Config, Limits, Listener, Network, RateLimit, SlowClient, Timeouts, metrics as names,
    packet::Decoder,
    transport::{Accepted, Acceptor, Transport},
};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use crate::{
    Till,
    counts::{Counts, Series},
    harness::{Client, start},
    returning::{Returning, come_back},
    support::eventually,
};

#[tokio::test]
async fn sessions_that_wait_return_and_are_lost_are_counted() {
    let mut counts = Counts::start().await;
    let timeouts = Timeouts::new().resume_window(Duration::from_secs(60));
    let node = start(App::new().timeouts(timeouts)).await;
    let series = Series::of(&node);
    let away = series.named(names::SESSIONS_DETACHED);
    let returned = series.because(names::CONNECTIONS_CLOSED, "returned");
    let mut client = Returning::connect(&node).await;
    client.client.finish().await;
    counts.expect(&away, 1).await;
    assert!(counts.has_none(&returned));
    let _client = client.again(&node, 0).await;
    counts.expect(&away, 0).await;
    counts.expect(&returned, 1).await;
    counts
        .expect(&series.named(names::SESSIONS_RESUMED), 1)
        .await;
    come_back(&node, "nonsense", json!(0)).await;
    counts
        .expect(&series.because(names::SESSIONS_LOST, "unknown"), 1)
        .await;
}

#[tokio::test]
async fn refused_connections_are_counted_by_reason() {
    let mut counts = Counts::start().await;
    let local: Network = "127.0.0.0/8".parse().unwrap();
    let node = App::new()
        .limits(Limits::new().max_connections_per_address(1))
        .tcp("127.0.0.1:0")
        .listen(Listener::tcp("127.0.0.1:0").proxy_protocol([local]))
        .start()
        .await
        .unwrap();
    let series = Series::of(&node);
    let refused = |reason| series.because(names::CONNECTIONS_REFUSED, reason);
    let _client = Client::connect(&node).await;
    let mut second = Client::dial(node.addresses()[0]).await;
    assert!(second.packet().await.is_none());
    counts.expect(&refused("address_limit"), 1).await;
    let mut without_header = Client::dial(node.addresses()[1]).await;
    without_header.send(b"no header, but as long as one").await;
    assert!(without_header.packet().await.is_none());
    counts.expect(&refused("proxy_header"), 1).await;
    node.handle().deny_list().add([local]);
    let mut denied = Client::dial(node.addresses()[0]).await;
    assert!(denied.packet().await.is_none());
    counts.expect(&refused("denied"), 1).await;
}

#[tokio::test]
async fn handshakes_that_open_no_connection_are_counted() {
    let mut counts = Counts::start().await;
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| files.path().join(name));
    std::fs::write(&chain, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let websocket = Listener::websocket("127.0.0.1:0", "/game")
        .check_origin(|head| head.headers.get("origin").is_none());
    let app = App::new().listen(Listener::tcp("127.0.0.1:0").tls(&chain, &key));
    let node = app.listen(websocket).start().await.unwrap();
    let series = Series::of(&node);
    let refused = |reason| series.because(names::CONNECTIONS_REFUSED, reason);
    let dial = async |listener: usize, said: &[u8]| {
        let mut stream = TcpStream::connect(node.addresses()[listener])
            .await
            .unwrap();
        stream.write_all(said).await.unwrap();
        stream
    };
    let _plain = dial(0, b"this is no TLS at all").await;
    counts.expect(&refused("tls"), 1).await;
    // A health check.
    drop(dial(0, b"").await);
    counts
        .expect(&series.named(names::CONNECTIONS_SILENT), 1)
        .await;
    let upgrade = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut kept = Vec::new();
    for (at, request) in [
        format!("GET /other HTTP/1.1\r\n{upgrade}\r\n"),
        format!("POST /game HTTP/1.1\r\n{upgrade}\r\n"),
        format!("GET /game HTTP/1.1\r\n{upgrade}Origin: http://else.example\r\n\r\n"),
        "GET /game HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        kept.push(dial(1, request.as_bytes()).await);
        counts.expect(&refused("upgrade"), at + 1).await;
    }
    // A page that is not there is none.
    let missing = dial(1, b"GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let _opens = dial(1, format!("GET /game HTTP/1.1\r\n{upgrade}\r\n").as_bytes()).await;
    drop(missing);
    counts
        .expect_at_least(&series.named(names::CONNECTIONS), 1)
        .await;
    assert_eq!(counts.total(&refused("upgrade")), 4);
    assert_eq!(counts.total(&refused("tls")), 1);
}

#[tokio::test]
async fn messages_over_a_limit_are_counted() {
    let mut counts = Counts::start().await;
    let limits = Limits::new()
        .max_in_flight(1)
        .rate_limit(RateLimit::throttle(10, 2));
    let app = App::new().component(Till::default()).limits(limits);
    let node = start(app).await;
    let series = Series::of(&node);
    let mut client = Client::connect(&node).await;
    for _ in 0..2 {
        client.request("Till.Keep", "null").await;
    }
    let refused = series.because(names::MESSAGES_REFUSED, "in_flight");
    counts.expect(&refused, 1).await;
    for _ in 0..20 {
        client.notify("Till.Echo", "\"x\"").await;
    }
    let throttled = series.named(names::MESSAGES_THROTTLED);
    counts.expect_at_least(&throttled, 1).await;
    // A stop in order would wait for the answer of the request that is kept.
}

#[tokio::test]
async fn requests_that_do_not_arrive_in_time_are_counted() {
    let mut counts = Counts::start().await;
    let timeouts = Timeouts::new().handshake(Duration::from_millis(200));
    let listener = Listener::websocket("127.0.0.1:0", "/nano");
    let node = App::new().timeouts(timeouts).listen(listener).start().await;
    let node = node.unwrap();
    let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    stream.write_all(b"GET /nano HTTP/1.1\r\n").await.unwrap();
    counts
        .expect(&Series::of(&node).named(names::HTTP_TIMEOUTS), 1)
        .await;
    node.shutdown().await;
}

#[tokio::test]
async fn responses_and_pushes_that_are_dropped_are_counted_by_reason() {
    let mut counts = Counts::start().await;
    let kept = Arc::<crate::Kept>::default();
    let limits = Limits::new()
        .send_queue_bytes(64 * 1024)
        .memory(64 * 1024)
        .slow_client(SlowClient::DropPushes);
    let node = start(App::new().component(Till(kept.clone())).limits(limits)).await;
    let series = Series::of(&node);
    let mut client = Client::connect(&node).await;
    let other = Client::connect(&node).await;
    let sessions = [client.session(&node).await, other.session(&node).await];
    // Without a pause the connections' tasks do not get to run, so the queues fill up: together they
    // have more than the budget, and neither is full.
    let body = vec![b'x'; 15 * 1024];
    let push = |session: &nano::Session| session.push_raw("on", body.clone());
    let refused = (0..6).flat_map(|_| sessions.each_ref().map(push));
    let refused = refused.filter(Result::is_err).count();
    let dropped = |reason| series.because(names::PUSHES_DROPPED, reason);
    assert!(refused > 0);
    counts.expect(&dropped("memory"), refused).await;
    assert_eq!(counts.total(&dropped("queue")), 0);

    let request = nano::message::Message::request(7, "Till.Keep", "null");
    client.send(&crate::harness::data(&request)).await;
    eventually("a request to be kept", || !kept.0.lock().is_empty()).await;
    drop((client, other));
    eventually("the sessions to end", || {
        node.handle().sessions().count() == 0
    })
    .await;
    let responder = kept.0.lock().pop().unwrap();
    responder.respond("late").unwrap_err();
    counts
        .expect(&series.because(names::RESPONSES_DROPPED, "closed"), 1)
        .await;
    node.shutdown().await;
}

/// A client that takes the handshake reply and nothing else.
struct Deaf {
    input: Bytes,
    greeted: Arc<AtomicBool>,
}

impl Transport for Deaf {
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        let input = std::mem::take(&mut self.input);
        if input.is_empty() {
            return Poll::Pending;
        }
        into.feed(&input);
        Poll::Ready(Ok(input.len()))
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        if self.greeted.swap(true, Ordering::Relaxed) {
            return Poll::Pending;
        }
        *written += from.drain(..).map(|chunk| chunk.len() as u64).sum::<u64>();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Clients(UnboundedReceiver<Accepted<Deaf>>);

impl Acceptor for Clients {
    type Transport = Deaf;

    async fn accept(&mut self) -> io::Result<Accepted<Deaf>> {
        match self.0.recv().await {
            Some(client) => Ok(client),
            None => pending().await,
        }
    }
}

#[tokio::test]
async fn a_reload_changes_the_memory_budget_that_is_shown() {
    let mut counts = Counts::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let write = |memory: &str| fs::write(&file, format!("[limits]\nmemory = {memory}")).unwrap();
    write("\"8MiB\"");
    let config = Config::load(&file).unwrap();
    let node = start(App::new().config(&config)).await;
    let limit = Series::of(&node).named(names::MEMORY_LIMIT);
    counts.expect(&limit, 8 << 20).await;
    for (memory, shown) in [("\"9MiB\"", 9 << 20), ("\"off\"", 0), ("\"8MiB\"", 8 << 20)] {
        write(memory);
        node.handle().reload().await.unwrap();
        counts.expect(&limit, shown).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn the_memory_budget_and_who_it_costs_the_connection_are_counted() {
    let mut counts = Counts::start().await;
    let (connect, clients) = unbounded_channel();
    let limits = Limits::new()
        .send_queue_bytes(128 * 1024)
        .memory(128 * 1024);
    let node = App::new()
        .limits(limits)
        .tcp("127.0.0.1:0")
        .listen(Listener::custom(Clients(clients)))
        .start()
        .await
        .unwrap();
    let series = Series::of(&node);
    for _ in 0..4 {
        let greeted = Arc::<AtomicBool>::default();
        let client = Deaf {
            input: Bytes::from_static(b"\x01\0\0\x02{}\x02\0\0\0"),
            greeted: greeted.clone(),
        };
        assert!(connect.send(Accepted::new(client)).is_ok());
        eventually("a handshake reply", || greeted.load(Ordering::Relaxed)).await;
    }
    counts
        .expect(&series.named(names::MEMORY_LIMIT), 128 * 1024)
        .await;
    let queued = series.named(names::MEMORY_QUEUED);
    let disconnects = series.named(names::MEMORY_DISCONNECTS);
    let mut most = 0;
    eventually("a client is disconnected", || {
        for session in node.handle().sessions().list() {
            session.push_raw("on", vec![b'x'; 200 * 1024]).ok();
        }
        counts.update();
        most = most.max(counts.total(&queued));
        counts.total(&disconnects) > 0
    })
    .await;
    assert!(most > 64 * 1024, "{most}");
    let slow = series.because(names::CONNECTIONS_CLOSED, "slow_client");
    let disconnected = counts.total(&disconnects);
    counts.expect_at_least(&slow, disconnected).await;
    node.shutdown().await;
    counts.expect(&queued, 0).await;
}
