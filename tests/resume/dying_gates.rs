//! Gates that die while sessions move from one to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Raw,
    client::{Client, Event},
    code,
    testing::TestNode,
};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    front::Front,
    harness::MINUTE,
    support::{eventually, sampled},
    world::{LONG, World, count, number},
};

const CLIENTS: u32 = 4;

/// The numbers of one client.
const NUMBERS: u32 = 1_000_000;

/// The requests of each client before a gate drains, and after one has died.
const BEFORE: u32 = 40;
const AFTER: u32 = 40;

/// What a client has seen.
#[derive(Clone, Default)]
struct Seen {
    /// The pushes, in order; `None` where a session was lost.
    pushed: Arc<Mutex<Vec<Option<u32>>>>,
    /// The requests that were answered.
    answered: Arc<Mutex<Vec<u32>>>,
}

/// One client with numbered requests, four at a time, until `last` is set.
async fn play(address: SocketAddr, client: u32, seen: Seen, last: Arc<Mutex<bool>>) {
    let (events, pushes) = (seen.pushed.clone(), seen.pushed.clone());
    let connected = Client::builder()
        .typed::<Raw>()
        .resume(true)
        .connect_timeout(Duration::from_secs(3))
        .on_event(move |event| {
            if let Event::Lost(_) = event {
                events.lock().push(None);
            }
        })
        .on("onAsked", move |body: Bytes| {
            pushes.lock().push(Some(number(&body)));
        })
        .connect(&format!("tcp://{address}"))
        .await
        .unwrap();
    let mut next = client * NUMBERS;
    let mut answers = JoinSet::new();
    while !*last.lock() {
        let (asking, answered, number) = (connected.clone(), seen.answered.clone(), next);
        next += 1;
        answers.spawn(async move {
            let body = Bytes::from(number.to_be_bytes().to_vec());
            match asking.request_raw("Room.Ask", body.clone()).await {
                Ok(answer) => {
                    assert_eq!(answer, body);
                    answered.lock().push(number);
                }
                // Of a session that is lost.
                Err(error) => assert_eq!(error.code(), code::CLOSED, "{error}"),
            }
        });
        if answers.len() >= 4 {
            let answer = timeout(MINUTE, answers.join_next()).await;
            answer.expect("no answer").unwrap().unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    }
    while let Some(answer) = timeout(MINUTE, answers.join_next())
        .await
        .expect("no answer")
    {
        answer.unwrap();
    }
    connected.close();
}

/// Whether the numbers follow each other.
fn is_run(numbers: &[u32]) -> bool {
    numbers.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

/// Drains a gate with clients, and kills that gate or the next one a moment later. Returns how many
/// sessions were lost.
async fn die(seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(Duration::from_millis(250), 1).await;
    let room = &world.rooms[0];
    let (old, _log) = world.gate().await;
    let front = Front::start(old.node().addresses()[0]).await;
    world.converged(&[&old]).await;
    let last = Arc::new(Mutex::new(false));
    let mut players = JoinSet::new();
    let seen: Vec<_> = (0..CLIENTS).map(|_| Seen::default()).collect();
    for (client, seen) in (0..).zip(&seen) {
        players.spawn(play(front.address, client, seen.clone(), last.clone()));
    }
    let answered = |at: usize| seen[at].answered.lock().len() as u32;
    let all = |least: u32, more: &[u32]| {
        (0..seen.len()).all(|at| answered(at) >= more.get(at).unwrap_or(&0) + least)
    };
    eventually("all play", || all(BEFORE, &[])).await;
    let (next, _log) = world.gate().await;
    let (third, _log) = world.gate().await;
    world.converged(&[&old, &next, &third]).await;
    let gates = [&next, &third].map(|gate: &TestNode| gate.node().addresses()[0]);
    let mut gates = [(old, None), (next, Some(gates[0])), (third, Some(gates[1]))];
    gates[0].0.handle().drain(LONG);
    front.turn_to(gates[2].1.unwrap());
    // At any time, or when the first session has just moved.
    if random.random_bool(0.7) {
        while count(&gates[1].0) + count(&gates[2].0) == 0 {
            sleep(Duration::from_micros(200)).await;
        }
        sleep(Duration::from_micros(random.random_range(0..4_000))).await;
    } else {
        sleep(Duration::from_millis(random.random_range(0..500))).await;
    }
    let victim = random.random_range(0..2);
    gates[victim].0.kill();
    let before: Vec<_> = (0..seen.len()).map(answered).collect();
    let begun = tokio::time::Instant::now();
    while !all(AFTER, &before) {
        assert!(begun.elapsed() < MINUTE, "seed {seed}: a client is stuck");
        sleep(Duration::from_millis(5)).await;
    }
    let live = || {
        let gates = gates.iter().enumerate().filter(|(at, _)| *at != victim);
        gates.map(|(_, (gate, _))| count(gate)).sum::<usize>()
    };
    eventually("each session is at one gate", || live() == CLIENTS as usize).await;
    eventually("and at its backend", || {
        count(&world.backends[0]) == CLIENTS as usize
    })
    .await;
    *last.lock() = true;
    while let Some(player) = players.join_next().await {
        player.unwrap();
    }

    // The backend has seen each number once, and those of a session in their order.
    let mut sessions = BTreeMap::<i64, Vec<u32>>::new();
    let asked = room.asked.lock().clone();
    for (id, number) in &asked {
        sessions.entry(*id).or_default().push(*number);
    }
    let distinct: BTreeSet<_> = asked.iter().map(|(_, number)| *number).collect();
    assert_eq!(distinct.len(), asked.len(), "seed {seed}: a request twice");
    let mut lost = 0;
    for (client, seen) in (0..).zip(&seen) {
        let pushed = seen.pushed.lock().clone();
        let own: Range<u32> = client * NUMBERS..(client + 1) * NUMBERS;
        let runs: Vec<Vec<u32>> = pushed
            .split(|it| it.is_none())
            .map(|run| run.iter().copied().flatten().collect())
            .collect();
        lost += runs.len() - 1;
        for (at, run) in runs.iter().enumerate() {
            // What the client got of one session is what its backend has sent, from the first on.
            let Some(first) = run.first() else { continue };
            let of = sessions.values().find(|numbers| numbers[0] == *first);
            let of = of.unwrap_or_else(|| panic!("seed {seed}: {run:?} of no session"));
            assert!(of.starts_with(run), "seed {seed}: {run:?} of {of:?}");
            if at + 1 == runs.len() {
                assert_eq!(of.len(), run.len(), "seed {seed}: the end is missed");
            }
        }
        let pushed: BTreeSet<_> = pushed.into_iter().flatten().collect();
        assert!(pushed.iter().all(|number| own.contains(number)));
        for number in &*seen.answered.lock() {
            assert!(pushed.contains(number), "seed {seed}: no push of {number}");
        }
        if runs.len() == 1 {
            let mut all = runs[0].clone();
            all.sort_unstable();
            assert!(is_run(&all), "seed {seed}: {all:?}");
        }
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_dies_while_sessions_move_repeats_and_reorders_nothing() {
    for seed in 0..3 {
        println!("seed {seed}: {} sessions lost", die(seed).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn gates_that_die_while_sessions_move_repeat_and_reorder_nothing() {
    let seeds = std::env::var("NANO_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    let mut lost = BTreeMap::new();
    for seed in 100..100 + seeds.unwrap_or_else(|| sampled(60)) {
        *lost.entry(die(seed).await).or_insert(0) += 1;
    }
    println!("runs by sessions lost: {lost:?}");
}
