//! Clients that ask without a pause, and what became of each request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use nano::{ErrorCode, Raw, client::Client, code};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cluster::answered,
    support::{eventually, within},
};

/// Requests that each client keeps under way.
const EACH: usize = 6;

/// Of [`Load::stop`].
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) asked: usize,
    pub(crate) answered: usize,
    /// Error replies, and requests that ended with their connection, by code.
    pub(crate) failed: BTreeMap<String, usize>,
    pub(crate) slowest: Duration,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    number: AtomicU64,
    answered: AtomicUsize,
    outcome: Mutex<Outcome>,
}

pub(crate) struct Load {
    pub(crate) clients: Vec<Client<Raw>>,
    shared: Arc<Shared>,
    asking: JoinSet<()>,
}

impl Load {
    /// Connects so many clients, which begin at once.
    pub(crate) async fn start(gate: SocketAddr, clients: usize) -> Self {
        let mut load = Self {
            clients: Vec::new(),
            shared: Arc::default(),
            asking: JoinSet::new(),
        };
        for _ in 0..clients {
            // The gate's timeout is the one that is looked at.
            let builder = Client::builder().typed::<Raw>().request_timeout(None);
            let client = builder.connect(&format!("tcp://{gate}")).await.unwrap();
            for _ in 0..EACH {
                load.asking.spawn(ask(client.clone(), load.shared.clone()));
            }
            load.clients.push(client);
        }
        load
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn goes_on(&self, answers: usize) {
        let before = self.shared.answered.load(Relaxed);
        eventually("more answers", || {
            self.shared.answered.load(Relaxed) >= before + answers
        })
        .await;
    }

    /// Waits until every client is answered again, and asks no more. Every request has ended then,
    /// one way or another.
    pub(crate) async fn stop(mut self) -> Outcome {
        for client in &self.clients {
            answered(client, "T.PushThenResp").await;
        }
        self.shared.stopped.store(true, Relaxed);
        within("every request to end", async {
            while let Some(ended) = self.asking.join_next().await {
                ended.unwrap();
            }
        })
        .await;
        assert!(
            self.clients
                .iter()
                .all(|client| client.close_reason().is_none()),
            "no client notices more than error replies"
        );
        let outcome = std::mem::take(&mut *self.shared.outcome.lock());
        assert_eq!(
            outcome.asked,
            outcome.answered + outcome.failed.values().sum::<usize>(),
            "each ended once: {outcome:?}"
        );
        outcome
    }
}

impl Outcome {
    /// How many were answered that their member went away, or cannot be reached; no other error is
    /// expected.
    pub(crate) fn unavailable(&self) -> usize {
        let expected = [code::UNAVAILABLE, code::NOT_FOUND, code::TIMEOUT].map(ErrorCode::as_str);
        assert!(
            self.failed
                .keys()
                .all(|code| expected.contains(&code.as_str())),
            "{self:?}"
        );
        self.failed
            .get(code::UNAVAILABLE.as_str())
            .copied()
            .unwrap_or_default()
    }
}

/// Asks one request after the other; every third one is answered late.
async fn ask(client: Client<Raw>, shared: Arc<Shared>) {
    while !shared.stopped.load(Relaxed) {
        let number = shared.number.fetch_add(1, Relaxed);
        let (route, body) = if number.is_multiple_of(3) {
            ("T.Flood", "0".to_owned())
        } else {
            ("T.PushThenResp", number.to_string())
        };
        let begun = Instant::now();
        let answer = client.request_raw(route, body.clone()).await;
        let took = begun.elapsed();
        {
            let mut outcome = shared.outcome.lock();
            outcome.asked += 1;
            outcome.slowest = outcome.slowest.max(took);
            match &answer {
                Ok(answer) => {
                    outcome.answered += 1;
                    shared.answered.fetch_add(1, Relaxed);
                    assert_eq!(answer, &body, "its own answer");
                }
                Err(error) => *outcome.failed.entry(error.code().to_string()).or_default() += 1,
            }
        }
        if answer.is_err() {
            // A refusal comes at once: nothing is learned from thousands of them.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
