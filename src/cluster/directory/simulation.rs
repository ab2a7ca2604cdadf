//! Gates, owners and membership on a simulated network, in virtual time.
//!
//! Clients log in, bind and close at random while nodes crash, leave, restart and are suspended, and
//! links break. After every event no user may have two sessions in force, wherever they are; a
//! login must come after the close callbacks of the session it replaces. Afterwards the owners know
//! what the gates have. Everything follows from a seed: `NANO_SEED=42 cargo test --lib
//! directory::simulation` replays one.

use std::{env, ops::Range};

use self::world::World;

mod effects;
mod injection;
mod network;
mod node;
mod oracle;
mod world;

#[test]
fn no_user_ever_has_two_sessions_in_force() {
    check(seeds(0..30));
}

#[test]
#[ignore = "slow"]
fn no_user_ever_has_two_sessions_in_force_with_many_seeds() {
    check(seeds(0..400));
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

fn seeds(range: Range<u64>) -> Vec<u64> {
    env::var("NANO_SEED").map_or_else(|_| range.collect(), |seed| vec![seed.parse().unwrap()])
}

fn check(seeds: Vec<u64>) {
    let single = seeds.len() == 1;
    let (mut granted, mut replaced, mut cut_off, mut faults) = (0, 0, 0, [0; 6]);
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
        replaced += world.oracle.replaced;
        cut_off += world.oracle.cut_off;
        faults
            .iter_mut()
            .zip(world.faults)
            .for_each(|(sum, count)| *sum += count);
    }
    println!("{granted} granted, {replaced} replaced, {cut_off} cut off, faults {faults:?}");
    // A simulation in which nothing happens would pass as well.
    assert!(
        single || (granted > 100 && replaced > 50 && cut_off > 10),
        "{granted} {replaced} {cut_off}"
    );
    assert!(
        single || faults.iter().all(|count| *count > 0),
        "{faults:?}"
    );
}
