//! What was measured: the JSON that the tables and charts are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    peer::Peer,
    scenario::{Metric, Scenario, Target},
    stats::Spread,
};
use crate::load::Report;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The machine and the versions, by name.
    pub(crate) machine: Vec<(String, String)>,
    /// What did not take part or went wrong.
    pub(crate) skipped: Vec<String>,
    /// How many runs went wrong.
    pub(crate) failed: usize,
    pub(crate) scenarios: Vec<Measured>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) in_flight: usize,
    pub(crate) notes: Vec<String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) runs: BTreeMap<Peer, Vec<Report>>,
}

impl Outcome {
    pub(crate) fn new(machine: Vec<(String, String)>) -> Self {
        Self {
            machine,
            skipped: Vec::new(),
            failed: 0,
            scenarios: Vec::new(),
        }
    }

    pub(crate) fn skip(&mut self, what: String) {
        eprintln!("skipped: {what}");
        self.skipped.push(what);
    }

    pub(crate) fn scenario(&self, name: &str) -> Option<&Measured> {
        self.scenarios.iter().find(|scenario| scenario.name == name)
    }
}

impl Measured {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            in_flight: scenario.in_flight,
            notes: Vec::new(),
            targets: scenario.targets.clone(),
            runs: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, peer: Peer, report: Report) {
        self.runs.entry(peer).or_default().push(report);
    }

    pub(crate) fn reports(&self, peer: Peer) -> &[Report] {
        self.runs.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// A number of every run of a peer.
    pub(crate) fn values(&self, peer: Peer, metric: Metric) -> Vec<f64> {
        self.reports(peer)
            .iter()
            .filter_map(|report| metric.of(report))
            .collect()
    }

    pub(crate) fn spread(&self, peer: Peer, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(peer, metric))
    }

    /// Whether the limit is one: whether it costs little enough beside Go nano.
    pub(crate) fn baseline_is_valid(&self, limit: Peer) -> Option<(bool, f64)> {
        let most = if self.in_flight >= 8 { 0.15 } else { 0.6 };
        let cost = Spread::ratio(
            &self.values(limit, Metric::Cpu),
            &self.values(Peer::Go, Metric::Cpu),
        )?
        .median;
        Some((cost <= most, cost))
    }
}

impl Metric {
    pub(crate) fn of(self, report: &Report) -> Option<f64> {
        match self {
            Self::Throughput => Some(report.per_second),
            Self::Cpu => report.server_cpu,
            Self::P99 => Some(report.p99),
            Self::Memory => report.memory_idle.map(|bytes| bytes / 1024.0),
            Self::Lost => Some((report.dropped + report.corrupted + report.errors) as f64),
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Cpu => "CPU per message",
            Self::P99 => "p99",
            Self::Memory => "KiB per connection",
            Self::Lost => "lost",
        }
    }
}
