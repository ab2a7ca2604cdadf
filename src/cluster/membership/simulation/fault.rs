//! The kinds of faults, and how often each happened.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Crash,
    Leave,
    Suspension,
    Partition,
    MasterRestart,
    Eviction,
    LostMessage,
    Timeout,
}

const ALL: [Fault; 8] = [
    Fault::Crash,
    Fault::Leave,
    Fault::Suspension,
    Fault::Partition,
    Fault::MasterRestart,
    Fault::Eviction,
    Fault::LostMessage,
    Fault::Timeout,
];

#[derive(Debug, Default)]
pub(super) struct FaultCounts(BTreeMap<Fault, usize>);

impl FaultCounts {
    pub(super) fn count(&mut self, fault: Fault, times: usize) {
        if times > 0 {
            *self.0.entry(fault).or_default() += times;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        other
            .0
            .iter()
            .for_each(|(&fault, &times)| self.count(fault, times));
    }

    /// Returns the faults that never happened.
    pub(super) fn missing(&self) -> Vec<Fault> {
        ALL.into_iter()
            .filter(|fault| !self.0.contains_key(fault))
            .collect()
    }
}
