//! Random losses under numbered traffic: nothing is lost, repeated or reordered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nano::{
    App, Component, Handlers, Raw, Result, Session, Timeouts,
    client::{Client, Event},
    testing::{TestCluster, TestNode},
};
use parking_lot::Mutex;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout},
};

use crate::{
    proxy::Proxy,
    support::{eventually, sampled},
    world::{SLOW, count},
};

/// What the server has seen of each client, which sends numbers.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<Vec<u32>>>);

#[derive(Clone)]
struct Counter {
    asks: Numbers,
    notifies: Numbers,
}

impl Component<Raw> for Counter {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Ask", Self::ask).on("Tell", Self::tell)
    }
}

impl Counter {
    fn ask(&self, session: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        // A push in front of each response: the client sees them in this order.
        self.asks.0.lock().push(number(&body));
        session.push_raw("onAsked", body.clone())?;
        Ok(body)
    }

    fn tell(&self, _: &Session<Raw>, body: Bytes) -> Result {
        self.notifies.0.lock().push(number(&body));
        Ok(())
    }
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(body[..4].try_into().unwrap())
}

/// The next answer. Connections may be lost again and again before it comes, on a machine that is busy.
async fn answered(answers: &mut JoinSet<()>) -> Option<Result<(), JoinError>> {
    let answer = timeout(Duration::from_secs(60), answers.join_next()).await;
    answer.unwrap_or_else(|_| panic!("no answer within a minute"))
}

/// One client that numbers its messages, at so many gates in turn; returns how often its connection was
/// lost.
async fn play(seed: u64, time: Duration, websocket: bool, gates: usize) -> usize {
    let (asks, notifies) = (Numbers::default(), Numbers::default());
    let component = Counter {
        asks: asks.clone(),
        notifies: notifies.clone(),
    };
    let app = || {
        let app = App::new()
            .component(component.clone())
            .timeouts(Timeouts::new().heartbeat(Duration::from_millis(300)));
        match websocket {
            true => app.websocket("127.0.0.1:0", "/nano"),
            false => app.tcp("127.0.0.1:0"),
        }
    };
    let master = TestCluster::master_options().heartbeat(SLOW);
    let cluster = TestCluster::with_master(App::new(), master).await;
    let mut nodes = Vec::new();
    for _ in 0..gates {
        let member = cluster.member_options().heartbeat(SLOW);
        nodes.push(TestNode::start(app().cluster(member)).await);
    }
    cluster.converged(&nodes.iter().collect::<Vec<_>>()).await;
    let addresses = nodes.iter().map(|node| node.node().addresses()[0]);
    let proxy = Proxy::random(addresses.collect(), seed, 6000).await;
    let url = match websocket {
        true => format!("ws://{}/nano", proxy.address),
        false => format!("tcp://{}", proxy.address),
    };

    let events = Arc::new(Mutex::new(Vec::new()));
    let asked = Numbers::default();
    let (seen, pushed) = (events.clone(), asked.clone());
    // The first connection has to open in this time too, on a machine that is busy.
    let client = Client::builder()
        .typed::<Raw>()
        .resume(true)
        .connect_timeout(Duration::from_secs(3))
        .on_event(move |event| seen.lock().push(event))
        .on("onAsked", move |body| pushed.0.lock().push(number(&body)))
        .connect(&url)
        .await
        .unwrap();

    let until = Instant::now() + time;
    let mut sent = 0u32;
    let mut answers = JoinSet::new();
    let mut healed = false;
    while !healed {
        if Instant::now() >= until && proxy.losses() > 1 {
            // What is answered from now on came over a connection that stays.
            proxy.heal();
            healed = true;
        }
        let body = Bytes::from([&sent.to_be_bytes()[..], &vec![0; sent as usize % 300]].concat());
        client
            .notify_raw("Counter.Tell", body.clone())
            .await
            .unwrap();
        let asking = client.clone();
        answers.spawn(async move {
            let answer = asking.request_raw("Counter.Ask", body.clone()).await;
            assert_eq!(answer.unwrap(), body);
        });
        sent += 1;
        if answers.len() > 20 {
            answered(&mut answers).await.unwrap().unwrap();
        }
    }
    while let Some(answer) = answered(&mut answers).await {
        answer.unwrap();
    }
    eventually("all notifies arrive", || {
        notifies.0.lock().len() >= sent as usize
    })
    .await;
    let expected: Vec<u32> = (0..sent).collect();
    assert_eq!(*notifies.0.lock(), expected, "seed {seed}");
    let (asks, asked) = (asks.0.lock().clone(), asked.0.lock().clone());
    assert_eq!(asks.len(), sent as usize, "seed {seed}");
    assert_eq!(asked, asks, "seed {seed}");
    let events = events.lock().clone();
    assert!(
        !events.iter().any(|event| matches!(event, Event::Lost(_))),
        "seed {seed}: {events:?}"
    );
    // A return that was given up may still be on its way: it ends with its socket.
    let sessions = || nodes.iter().map(count).sum::<usize>();
    eventually("there is one session", || sessions() == 1).await;
    let losses = proxy.losses();
    client.close();
    client.closed().await;
    eventually("the final close ends the session", || sessions() == 0).await;
    for node in &nodes {
        node.stop().await;
    }
    losses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_repeated_or_reordered_over_connections_that_are_lost() {
    let mut clients = JoinSet::new();
    for seed in 0..4 {
        let (websocket, gates) = (seed % 2 == 1, 1 + seed as usize / 2);
        clients.spawn(play(seed, Duration::from_secs(4), websocket, gates));
    }
    let losses = clients.join_all().await;
    println!("{losses:?} connections lost");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn nothing_is_lost_repeated_or_reordered_for_minutes() {
    // What two cores play without falling behind; 30 with optimizations.
    let (count, seconds) = if cfg!(debug_assertions) {
        (6, sampled(60).max(20))
    } else {
        (30, sampled(120).max(20))
    };
    let mut clients = JoinSet::new();
    for seed in 100..100 + count {
        let (time, gates) = (Duration::from_secs(seconds), 1 + seed as usize / 2 % 2);
        clients.spawn(play(seed, time, seed % 2 == 1, gates));
    }
    let losses = clients.join_all().await;
    println!("{} connections lost", losses.iter().sum::<usize>());
}
