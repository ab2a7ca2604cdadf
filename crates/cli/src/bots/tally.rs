//! What happened to all players.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    mem,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::{
    report::{Report, StepReport},
    script::Limits,
};
use crate::failure::Failure;

/// Failures that are counted by their text; the rest counts as one.
const MAX_FAILURES: usize = 50;

/// The longest text of a failure, in characters.
const MAX_TEXT: usize = 200;

/// The longest time that is measured, in microseconds: an hour.
const MAX_MICROS: u64 = 3_600_000_000;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Connect,
    Request,
    Notify,
    Push,
}

/// Counts of a run. The lock guards the steps and failures, and is held for one record.
#[derive(Default)]
pub(super) struct Tally {
    started: AtomicU64,
    finished: AtomicU64,
    lost: AtomicU64,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    steps: Vec<Counted>,
    failures: BTreeMap<String, u64>,
    connections: Connections,
}

/// What became of the attempts to connect.
#[derive(Default)]
enum Connections {
    #[default]
    None,
    /// None was made; why the first was not.
    Failed(Failure),
    Made,
}

struct Counted {
    name: String,
    kind: Kind,
    failed: u64,
    /// Times of the steps that did not fail.
    times: Option<Histogram<u64>>,
}

/// How far a run is.
pub(super) struct Progress {
    pub(super) started: u64,
    pub(super) ended: u64,
    pub(super) steps: u64,
    pub(super) failed: u64,
}

impl Tally {
    pub(super) fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    /// Counts a player that came to the end of the script, or did not.
    pub(super) fn ended(&self, finished: bool) {
        let counter = if finished { &self.finished } else { &self.lost };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts a connection that ended by itself.
    pub(super) fn lost(&self, reason: &str) {
        self.record
            .lock()
            .fail(format!("connection lost: {reason}"));
    }

    /// A player has connected.
    pub(super) fn connected(&self) {
        self.record.lock().connections = Connections::Made;
    }

    /// A player could not connect, for this reason.
    pub(super) fn not_connected(&self, failure: Failure) {
        let connections = &mut self.record.lock().connections;
        if let Connections::None = connections {
            *connections = Connections::Failed(failure);
        }
    }

    /// Why no player could connect; `None` if one could, or none has tried.
    pub(super) fn unconnected(&self) -> Option<Failure> {
        match mem::take(&mut self.record.lock().connections) {
            Connections::Failed(failure) => Some(failure),
            Connections::None | Connections::Made => None,
        }
    }

    pub(super) fn step(&self, name: &str, kind: Kind, took: Duration, failure: Option<&str>) {
        let mut record = self.record.lock();
        let known = record
            .steps
            .iter()
            .position(|step| step.name == name && step.kind == kind);
        let at = known.unwrap_or_else(|| {
            record.steps.push(Counted {
                name: name.to_owned(),
                kind,
                failed: 0,
                // The bounds are valid; without a histogram there are counts only.
                times: Histogram::new_with_bounds(1, MAX_MICROS, 2).ok(),
            });
            record.steps.len() - 1
        });
        let step = &mut record.steps[at];
        match failure {
            None => {
                if let Some(times) = &mut step.times {
                    times.saturating_record(took.as_micros().try_into().unwrap_or(MAX_MICROS));
                }
            }
            Some(failure) => {
                step.failed += 1;
                record.fail(format!("{name}: {failure}"));
            }
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let record = self.record.lock();
        let steps = record.steps.iter();
        let steps = steps.map(|step| (step.count(), step.failed));
        let (steps, failed) = steps.fold((0, 0), |all, step| (all.0 + step.0, all.1 + step.1));
        Progress {
            started: self.started.load(Relaxed),
            ended: self.finished.load(Relaxed) + self.lost.load(Relaxed),
            steps,
            failed,
        }
    }

    pub(super) fn report(&self, took: Duration, limits: &Limits) -> Report {
        let record = self.record.lock();
        let mut failures: Vec<_> = record.failures.clone().into_iter().collect();
        failures.sort_by_key(|(_, times)| Reverse(*times));
        let started = self.started.load(Relaxed);
        let (finished, lost) = (self.finished.load(Relaxed), self.lost.load(Relaxed));
        let steps = record.steps.iter().map(Counted::report).collect();
        Report::new(took, [started, finished, lost], steps, failures, limits)
    }
}

impl Record {
    fn fail(&mut self, text: String) {
        let text: String = text.chars().take(MAX_TEXT).collect();
        let text = match self.failures.len() < MAX_FAILURES || self.failures.contains_key(&text) {
            true => text,
            false => "other failures".to_owned(),
        };
        *self.failures.entry(text).or_default() += 1;
    }
}

impl Counted {
    fn count(&self) -> u64 {
        self.failed + self.times.as_ref().map_or(0, Histogram::len)
    }

    fn report(&self) -> StepReport {
        let times = self.times.as_ref().filter(|times| !times.is_empty());
        let seconds = |micros: u64| micros as f64 / 1e6;
        let quantile = |at| times.map(|times| seconds(times.value_at_quantile(at)));
        StepReport {
            name: self.name.clone(),
            is_request: self.kind == Kind::Request,
            count: self.count(),
            failed: self.failed,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: times.map(|times| seconds(times.max())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_is_enough() {
        let refused = || Failure::Refused("no".to_owned());
        let tally = Tally::default();
        assert!(tally.unconnected().is_none());
        tally.not_connected(Failure::Unreachable("first".to_owned()));
        tally.not_connected(refused());
        let first = tally.unconnected();
        assert!(matches!(first, Some(Failure::Unreachable(_))), "{first:?}");
        tally.connected();
        tally.not_connected(refused());
        assert!(tally.unconnected().is_none());
    }
}
