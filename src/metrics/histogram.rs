//! A histogram of durations or of counts in fixed memory.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Histogram, HistogramFn};

/// What one step of the buckets is worth: a microsecond of a metric in seconds, and a quarter of a
/// metric that counts things.
fn step(name: &str) -> f64 {
    match name.ends_with("_seconds") {
        true => 1e-6,
        false => 0.25,
    }
}

/// Buckets for each doubling of the value: a quantile is exact to an eighth.
const PER_DOUBLING: u64 = 4;

/// The first bucket ends at this many steps.
const FIRST: u64 = 4;

/// Doublings above the first bucket; the last bucket is open and begins at 67 s, or 16 million.
const DOUBLINGS: usize = 24;

/// The upper bounds of the buckets of an exposition, in steps: 16 us to 34 s, or 4 to 8 million, each
/// double the one before.
const BOUNDS: [u64; 22] = {
    let mut bounds = [16; 22];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2;
        index += 1;
    }
    bounds
};

const BUCKETS: usize = 1 + DOUBLINGS * PER_DOUBLING as usize + 1;

/// The upper bounds of all buckets but the last, in the unit of the metric of this name.
pub(crate) fn bounds(name: &str) -> impl Iterator<Item = f64> {
    let steps = 1.0 / step(name);
    (0..BUCKETS - 1).map(move |bucket| end(bucket) as f64 / steps)
}

/// Counts of values by log-linear buckets, without the samples: 800 bytes, whatever is recorded.
#[derive(Debug)]
pub(crate) struct LogLinearHistogram {
    step: f64,
    buckets: [AtomicU64; BUCKETS],
    /// The sum of all values, in thousandths of a step.
    sum: AtomicU64,
    /// The histogram of the process's recorder.
    also: Histogram,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    step: f64,
    buckets: Vec<u64>,
    sum: u64,
}

impl LogLinearHistogram {
    /// For the metric of this name, whose unit is in it.
    pub(super) fn new(name: &str, also: Histogram) -> Self {
        Self {
            step: step(name),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            also,
        }
    }

    pub(super) fn read(&self) -> Distribution {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Distribution {
            step: self.step,
            buckets: self.buckets.iter().map(load).collect(),
            sum: load(&self.sum),
        }
    }
}

impl HistogramFn for LogLinearHistogram {
    fn record(&self, value: f64) {
        self.also.record(value);
        // The conversion saturates, and takes what is no number for 0.
        let thousandths = (value / self.step * 1e3) as u64;
        self.buckets[bucket(thousandths / 1000)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(thousandths, Ordering::Relaxed);
    }
}

/// The bucket of a value in steps.
fn bucket(steps: u64) -> usize {
    if steps < FIRST {
        return 0;
    }
    let doubling = steps.ilog2() - FIRST.ilog2();
    let step = (steps >> doubling) - FIRST;
    let index = 1 + (u64::from(doubling) * PER_DOUBLING + step) as usize;
    index.min(BUCKETS - 1)
}

/// Where a bucket ends, in steps.
fn end(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / PER_DOUBLING, bucket as u64 % PER_DOUBLING);
    (FIRST + step) << doubling
}

impl Distribution {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all values, in the unit of the metric, like all that follow.
    pub(crate) fn sum(&self) -> f64 {
        // One rounding: nanoseconds of a duration, which are whole.
        self.sum as f64 / (1e3 / self.step)
    }

    /// The value that this share of the samples does not exceed; `None` without
    /// samples.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (share.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (index, samples) in self.buckets.iter().enumerate() {
            if below + samples >= rank {
                let begin = index.checked_sub(1).map_or(0, end);
                // The last bucket has no end.
                let end = if index == BUCKETS - 1 {
                    begin
                } else {
                    end(index)
                };
                let within = (rank - below) as f64 / *samples as f64;
                return Some((begin as f64 + (end - begin) as f64 * within) / (1.0 / self.step));
            }
            below += samples;
        }
        None
    }

    /// The buckets that have samples, by their place among all, and how many they have.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        let buckets = self.buckets.iter().copied().enumerate();
        buckets.filter(|(_, samples)| *samples > 0)
    }

    /// The buckets of an exposition: each bound with the samples below.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let steps = 1.0 / self.step;
        let mut below: u64 = 0;
        let ends = self.buckets[..BUCKETS - 1]
            .iter()
            .enumerate()
            .map(move |(index, samples)| {
                below += samples;
                (end(index), below)
            });
        ends.filter(|(end, _)| BOUNDS.contains(end))
            .map(move |(end, below)| (end as f64 / steps, below))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(seconds: &[f64]) -> Distribution {
        let histogram = LogLinearHistogram::new("nano_test_seconds", Histogram::noop());
        for sample in seconds {
            histogram.record(*sample);
        }
        histogram.read()
    }

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        assert_eq!((bucket(0), bucket(3), bucket(4)), (0, 0, 1));
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(end(index) - 1), index);
            assert_eq!(bucket(end(index)), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(recorded(&[]).quantile(0.5), None);
    }

    #[test]
    fn what_is_no_duration_is_counted_without_a_panic() {
        let odd = recorded(&[f64::NAN, -1.0, f64::INFINITY, 1e300]);
        assert_eq!(odd.count(), 4);
        assert!(odd.quantile(1.0).unwrap() >= 60.0);
        assert_eq!(odd.cumulative().last().unwrap().1, 2);
    }

    #[test]
    fn bounds_of_the_exposition_are_powers_of_two() {
        let distribution = recorded(&[0.000_010, 0.001, 40.0]);
        let bounds: Vec<_> = distribution.cumulative().collect();
        assert_eq!(bounds.first(), Some(&(0.000_016, 1)));
        assert_eq!(bounds.last(), Some(&(33.554_432, 2)));
        assert_eq!(bounds.len(), 22);
    }

    #[test]
    fn counts_have_bounds_of_whole_things() {
        let histogram = LogLinearHistogram::new("nano_test_frames", Histogram::noop());
        for value in [1.0, 3.0, 4.0, 100.0] {
            histogram.record(value);
        }
        let counts = histogram.read();
        let bounds: Vec<_> = counts.cumulative().take(4).collect();
        assert_eq!(bounds, [(4.0, 2), (8.0, 3), (16.0, 3), (32.0, 3)]);
        assert_eq!((counts.count(), counts.sum()), (4, 108.0));
        let largest = counts.quantile(1.0).unwrap();
        assert!((100.0..=128.0).contains(&largest), "{largest}");
    }

    proptest! {
        #[test]
        fn quantiles_are_exact_to_a_quarter(mut micros in prop::collection::vec(4_u64..60_000_000, 1..200)) {
            let seconds: Vec<_> = micros.iter().map(|micros| *micros as f64 / 1e6).collect();
            let distribution = recorded(&seconds);
            micros.sort_unstable();
            for share in [0.5, 0.9, 0.99, 1.0] {
                let rank = ((share * micros.len() as f64).ceil() as usize).max(1);
                let exact = micros[rank - 1] as f64 / 1e6;
                let estimate = distribution.quantile(share).unwrap();
                prop_assert!((estimate / exact - 1.0).abs() <= 0.26, "{estimate} for {exact}");
            }
        }
    }
}
