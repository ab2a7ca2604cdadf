//! What must hold in every step.

use std::collections::{BTreeMap, BTreeSet};

use super::{event::Node, process::node};
use crate::{cluster::membership::registry::Registry, member::Member};

/// What all nodes together have seen.
///
/// What no living process remembers does not count: masters that have all started anew, with clocks
/// behind the true time, may use such a number or term a second time, and nothing tells the two apart.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The terms in which a process led.
    terms: BTreeSet<u64>,
    /// The process that led in each term that was accepted.
    leaders: BTreeMap<u64, u64>,
    /// The term, and the table with its master, of each number that was accepted.
    views: BTreeMap<u64, (u64, Vec<Entry>)>,
}

impl Oracle {
    /// Returns how many terms there were.
    pub(super) fn terms(&self) -> usize {
        self.terms.len()
    }

    /// A process leads in a term.
    pub(super) fn leads(&mut self, term: u64) {
        self.terms.insert(term);
    }

    /// Forgets all numbers above `remembered`, the highest that a living process has seen.
    pub(super) fn forget_above(&mut self, remembered: u64) {
        self.leaders.split_off(&(remembered + 1));
        self.views.split_off(&(remembered + 1));
    }

    /// A process accepts what the one that leads in a term answers.
    pub(super) fn accepted(
        &mut self,
        term: u64,
        leader: u64,
        view: u64,
        table: Vec<Entry>,
    ) -> Result<(), String> {
        let known = *self.leaders.entry(term).or_insert(leader);
        if known != leader {
            return Err(format!("{known} and {leader} lead in term {term}"));
        }
        if view == 0 {
            return Ok(());
        }
        if view < term {
            return Err(format!("view {view} of the later term {term}"));
        }
        let known = self.views.entry(view).or_insert((term, table.clone()));
        if *known != (term, table) {
            return Err(format!("view {view} stands for two tables"));
        }
        let before = self.views.range(..view).next_back();
        let after = self.views.range(view + 1..).next();
        let out_of_order = before.filter(|(_, (other, _))| *other > term);
        let out_of_order = out_of_order.or(after.filter(|(_, (other, _))| *other < term));
        match out_of_order {
            None => Ok(()),
            Some((other, (of, _))) => Err(format!(
                "view {view} of term {term} beside view {other} of term {of}"
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
