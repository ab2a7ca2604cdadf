//! What came of a run.

use std::{fmt, thread};

use serde::{Deserialize, Serialize};

use super::{Options, Sample, tally::Tally};

/// A thread this busy has no time left.
const BUSY: f64 = 0.95;

/// What was read from the system.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    pub(crate) seconds: f64,
    /// CPU time in nanoseconds: of the server, of the load, of the load's busiest thread.
    pub(crate) server: u64,
    pub(crate) own: u64,
    pub(crate) busiest: u64,
    /// Memory of the server in bytes: before the first client, with all of them, at the end of the
    /// run.
    pub(crate) memory_before: u64,
    pub(crate) memory_connected: u64,
    pub(crate) memory_loaded: u64,
}

/// One run. Times are microseconds, memory is bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// CPU time of all server processes for each message; none without their ids.
    pub(crate) server_cpu: Option<f64>,
    /// Cores in use.
    pub(crate) server_cores: f64,
    pub(crate) load_cores: f64,
    /// Memory of all server processes for each connection: idle, and with the load on it.
    pub(crate) memory_idle: Option<f64>,
    pub(crate) memory_loaded: Option<f64>,
    /// Over the whole run.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) dropped: u64,
    pub(crate) late: u64,
    pub(crate) corrupted: u64,
    pub(crate) errors: u64,
    pub(crate) closed: u64,
    /// Why the load generator was the bottleneck, if it was.
    pub(crate) bottleneck: Option<String>,
    /// What was due in the measured part, in no order, if it was to be kept.
    #[serde(skip)]
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        connections: usize,
        readings: &Readings,
        tally: &Tally,
    ) -> Self {
        let latency = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
        let nanoseconds = readings.seconds * 1e9;
        let measured = !options.pid.is_empty();
        let memory = |now: u64| {
            measured.then(|| now.saturating_sub(readings.memory_before) as f64 / connections as f64)
        };
        let server_cores = readings.server as f64 / nanoseconds;
        let load_cores = readings.own as f64 / nanoseconds;
        Self {
            connections,
            seconds: readings.seconds,
            per_second: tally.measured as f64 / options.duration.as_secs_f64(),
            p50: latency(0.5),
            p99: latency(0.99),
            p999: latency(0.999),
            max: tally.latency.max() as f64 / 1e3,
            server_cpu: (measured && tally.measured > 0)
                .then(|| readings.server as f64 / 1e3 / tally.measured as f64),
            server_cores,
            load_cores,
            memory_idle: memory(readings.memory_connected),
            memory_loaded: memory(readings.memory_loaded),
            sent: tally.sent,
            answered: tally.answered,
            dropped: tally.dropped,
            late: tally.late,
            corrupted: tally.corrupted,
            errors: tally.errors,
            closed: tally.closed,
            bottleneck: bottleneck(
                readings.busiest as f64 / nanoseconds,
                server_cores,
                load_cores,
                measured,
            ),
            samples: Vec::new(),
        }
    }
}

fn bottleneck(busiest: f64, server: f64, load: f64, measured: bool) -> Option<String> {
    let cores = thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    if busiest >= BUSY {
        Some(format!(
            "a thread of the load was busy {:.0} % of the time",
            busiest * 100.0
        ))
    } else if measured && load > server && load + server >= BUSY * cores {
        Some(format!(
            "the machine was full, and the load took {load:.2} cores where the server took {server:.2}"
        ))
    } else {
        None
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.0}/s over {:.2} s with {} connections",
            self.per_second, self.seconds, self.connections
        )?;
        writeln!(
            f,
            "latency in us: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
            self.p50, self.p99, self.p999, self.max
        )?;
        if let Some(cpu) = self.server_cpu {
            writeln!(
                f,
                "server: {cpu:.2} us CPU per message, {:.2} cores",
                self.server_cores
            )?;
        }
        if let (Some(idle), Some(loaded)) = (self.memory_idle, self.memory_loaded) {
            writeln!(
                f,
                "server memory per connection: {:.2} KiB idle, {:.2} KiB under load",
                idle / 1024.0,
                loaded / 1024.0
            )?;
        }
        writeln!(f, "load: {:.2} cores", self.load_cores)?;
        write!(
            f,
            "sent {}, answered {}, dropped {}, late {}, corrupted {}",
            self.sent, self.answered, self.dropped, self.late, self.corrupted
        )?;
        write!(
            f,
            ", error replies {}, connections lost {}",
            self.errors, self.closed
        )?;
        match &self.bottleneck {
            Some(why) => write!(f, "\nNOT the server's limit: {why}"),
            None => Ok(()),
        }
    }
}
