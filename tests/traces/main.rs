//! Traces of messages through nodes, over real sockets. In a process of its own: it records the
//! spans of all its nodes, and a process has one subscriber.
#![allow(clippy::unwrap_used, missing_docs)]

mod carried;
mod clients;
mod spans;

use std::sync::Arc;

use nano::{
    App, Component, Handlers, Options, Result, Session, Traces,
    client::Client,
    code,
    testing::{TestCluster, TestNode},
    trace,
};
use tracing::info_span;

use self::spans::{Recorded, Spans};

/// A client's own span, and the id of its trace. `number` tells tests apart.
fn client_span(number: u8, sampled: bool) -> (String, String) {
    let trace_id = format!("{number:02x}").repeat(16);
    let flags = u8::from(sampled);
    let parent = format!("00-{trace_id}-00f067aa0ba902b7-{flags:02x}");
    (parent, trace_id)
}

fn all() -> Traces {
    Traces::new().ratio(1.0)
}

/// Asks the store, from inside a span of its own.
struct Room;

impl Room {
    async fn buy(self: Arc<Self>, session: Session, item: u32) -> Result<String> {
        session.bind(7)?;
        let price: u32 = {
            let span = info_span!("price", item);
            let call = span.in_scope(|| session.call("Store.Price").json(&item));
            call.await?
        };
        // Behind the await, on whatever thread.
        let current = trace::current().map(|context| context.to_string());
        session.rpc("Store.Sold", &item)?;
        Ok(format!("{price} {}", current.unwrap_or_default()))
    }
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Buy", Self::buy)
    }
}

struct Store;

impl Store {
    fn price(&self, _: &Session, item: u32) -> Result<u32> {
        match item {
            0 => Err(nano::Error::new("STORE-404", "no such item")),
            item => Ok(item * 10),
        }
    }

    fn sold(&self, _: &Session, _: u32) -> Result {
        Ok(())
    }
}

impl Component for Store {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Price", Self::price).on("Sold", Self::sold)
    }
}

/// A gate, a backend with rooms, and one with the store.
struct Shop {
    _cluster: TestCluster,
    gate: TestNode,
    room: TestNode,
    store: TestNode,
}

impl Shop {
    async fn start(traces: Traces) -> Self {
        let cluster = TestCluster::start().await;
        let gate = App::new().websocket("127.0.0.1:0", "/nano").traces(traces);
        let gate = cluster.add(gate).await;
        let room = cluster.add(App::new().component(Room)).await;
        let store = App::new().component_with(Store, Options::new().internal());
        let store = cluster.add(store).await;
        cluster.converged(&[&gate, &room, &store]).await;
        Self {
            _cluster: cluster,
            gate,
            room,
            store,
        }
    }

    /// A client with headers in its upgrade request.
    async fn client(&self, headers: &[(&str, &str)]) -> Client {
        let url = format!("ws://{}/nano", self.gate.client_address());
        let builder = headers
            .iter()
            .fold(Client::builder(), |builder, (name, value)| {
                builder.header(*name, *value)
            });
        builder.connect(&url).await.unwrap()
    }
}

fn find<'a>(spans: &'a [Recorded], name: &str, route: &str) -> &'a Recorded {
    let found = spans
        .iter()
        .find(|span| span.name == name && span.field("route") == route);
    found.unwrap_or_else(|| panic!("no span {name} of {route}: {spans:#?}"))
}

#[tokio::test]
async fn one_trace_has_the_gate_the_backend_and_a_call_to_a_third_node() {
    let recorded = Spans::recorded();
    let shop = Shop::start(all()).await;
    let (parent, trace_id) = client_span(0x11, true);
    let client = shop.client(&[("traceparent", &parent)]).await;
    let answer: String = client.request("Room.Buy", &3).await.unwrap();

    // Four handlers and calls at the gate, the room and the store; the one-way message has no span
    // of its own at its sender.
    let spans = recorded.wait(&trace_id, 5).await;
    let gate = find(&spans, "gate", "Room.Buy");
    let room = find(&spans, "handler", "Room.Buy");
    let call = find(&spans, "call", "Store.Price");
    let price = find(&spans, "handler", "Store.Price");
    let sold = find(&spans, "handler", "Store.Sold");
    let is_child = |child: &Recorded, of: &Recorded| {
        assert_eq!(child.field("parent_id"), of.field("span_id"), "{child:?}");
    };
    assert_eq!(gate.field("parent_id"), "00f067aa0ba902b7");
    is_child(room, gate);
    is_child(call, room);
    is_child(price, call);
    is_child(sold, room);
    for (span, node) in [
        (gate, &shop.gate),
        (room, &shop.room),
        (call, &shop.room),
        (price, &shop.store),
        (sold, &shop.store),
    ] {
        assert_eq!(span.field("node"), node.address(), "{span:?}");
        assert_eq!(span.field("outcome"), "ok", "{span:?}");
    }
    assert_eq!(gate.field("request"), room.field("request"));
    assert_ne!(gate.field("session"), "");
    assert_eq!(gate.field("session"), price.field("session"));
    assert_eq!(gate.field("session"), call.field("session"));
    // It was bound by the first handler.
    assert_eq!((gate.field("user"), price.field("user")), ("", "7"));
    assert_ne!(room.field("queue_us"), "");
    // The handler saw its own span, after it had waited.
    let own = format!("30 00-{trace_id}-{}-01", room.field("span_id"));
    assert_eq!(answer, own);
    // The application's span is inside that of the handler.
    let inner = recorded.with("item", "3");
    assert_eq!((inner[0].name, inner[0].inside), ("price", Some("handler")));
}

#[tokio::test]
async fn the_outcome_is_the_code_of_the_error() {
    let recorded = Spans::recorded();
    let shop = Shop::start(all()).await;
    let (parent, trace_id) = client_span(0x22, true);
    let client = shop.client(&[("traceparent", &parent)]).await;
    let failed = client.request::<String, _>("Room.Buy", &0).await;
    assert_eq!(failed.unwrap_err().code(), "STORE-404");
    let spans = recorded.wait(&trace_id, 4).await;
    for span in spans {
        assert_eq!(span.field("outcome"), "STORE-404", "{span:?}");
    }
    let missing = client.request::<String, _>("Nowhere.At", &0).await;
    assert_eq!(missing.unwrap_err().code(), code::NOT_FOUND);
    let spans = recorded.wait(&trace_id, 5).await;
    let gate = find(&spans, "gate", "Nowhere.At");
    assert_eq!(gate.field("outcome"), code::NOT_FOUND.as_str());
}

#[tokio::test]
async fn a_hook_gives_spans_the_ids_of_a_tracing_system() {
    let recorded = Spans::recorded();
    // As an SDK that numbers its spans; the gate's alone, the others have the crate's ids.
    let traces = all().on_span(|_, parent| {
        let parent = parent.unwrap();
        assert_eq!(parent.tracestate(), Some("a=1,b=2"));
        let own = trace::TraceContext::new(parent.trace_id(), [0xAB; 8], true)?;
        Some(own.with_state("sdk=1"))
    });
    let shop = Shop::start(traces).await;
    let (parent, trace_id) = client_span(0x33, false);
    let headers = [
        ("traceparent", &*parent),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ];
    let client = shop.client(&headers).await;
    let _: String = client.request("Room.Buy", &3).await.unwrap();
    let spans = recorded.wait(&trace_id, 5).await;
    let own = "ab".repeat(8);
    assert_eq!(find(&spans, "gate", "Room.Buy").field("span_id"), own);
    assert_eq!(find(&spans, "handler", "Room.Buy").field("parent_id"), own);
}

#[tokio::test]
async fn a_span_hook_that_panics_costs_nothing_but_its_ids() {
    let recorded = Spans::recorded();
    let shop = Shop::start(all().on_span(|_, _| panic!("a test panics"))).await;
    let (parent, trace_id) = client_span(0x34, true);
    let client = shop.client(&[("traceparent", &parent)]).await;
    let _: String = client.request("Room.Buy", &3).await.unwrap();
    recorded.wait(&trace_id, 5).await;
}
