//! Promise 4: every queue has a bound and a policy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use nano::{
    App, CloseReason, Component, Error, Group, Handlers, Limits, Node, Options, RateLimit, Raw,
    Result, Session, SlowClient, Timeouts, code, message::Message,
};
use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::yield_now,
    time::{Instant, sleep},
};

use crate::{
    harness::{Client, Ends, Latch, data, greeting, start},
    support::{DEADLINE, eventually, within},
};

/// Pushes until the session refuses.
async fn overfill(session: &Session, size: usize) -> Error {
    let body = Bytes::from(vec![b'x'; size]);
    for _ in 0..20_000 {
        if let Err(error) = session.push_raw("onFill", body.clone()) {
            return error;
        }
        // Let the connection's task write what it can.
        yield_now().await;
    }
    panic!("the queue takes everything");
}

#[derive(Default)]
struct Desk {
    latch: Latch,
    handled: Mutex<Vec<u32>>,
}

struct Service(Arc<Desk>);

impl Component<Raw> for Service {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo)
            .on("Block", Self::block)
            .on("Count", Self::count)
    }
}

impl Service {
    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn block(&self, _: &Session<Raw>, _: Bytes) -> Result {
        self.0.latch.wait();
        Ok(())
    }

    /// The number stands in the first four bytes.
    fn count(&self, _: &Session<Raw>, body: Bytes) -> Result {
        let number = body
            .first_chunk()
            .ok_or_else(|| Error::new(code::BAD_REQUEST, "too short"))?;
        self.0.handled.lock().push(u32::from_be_bytes(*number));
        Ok(())
    }
}

async fn desk(app: App) -> (Arc<Desk>, Node) {
    let desk = Arc::new(Desk::default());
    let other = Options::new().name("Other").spread(1);
    let node = start(
        app.component(Service(desk.clone()))
            .component_with(Service(desk.clone()), other),
    )
    .await;
    (desk, node)
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_when_its_queue_is_full() {
    for (bytes, messages) in [(256 * 1024, usize::MAX), (usize::MAX, 50)] {
        let (app, ends) = Ends::of(
            App::new()
                .limits(
                    Limits::new()
                        .send_queue_bytes(bytes)
                        .send_queue_messages(messages),
                )
                .timeouts(Timeouts::new().heartbeat(None)),
        );
        let (_, node) = desk(app).await;
        let (slow, mut other) = (Client::connect(&node).await, Client::connect(&node).await);
        let session = slow.session(&node).await;
        assert_eq!(overfill(&session, 32 * 1024).await.code(), code::CLOSED);
        assert_eq!(ends.first().await, CloseReason::SlowClient);
        assert_eq!(session.closed(), Some(CloseReason::SlowClient));
        assert_eq!(other.ask("Service.Echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn a_slow_client_loses_pushes_but_not_its_connection_if_the_node_says_so() {
    let (app, ends) = Ends::of(
        App::new().limits(
            Limits::new()
                .send_queue_bytes(256 * 1024)
                .send_queue_messages(1_000)
                .slow_client(SlowClient::DropPushes),
        ),
    );
    let (_, node) = desk(app).await;
    let mut slow = Client::connect(&node).await;
    let session = slow.session(&node).await;
    for _ in 0..100 {
        assert_eq!(overfill(&session, 32 * 1024).await.code(), code::TOO_MANY);
    }
    assert_eq!((session.closed(), ends.count()), (None, 0));

    // It reads again: what was queued arrives whole, and then what is pushed next.
    let pushing = async {
        while session.push_raw("onRoom", "again").is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let reading = async { assert_eq!(slow.push("onRoom").await, "again") };
    within("both", async { tokio::join!(pushing, reading) }).await;
    assert_eq!(slow.ask("Service.Echo", "x").await.unwrap(), "x");

    // A response cannot be dropped: its request must end.
    overfill(&session, 32 * 1024).await;
    slow.request("Service.Echo", vec![b'x'; 60_000]).await;
    assert_eq!(ends.first().await, CloseReason::SlowClient);
}

#[tokio::test]
async fn a_slow_member_of_a_group_does_not_delay_the_others() {
    let (app, ends) = Ends::of(
        App::new()
            .limits(
                Limits::new()
                    .send_queue_bytes(64 * 1024)
                    .send_queue_messages(usize::MAX),
            )
            .timeouts(Timeouts::new().heartbeat(None)),
    );
    let (_, node) = desk(app).await;
    let (slow, mut quick) = (Client::connect(&node).await, Client::connect(&node).await);
    let group: Group<Raw> = Group::new("room");
    for client in [&slow, &quick] {
        group.add(&client.session(&node).await).unwrap();
    }
    let body = Bytes::from(vec![b'x'; 16 * 1024]);
    let mut sent = 0;
    while ends.count() == 0 {
        assert!(sent < 10_000, "the slow client is never disconnected");
        group.broadcast("on", &body).unwrap();
        sent += 1;
        quick.push("on").await;
    }
    assert_eq!(ends.first().await, CloseReason::SlowClient);
    assert_eq!(group.count(), 1);
    assert!(sent > 10);
}

/// Sends numbered messages in a task; how many are in the socket so far.
fn flood(
    address: std::net::SocketAddr,
    route: &'static str,
    count: u32,
    size: usize,
) -> Arc<AtomicUsize> {
    let sent = Arc::new(AtomicUsize::new(0));
    let progress = sent.clone();
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&greeting()).await.unwrap();
        for number in 0..count {
            let mut body = vec![0; size];
            body[..4].copy_from_slice(&number.to_be_bytes());
            stream
                .write_all(&data(&Message::notify(route, body)))
                .await
                .unwrap();
            progress.fetch_add(1, SeqCst);
        }
        sleep(DEADLINE).await;
    });
    sent
}

/// Waits until a number does not change any more; the number.
async fn settled(number: &AtomicUsize) -> usize {
    let mut last = (number.load(SeqCst), Instant::now());
    while last.0 == 0 || last.1.elapsed() < Duration::from_millis(300) {
        sleep(Duration::from_millis(5)).await;
        if number.load(SeqCst) != last.0 {
            last = (number.load(SeqCst), Instant::now());
        }
    }
    last.0
}

#[tokio::test]
async fn a_full_scheduler_stops_the_reader_and_loses_nothing() {
    let (desk, node) = desk(
        App::new().limits(
            Limits::new()
                .scheduler_capacity(16)
                .max_in_flight(usize::MAX),
        ),
    )
    .await;
    let mut other = Client::connect(&node).await;
    other.notify("Service.Block", "").await;
    desk.latch.reached(1).await;

    let (count, size) = (1_200, 32 * 1024);
    let sent = flood(node.addresses()[0], "Service.Count", count, size);
    assert!(settled(&sent).await < count as usize, "TCP pushes back");
    assert!(node.handle().scheduler().is_full());
    assert_eq!(
        node.handle()
            .push_task(|| {})
            .map_err(Error::from)
            .unwrap_err()
            .code(),
        code::TOO_MANY
    );
    // Others are served meanwhile.
    assert_eq!(other.ask_in_vain("No.Where", "").await, code::NOT_FOUND);
    let mut third = Client::connect(&node).await;
    assert_eq!(third.ask("Other.Echo", "x").await.unwrap(), "x");

    desk.latch.open();
    eventually("all are handled", || {
        desk.handled.lock().len() == count as usize
    })
    .await;
    assert_eq!(*desk.handled.lock(), Vec::from_iter(0..count));
}

#[tokio::test]
async fn a_session_whose_messages_wait_stops_its_own_reader_only() {
    let (desk, node) = desk(App::new().limits(Limits::new().max_in_flight(8))).await;
    let mut other = Client::connect(&node).await;
    other.notify("Service.Block", "").await;
    desk.latch.reached(1).await;

    let sent = flood(node.addresses()[0], "Service.Count", 1_200, 32 * 1024);
    assert!(settled(&sent).await < 1_200, "TCP pushes back");
    assert_eq!(node.handle().scheduler().len(), 8);
    desk.latch.open();
    assert_eq!(other.ask("Service.Echo", "x").await.unwrap(), "x");
    eventually("all are handled", || desk.handled.lock().len() == 1_200).await;
    assert_eq!(*desk.handled.lock(), Vec::from_iter(0..1_200));
}

#[tokio::test]
async fn a_task_pushed_to_a_full_scheduler_comes_back() {
    let (desk, node) = desk(App::new().limits(Limits::new().scheduler_capacity(3))).await;
    let room = node.handle().new_scheduler("room");
    let held = desk.clone();
    room.push_task(move || held.latch.wait()).unwrap();
    desk.latch.reached(1).await;
    // From another scheduler, which must not wait.
    let results = Arc::new(Mutex::new(Vec::new()));
    let (seen, target) = (results.clone(), room.clone());
    let push = move || {
        seen.lock()
            .extend((0..5).map(|_| target.push_task(|| {}).map_err(Error::from)))
    };
    node.handle().push_task(push).unwrap();
    eventually("all are pushed", || results.lock().len() == 5).await;
    let codes: Vec<_> = results
        .lock()
        .iter()
        .map(|result| result.as_ref().err().map(|error| error.code().to_string()))
        .collect();
    assert_eq!(
        codes,
        [
            None,
            None,
            None,
            Some(code::TOO_MANY.to_string()),
            Some(code::TOO_MANY.to_string())
        ]
    );
    desk.latch.open();
}

#[tokio::test]
async fn one_way_messages_to_a_full_scheduler_are_refused() {
    struct Caller(Arc<Mutex<Vec<Result>>>);
    impl Component<Raw> for Caller {
        fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
            h.on(
                "Call",
                |caller: &Self, session: &Session<Raw>, route: Bytes| {
                    let route = std::str::from_utf8(&route)?;
                    caller
                        .0
                        .lock()
                        .extend((0..10).map(|_| session.rpc(route, "0000")));
                    Ok::<_, Error>("called")
                },
            )
        }
    }
    for route in ["Service.Count", "Other.Count"] {
        let (desk, results) = (Arc::new(Desk::default()), Arc::new(Mutex::new(Vec::new())));
        let app = App::new()
            .limits(Limits::new().scheduler_capacity(4))
            .component(Caller(results.clone()))
            .component(Service(desk.clone()))
            .component_with(
                Service(desk.clone()),
                Options::new().name("Other").spread(1),
            );
        let node = start(app).await;
        let mut client = Client::connect(&node).await;
        assert_eq!(client.ask("Caller.Call", route).await.unwrap(), "called");
        let taken = results
            .lock()
            .iter()
            .filter(|result| result.is_ok())
            .count();
        assert_eq!(taken, 4, "{route}");
        assert_eq!(
            results.lock()[9].as_ref().unwrap_err().code(),
            code::TOO_MANY,
            "{route}"
        );
        eventually("those are handled", || desk.handled.lock().len() == taken).await;
    }
}

#[tokio::test]
async fn more_clients_than_allowed_are_refused_until_one_has_left() {
    // So long that only the limit ends a connection without a handshake.
    let (_, node) = desk(
        App::new()
            .limits(Limits::new().max_connections(2))
            .timeouts(Timeouts::new().handshake(DEADLINE * 2)),
    )
    .await;
    let (first, mut second) = (Client::connect(&node).await, Client::connect(&node).await);
    let mut third = Client::dial(node.addresses()[0]).await;
    assert!(third.packet().await.is_none());
    assert_eq!(second.ask("Service.Echo", "x").await.unwrap(), "x");

    drop(first);
    let admitted = async {
        loop {
            let mut client = Client::dial(node.addresses()[0]).await;
            client.send(&greeting()).await;
            if client.packet().await.is_some() {
                return client;
            }
        }
    };
    assert_eq!(
        within("a place", admitted)
            .await
            .ask("Service.Echo", "x")
            .await
            .unwrap(),
        "x"
    );
}

#[tokio::test]
async fn a_client_over_the_rate_limit_is_slowed_down_without_loss() {
    let (desk, node) =
        desk(App::new().limits(Limits::new().rate_limit(RateLimit::throttle(100, 10)))).await;
    let (begun, mut client) = (Instant::now(), Client::connect(&node).await);
    for number in 0..40_u32 {
        client
            .notify("Service.Count", number.to_be_bytes().to_vec())
            .await;
    }
    eventually("all are handled", || desk.handled.lock().len() == 40).await;
    // Ten at once, one on credit, and 29 at ten milliseconds each.
    assert!(
        begun.elapsed() >= Duration::from_millis(290),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(*desk.handled.lock(), Vec::from_iter(0..40));
}

#[tokio::test]
async fn a_client_over_the_rate_limit_is_kicked_if_the_node_says_so() {
    let (app, ends) =
        Ends::of(App::new().limits(Limits::new().rate_limit(RateLimit::disconnect(1, 10))));
    let (_, node) = desk(app).await;
    let mut client = Client::connect(&node).await;
    for _ in 0..10 {
        assert!(client.ask("Service.Echo", "x").await.is_ok());
    }
    client.request("Service.Echo", "x").await;
    assert_eq!(client.end().await.as_deref(), Some("rate limit exceeded"));
    assert_eq!(ends.first().await, CloseReason::RateLimit);
}

#[tokio::test]
async fn a_packet_over_the_limit_ends_the_connection() {
    let (app, ends) = Ends::of(App::new().limits(Limits::new().max_packet(1_000)));
    let (_, node) = desk(app).await;
    let mut client = Client::connect(&node).await;
    let overhead = data(&Message::request(1, "Service.Echo", "")).len() - nano::packet::HEADER;
    assert_eq!(
        client
            .ask("Service.Echo", vec![b'x'; 1_000 - overhead])
            .await
            .unwrap()
            .len(),
        1_000 - overhead
    );
    client
        .request("Service.Echo", vec![b'x'; 1_001 - overhead])
        .await;
    assert_eq!(
        client.end().await.as_deref(),
        Some("a packet body of 1001 bytes, over the limit of 1000")
    );
    assert!(matches!(ends.first().await, CloseReason::Protocol(_)));
}
