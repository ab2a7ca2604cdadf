//! The report of a run; no I/O.

use std::time::Duration;

use serde_json::{Value, json};

use super::script::Limits;
use crate::{
    duration::{latency, short},
    table::{
        Column::{Number, Text},
        Table, count, counted, printable,
    },
};

/// What happened, and which limits did not hold.
#[derive(Debug)]
pub(super) struct Report {
    took: Duration,
    started: u64,
    finished: u64,
    lost: u64,
    steps: Vec<StepReport>,
    /// The most frequent first.
    failures: Vec<(String, u64)>,
    broken: Vec<String>,
}

/// All steps of one name. Times are in seconds, of those that did not fail.
#[derive(Debug)]
pub(super) struct StepReport {
    pub(super) name: String,
    pub(super) is_request: bool,
    pub(super) count: u64,
    pub(super) failed: u64,
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Report {
    pub(super) fn new(
        took: Duration,
        [started, finished, lost]: [u64; 3],
        steps: Vec<StepReport>,
        failures: Vec<(String, u64)>,
        limits: &Limits,
    ) -> Self {
        let mut broken = Vec::new();
        let all: u64 = steps.iter().map(|step| step.count).sum();
        let failed: u64 = steps.iter().map(|step| step.failed).sum();
        // A connection that is lost while the player waits fails no step of its own.
        let failed = failed.max(lost);
        if failed as f64 > all as f64 * limits.failed {
            broken.push(format!(
                "{} of {} failed",
                count(failed),
                counted(all, "step")
            ));
        }
        if all == 0 {
            broken.push("no player has done a step".to_owned());
        }
        for step in steps.iter().filter(|step| step.is_request) {
            let limit = limits.p99.map(|limit| limit.as_secs_f64());
            if let (Some(limit), Some(p99)) = (limit, step.p99)
                && p99 > limit
            {
                let (p99, limit) = (latency(p99), latency(limit));
                broken.push(format!("{} has a p99 of {p99}, above {limit}", step.name));
            }
        }
        Self {
            took,
            started,
            finished,
            lost,
            steps,
            failures,
            broken,
        }
    }

    /// The limits that did not hold.
    pub(super) fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Players that the end of the run interrupted.
    fn playing(&self) -> u64 {
        self.started - self.finished - self.lost
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let seconds = self.took.as_secs_f64();
        let mut lines = vec![format!(
            "{} in {}: {} played to the end, {} stopped early, {} still played",
            counted(self.started, "player"),
            short(seconds),
            count(self.finished),
            count(self.lost),
            count(self.playing()),
        )];
        let mut table = Table::new(&[
            Text("STEP"),
            Number("COUNT"),
            Number("FAILED"),
            Number("PER SECOND"),
            Number("P50"),
            Number("P90"),
            Number("P99"),
            Number("MAX"),
        ]);
        let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), latency);
        for step in &self.steps {
            table.row([
                step.name.clone(),
                count(step.count),
                count(step.failed),
                format!("{:.1}", step.count as f64 / seconds.max(0.001)),
                time(step.p50),
                time(step.p90),
                time(step.p99),
                time(step.max),
            ]);
        }
        lines.push(String::new());
        lines.extend(table.lines());
        if !self.failures.is_empty() {
            lines.push(String::new());
            lines.push("FAILURES".to_owned());
        }
        for (text, times) in &self.failures {
            lines.push(format!("{:>8}  {}", count(*times), printable(text)));
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let ms = |seconds: Option<f64>| seconds.map(|seconds| (seconds * 1e6).round() / 1e3);
        let steps = self.steps.iter().map(|step| {
            json!({
                "name": step.name, "count": step.count, "failed": step.failed,
                "p50_ms": ms(step.p50), "p90_ms": ms(step.p90), "p99_ms": ms(step.p99), "max_ms": ms(step.max),
            })
        });
        let failures = self.failures.iter();
        let failures = failures.map(|(text, times)| json!({"text": text, "count": times}));
        json!({
            "seconds": self.took.as_secs_f64(),
            "players": {
                "started": self.started, "finished": self.finished, "lost": self.lost,
                "playing": self.playing(),
            },
            "steps": steps.collect::<Vec<_>>(),
            "failures": failures.collect::<Vec<_>>(),
            "broken_limits": self.broken,
        })
    }
}
