//! What is counted, and when.

use std::{
    ops::Range,
    sync::OnceLock,
    time::{Instant, SystemTime},
};

use hdrhistogram::Histogram;

/// How long a request waits for its answer, in nanoseconds; a later one counts as late.
pub(crate) const GIVE_UP: u64 = 2_000_000_000;

/// Room for the samples of a thread.
const SAMPLES: usize = 1 << 17;

const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 120_000_000_000;

/// Time in nanoseconds since the load began, and the part of it that is measured, which is set once
/// all clients are connected.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    measured: OnceLock<Range<u64>>,
    /// When the load began, in microseconds since 1970.
    pub(crate) epoch: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            base: Instant::now(),
            epoch: since.map_or(0, |since| since.as_micros() as u64),
            measured: OnceLock::new(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    pub(crate) fn measure(&self, window: Range<u64>) {
        self.measured.get_or_init(|| window);
    }

    pub(crate) fn window(&self) -> Range<u64> {
        self.measured.get().cloned().unwrap_or(u64::MAX..u64::MAX)
    }
}

/// What one thread has seen.
#[derive(Debug)]
pub(crate) struct Tally {
    window: Range<u64>,
    /// Messages sent, or deliveries these should have led to; over the whole run.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Not answered until it was given up.
    pub(crate) dropped: u64,
    /// Of the dropped, those that came all the same.
    pub(crate) late: u64,
    /// Not what was expected: another body, another id, out of order, twice.
    pub(crate) corrupted: u64,
    /// Error replies.
    pub(crate) errors: u64,
    /// Connections the server closed.
    pub(crate) closed: u64,
    /// Answered in the measured part.
    pub(crate) measured: u64,
    /// Of what was due in the measured part, whenever it came; nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// What came, if it is kept.
    pub(crate) samples: Option<Vec<Sample>>,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// In nanoseconds since the load began; in a report, in microseconds since 1970.
    pub(crate) due: u64,
    /// In nanoseconds; in a report, in microseconds.
    pub(crate) latency: u64,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            window: u64::MAX..u64::MAX,
            sent: 0,
            answered: 0,
            dropped: 0,
            late: 0,
            corrupted: 0,
            errors: 0,
            closed: 0,
            measured: 0,
            latency: Histogram::new_with_bounds(SHORTEST, LONGEST, 3)?,
            samples: None,
        })
    }

    /// Keeps what comes.
    pub(crate) fn keep_samples(&mut self) {
        self.samples = Some(Vec::with_capacity(SAMPLES));
    }

    pub(crate) fn measure(&mut self, window: Range<u64>) {
        self.window = window;
    }

    /// Something that was due at `due` has come.
    pub(crate) fn answer(&mut self, due: u64, now: u64) {
        self.answered += 1;
        if self.window.contains(&now) {
            self.measured += 1;
        }
        if self.window.contains(&due) {
            let latency = now.saturating_sub(due);
            self.latency.saturating_record(latency);
            if let Some(samples) = &mut self.samples {
                samples.push(Sample { due, latency });
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<(), hdrhistogram::AdditionError> {
        self.sent += other.sent;
        self.answered += other.answered;
        self.dropped += other.dropped;
        self.late += other.late;
        self.corrupted += other.corrupted;
        self.errors += other.errors;
        self.closed += other.closed;
        self.measured += other.measured;
        if let Some(samples) = &other.samples {
            self.samples.get_or_insert_default().extend(samples);
        }
        self.latency.add(&other.latency)
    }
}
