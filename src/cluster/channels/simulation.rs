//! Owners and gates of several nodes in virtual time, with faults that follow from a seed: delays,
//! broken links, crashes, pauses, views that reach nodes at different times. It must also find each of
//! the defects that it can put into all nodes.
//! `NANO_SEED=42 cargo test --lib channels::simulation` replays one; `NANO_SEEDS=0..20000` runs many.

use std::{
    collections::BTreeMap,
    env,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use self::{defects::Defect, world::World};
use crate::sample::sampled;

mod checks;
mod defects;
mod faults;
mod moves;
mod nodes;
mod oracle;
mod publishers;
mod world;

#[test]
fn all_members_see_one_order_and_nothing_twice() {
    check(90..120);
}

#[test]
#[ignore = "slow"]
fn all_members_see_one_order_and_nothing_twice_for_many_seeds() {
    // Also a sample begins with seeds in which everything happens.
    check(90..90 + sampled(1_000));
}

#[test]
fn a_seed_always_gives_the_same_trace() {
    for seed in 0..5 {
        let trace = || {
            let mut world = World::new(seed, None);
            world.traced = true;
            world.run();
            world.trace()
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn defects_are_found() {
    let all = defects::ALL.into_iter();
    let missed: Vec<_> = all.filter(|defect| !is_found(*defect)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// Plays seeds until one shows the defect.
fn is_found(defect: Defect) -> bool {
    let found = (90..390).find_map(|seed| {
        let mut world = World::new(seed, Some(defect));
        let problem = catch_unwind(AssertUnwindSafe(|| world.run())).err()?;
        let text = problem.downcast_ref::<String>().cloned();
        Some((seed, text))
    });
    println!("{defect:?}: {found:?}");
    found.is_some()
}

fn check(range: Range<u64>) {
    let number = |text: &str| text.parse().unwrap();
    let seeds = match (env::var("NANO_SEED"), env::var("NANO_SEEDS")) {
        (Ok(seed), _) => number(&seed)..number(&seed) + 1,
        (_, Ok(seeds)) => {
            let (from, to) = seeds.split_once("..").unwrap();
            number(from)..number(to)
        }
        _ => range,
    };
    let is_short = seeds.end - seeds.start < 30;
    let mut events = BTreeMap::new();
    for seed in seeds {
        let mut world = World::new(seed, None);
        world.run();
        for (event, count) in world.events() {
            *events.entry(event).or_insert(0) += count;
        }
    }
    println!("{events:?}");
    // A simulation in which nothing happens would pass as well.
    if !is_short {
        for event in oracle::ALL_EVENTS {
            assert!(events.contains_key(event), "never: {event}; {events:?}");
        }
    }
}
