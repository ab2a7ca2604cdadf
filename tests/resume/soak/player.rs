//! The clients of this crate in the soak.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use nano::{
    Raw,
    client::{Client, Event},
};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use tokio::{
    sync::{Barrier, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{oracle::Record, script::Loser};
use crate::harness::MINUTE;

/// How many requests of a client may wait.
const IN_FLIGHT: usize = 8;

/// What brings so many pushes that no send queue takes those of a client that is away.
const FLOOD: &str = "20000";

#[derive(Deserialize)]
struct Ids {
    id: i64,
    uid: i64,
}

fn encode(to: usize, number: u32, filler: usize) -> Bytes {
    let message = (to, number, "x".repeat(filler));
    serde_json::to_vec(&message).unwrap().into()
}

fn decode(body: &[u8]) -> (usize, u32) {
    let (to, number, _) = serde_json::from_slice::<(usize, u32, String)>(body).unwrap();
    (to, number)
}

async fn connect(url: &str, record: &Arc<Mutex<Record>>) -> (Client<Raw>, Losses) {
    let (events, heard) = (record.clone(), record.clone());
    let (sender, losses) = mpsc::unbounded_channel();
    let mut builder = Client::builder()
        .typed::<Raw>()
        .resume(true)
        .request_timeout(MINUTE)
        .connect_timeout(Duration::from_secs(2))
        .on_event(move |event| match event {
            Event::Resumed => events.lock().resumed += 1,
            Event::Lost(lost) => {
                events.lock().ended.push(format!("lost: {lost}"));
                let _ = sender.send(lost.to_string());
            }
            _ => {}
        })
        .on("onBroadcast", move |body| {
            let (from, number) = serde_json::from_slice::<(u32, u32)>(&body).unwrap();
            heard.lock().heard.entry(from).or_default().push(number);
        });
    for route in ["onEcho", "onA", "Dict.known"] {
        let pushed = record.clone();
        builder = builder.on(route, move |body| {
            let (to, number) = decode(&body);
            pushed.lock().pushed[to].push(number);
        });
    }
    (builder.connect(url).await.unwrap(), losses)
}

/// The reasons for which the session is lost.
type Losses = mpsc::UnboundedReceiver<String>;

struct Player {
    client: Client<Raw>,
    record: Arc<Mutex<Record>>,
    answers: JoinSet<()>,
    random: StdRng,
}

/// One client that returns to its session; it waits for the others when it is connected, before it
/// plays, when it has played, and before it looks for the last messages of the group.
pub(crate) async fn play(name: u32, url: String, time: Duration, stages: Arc<Barrier>) -> Record {
    let record = Arc::new(Mutex::new(Record {
        name,
        ..Record::default()
    }));
    let (client, _losses) = connect(&url, &record).await;
    let mut player = Player {
        client,
        record,
        answers: JoinSet::new(),
        random: StdRng::seed_from_u64(name.into()),
    };
    let user = Record::user(name).to_string();
    player.client.request_raw("T1.Bind", user).await.unwrap();
    player.client.request_raw("Grp.Join", "").await.unwrap();
    stages.wait().await;
    stages.wait().await;
    player.play(time).await;
    stages.wait().await;
    stages.wait().await;
    // Behind what the backend has sent before it.
    player.look(1).await;
    player.client.close();
    player.client.closed().await;
    player.record.lock().clone()
}

impl Player {
    async fn play(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let to = self.random.random_range(0..2);
            match self.random.random_range(0..100) {
                0 => self.broadcast().await,
                1..5 => self.look(to).await,
                _ => self.send(to).await,
            }
            // Several messages at once, so that a loss finds some on their way.
            if self.random.random_ratio(1, 4) {
                let pause = self.random.random_range(0..200);
                sleep(Duration::from_millis(pause)).await;
            }
        }
        // The last message to each is a request: its answer is behind all pushes.
        for to in 0..2 {
            self.send(to).await;
            if self.record.lock().sent[to] % 2 == 1 {
                self.send(to).await;
            }
        }
        while !self.answers.is_empty() {
            self.answered().await;
        }
    }

    async fn send(&mut self, to: usize) {
        let filler = match self.random.random_range(0..20) {
            0 => 4000,
            _ => self.random.random_range(0..300),
        };
        let number = {
            let sent = &mut self.record.lock().sent[to];
            *sent += 1;
            *sent - 1
        };
        let body = encode(to, number, filler);
        if number % 2 == 0 {
            let route = format!("Echo{to}.Push");
            self.client.notify_raw(&route, body).await.unwrap();
            return;
        }
        let (client, record) = (self.client.clone(), self.record.clone());
        let mut answer = Box::pin(async move {
            let route = format!("T{to}.PushThenResp");
            let answer = client.request_raw(&route, body.clone()).await.unwrap();
            assert_eq!(answer, body);
            record.lock().answered[to].push(number);
        });
        // Polled once, it has its place in the order.
        if poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx)))
            .await
            .is_pending()
        {
            self.answers.spawn(answer);
        }
        while self.answers.len() >= IN_FLIGHT {
            self.answered().await;
        }
    }

    async fn answered(&mut self) {
        let answer = timeout(MINUTE, self.answers.join_next()).await;
        answer.expect("no answer within a minute").unwrap().unwrap();
    }

    async fn broadcast(&mut self) {
        let message = {
            let record = &mut *self.record.lock();
            record.broadcasts += 1;
            serde_json::to_vec(&(record.name, record.broadcasts - 1)).unwrap()
        };
        self.client.notify_raw("Grp.Send", message).await.unwrap();
    }

    /// Asks for the ids of the session.
    async fn look(&mut self, to: usize) {
        let ids = self.client.request_raw(&format!("T{to}.Ids"), "").await;
        let Ids { id, uid } = serde_json::from_slice(&ids.unwrap()).unwrap();
        let mut record = self.record.lock();
        record.looked += 1;
        record.sessions.insert((id, uid));
    }
}

/// A client whose connection is lost behind its first message; returns why its session is lost.
pub(crate) async fn lose(name: u32, Loser { url, floods }: Loser) -> String {
    let (client, mut losses) = connect(&url, &Arc::default()).await;
    let to = name % 2;
    match floods {
        true => client.notify_raw(&format!("T{to}.Flood"), FLOOD).await,
        false => client.notify_raw(&format!("Echo{to}.Sink"), "").await,
    }
    .unwrap();
    let lost = timeout(MINUTE, losses.recv()).await;
    let lost = lost
        .unwrap_or_else(|_| panic!("loser {name}, floods: {floods}"))
        .unwrap();
    if floods {
        // It goes on in a new session.
        client.request_raw("T0.Ids", "").await.unwrap();
    }
    client.close();
    client.closed().await;
    lost
}
