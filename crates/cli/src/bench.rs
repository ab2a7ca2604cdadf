//! `nano bench`: how many requests a node answers, and how fast.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use nano_client::{Client, Error, code};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    duration,
    failure::Failure,
    interrupt::interrupted,
    play::{Connect, allow_open_files, json, not_connected},
    table::{counted, print, print_json},
};
use measurement::Measurement;

mod measurement;

/// The most clients.
const MAX_CLIENTS: u32 = 100_000;

/// What one client may have on its way at a rate; what is due beyond it is not sent, and counts as
/// failed.
const MAX_DUE: usize = 1024;

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Where the clients connect, such as ws://127.0.0.1:3250/nano
    url: String,
    /// The route of the requests
    route: String,
    /// Their body, in JSON
    #[arg(default_value = "null", value_parser = json)]
    body: Value,
    /// How many clients
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CLIENTS)))]
    clients: u32,
    /// How many requests each client has on its way at any time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    in_flight: u32,
    /// Sends so many requests a second, of all clients together, whatever the answers do
    #[arg(long, conflicts_with = "in_flight", value_parser = rate)]
    rate: Option<f64>,
    /// How long it is measured
    #[arg(long, default_value = "10s", value_parser = duration::parse_positive)]
    time: Duration,
    /// How long requests are sent before that
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    warmup: Duration,
    /// A value for the application's handshake check, in JSON
    #[arg(long, default_value = "null", value_parser = json)]
    user: Value,
    #[command(flatten)]
    connect: Connect,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

/// What one loop has measured. It has a lock of its own, which only the report at the end takes too.
type Share = Arc<Mutex<Measurement>>;

/// What all clients of a run share.
struct Run {
    route: String,
    body: Bytes,
    /// From when to when answers are measured.
    from: Instant,
    until: Instant,
}

impl Bench {
    /// # Errors
    /// A client could not connect, a request failed, or the run was interrupted, whose report is of
    /// the time until then.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        self.connect.check(&self.url)?;
        allow_open_files(self.clients);
        let mut stop = pin!(interrupted());
        let clients = tokio::select! {
            clients = self.open() => clients?,
            () = &mut stop => return Err(Failure::Interrupted),
        };
        let from = Instant::now() + self.warmup;
        let run = Arc::new(Run {
            route: self.route.clone(),
            body: self.body.to_string().into(),
            from,
            until: from + self.time,
        });
        let mut shares = Vec::new();
        let complete = tokio::select! {
            () = self.measure(clients, &run, &mut shares) => true,
            () = &mut stop => false,
        };
        let mut measured = Measurement::default();
        for share in &shares {
            measured.add(&share.lock());
        }
        let took = Instant::now().min(run.until) - run.from.min(Instant::now());
        match self.json {
            true => print_json(&measured.json(took, self.clients))?,
            false => {
                (measured.lines(took, self.clients).iter()).try_for_each(|line| print(line))?
            }
        }
        match measured.failed() {
            _ if !complete => Err(Failure::Interrupted),
            0 if measured.answered() == 0 => {
                Err(Failure::Failed("no request was answered".to_owned()))
            }
            0 => Ok(()),
            failed => {
                let failed = counted(failed, "request");
                Err(Failure::Failed(format!("{failed} failed")))
            }
        }
    }

    /// Connects all clients, some at a time.
    async fn open(&self) -> Result<Vec<Client>, Failure> {
        const AT_ONCE: usize = 64;
        let mut opening = JoinSet::new();
        let mut clients = Vec::new();
        for number in 0..self.clients as usize {
            if number >= AT_ONCE {
                clients.extend(joined(&mut opening).await?);
            }
            let (url, builder) = (self.url.clone(), self.connect.builder(self.user.clone()));
            opening.spawn(async move {
                let opened = builder.connect(&url).await;
                opened.map_err(|error| not_connected(&url, &error))
            });
        }
        while let Some(client) = joined(&mut opening).await? {
            clients.push(client);
        }
        Ok(clients)
    }

    /// Lets all clients send until the time is over. `shares` has what each loop has measured so far,
    /// whatever becomes of this future.
    async fn measure(&self, clients: Vec<Client>, run: &Arc<Run>, shares: &mut Vec<Share>) {
        let mut share = || {
            let share = Share::default();
            shares.push(share.clone());
            share
        };
        let count = clients.len() as f64;
        let mut running = JoinSet::new();
        let begun = Instant::now();
        for (number, client) in clients.into_iter().enumerate() {
            match self.rate {
                None => {
                    for _ in 0..self.in_flight {
                        running.spawn(closed_loop(client.clone(), run.clone(), share()));
                    }
                }
                Some(rate) => {
                    let interval = Duration::from_secs_f64(count / rate);
                    // In turn, not all at once.
                    let first = begun + interval.mul_f64(number as f64 / count);
                    running.spawn(open_loop(client, run.clone(), share(), first, interval));
                }
            }
        }
        while running.join_next().await.is_some() {}
    }
}

/// The next client that has connected; `None` if all have.
async fn joined(opening: &mut JoinSet<Result<Client, Failure>>) -> Result<Option<Client>, Failure> {
    match opening.join_next().await {
        None => Ok(None),
        Some(Ok(opened)) => opened.map(Some),
        Some(Err(error)) => Err(Failure::Failed(error.to_string())),
    }
}

/// Sends a request, and the next one when it is answered.
async fn closed_loop(client: Client, run: Arc<Run>, share: Share) {
    loop {
        let sent = Instant::now();
        if sent >= run.until {
            return;
        }
        let failure = send(&client, &run).await;
        let lost = failure.as_ref().is_some_and(|it| it.code() == code::CLOSED);
        if sent >= run.from || lost {
            let failure = failure.map(|failure| failure.to_string());
            share.lock().record(sent.elapsed(), failure);
        }
        if lost {
            return;
        }
    }
}

/// Sends requests when they are due. Their time counts from then, so that one which could not be
/// sent because of earlier ones has waited.
async fn open_loop(
    client: Client,
    run: Arc<Run>,
    share: Share,
    first: Instant,
    interval: Duration,
) {
    let mut waiting = JoinSet::new();
    let mut due = first;
    while due < run.until {
        sleep_until(due).await;
        while waiting.try_join_next().is_some() {}
        if waiting.len() < MAX_DUE {
            let (client, run, share) = (client.clone(), run.clone(), share.clone());
            waiting.spawn(async move {
                let failure = send(&client, &run).await;
                let failure = failure.map(|failure| failure.to_string());
                run.keep(&share, due, due.elapsed(), failure);
            });
        } else {
            let failure = "too many requests are on their way".to_owned();
            run.keep(&share, due, Duration::ZERO, Some(failure));
        }
        due += interval;
    }
    // What is on its way is waited for as long as a request may take.
    while waiting.join_next().await.is_some() {}
}

impl Run {
    fn keep(&self, share: &Share, due: Instant, took: Duration, failure: Option<String>) {
        if due >= self.from {
            share.lock().record(took, failure);
        }
    }
}

/// Sends one request, and returns why it failed.
async fn send(client: &Client, run: &Run) -> Option<Error> {
    let answer = client.request_raw(&run.route, run.body.clone()).await;
    answer.err()
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.001..=10_000_000.0).contains(rate))
        .ok_or_else(|| "not a number from 0.001 to 10000000".to_owned())
}
