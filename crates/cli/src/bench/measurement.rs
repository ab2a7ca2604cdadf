//! What clients have measured, and the report of it; no I/O.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    duration::{latency, short},
    table::{count, counted, printable},
};

/// Failures that are counted by their text; the rest counts as one.
const MAX_FAILURES: usize = 20;

/// The longest time that has a value of its own, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// The quantiles of the report.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// The times of answers, and the requests that failed.
#[derive(Debug)]
pub(super) struct Measurement {
    /// In microseconds, three digits.
    times: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

impl Default for Measurement {
    fn default() -> Self {
        Self {
            // It grows with what is recorded.
            times: Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are valid")),
            failures: BTreeMap::new(),
        }
    }
}

impl Measurement {
    pub(super) fn record(&mut self, took: Duration, failure: Option<String>) {
        match failure {
            None => {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                // `saturating_record` would not let it grow. An hour fits.
                let _ = self.times.record(micros.clamp(1, LONGEST));
            }
            Some(failure) => self.fail(failure, 1),
        }
    }

    /// Adds what another client has measured.
    pub(super) fn add(&mut self, other: &Self) {
        // A histogram that grows takes any other.
        let _ = self.times.add(&other.times);
        for (failure, times) in &other.failures {
            self.fail(failure.clone(), *times);
        }
    }

    fn fail(&mut self, failure: String, times: u64) {
        let known = self.failures.len() < MAX_FAILURES || self.failures.contains_key(&failure);
        let failure = if known {
            failure
        } else {
            "other failures".to_owned()
        };
        *self.failures.entry(failure).or_default() += times;
    }

    pub(super) fn answered(&self) -> u64 {
        self.times.len()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// In seconds; `None` if nothing was answered.
    fn quantiles(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        QUANTILES.iter().map(|(name, at)| {
            let micros = self.times.value_at_quantile(*at);
            (*name, (self.answered() > 0).then(|| micros as f64 / 1e6))
        })
    }

    pub(super) fn lines(&self, took: Duration, clients: u32) -> Vec<String> {
        let seconds = took.as_secs_f64();
        let rate = self.answered() as f64 / seconds.max(0.001);
        let mut lines = vec![
            format!(
                "{}, {}: {}, {rate:.1} a second, {} failed",
                counted(clients.into(), "client"),
                short(seconds),
                counted(self.answered(), "answer"),
                count(self.failed())
            ),
            String::new(),
        ];
        lines.extend(self.quantiles().map(|(name, seconds)| {
            let time = seconds.map_or_else(|| "-".to_owned(), latency);
            format!("{name:<6} {time:>8}")
        }));
        if !self.failures.is_empty() {
            lines.push(String::new());
        }
        for (failure, times) in &self.failures {
            lines.push(format!("{:>8}  {}", count(*times), printable(failure)));
        }
        lines
    }

    pub(super) fn json(&self, took: Duration, clients: u32) -> Value {
        let latency: serde_json::Map<_, _> = self
            .quantiles()
            .map(|(name, seconds)| {
                let ms = seconds.map(|seconds| (seconds * 1e6).round() / 1e3);
                (format!("{name}_ms"), ms.into())
            })
            .collect();
        json!({
            "seconds": took.as_secs_f64(),
            "clients": clients,
            "answers": self.answered(),
            "per_second": self.answered() as f64 / took.as_secs_f64().max(0.001),
            "failed": self.failed(),
            "latency": latency,
            "failures": self.failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_of_clients_are_added() {
        let mut all = Measurement::default();
        for client in 1..=4 {
            let mut one = Measurement::default();
            (0..25).for_each(|_| one.record(Duration::from_millis(client * 10), None));
            one.record(Duration::ZERO, Some(format!("failure {client}")));
            one.record(Duration::ZERO, Some("no".to_owned()));
            all.add(&one);
        }
        assert_eq!((all.answered(), all.failed()), (100, 8));
        let report = all.json(Duration::from_secs(2), 4);
        assert_eq!(report["per_second"], 50.0);
        assert_eq!(report["failures"]["no"], 4);
        // Three digits.
        let p50 = report["latency"]["p50_ms"].as_f64().unwrap();
        assert!((20.0..20.1).contains(&p50), "{p50}");
    }

    #[test]
    fn without_an_answer_there_are_no_times() {
        let mut all = Measurement::default();
        all.record(Duration::from_millis(5), Some("no".to_owned()));
        let lines = all.lines(Duration::from_secs(1), 1);
        let times: Vec<_> = lines.iter().filter(|line| line.starts_with('p')).collect();
        assert_eq!(times.len(), 4);
        assert!(
            times.iter().all(|line| line.ends_with("       -")),
            "{times:?}"
        );
        let report = all.json(Duration::from_secs(1), 1);
        assert_eq!(report["latency"]["p99_ms"], Value::Null);
    }

    #[test]
    fn many_different_failures_take_a_bounded_place() {
        let mut all = Measurement::default();
        for number in 0..1000 {
            all.record(Duration::ZERO, Some(number.to_string()));
        }
        assert_eq!(all.failed(), 1000);
        assert_eq!(all.failures.len(), MAX_FAILURES + 1);
    }
}
