//! What this process uses: CPU time, memory, descriptors.

use std::{fs, time::Duration};

use hdrhistogram::Histogram;
use nano::{Error, Result, code};
use tokio::time::{Instant, sleep};

use crate::process::{self, CpuTime};

/// How long anything may take to happen.
const LIMIT: Duration = Duration::from_secs(300);

/// A reading of this process.
pub(super) struct Usage {
    at: Instant,
    cpu: CpuTime,
    memory: u64,
    descriptors: usize,
}

impl Usage {
    pub(super) fn now() -> Self {
        let own = [std::process::id()];
        Self {
            memory: process::memory(&own),
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            at: Instant::now(),
            cpu: CpuTime::of(&own),
        }
    }

    /// Microseconds of CPU time since `earlier`.
    pub(super) fn cpu_since(&self, earlier: &Self) -> f64 {
        self.cpu.since(&earlier.cpu) as f64 / 1e3
    }

    /// Percent of a core since `earlier`.
    pub(super) fn load_since(&self, earlier: &Self) -> f64 {
        let elapsed = self.at.duration_since(earlier.at).as_secs_f64();
        self.cpu_since(earlier) / 1e4 / elapsed
    }

    /// Bytes more than `earlier`.
    pub(super) fn memory_since(&self, earlier: &Self) -> f64 {
        self.memory.saturating_sub(earlier.memory) as f64
    }

    pub(super) fn descriptors_since(&self, earlier: &Self) -> f64 {
        self.descriptors.saturating_sub(earlier.descriptors) as f64
    }
}

/// Waits until something holds; returns how long that took.
///
/// # Errors
/// It does not hold within five minutes.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > LIMIT {
            return Err(Error::new(
                code::TIMEOUT,
                format!("{what}: not within {LIMIT:?}"),
            ));
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(begun.elapsed())
}

/// A histogram of microseconds, of three digits, up to a minute.
///
/// # Errors
/// None in practice.
pub(super) fn latencies() -> Result<Histogram<u64>> {
    Histogram::new_with_max(60_000_000, 3)
        .map_err(|error| Error::new(code::INTERNAL, error.to_string()))
}

pub(super) fn micros(duration: Duration) -> u64 {
    duration.as_micros().min(60_000_000) as u64
}
