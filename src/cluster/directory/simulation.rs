//! Gates, owners and membership on a simulated network, in virtual time.
//!
//! Clients log in, bind and close at random while nodes crash, leave, restart and are suspended, and
//! links break: what they lose fails at once, or when its time is over. After every event no user may
//! have two sessions that are both confirmed, wherever they are; a login must come after the close
//! callbacks of the session it replaces, also if its gate leaves; and no session is ended unless there
//! is a later login. Afterwards the owners know what the gates have, and each user has one session with
//! a claim at most. The simulation must also find each of the defects that it can put into all nodes.
//!
//! In half of the tests messages go over the real states of links, whose streams break under them.
//!
//! Most schedules are small, so that there can be many. Everything follows from a seed:
//! `NANO_SEED=42 cargo test --lib directory::simulation` replays one, `NANO_SEED=1000..9000` a range.

use std::{env, ops::Range};

use self::{defects::Defect, world::World};
use crate::sample::sampled;

mod calls;
mod checks;
mod clients;
mod defects;
mod effects;
mod injection;
mod lease;
mod links;
mod network;
mod node;
mod oracle;
mod shape;
mod world;

#[test]
fn no_user_ever_has_two_confirmed_sessions() {
    check(seeds(0..1_000), World::new);
}

#[test]
fn no_user_ever_has_two_confirmed_sessions_over_links() {
    check(seeds(0..100), World::over_links);
}

#[test]
#[ignore = "slow"]
fn no_user_ever_has_two_confirmed_sessions_with_many_seeds() {
    check(seeds(0..sampled(50_000)), World::new);
}

#[test]
#[ignore = "slow"]
fn no_user_ever_has_two_confirmed_sessions_over_links_with_many_seeds() {
    check(seeds(0..sampled(5_000)), World::over_links);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed, over_links| {
        let mut world = match over_links {
            true => World::over_links(seed, None),
            false => World::new(seed, None),
        };
        world.network.record();
        world.run();
        world.network.into_trace()
    };
    let seeds = (0..12).chain([16, 32]);
    for (seed, over_links) in seeds.flat_map(|seed| [(seed, false), (seed, true)]) {
        let (first, second) = (trace(seed, over_links), trace(seed, over_links));
        assert!(first.len() > 300, "seed {seed}: {} events", first.len());
        let differs = first
            .iter()
            .zip(&second)
            .find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

#[test]
fn defects_are_found() {
    for (defect, from) in defects::ALL {
        find(defect, from, World::new);
    }
}

/// Links end with a run, so nodes that take what was meant for their former run do no harm there.
#[test]
fn defects_are_found_over_links() {
    for (defect, from) in [
        (Defect::ServesEarly, 0),
        (Defect::KeepsSlotsOverViews, 50),
        (Defect::StatesViewsAtOnce, 40),
        (Defect::ReleasesAll, 0),
        (Defect::SkipsCallbacks, 0),
        (Defect::ForgetsReplaced, 0),
        (Defect::NamesNoSessions, 0),
    ] {
        find(defect, from, World::over_links);
    }
}

/// Plays seeds until one shows the defect.
fn find(defect: Defect, from: u64, world: fn(u64, Option<Defect>) -> World) {
    let found = (from..from + 2_000).find_map(|seed| {
        let problem = world(seed, Some(defect)).run()?;
        Some((seed, problem))
    });
    println!("{defect:?}: {found:?}");
    assert!(found.is_some(), "{defect:?}");
}

/// The seeds of `NANO_SEED`: one, or a range as in `400..4000`.
fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(wanted) = env::var("NANO_SEED") else {
        return default;
    };
    match wanted.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => {
            let seed = wanted.parse().unwrap();
            seed..seed + 1
        }
    }
}

fn check(seeds: Range<u64>, world: fn(u64, Option<Defect>) -> World) {
    let single = seeds.end - seeds.start == 1;
    let (mut granted, mut replaced, mut confirmed_again, mut refused) = (0, 0, 0, 0);
    let mut faults = [0; injection::KINDS];
    let mut streams = 0;
    for seed in seeds {
        let mut world = world(seed, None);
        if single {
            world.network.record();
        }
        if let Some(problem) = world.run() {
            for line in world.network.into_trace() {
                println!("{line}");
            }
            panic!(
                "seed {seed}: {problem}\nreplay it with NANO_SEED={seed} cargo test --lib directory::simulation"
            );
        }
        if let Some(links) = &world.network.links {
            streams += links.mesh.streams();
        }
        granted += world.oracle.granted;
        replaced += world.oracle.took_over;
        confirmed_again += world.oracle.confirmed_again;
        refused += world.oracle.refused;
        faults
            .iter_mut()
            .zip(world.faults)
            .for_each(|(sum, count)| *sum += count);
    }
    println!(
        "{granted} granted, {replaced} replaced, {confirmed_again} confirmed again, {refused} refused, faults {faults:?}, \
         {streams} streams"
    );
    // A simulation in which nothing happens would pass as well.
    assert!(
        single || (granted > 100 && replaced > 50 && confirmed_again > 10 && refused > 10),
        "{granted} {replaced} {confirmed_again} {refused}"
    );
    assert!(
        single || faults.iter().all(|count| *count > 0),
        "{faults:?}"
    );
}
