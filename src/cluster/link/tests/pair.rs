//! Two link states that talk to each other in virtual time, with faults that follow from a seed:
//! delays, lost and half-open streams, streams that overtake each other, restarts of either end.
//! `NANO_SEED=42 cargo test --lib link::tests::pair` replays one.

use std::{collections::BTreeMap, env, ops::Range};

use self::world::{Troubles, World};
use crate::sample::sampled;

mod actions;
mod calls;
mod effects;
mod event;
mod network;
mod node;
mod streams;
mod user_pushes;
mod world;

#[test]
fn requests_end_once_cancelled_calls_stop_and_sessions_keep_their_order() {
    check(seeds(0..200));
}

#[test]
#[ignore = "slow"]
fn requests_end_once_cancelled_calls_stop_and_sessions_keep_their_order_for_many_seeds() {
    check(seeds(0..sampled(3_000)));
}

#[test]
fn a_seed_always_gives_the_same_trace() {
    for seed in 0..20 {
        let trace = || {
            let mut world = World::new(seed);
            world.record();
            world.run();
            world.trace()
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

fn seeds(range: Range<u64>) -> Vec<u64> {
    env::var("NANO_SEED").map_or_else(|_| range.collect(), |seed| vec![seed.parse().unwrap()])
}

fn check(seeds: Vec<u64>) {
    let mut troubles: Troubles = BTreeMap::new();
    let replayed = seeds.len() == 1;
    for seed in seeds {
        let mut world = World::new(seed);
        world.run();
        for (trouble, count) in world.troubles() {
            *troubles.entry(trouble).or_default() += count;
        }
    }
    // A simulation in which nothing goes wrong would pass as well.
    if !replayed {
        for trouble in world::ALL_TROUBLES {
            assert!(
                troubles.contains_key(trouble),
                "never: {trouble}; {troubles:?}"
            );
        }
    }
}
