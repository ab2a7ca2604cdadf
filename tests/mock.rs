//! `nano::mock`: sessions for the unit tests of handlers.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use nano::{CloseReason, Error, Group, Session, code, mock};
use parking_lot::Mutex;

#[test]
fn a_kicked_session_is_closed_as_on_a_node() {
    let (session, sink) = mock::session();
    let group = Group::<nano::Json>::new("room");
    group.add(&session).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    session.on_closed(move |session, reason| {
        log.lock().push((session.id(), reason.clone()));
    });
    session.kick("why");
    session.close();
    let reason = CloseReason::Kicked("why".to_owned());
    assert_eq!(session.closed().as_ref(), Some(&reason));
    assert_eq!(sink.closed().as_ref(), Some(&reason));
    assert_eq!(*seen.lock(), [(session.id(), reason)]);
    assert_eq!(group.count(), 0);
    let late = session.push("on", "late").unwrap_err();
    assert_eq!(late.code(), code::CLOSED);
    assert_eq!(group.add(&session).unwrap_err().code(), code::CLOSED);
}

#[tokio::test]
async fn calls_get_the_reply_of_the_test() {
    let (session, sink) = mock::session();
    sink.reply("Store.Count", &3);
    sink.reply_with("Store.Fail", |_| Err(Error::new("FULL", "no room")));
    sink.reply_with("Store.Echo", Ok);
    let count: u32 = session.call("Store.Count").json("apples").await.unwrap();
    assert_eq!(count, 3);
    let failed = session.call("Store.Fail").raw("").await.unwrap_err();
    assert_eq!(
        (failed.code().to_string(), failed.message()),
        ("FULL".to_owned(), "no room")
    );
    assert_eq!(session.call("Store.Echo").raw("x").await.unwrap(), "x");
    let none = session.call("Store.None").raw("").await.unwrap_err();
    assert_eq!(none.code(), code::NOT_FOUND);
    let routes: Vec<_> = sink.calls().into_iter().map(|(route, _)| route).collect();
    assert_eq!(
        routes,
        ["Store.Count", "Store.Fail", "Store.Echo", "Store.None"]
    );
}

#[tokio::test]
async fn spawned_work_runs_when_the_test_says_so() {
    fn handler(session: &Session) {
        session.spawn(async { 1 }, |session, number| {
            session.spawn(async move { number + 1 }, |session, number| {
                session.respond(&number)
            });
            Ok(())
        });
    }
    let (session, sink) = mock::session();
    handler(&session.with_request(7));
    assert!(sink.response(7).is_none());
    sink.run_spawned().await;
    assert_eq!(sink.response(7).unwrap().unwrap(), "2");
    session
        .with_request(8)
        .spawn(async {}, |_, ()| Err(Error::new("NO", "not today")));
    sink.run_spawned().await;
    assert_eq!(
        sink.response(8).unwrap().unwrap_err().message(),
        "not today"
    );
}

#[test]
fn all_pushes_of_a_route_are_read() {
    let (session, sink) = mock::session();
    for number in [1, 2] {
        session.push("onNumber", &number).unwrap();
    }
    session.push("onText", "text").unwrap();
    assert_eq!(sink.pushes_as::<u32>("onNumber").unwrap(), [1, 2]);
    assert_eq!(sink.push_as::<u32>("onNumber").unwrap(), 1);
    assert_eq!(
        sink.push_as::<u32>("onNone").unwrap_err().code(),
        code::NOT_FOUND
    );
}
