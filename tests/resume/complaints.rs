//! What users of other systems have complained about.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nano::{
    App, Component, Group, Handlers, Limits, Network, Raw, Result, Session, SlowClient, Timeouts,
    client::{Client, Event},
    code, message,
    packet::Kind,
    testing::{RawClient, TestNode},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    harness::{MINUTE, Returning, app, come_back, session},
    proxy::{Cut, Loss, Proxy},
    support::{eventually, within},
    world::{LONG, SLOW, World, count, served},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_in_the_middle_of_a_replay_loses_and_repeats_nothing() {
    const PUSHES: u32 = 400;
    let world = World::new(SLOW, 1).await;
    let (first, _log) = world.gate().await;
    let (second, _log) = world.gate().await;
    world.converged(&[&first, &second]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Room.Enter", "").await;
    let session = served(&world.backends[0]);
    client.client.finish().await;
    let mut body = vec![b'x'; 4_000];
    for number in 0..PUSHES {
        body[..4].copy_from_slice(&number.to_be_bytes());
        session.push_raw("onNumber", body.clone()).unwrap();
    }
    // More than the socket takes, of which the client reads the beginning.
    let mut received = 1;
    let mut back = client.again(first.node(), received).await;
    let mut expected = 0u32;
    let mut next = async |client: &mut RawClient, most: u32| {
        for _ in 0..most {
            let body = client.push("onNumber").await;
            assert_eq!(body[..4], expected.to_be_bytes());
            (expected, received) = (expected + 1, received + 1);
        }
        received
    };
    let received = next(&mut back.client, 20).await;
    first.handle().drain(LONG);
    within("the end of the first gate", first.node().stopped()).await;
    assert_eq!(count(&second), 1);
    let mut back = back.again(second.node(), received).await;
    next(&mut back.client, PUSHES - 20).await;
    assert_eq!(back.client.call(2, "Room.Echo", "x").await, "x");
    assert_eq!(served(&world.backends[0]), session);
}

struct Producers(Group<Raw>);

impl Component<Raw> for Producers {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Enter", Self::enter)
            .on("Fail", Self::fail)
            .on("Large", Self::large)
    }
}

impl Producers {
    fn enter(&self, session: &Session<Raw>, _: ()) -> Result {
        self.0.add(session).map(drop)
    }

    fn fail(&self, _: &Session<Raw>, _: ()) -> Result<bytes::Bytes> {
        Err(nano::Error::new("TEST", "no"))
    }

    fn large(&self, _: &Session<Raw>, _: ()) -> Result<bytes::Bytes> {
        Ok(vec![0; 17 << 20].into())
    }
}

#[tokio::test]
async fn messages_of_every_producer_are_counted_alike() {
    let (app, log) = app(MINUTE);
    let group = Group::new("all");
    let limits = Limits::new().send_queue_messages(20);
    let app = app.component(Producers(group.clone()));
    let app = app.limits(limits.slow_client(SlowClient::DropPushes));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut client = Returning::connect(&node).await;
    let received = AtomicU64::new(0);
    // Whatever is counted wrong makes the return replay a message, or miss one.
    let again = async |client: &mut Returning, messages: u64, what: &str| {
        for _ in 0..messages {
            within(what, client.client.message()).await;
        }
        let count = received.fetch_add(messages, Ordering::SeqCst) + messages;
        *client = client.again(&node, count).await;
        let message = within(what, client.client.message()).await;
        assert_eq!(message.route, "onResumed", "{what}");
        received.fetch_add(1, Ordering::SeqCst);
    };
    client.client.notify("Producers.Enter", "").await;
    client.client.notify("Game.Bind", "").await;
    client.client.request(1, "Game.Echo", "x").await;
    again(&mut client, 1, "a response").await;
    client.client.request(2, "Producers.Fail", "").await;
    again(&mut client, 1, "an error reply").await;
    client.client.request(3, "No.Such", "").await;
    again(&mut client, 1, "an error reply of the gate").await;
    client.client.request(4, "Producers.Large", "").await;
    again(
        &mut client,
        1,
        "an error reply in place of what is too large",
    )
    .await;
    session(&node).push_raw("on", "").unwrap();
    again(&mut client, 1, "a push").await;
    let too_large = session(&node).push_raw("on", vec![0; 17 << 20]);
    assert_eq!(too_large.unwrap_err().code(), code::TOO_LARGE);
    again(&mut client, 0, "a push that is too large").await;
    group.broadcast_raw("on", "").unwrap();
    again(&mut client, 1, "a broadcast to a group").await;
    node.handle().broadcast_raw("on", "").unwrap();
    again(&mut client, 1, "a broadcast to all").await;
    node.handle().user(7).push_raw("on", "").await.unwrap();
    again(&mut client, 1, "a push by user").await;
    let channel = node.handle().channel("guild");
    channel.join(&session(&node)).await.unwrap();
    channel.publish_raw("on", "").await.unwrap();
    again(&mut client, 1, "a publication").await;
    client.client.finish().await;
    eventually("the loss is noticed", || {
        log.lines().last().unwrap() == "detached"
    })
    .await;
    let mut taken = 0;
    while session(&node).push_raw("on", "").is_ok() {
        taken += 1;
    }
    let count = received.load(Ordering::SeqCst);
    client = client.again(&node, count).await;
    for _ in 0..taken {
        assert_eq!(client.client.push("on").await, "");
    }
    received.store(count + taken, Ordering::SeqCst);
    let message = client.client.message().await;
    assert_eq!(message.kind, message::Kind::Push, "those that were dropped");
    received.fetch_add(1, Ordering::SeqCst);
    again(&mut client, 0, "a push that was dropped").await;
}

#[tokio::test]
async fn both_ends_learn_of_the_return_before_what_was_missed() {
    let (app, log) = app(MINUTE);
    let hook_ran = Arc::new(AtomicBool::new(false));
    let ran = hook_ran.clone();
    let app = app.on_resumed(move |_| ran.store(true, Ordering::SeqCst));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    // The first connection is lost behind the handshake, the others stay.
    let mut losses = vec![Cut::after(700, Loss::Reset)];
    let proxy = Proxy::start(vec![node.addresses()[0]], 0, move || losses.pop()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (events, pushes) = (seen.clone(), seen.clone());
    let client = Client::builder()
        .typed::<Raw>()
        .resume(true)
        .on_event(move |event| match event {
            Event::Resumed => events.lock().push("resumed".to_owned()),
            Event::Lost(lost) => panic!("{lost:?}"),
            _ => {}
        })
        .on("onNumber", move |body: bytes::Bytes| {
            assert!(hook_ran.load(Ordering::SeqCst), "the hook ran before");
            let text = String::from_utf8(body[..1].to_vec()).unwrap();
            pushes.lock().push(text);
        })
        .connect(&format!("tcp://{}", proxy.address))
        .await
        .unwrap();
    let session = session(&node);
    // The connection does not last for the first of them.
    let body = |number: usize| [number.to_string().into_bytes(), vec![b' '; 900]].concat();
    for number in 0..3 {
        session.push_raw("onNumber", body(number)).unwrap();
    }
    eventually("all arrive", || seen.lock().len() == 4).await;
    assert_eq!(*seen.lock(), ["resumed", "0", "1", "2"]);
    assert!(log.lines().iter().all(|line| line == "detached"));
    client.close();
}

#[tokio::test]
async fn a_client_whose_address_was_denied_while_away_may_not_return() {
    let (app, log) = app(MINUTE);
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let mut away = Returning::connect(&node).await;
    away.client.finish().await;
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;
    let own: Network = "127.0.0.1".parse().unwrap();
    node.handle().deny_list().add([own]);
    eventually("the session ends", || {
        log.lines() == ["detached", "closed: denied"]
    })
    .await;
    RawClient::tcp(node.addresses()[0]).await.closed().await;
    node.handle().deny_list().remove([own]);
    let (_client, granted) = come_back(&node, &away.token, json!(0)).await;
    assert_eq!(granted["lost"], "closed");
}

#[tokio::test]
async fn groups_see_neither_leave_nor_join_of_a_session_that_returns() {
    let (app, log) = app(MINUTE);
    let node: TestNode = TestNode::start(app.tcp("127.0.0.1:0")).await;
    let mut client = Returning::connect(node.node()).await;
    let group: Group = Group::new("room");
    let ended = Arc::new(AtomicBool::new(false));
    let before = session(node.node());
    group.add(&before).unwrap();
    let noted = ended.clone();
    before.on_closed(move |_, _| noted.store(true, Ordering::SeqCst));
    for received in 0..5 {
        client.client.finish().await;
        eventually("the loss is noticed", || {
            log.lines().last().is_some_and(|line| line == "detached")
        })
        .await;
        assert_eq!(group.count(), 1);
        client = client.again(node.node(), received).await;
        assert_eq!(client.client.push("onResumed").await, "");
        assert_eq!(group.count(), 1);
    }
    assert!(!ended.load(Ordering::SeqCst));
    client.client.send_packet(Kind::Kick, b"").await;
    eventually("the end", || ended.load(Ordering::SeqCst)).await;
    assert_eq!(group.count(), 0);
}

#[tokio::test]
async fn a_wrong_token_is_answered_at_once_also_in_a_row() {
    let app = App::new().timeouts(Timeouts::new().resume_window(MINUTE));
    let node = app.tcp("127.0.0.1:0").start().await.unwrap();
    let wrong = format!("1-{}", "0".repeat(32));
    let begun = tokio::time::Instant::now();
    for _ in 0..50 {
        let (_client, granted) = come_back(&node, &wrong, json!(0)).await;
        assert_eq!(granted["lost"], "unknown");
        assert!(granted["token"].is_string(), "a new session at once");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits");
}
