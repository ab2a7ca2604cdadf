//! Promise 4 where messages pile up behind handlers: what waits is bounded, and no client is blamed
//! for the node's own delay.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use nano::{
    App, Component, Handlers, Json, Limits, Pipeline, Responder, Result, Session, Timeouts, code,
    packet,
};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    harness::{Client, Ends, Latch, packet, start},
    support::eventually,
};

/// A service that takes its time in every way there is.
struct Slow {
    latch: Latch,
    started: AtomicUsize,
    gate: Semaphore,
    kept: Mutex<Vec<Responder>>,
}

struct Service(Arc<Slow>);

impl Component for Service {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Wait", Self::wait)
            .on("Block", Self::block)
            .on("Keep", Self::keep)
    }
}

impl Service {
    async fn wait(self: Arc<Self>, _: Session, (): ()) -> Result {
        self.0.started.fetch_add(1, SeqCst);
        self.0.gate.acquire().await?.forget();
        Ok(())
    }

    fn block(&self, _: &Session, (): ()) -> Result<&'static str> {
        self.0.latch.wait();
        Ok("opened")
    }

    fn keep(&self, session: &Session, (): ()) -> Result {
        self.0.kept.lock().push(session.responder());
        Ok(())
    }
}

fn slow() -> (Arc<Slow>, App) {
    let slow = Arc::new(Slow {
        latch: Latch::default(),
        started: AtomicUsize::new(0),
        gate: Semaphore::new(0),
        kept: Mutex::default(),
    });
    (
        slow.clone(),
        App::new().component_with::<Json, _>(Service(slow), nano::Options::new().name("Slow")),
    )
}

#[tokio::test]
async fn messages_in_suspended_handlers_count_as_on_their_way() {
    let (slow, app) = slow();
    let node = start(app.limits(Limits::new().max_in_flight(4))).await;
    let mut client = Client::connect(&node).await;
    for _ in 0..50 {
        client.notify("Slow.Wait", "").await;
    }
    eventually("as many as allowed have started", || {
        slow.started.load(SeqCst) == 4
    })
    .await;
    // Another client is served: its answer shows that the node had time to start more.
    assert_eq!(
        Client::connect(&node)
            .await
            .ask_in_vain("Slow.None", "")
            .await,
        code::NOT_FOUND
    );
    assert_eq!(slow.started.load(SeqCst), 4);

    slow.gate.add_permits(1);
    eventually("one more", || slow.started.load(SeqCst) == 5).await;
    slow.gate.add_permits(100);
    eventually("all the others", || slow.started.load(SeqCst) == 50).await;
}

#[tokio::test]
async fn a_client_is_not_silent_while_the_node_does_not_read() {
    let (slow, app) = slow();
    let (app, ends) = Ends::of(
        app.timeouts(Timeouts::new().heartbeat(Duration::from_millis(50)))
            .limits(Limits::new().max_in_flight(1)),
    );
    let node = start(app).await;
    let mut client = Client::connect(&node).await;
    let id = client.request("Slow.Block", "").await;
    slow.latch.reached(1).await;
    // Six intervals, in which everything the client says stays in its socket.
    for _ in 0..15 {
        client.send(&packet(packet::Kind::Heartbeat, b"")).await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ends.count(), 0);
    slow.latch.open();
    assert_eq!(client.answer(id).await.unwrap(), r#""opened""#);
}

#[tokio::test]
async fn a_reply_that_cannot_be_written_does_not_use_up_its_responder() {
    let (slow, app) = slow();
    let node = start(app.timeouts(Timeouts::new().request(None))).await;
    let mut client = Client::connect(&node).await;
    let id = client.request("Slow.Keep", "").await;
    eventually("it is kept", || !slow.kept.lock().is_empty()).await;
    let responder = slow.kept.lock().remove(0);
    // JSON has no keys of this kind.
    let unwritable = HashMap::from([((1, 2), 3)]);
    responder.respond(&unwritable).unwrap_err();
    assert_eq!(client.answer(id).await.unwrap_err().code(), code::INTERNAL);
}

#[tokio::test]
async fn the_errors_of_a_shutdown_pass_the_pipeline_as_other_replies_do() {
    let (slow, app) = slow();
    let pipeline = Pipeline::new();
    pipeline.outbound().push_back(|_, message| {
        message.body = [b"sealed:", &message.body[..]].concat().into();
        Ok(())
    });
    let node = start(
        app.pipeline(pipeline)
            .timeouts(Timeouts::new().shutdown(Duration::from_millis(200))),
    )
    .await;
    let mut client = Client::connect(&node).await;
    let id = client.request("Slow.Keep", "").await;
    eventually("it is kept", || !slow.kept.lock().is_empty()).await;
    let (error, ()) = tokio::join!(client.answer(id), node.shutdown());
    // The client of these tests takes what is no error body as the message.
    let error = error.unwrap_err();
    assert!(
        error.message().starts_with("sealed:")
            && error.message().contains(code::UNAVAILABLE.as_str()),
        "{error}"
    );
    assert_eq!(
        client.end().await.as_deref(),
        Some("server is shutting down")
    );
}
