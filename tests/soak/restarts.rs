//! A cluster of processes is replaced node by node, as a platform does it: with readiness probes, SIGTERM
//! and the drain, behind a load balancer that looks at the probes.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use nano::{
    Raw,
    client::{Client, Event},
    kick::Reconnect,
};
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    cluster::{ALONE, answered, free_address},
    services::{Balancer, Role, Service},
    support::{eventually, within},
};

/// Players whose sessions are resumed, and who stay.
const RESUMING: usize = 24;

/// Players who do not resume, and leave after each game.
const SHORT: usize = 6;

/// How long such a game lasts: less than a drain.
const GAME: Duration = Duration::from_millis(200);

/// Players who do not resume, and stay until the gate sends them elsewhere.
const STAYING: usize = 4;

/// Requests that each client keeps in flight.
const EACH: usize = 4;

/// The pause of a player.
const PAUSE: Duration = Duration::from_millis(5);

/// What all clients have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicUsize,
    resumed: AtomicUsize,
    games: AtomicUsize,
    kicks: AtomicUsize,
    /// Requests that ended with the connection of a client that was kicked.
    ended_by_kicks: AtomicUsize,
    slowest_ms: AtomicUsize,
    lost: Mutex<Vec<String>>,
}

impl Seen {
    fn lose(&self, what: String) {
        self.lost.lock().push(what);
    }

    fn stops(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Asks until `ends`, several requests at a time; one that fails goes to `fail`. Returns how many
    /// were sent.
    async fn ask(
        self: &Arc<Self>,
        client: &Client<Raw>,
        ends: impl Fn() -> bool + Clone + Send + 'static,
        fail: impl Fn(nano::Error) + Clone + Send + 'static,
    ) -> usize {
        let mut asking = JoinSet::new();
        for task in 0..EACH {
            let (client, seen, ends, fail) =
                (client.clone(), self.clone(), ends.clone(), fail.clone());
            asking.spawn(async move {
                let mut asked = 0;
                while !ends() {
                    let (body, begun) = (format!("{task}.{asked}"), Instant::now());
                    asked += 1;
                    match client.request_raw("T.PushThenResp", body.clone()).await {
                        Ok(answer) => assert_eq!(answer, body, "its own answer"),
                        Err(error) => fail(error),
                    }
                    seen.answered.fetch_add(1, Relaxed);
                    let took = begun.elapsed().as_millis() as usize;
                    seen.slowest_ms.fetch_max(took, Relaxed);
                    sleep(PAUSE).await;
                }
                asked
            });
        }
        asking.join_all().await.into_iter().sum()
    }

    /// One who resumes. The answer to each request comes behind a push with the same number. Returns
    /// how many requests were sent.
    async fn resumes(self: Arc<Self>, url: String) -> usize {
        let (events, pushes) = (self.clone(), Arc::new(AtomicUsize::new(0)));
        let pushed = pushes.clone();
        let client = Client::builder()
            .typed::<Raw>()
            .resume(true)
            .request_timeout(None)
            .on_event(move |event| match event {
                Event::Resumed => drop(events.resumed.fetch_add(1, Relaxed)),
                Event::Lost(_) => events.lose(format!("{event:?}")),
                _ => {}
            })
            .on("onA", move |_: Bytes| {
                pushed.fetch_add(1, Relaxed);
            })
            .connect(&url)
            .await
            .unwrap();
        let (stops, failed) = (self.clone(), self.clone());
        let fail = move |error| failed.lose(format!("a request: {error}"));
        let asked = self.ask(&client, move || stops.stops(), fail).await;
        eventually("as many pushes", || pushes.load(Relaxed) >= asked).await;
        assert_eq!(pushes.load(Relaxed), asked, "each push arrives once");
        client.close();
        asked
    }

    /// Connects one who does not resume.
    async fn connect(&self, url: &str) -> Option<Client<Raw>> {
        let connected = Client::builder().typed::<Raw>().connect(url).await;
        let lost = |error: nano::Error| self.lose(format!("no way in: {error}"));
        connected.map_err(lost).ok()
    }

    /// One who plays short games, each with a session of its own. Returns as `resumes`.
    async fn plays_short_games(self: Arc<Self>, url: String) -> usize {
        let mut asked = 0;
        while !self.stops() {
            let Some(client) = self.connect(&url).await else {
                continue;
            };
            let (end, stops, failed) = (Instant::now() + GAME, self.clone(), self.clone());
            let ends = move || Instant::now() > end || stops.stops();
            let fail = move |error| failed.lose(format!("a request of a short game: {error}"));
            asked += self.ask(&client, ends, fail).await;
            client.close();
            self.games.fetch_add(1, Relaxed);
        }
        asked
    }

    /// One who stays until the gate says where to go. Returns as `resumes`.
    async fn stays(self: Arc<Self>, url: String) -> usize {
        let mut asked = 0;
        while !self.stops() {
            let Some(client) = self.connect(&url).await else {
                continue;
            };
            let failed = Arc::new(AtomicUsize::new(0));
            let (stops, ended, fails) = (self.clone(), client.clone(), failed.clone());
            let ends = move || stops.stops() || ended.close_reason().is_some();
            let fail = move |_| {
                fails.fetch_add(1, Relaxed);
            };
            asked += self.ask(&client, ends, fail).await;
            let failed = failed.load(Relaxed);
            if client.close_reason().is_some() {
                let reconnect = client.kick().and_then(|kick| kick.reconnect);
                if reconnect != Some(Reconnect::Elsewhere) || failed > EACH {
                    self.lose(format!("{:?}, {failed} requests", client.kick()));
                }
                self.kicks.fetch_add(1, Relaxed);
                self.ended_by_kicks.fetch_add(failed, Relaxed);
            } else if failed > 0 {
                self.lose(format!("{failed} requests of a session that goes on"));
            }
            client.close();
        }
        asked
    }

    /// Waits for answers, and checks that nothing is lost so far.
    async fn goes_on(&self, since: &str) {
        let before = self.answered.load(Relaxed);
        let answers = || self.answered.load(Relaxed) >= before + 200;
        eventually("answers", answers).await;
        let lost = self.lost.lock().clone();
        assert!(lost.is_empty(), "{since}: {lost:?}");
    }
}

/// Replaces all nodes of a cluster with so many masters.
async fn replace_all(masters: usize) {
    let addresses: Vec<_> = (0..masters).map(|_| free_address()).collect();
    let start = async |role| Service::start(role, &addresses).await;
    let mut masters = join_all((0..masters).map(|at| start(Role::Master(at)))).await;
    let balancer = Balancer::start().await;
    let (mut backends, mut gates) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        backends.push(start(Role::Backend).await);
        gates.push(start(Role::Gate).await);
    }
    gates.iter().for_each(|gate| balancer.add(gate));
    for gate in &gates {
        let url = format!("ws://{}/nano", gate.clients.unwrap());
        let client = Client::builder().typed::<Raw>().connect(&url).await;
        let client = client.unwrap();
        answered(&client, "T.PushThenResp").await;
        client.close();
    }
    let (seen, mut players) = (Arc::new(Seen::default()), JoinSet::new());
    let url = || format!("ws://{}/nano", balancer.address);
    for _ in 0..RESUMING {
        players.spawn(seen.clone().resumes(url()));
    }
    for _ in 0..SHORT {
        players.spawn(seen.clone().plays_short_games(url()));
    }
    for _ in 0..STAYING {
        players.spawn(seen.clone().stays(url()));
    }
    seen.goes_on("the beginning").await;

    let begun = Instant::now();
    for (at, backend) in backends.iter_mut().enumerate() {
        let took = mem::replace(backend, start(Role::Backend).await)
            .stop()
            .await;
        println!("backend {at} replaced, drained in {took:.1?}");
        seen.goes_on("a backend").await;
    }
    for (at, gate) in gates.iter_mut().enumerate() {
        let new = start(Role::Gate).await;
        balancer.add(&new);
        let old = mem::replace(gate, new);
        let clients = old.clients.unwrap();
        let took = old.stop().await;
        balancer.remove(clients);
        println!("gate {at} replaced, drained in {took:.1?}");
        seen.goes_on("a gate").await;
    }
    for at in 0..masters.len() {
        let took = masters.remove(0).stop().await;
        seen.goes_on("without a master").await;
        masters.push(start(Role::Master(at)).await);
        println!("master {at} replaced, stopped in {took:.1?}");
        seen.goes_on("a master").await;
    }
    // Who comes after all of it is found by all.
    let last = start(Role::Backend).await;
    for backend in backends {
        backend.stop().await;
    }
    seen.goes_on("the last backend").await;
    let all = begun.elapsed();

    seen.stop.store(true, Relaxed);
    let asked = within("the players", players.join_all()).await;
    let asked: usize = asked.into_iter().sum();
    last.stop().await;
    let count = |counter: &AtomicUsize| counter.load(Relaxed);
    println!("all replaced in {all:.1?}, {asked} requests");
    println!(
        "{} returns of {RESUMING} clients that resume, {} games",
        count(&seen.resumed),
        count(&seen.games)
    );
    println!(
        "{} of {STAYING} clients that stayed were kicked, {} requests ended with that",
        count(&seen.kicks),
        count(&seen.ended_by_kicks)
    );
    println!("the slowest answer after {} ms", count(&seen.slowest_ms));
    let lost = seen.lost.lock().clone();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(
        count(&seen.resumed) >= RESUMING,
        "the clients of each gate moved"
    );
    assert!(count(&seen.games) > SHORT, "games ended and began");
    assert!(count(&seen.kicks) > 0, "those who stayed went elsewhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn a_rolling_restart_of_all_processes_loses_no_request_and_no_client() {
    let _alone = ALONE.lock().await;
    replace_all(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn a_rolling_restart_with_three_masters_loses_no_request_and_no_client() {
    let _alone = ALONE.lock().await;
    replace_all(3).await;
}
