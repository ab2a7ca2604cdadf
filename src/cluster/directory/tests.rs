//! What owners and gates do with messages that are late, lost, or of another view: cases that the
//! simulation seldom makes.

use std::{fs, path::Path, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    message::Place,
    view::{NodeId, View},
};
use crate::session::UserId;

mod gate;
mod owner;

#[test]
fn directory_seeds_pass_the_directory_check() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/directory");
    for seed in fs::read_dir(seeds).unwrap() {
        super::fuzzing::check(&fs::read(seed.unwrap().path()).unwrap());
    }
}

#[test]
fn random_histories_pass_the_directory_check() {
    // A view of four nodes, which have told that they have nothing.
    let view = [5, 1, 0x0F, 0xFF, 0];
    let begin = [&view[..], &[3, 0, 5, 0, 0].repeat(4)].concat();
    for seed in 0..200 {
        let mut history = begin.clone();
        history.resize(600, 0);
        StdRng::seed_from_u64(seed).fill_bytes(&mut history[begin.len()..]);
        super::fuzzing::check(&history);
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// How often a node looks at the clock.
const TICK: Duration = Duration::from_millis(100);

fn node(address: &str) -> NodeId {
    NodeId {
        address: address.into(),
        incarnation: 1,
    }
}

fn view(number: u64, nodes: &[&str]) -> View {
    let nodes = nodes.iter().map(|address| node(address));
    View::new(number, nodes.collect(), 0)
}

fn place(gate: &str, session: i64) -> Place {
    let gate = node(gate);
    Place { gate, session }
}

/// Returns users that have these owners in these views.
fn users(owners: &[(&View, &str)]) -> impl Iterator<Item = UserId> {
    let is_owned = |user: &UserId| {
        let slot = super::slots::slot_of(user);
        let mut owners = owners.iter();
        owners.all(|(view, owner)| view.owner(slot) == Some(&node(owner)))
    };
    (1..).map(UserId::from).filter(is_owned)
}
