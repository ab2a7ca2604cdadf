//! Gates, owners and membership on a simulated network, in virtual time.
//!
//! Clients log in, bind and close at random while nodes crash, leave, restart and are suspended, and
//! links break. After every event no user may have two sessions that are both confirmed, wherever
//! they are; a login must come after the close callbacks of the session it replaces; and no session
//! is ended unless there is a later login. Afterwards the owners know what the gates have, and each
//! user has one session with a claim at most. Everything follows from a seed: `NANO_SEED=42 cargo test --lib
//! directory::simulation` replays one.

use std::{env, ops::Range};

use self::world::World;
use crate::sample::sampled;

mod effects;
mod injection;
mod lease;
mod network;
mod node;
mod oracle;
mod world;

#[test]
fn no_user_ever_has_two_confirmed_sessions() {
    check(seeds(0..30));
}

#[test]
#[ignore = "slow"]
fn no_user_ever_has_two_confirmed_sessions_with_many_seeds() {
    check(seeds(0..sampled(600)));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::new(seed);
        world.network.record();
        world.run();
        world.network.into_trace()
    };
    for seed in 0..3 {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > 1000, "seed {seed}: {} events", first.len());
        let differs = first
            .iter()
            .zip(&second)
            .find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

/// The seeds of `NANO_SEED`: one, or a range as in `400..4000`.
fn seeds(default: Range<u64>) -> Vec<u64> {
    let Ok(wanted) = env::var("NANO_SEED") else {
        return default.collect();
    };
    match wanted.split_once("..") {
        Some((from, to)) => (from.parse().unwrap()..to.parse().unwrap()).collect(),
        None => vec![wanted.parse().unwrap()],
    }
}

fn check(seeds: Vec<u64>) {
    let single = seeds.len() == 1;
    let (mut granted, mut replaced, mut confirmed_again, mut faults) = (0, 0, 0, [0; 6]);
    for seed in seeds {
        let mut world = World::new(seed);
        if single {
            world.network.record();
        }
        world.run();
        if let Some(problem) = world.oracle.problem.take().or_else(|| world.diverged()) {
            for line in world.network.into_trace() {
                println!("{line}");
            }
            panic!(
                "seed {seed}: {problem}\nreplay it with NANO_SEED={seed} cargo test --lib directory::simulation"
            );
        }
        granted += world.oracle.granted;
        replaced += world.oracle.took_over;
        confirmed_again += world.oracle.confirmed_again;
        faults
            .iter_mut()
            .zip(world.faults)
            .for_each(|(sum, count)| *sum += count);
    }
    println!(
        "{granted} granted, {replaced} replaced, {confirmed_again} confirmed again, faults {faults:?}"
    );
    // A simulation in which nothing happens would pass as well.
    assert!(
        single || (granted > 100 && replaced > 50 && confirmed_again > 10),
        "{granted} {replaced} {confirmed_again}"
    );
    assert!(
        single || faults.iter().all(|count| *count > 0),
        "{faults:?}"
    );
}
