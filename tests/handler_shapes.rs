//! Every shape a handler may have, every way it may reply, every place it may run: with real
//! clients.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nano::{
    App, Component, Error, Handlers, Node, Protobuf, Responder, Result, Serializer, Session,
    client::Client, code,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[path = "handler_shapes/formats.rs"]
mod formats;
#[path = "handler_shapes/places.rs"]
mod places;

/// A node on a port of its own, and its first client.
async fn serve(app: App) -> (Node, Client) {
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let client = connect(&node).await;
    (node, client)
}

async fn connect(node: &Node) -> Client {
    Client::connect(&format!("tcp://{}", node.addresses()[0]))
        .await
        .unwrap()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: i64,
}

/// Handlers that return at once and such that wait, methods and closures.
#[derive(Default)]
struct Shapes {
    kept: Mutex<Option<Responder>>,
}

impl Component for Shapes {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Returned", Self::returned)
            .on("Responded", Self::responded)
            .on("Twice", Self::twice)
            .on("Nothing", Self::nothing)
            .on("Raise", Self::raise)
            .on("Convert", Self::convert)
            .on("Waited", Self::waited)
            .on("WaitedAndFailed", Self::waited_and_failed)
            .on("Keep", Self::keep)
            .on("Release", Self::release)
            .on("Forget", Self::forget)
            .on("Closure", |_: &Self, session: &Session, text: String| {
                Ok::<_, Error>(format!("{text} {}", session.id()))
            })
            .on(
                "AsyncClosure",
                |_: Arc<Self>, session: Session, text: String| async move {
                    tokio::task::yield_now().await;
                    Ok::<_, Error>(format!("{text} {}", session.id()))
                },
            )
            .on("Shared", Self::shared)
            .on("Function", mirror::<Self, _>)
            .raw("Raw", Self::raw)
            .raw("RawText", |_: &Self, _: &Session, (): ()| {
                Ok::<_, Error>("text")
            })
            .raw("AsyncRaw", Self::async_raw)
    }
}

/// For any component of any format.
fn mirror<C, S: Serializer>(_: &C, _: &Session<S>, point: Point) -> Result<Point> {
    Ok(Point {
        x: -point.x,
        ..point
    })
}

/// An error of the application, with a code of its own.
enum RoomError {
    Full { limit: usize },
}

impl From<RoomError> for Error {
    fn from(error: RoomError) -> Self {
        let RoomError::Full { limit } = error;
        Self::new("ROOM-FULL", "the room is full").with_metadata("limit", limit.to_string())
    }
}

impl Shapes {
    fn returned(&self, _: &Session, point: Point) -> Result<Point> {
        Ok(Point {
            x: point.y,
            y: point.x,
        })
    }

    fn shared(self: &Arc<Self>, session: &Session, point: Point) -> Result {
        let (component, session) = (self.clone(), session.clone());
        tokio::spawn(async move { session.respond(&component.returned(&session, point)?) });
        Ok(())
    }

    fn responded(&self, session: &Session, point: Point) -> Result {
        session.push("onPoint", &point)?;
        session.respond(&point)
    }

    fn twice(&self, session: &Session, (): ()) -> Result<String> {
        session.respond("first")?;
        let second = session.respond("second").unwrap_err();
        session.push("onSecond", second.code().as_str())?;
        Ok("third".to_owned())
    }

    fn nothing(&self, session: &Session, (): ()) -> Result<i64> {
        Ok(session.id())
    }

    fn raise(&self, _: &Session, limit: usize) -> Result<(), RoomError> {
        Err(RoomError::Full { limit })
    }

    fn convert(&self, _: &Session, number: String) -> Result<i64, std::num::ParseIntError> {
        number.parse()
    }

    async fn waited(self: Arc<Self>, session: Session, delay: u64) -> Result<i64> {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        session.push("onWaited", &delay)?;
        Ok(session.id())
    }

    async fn waited_and_failed(self: Arc<Self>, _: Session, limit: usize) -> Result<(), RoomError> {
        tokio::task::yield_now().await;
        Err(RoomError::Full { limit })
    }

    fn keep(&self, session: &Session, (): ()) -> Result {
        *self.kept.lock() = Some(session.responder());
        Ok(())
    }

    fn release(&self, _: &Session, point: Point) -> Result<&'static str> {
        let kept = self.kept.lock().take();
        kept.ok_or_else(|| Error::new(code::NOT_FOUND, "no request waits"))?
            .respond(&point)?;
        Ok("released")
    }

    fn forget(&self, _: &Session, (): ()) -> Result<&'static str> {
        let kept = self.kept.lock().take();
        drop(kept);
        Ok("forgotten")
    }

    fn raw(&self, session: &Session, picture: Bytes) -> Result<Bytes> {
        session.push_raw("onPicture", picture.clone())?;
        Ok(picture.slice(1..))
    }

    async fn async_raw(self: Arc<Self>, _: Session, picture: Bytes) -> Result<Vec<u8>> {
        tokio::task::yield_now().await;
        Ok(picture.iter().rev().copied().collect())
    }
}

#[tokio::test]
async fn a_reply_is_returned_or_responded() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let mut pushed = client.subscribe("onPoint");
    let point = Point { x: 1, y: 2 };
    assert_eq!(
        client
            .request::<Point, _>("Shapes.Returned", &point)
            .await
            .unwrap(),
        Point { x: 2, y: 1 }
    );
    assert_eq!(
        client
            .request::<Point, _>("Shapes.Responded", &point)
            .await
            .unwrap(),
        point
    );
    // What a handler pushes before it responds is there before the response.
    assert_eq!(pushed.try_recv().unwrap(), r#"{"x":1,"y":2}"#);
    assert_eq!(
        client
            .request::<Point, _>("Shapes.Function", &point)
            .await
            .unwrap(),
        Point { x: -1, y: 2 }
    );
    assert_eq!(
        client
            .request::<Point, _>("Shapes.Shared", &point)
            .await
            .unwrap(),
        Point { x: 2, y: 1 }
    );
    node.shutdown().await;
}

#[tokio::test]
async fn only_the_first_response_counts() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let mut second = client.subscribe("onSecond");
    assert_eq!(
        client
            .request::<String, _>("Shapes.Twice", &())
            .await
            .unwrap(),
        "first"
    );
    assert_eq!(
        second.recv_as::<String>().await.unwrap().unwrap(),
        code::CONFLICT
    );
    // The third one would arrive before this answer.
    client
        .request::<i64, _>("Shapes.Nothing", &())
        .await
        .unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_handler_without_a_message_takes_any_payload() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let id: i64 = client.request("Shapes.Nothing", &()).await.unwrap();
    for payload in ["", "null", "{", r#"{"not":"looked at"}"#, "\u{0}"] {
        assert_eq!(
            client.request_raw("Shapes.Nothing", payload).await.unwrap(),
            id.to_string(),
            "{payload:?}"
        );
    }
    node.shutdown().await;
}

#[tokio::test]
async fn an_error_has_the_code_its_type_chose() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    for route in ["Shapes.Raise", "Shapes.WaitedAndFailed"] {
        let error = client.request::<(), _>(route, &4).await.unwrap_err();
        assert_eq!(
            (error.code().as_str(), error.message()),
            ("ROOM-FULL", "the room is full"),
            "{route}"
        );
        assert_eq!(error.metadata()["limit"], "4", "{route}");
    }
    assert_eq!(
        client
            .request::<i64, _>("Shapes.Convert", "12")
            .await
            .unwrap(),
        12
    );
    let error = client
        .request::<i64, _>("Shapes.Convert", "twelve")
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (code::INTERNAL, "internal error")
    );
    node.shutdown().await;

    let app = App::new().component(Shapes::default()).expose_errors(true);
    let (node, client) = serve(app).await;
    let error = client
        .request::<i64, _>("Shapes.Convert", "twelve")
        .await
        .unwrap_err();
    assert_eq!(error.message(), "invalid digit found in string");
    node.shutdown().await;
}

#[tokio::test]
async fn a_handler_that_waits_delays_no_other_session() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let mut order = client.subscribe("onWaited");
    let (slow, fast, id) = tokio::join!(
        client.request::<i64, _>("Shapes.Waited", &100),
        client.request::<i64, _>("Shapes.Waited", &1),
        client.request::<i64, _>("Shapes.Nothing", &()),
    );
    assert_eq!(
        (slow.unwrap(), fast.unwrap()),
        (*id.as_ref().unwrap(), *id.as_ref().unwrap())
    );
    assert_eq!(order.recv_as::<u64>().await.unwrap().unwrap(), 1);
    assert_eq!(order.recv_as::<u64>().await.unwrap().unwrap(), 100);
    node.shutdown().await;
}

#[tokio::test]
async fn a_responder_answers_its_own_request_later() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let other = connect(&node).await;
    let point = Point { x: 3, y: 4 };
    let kept = client.request::<Point, _>("Shapes.Keep", &());
    let released = async {
        // The answer comes from the request of another session, so it cannot have gone to the wrong one
        // unseen.
        loop {
            match other.request::<String, _>("Shapes.Release", &point).await {
                Err(error) => assert_eq!(error.code(), code::NOT_FOUND),
                Ok(reply) => break reply,
            }
        }
    };
    let (kept, released) = tokio::join!(kept, released);
    assert_eq!((kept.unwrap(), released.as_str()), (point, "released"));
    node.shutdown().await;
}

#[tokio::test]
async fn a_responder_that_is_dropped_still_answers() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    // Both travel in this order on one connection.
    let (kept, forgotten) = tokio::join!(
        client.request::<Point, _>("Shapes.Keep", &()),
        client.request::<String, _>("Shapes.Forget", &()),
    );
    assert_eq!(forgotten.unwrap(), "forgotten");
    assert_eq!(kept.unwrap_err().code(), code::INTERNAL);
    node.shutdown().await;
}

#[tokio::test]
async fn closures_are_handlers() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let id: i64 = client.request("Shapes.Nothing", &()).await.unwrap();
    for route in ["Shapes.Closure", "Shapes.AsyncClosure"] {
        assert_eq!(
            client.request::<String, _>(route, "session").await.unwrap(),
            format!("session {id}"),
            "{route}"
        );
    }
    node.shutdown().await;
}

#[tokio::test]
async fn raw_handlers_see_and_reply_bytes() {
    let (node, client) = serve(App::new().component(Shapes::default())).await;
    let mut pictures = client.subscribe("onPicture");
    let picture = Bytes::from_static(&[0xFF, 0x00, 0x80]);
    assert_eq!(
        client
            .request_raw("Shapes.Raw", picture.clone())
            .await
            .unwrap(),
        picture.slice(1..)
    );
    assert_eq!(pictures.recv().await.unwrap(), picture);
    assert_eq!(
        client
            .request_raw("Shapes.AsyncRaw", picture)
            .await
            .unwrap()
            .as_ref(),
        [0x80, 0x00, 0xFF]
    );
    assert_eq!(
        client
            .request_raw("Shapes.RawText", "whatever")
            .await
            .unwrap(),
        "text"
    );
    node.shutdown().await;
}
