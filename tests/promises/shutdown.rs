//! What a shutdown does to clients and their requests.

use std::{
    future::poll_fn,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use nano::{
    App, CloseReason, Component, Error, Handle, Handlers, Listener, Node, Responder, Result,
    Session, Timeouts, code,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::{
    harness::{Client, Ends, Latch, start},
    support::{eventually, within},
};

#[derive(Default)]
struct Inner {
    kept: Mutex<Vec<Responder>>,
    latch: Latch,
}

struct Mail(Arc<Inner>);

impl Component for Mail {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Keep", Self::keep)
            .on("Work", Self::work)
            .on("Forever", Self::forever)
            .on("Thing", |_: &Self, _: &Session, _: ()| Ok::<_, Error>(1))
    }
}

impl Mail {
    fn keep(&self, session: &Session, _: ()) -> Result {
        self.0.kept.lock().push(session.responder());
        Ok(())
    }

    fn work(&self, _: &Session, _: ()) -> Result<&'static str> {
        self.0.latch.wait();
        Ok("worked")
    }

    async fn forever(self: Arc<Self>, _: Session, _: ()) -> Result {
        std::future::pending().await
    }
}

async fn mail(app: App) -> (Arc<Inner>, Node, Ends) {
    let inner = Arc::new(Inner::default());
    let (app, ends) = Ends::of(app.component(Mail(inner.clone())));
    (inner, start(app).await, ends)
}

#[tokio::test]
async fn requests_in_flight_are_finished_before_clients_are_kicked() {
    let (inner, node, ends) = mail(App::new()).await;
    let (mut first, mut second) = (Client::connect(&node).await, Client::connect(&node).await);
    let worked = first.request("Mail.Work", "").await;
    inner.latch.reached(1).await;
    let (kept, queued) = (
        first.request("Mail.Keep", "").await,
        first.request("Mail.Thing", "").await,
    );
    first.ask_in_vain("No.Where", "").await;

    node.handle().shutdown();
    // Who has nothing in flight goes at once.
    assert_eq!(
        second.end().await.as_deref(),
        Some("server is shutting down")
    );
    inner.latch.open();
    assert_eq!(first.answer(worked).await.unwrap(), r#""worked""#);
    assert_eq!(first.answer(queued).await.unwrap(), "1");
    eventually("a request is kept", || !inner.kept.lock().is_empty()).await;
    inner.kept.lock().remove(0).respond("kept").unwrap();
    assert_eq!(first.answer(kept).await.unwrap(), r#""kept""#);
    assert_eq!(
        first.end().await.as_deref(),
        Some("server is shutting down")
    );
    node.stopped().await;
    assert_eq!(
        (ends.count(), ends.first().await),
        (2, CloseReason::Shutdown)
    );
}

#[tokio::test]
async fn unfinished_requests_are_answered_with_an_error_after_half_of_the_time() {
    let (inner, node, ends) =
        mail(App::new().timeouts(Timeouts::new().shutdown(Duration::from_millis(400)))).await;
    let mut client = Client::connect(&node).await;
    let (forever, kept) = (
        client.request("Mail.Forever", "").await,
        client.request("Mail.Keep", "").await,
    );
    eventually("a request is kept", || !inner.kept.lock().is_empty()).await;
    let begun = Instant::now();
    node.shutdown().await;
    assert!(
        (Duration::from_millis(190)..Duration::from_secs(3)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    for id in [forever, kept] {
        assert_eq!(
            client.answer(id).await.unwrap_err().code(),
            code::UNAVAILABLE
        );
    }
    assert_eq!(
        client.end().await.as_deref(),
        Some("server is shutting down")
    );
    assert_eq!(ends.first().await, CloseReason::Shutdown);
    inner.kept.lock().remove(0).respond("late").unwrap_err();
}

#[tokio::test]
async fn close_callbacks_are_waited_for() {
    let done = Arc::new(Mutex::new(0));
    let count = done.clone();
    let (_, node, _) = mail(App::new().on_session_closed(move |_, _| {
        std::thread::sleep(Duration::from_millis(20));
        *count.lock() += 1;
    }))
    .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(&node).await);
    }
    node.shutdown().await;
    assert_eq!(*done.lock(), 5);
}

/// Records whether these addresses are free when the node has nearly stopped.
#[derive(Default)]
struct Successor(Arc<Mutex<Vec<SocketAddr>>>, Arc<Mutex<Vec<bool>>>);

impl Component for Successor {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Thing", |_: &Self, _: &Session, _: ()| Ok::<_, Error>(1))
    }

    fn before_shutdown(self: &Arc<Self>, _: &Handle) {
        self.1.lock().extend(
            self.0
                .lock()
                .iter()
                .map(|address| TcpListener::bind(address).is_ok()),
        );
    }
}

/// On a runtime of one thread: what has not been waited for has not happened yet.
#[tokio::test]
async fn addresses_are_free_before_hooks_are_called() {
    let (addresses, free) = (
        Arc::<Mutex<Vec<_>>>::default(),
        Arc::<Mutex<Vec<_>>>::default(),
    );
    let app = App::new().component(Successor(addresses.clone(), free.clone()));
    let node = app
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0", "/nano")
        .start()
        .await
        .unwrap();
    addresses.lock().extend(node.addresses());
    // It is always next, and holds up those behind it.
    let others = tokio::spawn(poll_fn(|cx| -> Poll<()> {
        std::thread::sleep(Duration::from_millis(10));
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    node.shutdown().await;
    others.abort();
    assert_eq!(*free.lock(), [true, true]);
}

#[tokio::test]
async fn a_connection_of_http_ends_with_the_node() {
    let app = App::new()
        .component(Mail(Arc::default()))
        .listen(Listener::websocket("127.0.0.1:0", "/nano"));
    let node = app.start().await.unwrap();
    let mut browser = TcpStream::connect(node.addresses()[0]).await.unwrap();
    browser
        .write_all(b"GET /none HTTP/1.1\r\nHost: test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 1024];
    let count = within("an answer", browser.read(&mut answer))
        .await
        .unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 404"));

    node.shutdown().await;
    // Kept alive until now; a reset is an end as well.
    assert_eq!(
        within("the end of the connection", browser.read(&mut answer))
            .await
            .unwrap_or(0),
        0
    );
}
