//! Pushes to clients that only listen, that close meanwhile, and with bodies of nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nano::{App, CloseReason, Timeouts};
use parking_lot::Mutex;

use crate::support::{RawClient, Server, eventually};

/// Reported to zinx #186. Go nano closes such a client at the third heartbeat, as this crate does: a
/// client shows that it lives by sending.
#[tokio::test]
async fn a_client_that_only_listens_is_closed_with_the_heartbeats_reason() {
    let reasons = Arc::<Mutex<Vec<CloseReason>>>::default();
    let seen = reasons.clone();
    let app = App::new()
        .timeouts(Timeouts::new().heartbeat(Duration::from_millis(100)))
        .on_session_closed(move |_, reason| seen.lock().push(reason.clone()));
    let server = Server::start(app).await;
    let mut client = server.client().await;
    let session = server.node.handle().sessions().list().remove(0);
    let pushes = thread::spawn(move || {
        while session.push("onTick", &1).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    while client.bytes().await.is_some() {}
    eventually("the close callback", || !reasons.lock().is_empty()).await;
    assert_eq!(*reasons.lock(), [CloseReason::HeartbeatTimeout]);
    pushes.join().unwrap();
}

/// Reported to zinx #404 and #400 and cherry #25: sends race with closes. Go nano panics on its closed
/// send channel now and then; here the push fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_to_connections_that_close_fail_and_harm_nothing() {
    let closed = Arc::<AtomicUsize>::default();
    let seen = closed.clone();
    let app = App::new().on_session_closed(move |_, _| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let server = Server::start(app).await;
    let handle = server.node.handle();
    let done = Arc::<AtomicBool>::default();
    let pushing = {
        let (handle, done) = (handle.clone(), done.clone());
        thread::spawn(move || {
            let mut refused = 0;
            while !done.load(Ordering::Relaxed) {
                for session in handle.sessions().list() {
                    refused += usize::from(session.push("onTick", &1).is_err());
                }
                thread::yield_now();
            }
            refused
        })
    };
    const CLIENTS: usize = 1_000;
    let address = server.tcp;
    let visits = (0..4).map(|_| {
        tokio::spawn(async move {
            for _ in 0..CLIENTS / 4 {
                let mut client = RawClient::tcp(address).await;
                client.send(b"\x01\x00\x00\x02{}\x02\x00\x00\x00").await;
                // Closed with pushes unread, so that the socket is reset.
                client.bytes().await.unwrap();
            }
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.unwrap();
    }
    eventually("every session to close", || {
        handle.sessions().count() == 0 && closed.load(Ordering::Relaxed) == CLIENTS
    })
    .await;
    done.store(true, Ordering::Relaxed);
    pushing.join().unwrap();
    server.client().await;
}

/// Reported to nakama-unity #73. As Go nano: the bytes are sent as they are, none for an empty body and
/// `null` for a unit. What clients make of none is in `docs/protocol.md`.
#[tokio::test]
async fn a_push_without_a_body_has_no_bytes_and_a_unit_is_null() {
    let server = Server::start(App::new()).await;
    let mut client = server.client().await;
    let session = server.node.handle().sessions().list().remove(0);
    session.push_raw("onX", "").unwrap();
    session.push("onX", &()).unwrap();
    assert_eq!(client.push("onX").await, "");
    assert_eq!(client.push("onX").await, "null");
}
