//! What must hold in every step.

use std::collections::BTreeMap;

use super::{event::Node, process::node};
use crate::{
    cluster::membership::{heartbeat::ViewStamp, registry::Registry},
    member::Member,
};

/// What all nodes together have seen.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The process that led in each term.
    leaders: BTreeMap<u64, u64>,
    /// The term, and the table with its master, of each number that a member has received.
    views: BTreeMap<u64, (u64, Vec<Entry>)>,
}

impl Oracle {
    /// Returns how many terms there were.
    pub(super) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// A process leads in a term.
    pub(super) fn leads(&mut self, term: u64, process: u64) -> Result<(), String> {
        match *self.leaders.entry(term).or_insert(process) {
            known if known == process => Ok(()),
            known => Err(format!("{known} and {process} lead in term {term}")),
        }
    }

    /// A master states a view.
    pub(super) fn states(
        &mut self,
        term: u64,
        view: ViewStamp,
        table: Vec<Entry>,
    ) -> Result<(), String> {
        if view.number == 0 {
            return Ok(());
        }
        if view.number < term {
            return Err(format!("view {} of the later term {term}", view.number));
        }
        let known = self
            .views
            .entry(view.number)
            .or_insert((term, table.clone()));
        if *known != (term, table) {
            return Err(format!("view {} stands for two tables", view.number));
        }
        let later = self.leaders.range(term + 1..view.number + 1).next();
        match later {
            None => Ok(()),
            Some((later, _)) => Err(format!(
                "view {} of term {term} belongs to {later}",
                view.number
            )),
        }
    }
}

/// A member as it is compared: its node and its incarnation.
pub(super) type Entry = (Node, u64);

pub(super) fn entry(member: &Member) -> Entry {
    (node(member.address()), member.incarnation())
}

/// All members of a register, its master too.
pub(super) fn entries(registry: &Registry, own: &Member) -> Vec<Entry> {
    let members = registry.members();
    let mut all: Vec<_> = members.iter().chain([own]).map(entry).collect();
    all.sort();
    all
}
