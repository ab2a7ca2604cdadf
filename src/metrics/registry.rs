//! The metrics that a node keeps itself, in fixed memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, SharedString};
use parking_lot::Mutex;
use tracing::warn;

use super::histogram::{Distribution, LogLinearHistogram};

/// Series that a registry keeps at most. What comes later is not recorded: labels come from closed
/// sets, so a node with some thousand routes stays far below.
const MAX_SERIES: usize = 50_000;

pub(crate) type Labels = Vec<(&'static str, SharedString)>;

/// All series of one node, by name and labels.
///
/// The lock guards the list alone, when a handle is made or all are read. Handles write without it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    all: Mutex<BTreeMap<(&'static str, Labels), Series>>,
    /// Whether it is logged that there are too many.
    logged: AtomicBool,
}

#[derive(Clone, Debug)]
enum Series {
    Counter(Arc<Cell<Counter>>),
    Gauge(Arc<Cell<Gauge>>),
    Histogram(Arc<LogLinearHistogram>),
}

/// One value, and the handle of the process's recorder.
#[derive(Debug)]
struct Cell<Also> {
    value: AtomicU64,
    also: Also,
}

/// One series at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) labels: Labels,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Distribution),
}

impl Registry {
    pub(crate) fn counter(&self, name: &'static str, labels: Labels, also: Counter) -> Counter {
        let series = self.get_or_insert(name, labels, || Series::Counter(Cell::new(also.clone())));
        match series {
            Some(Series::Counter(cell)) => Counter::from_arc(cell),
            _ => also,
        }
    }

    pub(crate) fn gauge(&self, name: &'static str, labels: Labels, also: Gauge) -> Gauge {
        let series = self.get_or_insert(name, labels, || Series::Gauge(Cell::new(also.clone())));
        match series {
            Some(Series::Gauge(cell)) => Gauge::from_arc(cell),
            _ => also,
        }
    }

    pub(crate) fn histogram(
        &self,
        name: &'static str,
        labels: Labels,
        also: Histogram,
    ) -> Histogram {
        let series = self.get_or_insert(name, labels, || {
            Series::Histogram(Arc::new(LogLinearHistogram::new(name, also.clone())))
        });
        match series {
            Some(Series::Histogram(histogram)) => Histogram::from_arc(histogram),
            _ => also,
        }
    }

    fn get_or_insert(
        &self,
        name: &'static str,
        labels: Labels,
        make: impl FnOnce() -> Series,
    ) -> Option<Series> {
        let key = (name, labels);
        {
            let mut all = self.all.lock();
            if let Some(series) = all.get(&key) {
                return Some(series.clone());
            }
            if all.len() < MAX_SERIES {
                return Some(all.entry(key).or_insert_with(make).clone());
            }
        }
        if !self.logged.swap(true, Ordering::Relaxed) {
            let series = MAX_SERIES;
            warn!(
                name,
                series, "too many series of metrics: further ones are not kept"
            );
        }
        None
    }

    /// The sum of the counters with this name.
    pub(crate) fn total(&self, name: &'static str) -> u64 {
        let all = self.all.lock();
        let series = all.range((name, Labels::new())..);
        series
            .take_while(|((other, _), _)| *other == name)
            .map(|(_, series)| match series {
                Series::Counter(cell) => cell.value.load(Ordering::Relaxed),
                Series::Gauge(_) | Series::Histogram(_) => 0,
            })
            .sum()
    }

    /// Reads all series, sorted by name and labels.
    pub(crate) fn read(&self) -> Vec<Sample> {
        let all = self.all.lock();
        all.iter()
            .map(|((name, labels), series)| Sample {
                name,
                labels: labels.clone(),
                value: series.read(),
            })
            .collect()
    }
}

impl Series {
    fn read(&self) -> Value {
        match self {
            Self::Counter(cell) => Value::Counter(cell.value.load(Ordering::Relaxed)),
            Self::Gauge(cell) => Value::Gauge(f64::from_bits(cell.value.load(Ordering::Relaxed))),
            Self::Histogram(histogram) => Value::Histogram(histogram.read()),
        }
    }
}

impl Sample {
    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels.find_map(|(label, value)| (*label == name).then_some(&**value))
    }
}

impl<Also> Cell<Also> {
    fn new(also: Also) -> Arc<Self> {
        Arc::new(Self {
            value: AtomicU64::new(0),
            also,
        })
    }
}

impl CounterFn for Cell<Counter> {
    fn increment(&self, value: u64) {
        self.value.fetch_add(value, Ordering::Relaxed);
        self.also.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.value.fetch_max(value, Ordering::Relaxed);
        self.also.absolute(value);
    }
}

impl Cell<Gauge> {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // The closure never returns `None`.
        let _ = self
            .value
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

impl GaugeFn for Cell<Gauge> {
    fn increment(&self, value: f64) {
        self.change(|old| old + value);
        self.also.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.change(|old| old - value);
        self.also.decrement(value);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
        self.also.set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: &'static str) -> Labels {
        vec![("reason", value.into())]
    }

    #[test]
    fn handles_of_one_series_share_their_value_and_write_to_the_recorder_too() {
        let (registry, recorder) = (Registry::default(), Arc::new(AtomicU64::new(0)));
        for _ in 0..2 {
            let also = Counter::from_arc(recorder.clone());
            registry.counter("c_total", label("a"), also).increment(2);
        }
        let noop = Counter::noop();
        registry.counter("c_total", label("b"), noop).increment(1);
        let read: Vec<_> = registry
            .read()
            .iter()
            .map(|sample| match sample.value {
                Value::Counter(count) => (sample.label("reason").unwrap().to_owned(), count),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(read, [("a".to_owned(), 4), ("b".to_owned(), 1)]);
        assert_eq!(recorder.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_gauge_goes_up_and_down() {
        let registry = Registry::default();
        let gauge = registry.gauge("g", Vec::new(), Gauge::noop());
        gauge.increment(3.0);
        gauge.decrement(1.0);
        assert!(matches!(registry.read()[0].value, Value::Gauge(2.0)));
        gauge.set(7.5);
        assert!(matches!(registry.read()[0].value, Value::Gauge(7.5)));
    }

    #[test]
    fn a_name_keeps_its_first_kind() {
        let registry = Registry::default();
        let _ = registry.counter("x", Vec::new(), Counter::noop());
        registry.gauge("x", Vec::new(), Gauge::noop()).set(5.0);
        assert!(matches!(
            registry.read()[..],
            [Sample {
                value: Value::Counter(0),
                ..
            }]
        ));
    }
}
