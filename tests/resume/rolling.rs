//! Gates are replaced one by one under load.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Raw,
    client::{Client, Event},
};
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    front::Front,
    harness::MINUTE,
    support::{eventually, within},
    world::{LONG, Room, SLOW, World, count, number},
};

/// One client that numbers its messages until `stop` is set.
async fn play(address: SocketAddr, stop: Arc<AtomicUsize>) -> (u32, Vec<u32>, Vec<Event>) {
    let (events, asked) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
    let (seen, pushed): (Arc<Mutex<Vec<Event>>>, _) = (Arc::clone(&events), asked.clone());
    let client = Client::builder()
        .typed::<Raw>()
        .resume(true)
        .connect_timeout(Duration::from_secs(2))
        .on_event(move |event| seen.lock().push(event))
        .on("onAsked", move |body: Bytes| {
            pushed.lock().push(number(&body))
        })
        .connect(&format!("tcp://{address}"))
        .await
        .unwrap();
    let mut sent = 0u32;
    let mut answers = JoinSet::new();
    while stop.load(Ordering::Acquire) == 0 {
        let body = Bytes::from([&sent.to_be_bytes()[..], &vec![0; sent as usize % 300]].concat());
        client.notify_raw("Room.Tell", body.clone()).await.unwrap();
        let asking = client.clone();
        answers.spawn(async move {
            let answer = asking.request_raw("Room.Ask", body.clone()).await;
            assert_eq!(answer.unwrap(), body);
        });
        sent += 1;
        while answers.len() > 8 {
            let answer = timeout(MINUTE, answers.join_next()).await;
            answer.expect("no answer").unwrap().unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    }
    while let Ok(Some(answer)) = timeout(MINUTE, answers.join_next()).await {
        answer.unwrap();
    }
    client.close();
    let asked = asked.lock().clone();
    let events = events.lock().clone();
    (sent, asked, events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_gates_under_load_loses_no_client_and_no_message() {
    const CLIENTS: usize = 6;
    let world = World::new(SLOW, 2).await;
    let (mut old, _log) = world.gate().await;
    let front = Front::start(old.node().addresses()[0]).await;
    let stop = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    world.converged(&[&old]).await;
    for _ in 0..CLIENTS {
        clients.spawn(play(front.address, stop.clone()));
    }
    eventually("all play", || count(&old) == CLIENTS).await;
    let serving = || world.backends.iter().map(count).sum::<usize>();
    eventually("all are served", || serving() == CLIENTS).await;
    for _ in 0..3 {
        let (new, _log) = world.gate().await;
        world.converged(&[&old, &new]).await;
        front.turn_to(new.node().addresses()[0]);
        old.handle().drain(LONG);
        within("the end of the old gate", old.node().stopped()).await;
        // Until a client has returned, its connection has a session of its own for a moment.
        eventually("each client has returned", || count(&new) == CLIENTS).await;
        old = new;
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(serving(), CLIENTS);
    stop.store(1, Ordering::Release);
    let clients = clients.join_all().await;
    // What backends have seen of each session.
    let seen = |of: fn(&Room) -> Vec<(i64, u32)>| {
        let mut seen = BTreeMap::<i64, Vec<u32>>::new();
        for (id, number) in world.rooms.iter().flat_map(of) {
            seen.entry(id).or_default().push(number);
        }
        seen
    };
    let asks = seen(|room| room.asked.lock().clone());
    let tells = seen(|room| room.told.lock().clone());
    assert_eq!((asks.len(), tells.len()), (CLIENTS, CLIENTS));
    for (sent, asked, events) in clients {
        let lost = events.iter().any(|event| matches!(event, Event::Lost(_)));
        assert!(!lost, "{events:?}");
        assert_eq!(asked.len(), sent as usize, "each request arrived once");
        let id = asks.iter().find(|(_, numbers)| **numbers == asked);
        let (id, _) = id.expect("pushes in the order of the requests");
        // Requests of different tasks leave in any order, notifies of one task in theirs.
        assert_eq!(tells[id], (0..sent).collect::<Vec<_>>());
    }
}
