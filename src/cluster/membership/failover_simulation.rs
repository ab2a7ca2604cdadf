//! Several masters and their members on a simulated network, in virtual time.
//!
//! Masters and members crash, restart without memory, are stopped (their clocks go on) or suspended
//! (their clocks do not), and lose and delay messages; clocks of masters differ in speed by up to a
//! tenth each way, and by an hour in what they show. In every step at most one master may lead, and no
//! number may stand for two tables; in the end all tables are the set of living nodes. In the *calm*
//! runs only masters fail, and no member may ever be evicted. The simulation must also find each of the
//! defects that it can put into all nodes.
//!
//! `NANO_SEED=42 cargo test --lib failover_simulation` replays one seed, and `NANO_TRACE=1` prints what happens.

use std::{env, ops::Range};

use self::{defects::Defect, world::World};
use crate::sample::sampled;

mod calls;
mod checks;
mod clock;
mod defects;
mod event;
mod faults;
mod lead;
mod oracle;
mod process;
mod world;

#[test]
fn at_most_one_master_leads_and_tables_converge() {
    check(0..1_000);
}

#[test]
#[ignore = "slow"]
fn at_most_one_master_leads_with_many_seeds() {
    check(0..seeds(sampled(20_000)));
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
        assert!(first.len() > 100, "seed {seed}: {} events", first.len());
        assert!(first == second, "seed {seed}");
    }
}

#[test]
#[ignore = "slow"]
fn defects_are_found() {
    for defect in defects::FREQUENT {
        find(defect, 0);
    }
}

#[test]
#[ignore = "slow"]
fn rare_defects_are_found() {
    for (defect, from) in defects::RARE {
        find(defect, from);
    }
}

/// Plays seeds until one shows the defect.
fn find(defect: Defect, from: u64) {
    let is_found = |seed: &u64| World::new(*seed, Some(defect)).run().is_err();
    let found = (from..from + 1_000).find(is_found);
    eprintln!("{defect:?}: found by seed {found:?}");
    assert!(found.is_some(), "{defect:?}");
}

/// How many seeds to play, unless `NANO_SEEDS` says.
fn seeds(many: u64) -> u64 {
    env::var("NANO_SEEDS").map_or(many, |many| many.parse().unwrap())
}

fn check(seeds: Range<u64>) {
    let only = env::var("NANO_SEED").map(|seed| seed.parse().unwrap());
    let seeds = only.map_or(seeds, |seed: u64| seed..seed + 1);
    let (mut terms, mut faults) = (0, [0; faults::KINDS]);
    for seed in seeds {
        let mut world = World::new(seed, None);
        world.trace = env::var("NANO_TRACE").is_ok().then(Vec::new);
        if let Err(problem) = world.run() {
            world
                .trace
                .iter()
                .flatten()
                .for_each(|line| eprintln!("{line}"));
            panic!(
                "seed {seed}: {problem}\nreplay it with NANO_SEED={seed} cargo test --lib failover_simulation"
            );
        }
        terms += world.oracle.terms();
        for (all, here) in faults.iter_mut().zip(world.faults) {
            *all += here;
        }
    }
    // A simulation without faults would pass as well.
    if env::var("NANO_SEED").is_err() {
        assert!(
            terms > 250 && faults.iter().all(|it| *it > 0),
            "{terms} {faults:?}"
        );
    }
}
