//! Promise 2: every request ends, with a reply or an error reply that says why there is none.

use std::{num::ParseIntError, sync::Arc};

use nano::{
    App, Component, Error, Handlers, Limits, Options, Result, Session, code, message::Message,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::harness::{Client, data, start};

#[derive(Serialize, Deserialize)]
struct Bet {
    chips: u32,
}

/// An application's own error, which is no `std::error::Error`.
struct TableFull(u32);

impl From<TableFull> for Error {
    fn from(TableFull(seats): TableFull) -> Self {
        Error::new("TABLE-FULL", "no seat left").with_metadata("seats", seats.to_string())
    }
}

pub(crate) struct Table;

impl Component for Table {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Bet", Self::bet)
            .on("Sit", Self::sit)
            .on("Fold", Self::fold)
            .on("Panic", Self::panic)
            .on("PanicFirst", Self::panic_first)
            .on("PanicLater", Self::panic_later)
            .on("Id", Self::id)
    }
}

impl Table {
    fn bet(&self, _: &Session, bet: Bet) -> Result<Bet> {
        Ok(bet)
    }

    fn sit(&self, _: &Session, _: ()) -> Result<(), TableFull> {
        Err(TableFull(4))
    }

    fn fold(&self, _: &Session, chips: String) -> Result<u32, ParseIntError> {
        chips.parse()
    }

    fn panic(&self, _: &Session, _: ()) -> Result {
        panic!("a test's panic")
    }

    async fn panic_first(self: Arc<Self>, _: Session, _: ()) -> Result {
        panic!("a test's panic")
    }

    async fn panic_later(self: Arc<Self>, _: Session, _: ()) -> Result {
        tokio::task::yield_now().await;
        panic!("a test's panic")
    }

    fn id(&self, session: &Session, _: ()) -> Result<u64> {
        session.push("onId", &session.request_id())?;
        Ok(session.request_id())
    }
}

async fn table() -> (nano::Node, Client) {
    let node = start(
        App::new()
            .component(Table)
            .component_with(Table, Options::new().name("Staff").internal()),
    )
    .await;
    let client = Client::connect(&node).await;
    (node, client)
}

#[tokio::test]
async fn an_unknown_route_is_answered() {
    let (_node, mut client) = table().await;
    for route in [
        "Table.Nothing",
        "Missing.Bet",
        "Table",
        "table.Bet",
        "",
        ".",
        "Table.Bet.More",
    ] {
        assert_eq!(
            client.ask_in_vain(route, r#"{"chips":1}"#).await,
            code::NOT_FOUND,
            "{route}"
        );
    }
    assert_eq!(
        client.ask_in_vain("Staff.Bet", r#"{"chips":1}"#).await,
        code::NOT_FOUND,
        "internal routes do not exist for clients"
    );
    // A route in another encoding: the request can be read up to it.
    client.send(b"\x04\x00\x00\x05\x00\x7f\x02\xc3\x28").await;
    assert_eq!(
        client.answer(127).await.unwrap_err().code(),
        code::NOT_FOUND
    );
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded_is_answered() {
    let (_node, mut client) = table().await;
    for body in ["", "{", "[]", r#"{"chips":"many"}"#, "\u{0}"] {
        assert_eq!(
            client.ask_in_vain("Table.Bet", body).await,
            code::BAD_REQUEST,
            "{body}"
        );
    }
    assert_eq!(
        client.ask("Table.Bet", r#"{"chips":7}"#).await.unwrap(),
        r#"{"chips":7}"#
    );
}

#[tokio::test]
async fn an_error_of_a_handler_is_answered_with_its_code_message_and_metadata() {
    let (_node, mut client) = table().await;
    let error = client.ask("Table.Sit", "").await.unwrap_err();
    assert_eq!(
        (
            error.code().as_str(),
            error.message(),
            error.metadata()["seats"].as_str()
        ),
        ("TABLE-FULL", "no seat left", "4")
    );
    let error = client.ask("Table.Fold", r#""none""#).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (code::INTERNAL, "internal error")
    );
}

#[tokio::test]
async fn a_panic_of_a_handler_is_answered() {
    let (_node, mut client) = table().await;
    for route in ["Table.Panic", "Table.PanicFirst", "Table.PanicLater"] {
        assert_eq!(
            client.ask_in_vain(route, "").await,
            code::INTERNAL,
            "{route}"
        );
        assert!(
            client.ask("Table.Bet", r#"{"chips":1}"#).await.is_ok(),
            "after {route}"
        );
    }
}

#[tokio::test]
async fn a_missing_scheduler_is_answered() {
    let node = start(App::new().component_with(Table, Options::new().scheduler("desk"))).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask_in_vain("Table.Id", "").await, code::UNAVAILABLE);

    let session = client.session(&node).await;
    let desk = node.handle().new_scheduler("desk");
    session.pin("desk", &desk);
    assert_eq!(client.ask("Table.Id", "").await.unwrap(), "2");
    assert!(session.unpin("desk", &desk));
    assert_eq!(client.ask_in_vain("Table.Id", "").await, code::UNAVAILABLE);
}

#[tokio::test]
async fn request_id_zero_is_a_notify() {
    let (_node, mut client) = table().await;
    for route in ["Table.Id", "Table.Sit", "Table.Nothing"] {
        client.send(&data(&Message::request(0, route, ""))).await;
    }
    assert_eq!(client.ask("Table.Id", "").await.unwrap(), "1");
    assert_eq!(client.push("onId").await, "0", "the handler ran");
    assert_eq!(
        client.message().await.body,
        "1",
        "only pushes came besides the one answer"
    );
}

#[tokio::test]
async fn messages_that_only_servers_send_are_ignored() {
    let (_node, mut client) = table().await;
    client.send(&data(&Message::response(1, false, "x"))).await;
    client.send(&data(&Message::push("Table.Id", ""))).await;
    client.request("Table.Bet", r#"{"chips":1}"#).await;
    assert_eq!(
        client.message().await,
        Message::response(1, false, r#"{"chips":1}"#)
    );
}

#[tokio::test]
async fn the_largest_response_arrives_and_a_larger_one_is_answered_with_an_error() {
    struct Store;
    impl Component for Store {
        fn handlers(h: Handlers<Self>) -> Handlers<Self> {
            h.raw("Load", |_: &Self, session: &Session, body: bytes::Bytes| {
                let size: usize = std::str::from_utf8(&body)?.parse()?;
                session.respond_raw(vec![b'x'; size])
            })
        }
    }
    let node = start(
        App::new().component(Store).limits(
            Limits::new()
                .send_queue_bytes(1024)
                .send_queue_messages(1024),
        ),
    )
    .await;
    let mut client = Client::connect(&node).await;
    let most = nano::packet::MAX_BODY - 16;
    assert_eq!(
        client
            .ask("Store.Load", most.to_string())
            .await
            .unwrap()
            .len(),
        most
    );
    for size in [most + 1, 16 << 20, 17 << 20] {
        assert_eq!(
            client.ask_in_vain("Store.Load", size.to_string()).await,
            code::TOO_LARGE
        );
    }
    assert_eq!(client.ask("Store.Load", "1").await.unwrap(), "x");
}

#[tokio::test]
async fn the_error_hook_sees_every_error_and_decides_what_the_client_gets() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let app = App::new()
        .component(Table)
        .on_error(move |session, route, error| {
            log.lock().push((
                session.request_id(),
                route.to_owned(),
                error.code().to_string(),
            ));
            if error.source_as::<ParseIntError>().is_some() {
                return Error::new("NOT-A-NUMBER", "chips are counted in digits");
            }
            if error.code() == code::INTERNAL {
                Error::new("OOPS", "something went wrong")
            } else {
                error
            }
        });
    let node = start(app).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(
        client.ask_in_vain("Table.Fold", r#""none""#).await,
        "NOT-A-NUMBER"
    );
    assert_eq!(client.ask_in_vain("Table.Panic", "").await, "OOPS");
    assert_eq!(client.ask_in_vain("Table.Sit", "").await, "TABLE-FULL");
    assert_eq!(
        client.ask_in_vain("Table.Bet", "{").await,
        code::BAD_REQUEST
    );
    client.notify("Table.Sit", "").await;
    // Behind the notify on the same scheduler, so that the next error comes after it.
    client.ask("Table.Bet", r#"{"chips":1}"#).await.unwrap();
    assert_eq!(client.ask_in_vain("No.Where", "").await, code::NOT_FOUND);
    let expected = [
        (1, "Table.Fold", code::INTERNAL.as_str()),
        (2, "Table.Panic", code::INTERNAL.as_str()),
        (3, "Table.Sit", "TABLE-FULL"),
        (4, "Table.Bet", code::BAD_REQUEST.as_str()),
        (0, "Table.Sit", "TABLE-FULL"),
        (6, "No.Where", code::NOT_FOUND.as_str()),
    ];
    assert_eq!(
        *seen.lock(),
        expected.map(|(id, route, code)| (id, route.to_owned(), code.to_owned()))
    );
}

#[tokio::test]
async fn with_silent_errors_a_failed_request_gets_no_answer() {
    let node = start(
        App::new()
            .component(Table)
            .suppress_error_replies()
            .limits(Limits::new().max_in_flight(64)),
    )
    .await;
    let mut client = Client::connect(&node).await;
    for route in [
        "No.Where",
        "Table.Bet",
        "Table.Sit",
        "Table.Panic",
        "Table.PanicFirst",
        "Table.PanicLater",
    ] {
        // More than may be in flight: an unanswered request does not stay in flight.
        for _ in 0..20 {
            client.request(route, "").await;
        }
    }
    let id = client.request("Table.Bet", r#"{"chips":1}"#).await;
    assert_eq!(
        client.message().await,
        Message::response(id, false, r#"{"chips":1}"#)
    );
}
