use std::{sync::Arc, time::Duration};

use nano::{CloseReason, Component, Error, Handlers, Session, Timeouts, code};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::{
    house::{House, Machine, code_of, member, text},
    support::{eventually, within},
};

#[tokio::test]
async fn requests_to_a_member_that_dies_are_answered_at_once() {
    let mut house = House::with(&["a", "b"]).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(house.gate.client().await);
    }
    let mut waiting = Vec::new();
    for client in &clients {
        for _ in 0..5 {
            let client = client.clone();
            waiting.push(tokio::spawn(async move {
                client.request_raw("Room.Hold", "").await
            }));
        }
    }
    let held = |house: &House| {
        house
            .backends
            .iter()
            .map(|(_, room)| room.0.held.lock().len())
            .sum::<usize>()
    };
    eventually("every request to arrive", || held(&house) == 50).await;

    let lost = house.backends[0].1.0.held.lock().len();
    house.backends[0].0.kill();
    eventually("its requests to end", || {
        waiting
            .iter()
            .filter(|request| request.is_finished())
            .count()
            == lost
    })
    .await;
    for responder in house.backends[1].1.0.held.lock().drain(..) {
        responder.respond(&bytes::Bytes::new()).unwrap();
    }
    let mut failed = 0;
    for request in waiting {
        if let Err(error) = within("an answer", request).await.unwrap() {
            assert_eq!(error.code(), code::UNAVAILABLE);
            failed += 1;
        }
    }
    assert_eq!(failed, lost);

    // Who was served by it is served by the other, when the master has given it up.
    house.gate.knows(2).await;
    for client in &clients {
        assert_eq!(
            text(
                &within("an answer", client.request_raw("Room.Who", ""))
                    .await
                    .unwrap()
            ),
            "b"
        );
    }
}

#[tokio::test]
async fn new_sessions_avoid_a_dead_member_at_once() {
    let mut house = House::build(&["a", "b"], |app| {
        app.cluster_heartbeat(Duration::from_secs(5))
    })
    .await;
    house.backends[0].0.kill();
    let probe = house.gate.client().await;
    // Long before anybody misses its heartbeat.
    within("the broken link to be seen", async {
        for _ in 0..20 {
            while probe.request_raw("Room.Who", "").await.is_err() {
                tokio::task::yield_now().await;
            }
            let client = house.gate.client().await;
            let _ = client.request_raw("Room.Who", "").await;
        }
    })
    .await;
    for _ in 0..20 {
        let client = house.gate.client().await;
        assert_eq!(
            text(&client.request_raw("Room.Who", "").await.unwrap()),
            "b"
        );
    }
}

#[tokio::test]
async fn a_member_that_comes_back_is_used_again() {
    let mut house = House::with(&["a"]).await;
    let client = house.gate.client().await;
    client.request_raw("Room.Who", "").await.unwrap();
    house.backends[0].0.kill();
    house.gate.knows(1).await;
    assert_eq!(
        code_of(client.request_raw("Room.Who", "").await),
        code::NOT_FOUND
    );

    let again = house.backend("again", |app| app).await;
    house.backends[0] = again;
    house.gate.knows(2).await;
    within("the link", async {
        while client.request_raw("Room.Who", "").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    house.is_empty_after(client).await;
}

#[tokio::test]
async fn a_gate_that_dies_takes_its_sessions_with_it() {
    let mut house = House::with(&["a", "b"]).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = house.gate.client().await;
        client.request_raw("Room.Join", "").await.unwrap();
        clients.push(client);
    }
    house.gate.kill();
    for (machine, room) in &house.backends {
        eventually("its sessions to end", || {
            machine.handle().sessions().count() == 0
        })
        .await;
        eventually("the group to forget them", || room.0.group.count() == 0).await;
    }
    let callbacks = || {
        house
            .backends
            .iter()
            .map(|(_, room)| room.closed().len())
            .sum::<usize>()
    };
    eventually("every callback", || callbacks() == 10).await;
    assert!(
        house
            .backends
            .iter()
            .flat_map(|(_, room)| room.closed())
            .all(|(_, reason)| matches!(reason, CloseReason::Broken(_)))
    );
}

#[tokio::test]
async fn a_member_that_stops_loses_no_request() {
    let house = House::with(&["a", "b"]).await;
    let client = house.gate.client().await;
    let session = {
        client.request_raw("Room.Who", "").await.unwrap();
        house.gate.handle().sessions().list().pop().unwrap()
    };
    session.router().bind("Room", house.backends[0].0.address());
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.request_raw("Room.Hold", "").await }
    });
    eventually("the request to arrive", || {
        !house.backends[0].1.0.held.lock().is_empty()
    })
    .await;

    let asking = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..200 {
                client.request_raw("Room.Who", "").await.unwrap();
            }
        }
    });
    let room = house.backends[0].1.clone();
    let answer = async {
        eventually("the others to have moved", || {
            house.backends[1]
                .1
                .0
                .handled
                .load(std::sync::atomic::Ordering::Relaxed)
                > 0
        })
        .await;
        for responder in room.0.held.lock().drain(..) {
            responder
                .respond(&bytes::Bytes::from_static(b"late"))
                .unwrap();
        }
    };
    tokio::join!(house.backends[0].0.stop(), answer);
    within("every request", asking).await.unwrap();
    assert_eq!(
        within("the held request", held).await.unwrap().unwrap(),
        "late"
    );
    assert_eq!(
        house.backends[0].1.closed().len(),
        1,
        "its session ended with a callback"
    );
    assert!(
        client.close_reason().is_none(),
        "the client noticed nothing"
    );
}

#[tokio::test]
async fn a_gate_that_stops_tells_its_members() {
    let house = House::with(&["a"]).await;
    let client = house.gate.client().await;
    client.request_raw("Room.Join", "").await.unwrap();
    house.gate.stop().await;
    eventually("the session to end", || {
        house.backends[0].0.handle().sessions().count() == 0
    })
    .await;
    eventually("the callback", || house.backends[0].1.closed().len() == 1).await;
    assert_eq!(house.backends[0].1.closed()[0].1, CloseReason::Shutdown);
}

#[tokio::test]
async fn a_slow_member_holds_up_the_session_that_fills_it_and_no_other() {
    let house = House::with(&["a"]).await;
    let mut greedy = house.gate.raw_client().await;
    // Its handlers never return what they were asked for, but they start: everything is taken,
    // bounded by what one client may ask for.
    for id in 1..=1500 {
        greedy.request(id, "Room.Hold", "").await;
    }
    eventually("the limit", || {
        house.backends[0].1.0.held.lock().len() >= 1000
    })
    .await;
    let modest = house.gate.client().await;
    assert_eq!(
        text(
            &within("an answer", modest.request_raw("Room.Who", ""))
                .await
                .unwrap()
        ),
        "a"
    );
}

#[tokio::test]
async fn requests_and_calls_that_have_timed_out_hold_up_nobody_who_stops() {
    let house = House::build(&["a"], |app| {
        app.timeouts(Timeouts::new().request(Duration::from_millis(300)))
    })
    .await;
    let (backend, room) = &house.backends[0];
    let client = house.gate.client().await;
    assert_eq!(
        code_of(client.request_raw("Room.Hold", "").await),
        code::TIMEOUT
    );
    assert_eq!(
        code_of(house.gate.handle().call("Room.Hold").raw("").await),
        code::TIMEOUT
    );
    assert_eq!(room.0.held.lock().len(), 2);

    // Else each would wait for the half of its ten seconds.
    for machine in [backend, &house.gate] {
        let begun = Instant::now();
        machine.stop().await;
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
    }
}

/// Whether a message of [`Slow`] is being decoded, and whether that may end.
static DECODING: (Mutex<(bool, bool)>, Condvar) = (Mutex::new((false, false)), Condvar::new());

/// A message whose decoding lasts until the test ends it.
struct Slow;

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        let (state, changed) = &DECODING;
        // So that the other tasks of the thread go on elsewhere.
        tokio::task::block_in_place(|| {
            let mut state = state.lock();
            state.0 = true;
            changed.wait_while(&mut state, |(_, released)| !*released);
        });
        Ok(Self)
    }
}

struct Decoder;

impl Component for Decoder {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Take", |_: &Self, _: &Session, _: Slow| Ok::<_, Error>(()))
    }
}

#[tokio::test]
async fn a_decoder_that_hangs_does_not_keep_its_node_from_learning_of_members() {
    let house = House::with(&[]).await;
    let backend = Machine::start(member(&house.master).io_threads(3).component(Decoder)).await;
    let mut gate = Machine::start(member(&house.master).tcp("127.0.0.1:0")).await;
    gate.knows(3).await;
    let client = gate.client().await;
    let asked = tokio::spawn(async move { client.request_raw("Decoder.Take", "1").await });
    eventually("the message to be decoded", || DECODING.0.lock().0).await;

    let left = Arc::new(Mutex::new(Vec::new()));
    let (seen, address) = (left.clone(), gate.address());
    backend
        .handle()
        .on_member_left(move |member| seen.lock().push(member.address().to_owned()));
    gate.kill();
    eventually("the backend to learn that the gate is gone", || {
        left.lock().contains(&address)
    })
    .await;
    let _other = Machine::start(member(&house.master)).await;
    backend.knows(3).await;

    DECODING.0.lock().1 = true;
    DECODING.1.notify_all();
    // The gate is gone, so this ends in an error.
    let _ = within("the request to end", asked).await.unwrap();
}
