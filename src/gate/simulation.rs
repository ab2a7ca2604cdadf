//! Sessions that move between gates, in virtual time: real client states, registries, departures and
//! links, with faults that follow from a seed. Messages are delayed, connections and links break and
//! take along what is under way, gates crash and start again, and drain again and again; clients
//! return to any gate, also twice at a time, and backends push, answer and kick meanwhile.
//!
//! In every step a session is live on one gate at most. A client gets what a gate has accepted for it
//! once and in order; a gate takes what a client has sent once and in order; each request ends once. A
//! close of a session that has moved is bounded: no gate passes it on without an end.
//! In *quiet* runs, in which no link breaks and no gate with sessions ends, nothing is lost at all and
//! no backend sees an end. The simulation must also find each of the [defects].
//!
//! `TEST_SEED=42 cargo test --lib gate::simulation` replays one seed, and `TEST_TRACE=1` prints what
//! happens.

use std::{collections::BTreeMap, env, ops::Range};

use self::{
    defects::ALL_DEFECTS,
    oracle::{ALL_EVENTS, RARE_EVENTS},
    world::World,
};
use crate::sample::sampled;

mod arrivals;
mod backends;
mod clients;
mod closes;
mod connections;
mod defects;
mod departures;
mod event;
mod gates;
mod oracle;
mod returns;
mod sending;
mod world;

#[test]
fn a_session_is_on_one_gate_and_loses_and_repeats_nothing() {
    check(0..200);
}

#[test]
#[ignore = "slow"]
fn a_session_is_on_one_gate_and_loses_and_repeats_nothing_with_many_seeds() {
    check(0..sampled(5_000));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..6 {
        let trace = || {
            let mut world = World::new(seed, None);
            world.trace = Some(Vec::new());
            world.run().unwrap();
            world.trace.unwrap()
        };
        let (first, second) = (trace(), trace());
        assert!(first.len() > 300, "seed {seed}: {} events", first.len());
        assert!(first == second, "seed {seed}");
    }
}

#[test]
#[ignore = "slow"]
fn defects_are_found() {
    for (defect, from) in ALL_DEFECTS {
        let is_found = |seed: &u64| World::new(*seed, Some(defect)).run().is_err();
        let found = (from..from + 300).find(is_found);
        eprintln!("{defect:?}: found by seed {found:?}");
        assert!(found.is_some(), "{defect:?}");
    }
}

fn check(seeds: Range<u64>) {
    let only: Option<u64> = env::var("TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = only.map_or(seeds, |seed| seed..seed + 1);
    let mut events = BTreeMap::new();
    for seed in seeds.clone() {
        let mut world = World::new(seed, None);
        world.trace = env::var("TEST_TRACE").is_ok().then(Vec::new);
        if let Err(problem) = world.run() {
            world
                .trace
                .iter()
                .flatten()
                .for_each(|line| eprintln!("{line}"));
            panic!(
                "seed {seed}: {problem}\nreplay it with TEST_SEED={seed} cargo test --lib gate::simulation"
            );
        }
        for (event, count) in world.oracle.events {
            *events.entry(event).or_insert(0) += count;
        }
    }
    println!("{events:?}");
    // A simulation in which nothing happens would pass as well.
    let played = seeds.end - seeds.start;
    let expected = ALL_EVENTS.iter().filter(|_| played > 100);
    for event in expected.chain(RARE_EVENTS.iter().filter(|_| played > 2_000)) {
        assert!(events.contains_key(event), "never: {event}; {events:?}");
    }
}
