//! An invalid application is an error that names the fault, before anything listens.

use std::{net::TcpListener, time::Duration};

use nano::{
    App, Component, Error, Handlers, Limits, Listener, Options, RateLimit, Session, Timeouts,
    axum::Router, code,
};

use crate::{harness::start, listeners::Certificate, support::free_address};

/// A component with the handlers of these names.
macro_rules! component {
    ($name:ident, $($handler:expr),*) => {
        struct $name;
        impl Component for $name {
            fn handlers(h: Handlers<Self>) -> Handlers<Self> {
                h$(.on($handler, |_: &Self, _: &Session, _: ()| Ok::<_, Error>(())))*
            }
        }
    };
}

component!(Fine, "Do");
component!(Empty,);
component!(Twice, "Do", "Do");
component!(Nameless, "");
component!(Dotted, "Do.It");

async fn refused(app: App) -> Error {
    // A port of its own: that of an application that is refused must be free afterwards.
    let address = free_address();
    let error = app.tcp(&address).start().await.expect_err("it starts");
    TcpListener::bind(&address).unwrap();
    error
}

async fn expect_refusal(app: App, names: &str) {
    let error = refused(app).await;
    assert!(
        error.message().contains(names),
        "{names:?} is not named by {error}"
    );
}

#[tokio::test]
async fn components_and_routes() {
    expect_refusal(
        App::new().component(Fine).component(Fine),
        "two components named Fine",
    )
    .await;
    expect_refusal(
        App::new()
            .component(Fine)
            .component_with(Empty, Options::new().name("Fine")),
        "Fine",
    )
    .await;
    expect_refusal(App::new().component(Empty), "Empty has no handlers").await;
    expect_refusal(App::new().component(Twice), "Twice.Do").await;
    expect_refusal(App::new().component(Nameless), "\"Nameless.\"").await;
    expect_refusal(App::new().component(Dotted), "\"Dotted.Do.It\"").await;
    let named = |name: String| App::new().component_with(Fine, Options::new().name(name));
    expect_refusal(named(String::new()), "\".Do\"").await;
    expect_refusal(named("x".repeat(253)), "256 bytes").await;
    start(named("x".repeat(252))).await;
    start(named("dots.in.the.service".to_owned())).await;
    expect_refusal(
        App::new().component_with(Fine, Options::new().spread(0)),
        "Fine: spread over 0",
    )
    .await;
}

#[tokio::test]
async fn options_of_zero() {
    let fine = || App::new().component(Fine);
    for (app, names) in [
        (
            fine().timeouts(Timeouts::new().heartbeat(Duration::ZERO)),
            "timeouts.heartbeat",
        ),
        (
            fine().timeouts(Timeouts::new().handshake(Duration::ZERO)),
            "timeouts.handshake",
        ),
        (
            fine().timeouts(Timeouts::new().request(Duration::ZERO)),
            "timeouts.request",
        ),
        (
            fine().timer_precision(Duration::from_micros(999)),
            "precision",
        ),
    ] {
        expect_refusal(app, names).await;
    }
    let limits = Limits::new;
    for (limits, names) in [
        (limits().max_in_flight(0), "limits.max_in_flight"),
        (limits().max_connections(0), "limits.max_connections"),
        (limits().max_packet(0), "limits.max_packet"),
        (
            limits().max_packet(nano::packet::MAX_BODY + 1),
            "limits.max_packet",
        ),
        (limits().scheduler_capacity(0), "limits.scheduler_capacity"),
        (limits().max_channels(0), "limits.max_channels"),
        (
            limits().max_channels_per_session(0),
            "limits.max_channels_per_session",
        ),
        (limits().send_queue_bytes(0), "limits.send_queue_bytes"),
        (
            limits().send_queue_messages(0),
            "limits.send_queue_messages",
        ),
        (
            limits().unacknowledged_bytes(0),
            "limits.unacknowledged_bytes",
        ),
        (
            limits().unacknowledged_messages(0),
            "limits.unacknowledged_messages",
        ),
        (
            limits().rate_limit(RateLimit::throttle(0, 1)),
            "limits.rate_limit",
        ),
        (
            limits().rate_limit(RateLimit::disconnect(1, 0)),
            "limits.rate_limit",
        ),
    ] {
        expect_refusal(fine().limits(limits), names).await;
    }
}

#[tokio::test]
async fn dictionaries() {
    let fine = || App::new().component(Fine);
    expect_refusal(fine().dictionary([("a", 1), ("b", 1)]), "1").await;
    expect_refusal(fine().dictionary([("a", 1), ("a", 2)]), "a").await;
    expect_refusal(fine().dictionary([("r".repeat(256), 1)]), "255").await;
}

#[tokio::test]
async fn addresses() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let fine = || App::new().component(Fine);
    expect_refusal(fine().tcp(&address), &address).await;
    expect_refusal(fine().websocket(&address, "/nano"), &address).await;
    expect_refusal(fine().tcp("nonsense"), "nonsense").await;
    expect_refusal(fine().tcp("127.0.0.1:99999"), "127.0.0.1:99999").await;

    // Twice in one application: only one of the two can listen, so neither does.
    drop(taken);
    let error = fine()
        .tcp(&address)
        .tcp(&address)
        .start()
        .await
        .unwrap_err();
    assert!(error.message().contains(&address), "{error}");
    TcpListener::bind(&address).unwrap();

    // By another node.
    let node = start(fine()).await;
    let address = node.addresses()[0].to_string();
    let error = fine().tcp(&address).start().await.unwrap_err();
    assert_eq!(error.code(), code::UNAVAILABLE);
    assert!(error.message().contains(&address), "{error}");
}

#[tokio::test]
async fn certificates_and_keys() {
    let (good, other) = (Certificate::new(), Certificate::new());
    let listen = |chain: &std::path::Path, key: &std::path::Path| {
        App::new()
            .component(Fine)
            .listen(Listener::tcp("127.0.0.1:0").tls(chain, key))
    };
    let missing = good.chain.with_file_name("missing.pem");
    let empty = good.chain.with_file_name("empty.pem");
    std::fs::write(&empty, "").unwrap();
    expect_refusal(listen(&missing, &good.key), "missing.pem").await;
    expect_refusal(listen(&good.chain, &missing), "missing.pem").await;
    expect_refusal(listen(&empty, &good.key), "empty.pem").await;
    expect_refusal(listen(&good.chain, &empty), "empty.pem").await;
    expect_refusal(listen(&good.key, &good.key), "key.pem").await;
    expect_refusal(listen(&good.chain, &other.key), "chain.pem").await;
    listen(&good.chain, &good.key).start().await.unwrap();
}

#[tokio::test]
async fn timers() {
    let node = start(App::new().component(Fine)).await;
    let scheduler = node.handle().scheduler();
    assert_eq!(
        scheduler
            .interval(Duration::ZERO, || {})
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
    assert_eq!(
        scheduler
            .interval_n(Duration::ZERO, 1, || {})
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
    assert_eq!(
        scheduler.interval(Duration::MAX, || {}).unwrap_err().code(),
        code::BAD_REQUEST
    );
    assert_eq!(
        scheduler.cron("nonsense", || {}).unwrap_err().code(),
        code::BAD_REQUEST
    );
}

#[tokio::test]
async fn durations_that_no_clock_can_add() {
    let fine = || App::new().component(Fine);
    let timeouts = Timeouts::new;
    for (timeouts, names) in [
        (timeouts().heartbeat(Duration::MAX), "timeouts.heartbeat"),
        (timeouts().handshake(Duration::MAX), "timeouts.handshake"),
        (timeouts().request(Duration::MAX), "timeouts.request"),
        (timeouts().shutdown(Duration::MAX), "timeouts.shutdown"),
    ] {
        expect_refusal(fine().timeouts(timeouts), names).await;
    }
    expect_refusal(fine().timer_precision(Duration::MAX), "timer_precision").await;
}

#[tokio::test]
async fn pages_that_overlap_or_cannot_be_served() {
    let pages = |listener: fn(Listener) -> Listener| {
        App::new()
            .component(Fine)
            .listen(listener(Listener::websocket("127.0.0.1:0", "/nano")))
    };
    for missing in ["nowhere", "Cargo.toml"] {
        let listener = Listener::websocket("127.0.0.1:0", "/nano").files("/web", missing);
        let app = App::new().component(Fine).listen(listener);
        let why = format!("{missing} is not a directory");
        expect_refusal(app, &why).await;
    }
    for tcp in [
        Listener::tcp("127.0.0.1:0").files("/web", "src"),
        Listener::tcp("127.0.0.1:0").http(Router::new()),
    ] {
        let app = App::new().component(Fine).listen(tcp);
        expect_refusal(app, "a listener without a WebSocket serves none").await;
    }
    expect_refusal(
        pages(|listener| listener.files("/web", "src").files("/web", "docs")),
        "HTTP routes of 127.0.0.1:0",
    )
    .await;
    expect_refusal(
        pages(|listener| listener.files("/", "src").files("/", "docs")),
        "HTTP routes of 127.0.0.1:0",
    )
    .await;
    start(pages(|listener| {
        listener.files("/web", "src").files("/", "docs")
    }))
    .await;
}

#[tokio::test]
async fn a_dictionary_made_from_routes_keeps_internal_ones_to_itself() {
    component!(Hidden, "Do");
    let app = App::new()
        .component(Fine)
        .component_with(Hidden, Options::new().internal())
        .dictionary_from_routes(["onDo"]);
    let node = start(app).await;
    let mut client = crate::harness::Client::dial(node.addresses()[0]).await;
    let reply = client.shake_hands().await;
    let routes: Vec<_> = reply
        .dictionary
        .iter()
        .map(|(route, code)| (route.to_string(), code))
        .collect();
    assert_eq!(routes, [("Fine.Do".to_owned(), 1), ("onDo".to_owned(), 2)]);
}
