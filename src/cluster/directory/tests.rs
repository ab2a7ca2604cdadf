//! What owners and gates do with messages that are late, lost, or of another view: cases that the
//! simulation seldom makes.

use std::time::Duration;

use super::{
    message::Place,
    view::{NodeId, View},
};
use crate::session::UserId;

mod gate;
mod owner;

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
