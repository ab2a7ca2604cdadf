//! Promise 1 through a gate: what one session sends starts in order on each member, what each
//! member sends arrives in order, to each request its own answer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nano::{
    CloseReason, Component, Handlers, Options, Raw, Result, Session, Timeouts, message::Kind,
    testing::TestNode,
};
use parking_lot::Mutex;

use crate::{
    cluster::{calm, cluster},
    rooms::{member, text},
    support::{RawClient, eventually},
};

/// What a client that does not read is sent for each request, and how many it makes: more than the
/// system and its queue hold together.
const LARGE: usize = 16 * 1024;
const LARGE_REQUESTS: u64 = 1_200;

/// Notes in which order messages start, and answers every third one late.
#[derive(Clone, Default)]
struct Counter(Arc<Notes>);

#[derive(Default)]
struct Notes {
    started: Mutex<HashMap<i64, Vec<u64>>>,
    closed: Mutex<Vec<CloseReason>>,
}

impl Component<Raw> for Counter {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Count", Self::count).on("Large", Self::large)
    }

    fn init(self: &Arc<Self>, node: &nano::Handle) -> Result {
        let notes = self.0.clone();
        node.on_session_closed(move |_, reason| notes.closed.lock().push(reason.clone()));
        Ok(())
    }
}

impl Counter {
    async fn count(self: Arc<Self>, session: Session<Raw>, body: Bytes) -> Result<Bytes> {
        let number: u64 = std::str::from_utf8(&body)?.parse()?;
        self.0
            .started
            .lock()
            .entry(session.id())
            .or_default()
            .push(number);
        session.push_raw("onCount", body.clone())?;
        if number.is_multiple_of(3) {
            tokio::time::sleep(Duration::from_millis(number % 7)).await;
        }
        Ok(body)
    }

    fn large(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        session.push_raw("onLarge", vec![0; LARGE])?;
        Ok(Bytes::new())
    }
}

/// Sends even numbers to one member and odd ones to the other.
async fn play(mut client: RawClient, messages: u64) {
    for number in 0..messages {
        client
            .request(
                number + 1,
                SERVICES[number as usize % 2].1,
                number.to_string(),
            )
            .await;
    }
    let (mut pushed, mut answered) = ([0, 1], HashSet::new());
    while pushed.iter().sum::<u64>() < 2 * messages + 1 || answered.len() < messages as usize {
        let message = client.message().await;
        let body = text(&message.body);
        let number: u64 = body.parse().unwrap_or_else(|_| panic!("{body}"));
        match message.kind {
            Kind::Push => {
                let next = &mut pushed[number as usize % 2];
                assert_eq!(number, *next, "the pushes of one member in order");
                *next += 2;
            }
            Kind::Response => {
                assert_eq!(
                    (message.id, message.error),
                    (number + 1, false),
                    "its own answer"
                );
                assert!(answered.insert(number), "answered once");
            }
            other => panic!("a server sends no {other:?}"),
        }
    }
}

const SERVICES: [(&str, &str); 2] = [("Even", "Even.Count"), ("Odd", "Odd.Count")];

async fn sessions_keep_their_order(sessions: usize, messages: u64) {
    // A client sends all its requests at once: the last one waits for as long as all of them take.
    let patient = Timeouts::new().request(Duration::from_secs(120));
    let cluster = cluster(&[], |app| app.timeouts(patient.clone())).await;
    let mut backends = Vec::new();
    for (service, _) in SERVICES {
        let counter = Counter::default();
        let app = calm(member(&cluster.master))
            .component_with(counter.clone(), Options::new().name(service));
        backends.push((TestNode::start(app).await, counter));
    }
    cluster.gate.knows(3).await;

    let mut silent = cluster.gate.raw_client().await;
    let deaf = tokio::spawn(async move {
        for id in 1..=LARGE_REQUESTS {
            silent.request(id, "Even.Large", "").await;
        }
        silent
    });
    let mut playing = Vec::new();
    for _ in 0..sessions {
        playing.push(tokio::spawn(play(
            cluster.gate.raw_client().await,
            messages,
        )));
    }
    let third = Counter::default();
    let app = calm(member(&cluster.master));
    let app = SERVICES.iter().fold(app, |app, (service, _)| {
        app.component_with(third.clone(), Options::new().name(*service))
    });
    backends.push((TestNode::start(app).await, third));
    cluster.gate.knows(4).await;
    for player in playing {
        player.await.unwrap();
    }

    let mut seen: HashMap<(i64, u64), usize> = HashMap::new();
    for (_, counter) in &backends {
        for (session, numbers) in &*counter.0.started.lock() {
            for parity in 0..2 {
                let own: Vec<_> = numbers
                    .iter()
                    .copied()
                    .filter(|number| number % 2 == parity)
                    .collect();
                if !own.is_empty() {
                    assert!(
                        own.iter().copied().eq((parity..messages).step_by(2)),
                        "handlers in order: {own:?}"
                    );
                    *seen.entry((*session, parity)).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(seen.len(), sessions * 2, "each session at two members");
    assert!(
        seen.values().all(|members| *members == 1),
        "and each half at one: {seen:?}"
    );

    let slow = || {
        backends
            .iter()
            .any(|(_, counter)| counter.0.closed.lock().contains(&CloseReason::SlowClient))
    };
    eventually("who does not read to be disconnected", slow).await;
    drop(deaf);
    cluster.is_empty().await;
    for (node, _) in &backends {
        eventually("sessions to be gone", || {
            node.handle().sessions().count() == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_keeps_its_order_at_each_of_its_members() {
    sessions_keep_their_order(20, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn two_hundred_sessions_keep_their_order_at_each_of_their_members() {
    sessions_keep_their_order(200, 1_000).await;
}
