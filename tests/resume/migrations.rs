//! A gate that drains hands its sessions over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{
    App, Channel, Limits, Raw, Session, Timeouts,
    packet::Kind,
    testing::{RawClient, TestNode},
};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    harness::{Log, MINUTE, Returning, come_back},
    support::{eventually, within},
    world::{LONG, Room, SLOW, World, count, served},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_gate_hands_its_sessions_over_with_all_that_they_have() {
    let world = World::new(SLOW, 2).await;
    let (first, first_log) = world.gate().await;
    let (second, second_log) = world.gate().await;
    world.converged(&[&first, &second]).await;
    let mut client = Returning::connect(first.node()).await;
    let raw = &mut client.client;
    let name = raw.call(1, "Room.Name", "").await;
    let at = usize::from(name == "two");
    let (room, backend) = (&world.rooms[at], &world.backends[at]);
    raw.call(2, "Room.Enter", "").await;
    let session = served(backend);
    raw.request(3, "Room.Slow", "late").await;
    eventually("the slow request arrives", || {
        room.log.lines() == ["entered", "slow"]
    })
    .await;
    for number in 0..3 {
        session.push_raw("onNumber", number.to_string()).unwrap();
    }

    first.handle().drain(LONG);
    within("the end of the first gate", first.node().stopped()).await;
    assert_eq!(first_log.lines(), [""; 0], "nothing ended there");
    assert_eq!(count(&second), 1);
    room.answer.notify_one();
    session.push_raw("onNumber", "3").unwrap();
    room.group.broadcast_raw("onNumber", "4").unwrap();

    let mut client = client.again(second.node(), 2).await.client;
    for number in 0..3 {
        assert_eq!(client.push("onNumber").await, number.to_string().as_str());
    }
    // The answer is given on another thread.
    let (mut pushes, mut answered) = (Vec::new(), false);
    while pushes.len() < 2 || !answered {
        let message = client.message().await;
        if message.id == 3 {
            assert_eq!(message.body, "late");
            answered = true;
        } else if message.route == "onNumber" {
            pushes.push(message.body);
        }
    }
    assert_eq!(pushes, ["3", "4"]);
    assert_eq!(client.call(4, "Room.Name", "").await, name);
    assert_eq!(served(backend), session, "the same session serves it");
    assert_eq!(room.log.lines(), ["entered", "slow"]);
    let here = served(&second);
    assert_eq!((here.id(), here.uid()), (session.id(), 7));
    assert_eq!(here.shared().get::<i32>("level").unwrap(), Some(3));
    let found = backend.handle().user(7).locate().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].gate, second.address());

    // What backends change reaches the new gate, and its end reaches them.
    session.shared().set("level", &4).unwrap();
    eventually("the change arrives", || {
        here.shared().get::<i32>("level").unwrap() == Some(4)
    })
    .await;
    client.send_packet(Kind::Kick, b"").await;
    eventually("the end arrives", || room.log.lines().len() == 4).await;
    assert_eq!(room.group.count(), 0);
    eventually("the close callback of the gate", || {
        second_log.lines() == ["resumed", "closed: client"]
    })
    .await;
    let other = &world.rooms[1 - at];
    assert_eq!(other.log.lines(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_its_moved_session_by_way_of_any_gate() {
    let world = World::new(SLOW, 1).await;
    let (first, _log) = world.gate().await;
    let (second, _log) = world.gate().await;
    let (third, _log) = world.gate().await;
    world.converged(&[&first, &second, &third]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Room.Enter", "").await;
    let session = served(&world.backends[0]);
    client.client.finish().await;
    first.handle().drain(LONG);
    within("the end of the first gate", first.node().stopped()).await;
    drop(first);
    world.converged(&[&second, &third]).await;
    // No member knows the gate that the token names.
    let (holder, other) = match count(&second) {
        1 => (&second, &third),
        _ => (&third, &second),
    };
    assert_eq!((count(holder), count(other)), (1, 0));
    session.push_raw("onNumber", "0").unwrap();
    let mut back = client.again(other.node(), 1).await.client;
    assert_eq!(back.push("onNumber").await, "0");
    assert_eq!(back.call(2, "Room.Echo", "x").await, "x");
    assert_eq!(served(&world.backends[0]), session);
    // An invented token costs nothing but the question.
    let token = client.token.replace('-', "-0");
    let (_, granted) = come_back(other.node(), &token, json!(0)).await;
    assert_eq!(granted["lost"], "unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_still_drains_says_where_its_sessions_have_moved() {
    let world = World::new(SLOW, 1).await;
    let (first, _log) = world.gate().await;
    let (second, _log) = world.gate().await;
    let (third, _log) = world.gate().await;
    world.converged(&[&first, &second, &third]).await;
    // A session that cannot move keeps the gate.
    let mut stays = RawClient::tcp(first.node().addresses()[0]).await;
    stays.handshake().await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Room.Enter", "").await;
    let session = served(&world.backends[0]);
    first.handle().drain(LONG);
    let moved = || count(&first) == 1 && count(&second) + count(&third) == 1;
    eventually("the session moves", moved).await;
    let other = match count(&second) {
        1 => &third,
        _ => &second,
    };
    session.push_raw("onNumber", "0").unwrap();
    let mut back = client.again(other.node(), 1).await.client;
    assert_eq!(back.push("onNumber").await, "0");
    assert_eq!(back.call(2, "Room.Echo", "x").await, "x");
    assert_eq!(served(&world.backends[0]), session);
    assert_eq!(count(&first), 1);
}

/// A gate that drains and stays, with a session that cannot move, and the client of one that has moved from
/// there to `next`.
async fn moved(world: &World, next: &TestNode) -> (TestNode, RawClient, Returning) {
    let (first, _log) = world.gate().await;
    world.converged(&[&first, next]).await;
    let mut stays = RawClient::tcp(first.node().addresses()[0]).await;
    stays.handshake().await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Room.Enter", "").await;
    first.handle().drain(LONG);
    let moved = || (count(&first), count(next)) == (1, 1);
    eventually("the session moves", moved).await;
    (first, stays, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_has_moved_on_is_found_when_the_gate_between_has_left() {
    let world = World::new(SLOW, 1).await;
    let (second, _log) = world.gate().await;
    let (first, _stays, client) = moved(&world, &second).await;
    let session = served(&world.backends[0]);
    let (third, _log) = world.gate().await;
    let (fourth, _log) = world.gate().await;
    world.converged(&[&first, &second, &third, &fourth]).await;
    second.handle().drain(LONG);
    within("the end of the second gate", second.node().stopped()).await;
    world.converged(&[&first, &third, &fourth]).await;
    let other = match count(&third) {
        1 => &fourth,
        _ => &third,
    };
    session.push_raw("onNumber", "0").unwrap();
    // The token names the first gate, which says that the second has the session.
    let mut back = client.again(other.node(), 1).await.client;
    assert_eq!(back.push("onNumber").await, "0");
    assert_eq!(back.call(2, "Room.Echo", "x").await, "x");
    assert_eq!(served(&world.backends[0]), session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_lost_with_the_gate_to_which_it_has_moved() {
    let world = World::new(Duration::from_millis(200), 1).await;
    let (mut second, _log) = world.gate().await;
    let (first, _stays, client) = moved(&world, &second).await;
    let (third, _log) = world.gate().await;
    world.converged(&[&first, &second, &third]).await;
    second.kill();
    world.converged(&[&first, &third]).await;
    let (mut back, granted) = come_back(third.node(), &client.token, json!(1)).await;
    assert_eq!(granted["lost"], "unknown");
    assert_eq!(back.call(1, "Room.Echo", "x").await, "x");
}

/// Publishes numbers to channels in turn, until the counter is as large as `last`.
fn publish(
    channels: Vec<Channel<Raw>>,
    published: Arc<AtomicUsize>,
    last: Arc<AtomicUsize>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        for number in 0.. {
            if number >= last.load(Ordering::SeqCst) {
                return;
            }
            let channel = &channels[number % channels.len()];
            let body = number.to_string();
            channel.publish_raw("onNumber", body).await.unwrap();
            published.store(number + 1, Ordering::SeqCst);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_channels_moves_and_gets_each_publication_once_and_in_order() {
    let world = World::new(SLOW, 1).await;
    let (first, _log) = world.gate().await;
    let (second, _log) = world.gate().await;
    world.converged(&[&first, &second]).await;
    let node = world.backends[0].handle();
    let names = ["guild", "region", "lobby"];
    let channels = names.map(|name| node.channel(name).typed::<Raw>());
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Room.Enter", "").await;
    let session = served(&world.backends[0]);
    for channel in &channels {
        channel.join(&session).await.unwrap();
    }
    // The next gate has a member of one of them.
    let _other = Returning::connect(second.node()).await;
    let other = served(&second);
    let there = second.handle().channel(names[1]);
    there.join(&other).await.unwrap();

    let [published, last] = [0, usize::MAX].map(|count| Arc::new(AtomicUsize::new(count)));
    let publisher = publish(channels.to_vec(), published.clone(), last.clone());
    let more = async |count: usize| {
        let until = published.load(Ordering::SeqCst) + count;
        let done = || published.load(Ordering::SeqCst) >= until;
        eventually("publications go on", done).await;
    };
    more(50).await;
    // A client that asks for no resume keeps the gate, which may own one of the channels.
    let _stays = first.raw_client().await;
    first.handle().drain(LONG);
    eventually("the session moves", || count(&second) == 2).await;
    more(50).await;
    let total = published.load(Ordering::SeqCst) + 50;
    last.store(total, Ordering::SeqCst);
    publisher.await.unwrap();

    let mut client = client.again(second.node(), 1).await.client;
    let mut next: Vec<_> = (0..channels.len()).collect();
    for _ in 0..total {
        let body = client.push("onNumber").await;
        let number: usize = std::str::from_utf8(&body).unwrap().parse().unwrap();
        let at = number % channels.len();
        assert_eq!(number, next[at], "the next of its channel");
        next[at] += channels.len();
    }
    for (name, channel) in names.iter().zip(&channels) {
        let members = 1 + usize::from(*name == names[1]);
        assert_eq!(channel.count().await.unwrap(), members, "{name}");
    }
    // It is a member as before: it leaves, and its end takes it out.
    assert!(channels[0].leave(&session).await.unwrap());
    assert!(!channels[0].leave(&session).await.unwrap());
    channels[0].join(&session).await.unwrap();
    client.send_packet(Kind::Kick, b"").await;
    eventually("the session ends", || count(&second) == 1).await;
    let begun = Instant::now();
    while channels[0].count().await.unwrap() > 0 {
        assert!(begun.elapsed() < MINUTE);
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_session_with_a_part_on_its_gate_stays_until_the_deadline() {
    let world = World::new(SLOW, 1).await;
    type Keep = fn(&Session);
    let keeps: [Keep; 3] = [
        |session| session.set("lives", 3),
        |session| drop(session.on_closed(|_, _| {})),
        |session| drop(session.extensions().insert(3u8)),
    ];
    for keep in keeps {
        let (first, log) = world
            .gate_with(|app| {
                app.on_session_open(move |session| {
                    keep(session);
                    Ok(())
                })
            })
            .await;
        let (second, _log) = world.gate().await;
        world.converged(&[&first, &second]).await;
        let mut client = Returning::connect(first.node()).await.client;
        client.call(1, "Room.Echo", "x").await;
        first.handle().drain(Duration::from_millis(400));
        let kick = within("the kick", client.packet_of(Kind::Kick)).await;
        let kick: serde_json::Value = serde_json::from_slice(&kick).unwrap();
        assert_eq!(kick["reconnect"], "elsewhere");
        within("the end of the gate", first.node().stopped()).await;
        assert_eq!(log.lines(), ["closed: shutdown"]);
        assert_eq!(count(&second), 0);
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_while_the_next_gate_is_dead_and_moves_to_another() {
    let world = World::new(Duration::from_millis(200), 1).await;
    let (first, log) = world.gate().await;
    let (mut second, _log) = world.gate().await;
    world.converged(&[&first, &second]).await;
    let mut client = Returning::connect(first.node()).await;
    client.client.call(1, "Room.Enter", "").await;
    let session = served(&world.backends[0]);
    // It is a member until it is evicted.
    second.kill();
    first.handle().drain(LONG);
    eventually("the connection ends", || {
        first.handle().sessions().count() == 1
    })
    .await;
    let (third, _log) = world.gate().await;
    session.push_raw("onNumber", "0").unwrap();
    // A client that is back before that loses its connection once more.
    within("the end of the first gate", first.node().stopped()).await;
    let mut back = client.again(third.node(), 1).await.client;
    assert_eq!(back.push("onNumber").await, "0");
    assert_eq!(back.call(2, "Room.Echo", "x").await, "x");
    assert_eq!(served(&world.backends[0]), session);
    assert_eq!(world.rooms[0].log.lines(), ["entered"]);
    assert!(!log.lines().iter().any(|line| line.starts_with("closed")));
}

/// Opens as many sessions as a gate with one connection keeps: two. Returns their clients.
async fn fill(gate: &TestNode, log: &Log) -> Vec<Returning> {
    let mut clients = Vec::new();
    for number in 0..2 {
        let mut client = Returning::connect(gate.node()).await;
        client.client.call(1, "Room.Echo", "x").await;
        if number == 0 {
            client.client.finish().await;
            eventually("the loss is noticed", || log.lines() == ["detached"]).await;
        }
        clients.push(client);
    }
    assert_eq!(count(gate), 2);
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_session_could_not_move_has_the_whole_window_again() {
    const WINDOW: Duration = Duration::from_secs(3);
    let world = World::new(SLOW, 1).await;
    let timeouts = Timeouts::new().resume_window(WINDOW);
    let (first, log) = world.gate_with(|app| app.timeouts(timeouts)).await;
    let limits = Limits::new().max_connections(1);
    let (second, second_log) = world.gate_with(|app| app.limits(limits)).await;
    world.converged(&[&first, &second]).await;
    let _others = fill(&second, &second_log).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Returning::connect(first.node()).await.client;
        client.call(1, "Room.Echo", "x").await;
        clients.push(client);
    }
    drop(clients.remove(0));
    eventually("the loss is noticed", || log.lines() == ["detached"]).await;
    let lost = Instant::now();
    // Time is what is tested, and that of sockets cannot be paused.
    sleep(WINDOW * 2 / 3).await;
    first.handle().drain(LONG);
    // The attempt to move it costs the other client its connection.
    eventually("the application learns of it", || {
        log.lines() == ["detached"; 2]
    })
    .await;
    sleep_until(lost + WINDOW * 4 / 3).await;
    assert_eq!(count(&first), 2);
    assert_eq!(log.lines(), ["detached"; 2]);
    assert_eq!(count(&second), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_its_gate_has_served_moves_if_the_application_lets_it() {
    let world = World::new(SLOW, 0).await;
    for lets in [false, true] {
        let room = Room::new("gate");
        let local = room.clone();
        let gate = |app: App| {
            let app = app.component(local);
            match lets {
                true => app.on_migrate(|session| session.uid() == 0),
                false => app,
            }
        };
        let (first, log) = world.gate_with(gate).await;
        let (second, _log) = world.gate_with(|app| app.component(room)).await;
        world.converged(&[&first, &second]).await;
        let mut client = Returning::connect(first.node()).await;
        client.client.call(1, "Room.Echo", "x").await;
        let time = if lets {
            LONG
        } else {
            Duration::from_millis(400)
        };
        first.handle().drain(time);
        within("the end of the gate", first.node().stopped()).await;
        assert_eq!(count(&second), usize::from(lets));
        if lets {
            let mut back = client.again(second.node(), 1).await.client;
            assert_eq!(back.call(2, "Room.Echo", "y").await, "y");
            assert_eq!(log.lines(), [""; 0]);
        }
        second.stop().await;
    }
}
