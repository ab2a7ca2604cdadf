//! What is counted of refused input of the application.

use nano::{App, Unique, code, metrics as names};

use crate::{
    counts::{Counts, Series},
    harness::{Client, start},
    support::eventually,
};

#[tokio::test]
async fn input_about_players_that_is_refused_is_counted_and_changes_nothing() {
    let mut counts = Counts::start().await;
    let node = start(App::new().unique_users(Unique::Replace)).await;
    let series = Series::of(&node);
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let handle = node.handle();
    let long = &*"x".repeat(256);

    let errors = [
        session.bind("").unwrap_err(),
        session.login(long).await.unwrap_err(),
        handle.user(0).locate().await.unwrap_err(),
        handle.user(-1).push("on", &1).await.unwrap_err(),
        handle.user("").kick("").await.unwrap_err(),
        handle.users(["ann", ""]).push("on", &1).await.unwrap_err(),
        handle.channel("").join(&session).await.unwrap_err(),
        handle.channel(long).publish("on", &1).await.unwrap_err(),
        session.shared().set("", &1).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), code::BAD_REQUEST, "{error}");
    }
    let shared = session.shared().set("key", &"x".repeat(64 * 1024));
    assert_eq!(shared.unwrap_err().code(), code::TOO_LARGE);
    let bound = session.router().bind("Nope", "127.0.0.1:1");
    assert_eq!(bound.unwrap_err().code(), code::NOT_FOUND);
    assert_eq!((session.user(), session.shared().all().len()), (None, 0));
    assert_eq!(session.router().find("Nope"), None);

    drop(client);
    eventually("the end of the session", || session.closed().is_some()).await;
    let login = session.login("ann").await;
    assert_eq!(login.unwrap_err().code(), code::CLOSED);
    for (reason, count) in [
        ("user", 6),
        ("channel", 2),
        ("shared", 2),
        ("binding", 1),
        ("closed", 1),
    ] {
        let refused = series.because(names::INPUTS_REFUSED, reason);
        counts.expect(&refused, count).await;
    }
    node.shutdown().await;
}
