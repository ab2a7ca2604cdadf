//! How busy a node is: what it uses of its machine, and what it has to do.

use std::{fs, thread, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    handle::Handle,
    metrics::{self as names, registry::Registry},
};

/// The least time between two counts. Requests in between get the answer of the last one.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest time over which rates are computed: a mean of more says nothing of now.
const LONGEST: Duration = Duration::from_secs(30);

/// The unit of processor times in `/proc`, in seconds: `USER_HZ`, which is 100 on every platform that
/// Rust has a standard library for.
const TICK: f64 = 0.01;

/// What another member may say; more is garbage.
const MAX_CORES: f64 = 65_536.0;
const MAX_MEMORY: u64 = 1 << 50;
const MAX_COUNT: u64 = 1_000_000_000;

/// How busy a node is. What it does not know is `None`: rates in the first second, and processor and
/// memory where there is no `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Load {
    /// The processor cores that the process used, on average since the last count.
    cores: Option<f64>,
    /// The cores that it may use.
    cores_available: Option<u64>,
    /// Its resident memory.
    memory_bytes: Option<u64>,
    /// The sessions of clients that are connected to the node.
    clients: Option<u64>,
    /// Messages that the node handled or forwarded, on average since the last count.
    messages_per_second: Option<f64>,
    /// Tasks that wait in schedulers.
    tasks_waiting: Option<u64>,
}

impl Load {
    /// Forgets numbers that cannot be: another member may say anything.
    pub(super) fn plausible(self) -> Self {
        let up_to = |number: Option<u64>, most| number.filter(|number| *number <= most);
        let within = |number: Option<f64>, most| number.filter(|it| (0.0..=most).contains(it));
        Self {
            cores: within(self.cores, MAX_CORES),
            cores_available: up_to(self.cores_available, MAX_CORES as u64),
            memory_bytes: up_to(self.memory_bytes, MAX_MEMORY),
            clients: up_to(self.clients, MAX_COUNT),
            messages_per_second: within(self.messages_per_second, MAX_COUNT as f64),
            tasks_waiting: up_to(self.tasks_waiting, MAX_COUNT),
        }
    }
}

/// Measures the load of this node. The lock guards the last count alone.
#[derive(Debug, Default)]
pub(super) struct LoadMeter(Mutex<Option<Count>>);

/// What was counted, and what came of it.
#[derive(Clone, Debug)]
struct Count {
    at: Instant,
    /// Processor time since the process was started, in seconds.
    processor: Option<f64>,
    messages: u64,
    load: Load,
}

impl LoadMeter {
    /// The load since the last count.
    pub(super) fn read(&self, node: &Handle, registry: &Registry) -> Load {
        let now = Instant::now();
        if let Some(last) = self.recent(now) {
            return last;
        }
        let schedulers = node.pool().schedulers();
        let waiting = schedulers.iter().map(|scheduler| scheduler.waiting as u64);
        let handled = registry.total(names::MESSAGES_HANDLED);
        let count = Count {
            at: now,
            processor: read("/proc/self/stat", processor_seconds),
            messages: handled + registry.total(names::CLUSTER_FORWARDED),
            load: Load {
                cores_available: thread::available_parallelism()
                    .ok()
                    .map(|it| it.get() as u64),
                memory_bytes: read("/proc/self/status", resident_bytes),
                clients: Some(node.sessions().local_count() as u64),
                tasks_waiting: Some(waiting.sum()),
                ..Load::default()
            },
        };
        self.note(count)
    }

    /// The last count, if it is new enough.
    fn recent(&self, now: Instant) -> Option<Load> {
        let last = self.0.lock();
        let last = last.as_ref()?;
        let age = now.saturating_duration_since(last.at);
        (age < INTERVAL).then(|| last.load.clone())
    }

    fn note(&self, mut count: Count) -> Load {
        let mut last = self.0.lock();
        if let Some(last) = &*last {
            count.compare(last);
        }
        last.insert(count).load.clone()
    }
}

impl Count {
    /// Computes the rates since an earlier count, unless that is too long ago.
    fn compare(&mut self, earlier: &Self) {
        let over = self.at.saturating_duration_since(earlier.at);
        if over.is_zero() || over > LONGEST {
            return;
        }
        let seconds = over.as_secs_f64();
        let messages = self.messages.saturating_sub(earlier.messages);
        self.load.messages_per_second = Some(messages as f64 / seconds);
        self.load.cores = self
            .processor
            .zip(earlier.processor)
            .map(|(now, before)| (now - before).max(0.0) / seconds);
    }
}

fn read<T>(file: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    parse(&fs::read_to_string(file).ok()?)
}

/// The processor time of a process by its `stat`: in user mode, and in the kernel for it.
fn processor_seconds(stat: &str) -> Option<f64> {
    // The name of the program, in parentheses, may be anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<u64>().ok();
    let (user, kernel) = (next()?, next()?);
    Some(user.saturating_add(kernel) as f64 * TICK)
}

/// The line `VmRSS: 12345 kB` of a `status` in bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_and_memory_are_read() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0 8 9 300 1";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds("7 (a) R 1 7 7"), None);
        assert_eq!(processor_seconds(""), None);
        let status = "VmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\nThreads:\t1\n";
        assert_eq!(resident_bytes(status), Some(1_024_000));
        assert_eq!(resident_bytes("VmRSS:\t18446744073709551615 kB\n"), None);
    }

    #[test]
    fn rates_are_those_since_the_last_count_unless_it_is_long_ago() {
        let start = Instant::now();
        let count = |seconds, processor, messages| Count {
            at: start + Duration::from_secs(seconds),
            processor,
            messages,
            load: Load::default(),
        };
        let rates = |mut now: Count| {
            now.compare(&count(0, Some(10.0), 100));
            (now.load.cores, now.load.messages_per_second)
        };
        assert_eq!(rates(count(4, Some(16.0), 140)), (Some(1.5), Some(10.0)));
        assert_eq!(rates(count(4, None, 100)), (None, Some(0.0)));
        assert_eq!(rates(count(4, Some(9.0), 100)), (Some(0.0), Some(0.0)));
        assert_eq!(rates(count(31, Some(16.0), 140)), (None, None));
    }

    #[test]
    fn numbers_that_cannot_be_are_forgotten() {
        let real = Load {
            cores: Some(1.5),
            cores_available: Some(8),
            memory_bytes: Some(1 << 30),
            clients: Some(10_000),
            messages_per_second: Some(250_000.0),
            tasks_waiting: Some(0),
        };
        assert_eq!(real.clone().plausible(), real);
        for rate in [-1.0, 1e12, f64::NAN, f64::INFINITY] {
            let garbage = Load {
                cores: Some(rate),
                cores_available: Some(u64::MAX),
                memory_bytes: Some(u64::MAX),
                clients: Some(u64::MAX),
                messages_per_second: Some(rate),
                tasks_waiting: Some(u64::MAX),
            };
            assert_eq!(garbage.plausible(), Load::default(), "{rate}");
        }
    }
}
