//! A recorder of metrics that counts like one that exports: atomics, and buckets for histograms.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;

/// Upper bounds in seconds, as is usual for the time handlers take.
const BOUNDS: [f64; 11] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

type Kept<T> = Arc<Mutex<Vec<(Key, Arc<T>)>>>;

/// Keeps what it handed out, as an exporter would. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Exporter {
    numbers: Kept<AtomicU64>,
    histograms: Kept<Buckets>,
}

impl Exporter {
    /// Returns the value of the gauge with this name, of the first if there are several; 0 for none.
    pub(crate) fn gauge(&self, name: &str) -> f64 {
        let numbers = self.numbers.lock();
        let known = numbers.iter().find(|(key, _)| key.name() == name);
        known.map_or(0.0, |(_, bits)| {
            f64::from_bits(bits.load(Ordering::Relaxed))
        })
    }

    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        let mut numbers = self.numbers.lock();
        if let Some((_, number)) = numbers.iter().find(|(known, _)| known == key) {
            return number.clone();
        }
        let number = Arc::new(AtomicU64::new(0));
        numbers.push((key.clone(), number.clone()));
        number
    }
}

impl Recorder for Exporter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let buckets = Arc::new(Buckets::default());
        self.histograms.lock().push((key.clone(), buckets.clone()));
        Histogram::from_arc(buckets)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum
            .fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }
}
