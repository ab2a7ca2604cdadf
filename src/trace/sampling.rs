//! Which messages are sampled. Pure.

use super::context::TraceContext;

/// The ratio 1 as a threshold: traces with a lower number are sampled.
const ALL: u64 = 1 << 63;

/// The bit of a [`Sampling`] that says that the flag of a client's trace counts.
const FOLLOW: u64 = 1;

/// Which messages of clients are sampled; none by default.
///
/// One number, so that an atomic holds it: the threshold, whose lowest bit is [`FOLLOW`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sampling(u64);

impl Sampling {
    /// Samples this part of all traces, from 0 to 1.
    pub(crate) fn new(ratio: f64, follow_parent: bool) -> Self {
        // In range, and NaN becomes 0.
        let threshold = (ratio.clamp(0.0, 1.0) * ALL as f64) as u64;
        Self(threshold & !FOLLOW | u64::from(follow_parent))
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`to_bits`](Sampling::to_bits) returned; `None` if no message can be sampled.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    /// Decides on the messages of a client that names its own span.
    ///
    /// One trace always has the same decision, which is that of OpenTelemetry's sampler by ratio.
    pub(super) fn includes(self, parent: &TraceContext) -> bool {
        if self.0 & FOLLOW != 0 {
            return parent.is_sampled();
        }
        let low = u128::from_be_bytes(parent.trace_id()) as u64;
        low >> 1 < self.threshold()
    }

    /// The id of a trace that begins here: one that [`includes`](Self::includes) has. `random` gives all
    /// numbers alike.
    pub(super) fn begin(self, mut random: impl FnMut() -> u64) -> [u8; 16] {
        let (high, low) = (random(), random());
        // Below the threshold, and all of these alike; the lowest bit is not compared.
        let compared = (u128::from(low >> 1) * u128::from(self.threshold())) >> 63;
        let id = u128::from(high) << 64 | compared << 1 | u128::from(low & 1);
        id.max(1).to_be_bytes()
    }

    /// How many messages come before the next that begins a trace, if each does by itself. `random` is above 0,
    /// and 1 at most.
    fn gap(self, random: f64) -> u64 {
        let ratio = self.threshold() as f64 / ALL as f64;
        if ratio == 0.0 {
            return u64::MAX;
        }
        // A ratio of 1, whose logarithm is infinite, leaves no gap; one that does not fit is as long as fits.
        (random.ln() / (-ratio).ln_1p()) as u64
    }

    fn threshold(self) -> u64 {
        self.0 & !FOLLOW
    }
}

/// How many messages of a connection come before the next that begins a trace: drawn once for all of them, as a
/// number drawn for each takes 90 instructions, 2 % of an echo.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    /// What was in force when the gap was drawn.
    sampling: Sampling,
    left: u64,
}

impl Gap {
    /// Whether a message begins a trace. `random` is called for a new gap.
    #[inline]
    pub(super) fn ends(&mut self, sampling: Sampling, mut random: impl FnMut() -> f64) -> bool {
        if self.sampling != sampling {
            let left = sampling.gap(random());
            *self = Self { sampling, left };
        }
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = sampling.gap(random());
        true
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const MESSAGES: usize = 100_000;

    fn sampled(gap: &mut Gap, sampling: Sampling, random: &mut StdRng) -> usize {
        (0..MESSAGES)
            .filter(|_| gap.ends(sampling, || 1.0 - random.random::<f64>()))
            .count()
    }

    #[test]
    fn the_ratio_is_that_of_sampled_messages() {
        let (mut gap, mut random) = (Gap::default(), StdRng::seed_from_u64(7));
        // A changed ratio counts at once, however long the gap was.
        for (ratio, expected) in [
            (1e-12, 0..=0),
            (0.25, 24_500..=25_500),
            (0.0, 0..=0),
            (1.0, MESSAGES..=MESSAGES),
            (0.01, 900..=1_100),
            (f64::NAN, 0..=0),
            (2.0, MESSAGES..=MESSAGES),
            (-1.0, 0..=0),
        ] {
            let sampled = sampled(&mut gap, Sampling::new(ratio, false), &mut random);
            assert!(expected.contains(&sampled), "{ratio}: {sampled}");
        }
        assert_eq!(
            Sampling::from_bits(Sampling::new(0.0, false).to_bits()),
            None
        );
    }

    #[test]
    fn each_message_is_sampled_by_itself() {
        let (mut gap, mut random) = (Gap::default(), StdRng::seed_from_u64(7));
        let sampling = Sampling::new(0.5, false);
        let mut pairs = [0; 4];
        for _ in 0..MESSAGES {
            let mut ends = || gap.ends(sampling, || 1.0 - random.random::<f64>());
            pairs[usize::from(ends()) * 2 + usize::from(ends())] += 1;
        }
        for count in pairs {
            assert!((24_500..=25_500).contains(&count), "{pairs:?}");
        }
    }

    #[test]
    fn other_nodes_of_the_same_ratio_include_what_begins_here() {
        let mut random = StdRng::seed_from_u64(7);
        for ratio in [1e-9, 0.01, 0.5, 1.0] {
            let sampling = Sampling::new(ratio, false);
            let mut high = 0;
            for _ in 0..1_000 {
                let id = sampling.begin(|| random.random());
                assert!(sampling.includes(&TraceContext::new(id, [1; 8], true).unwrap()));
                let half = Sampling::new(ratio / 2.0, false);
                high += u32::from(!half.includes(&TraceContext::new(id, [1; 8], true).unwrap()));
            }
            assert!((450..=550).contains(&high), "{ratio}: {high}");
        }
        assert_eq!(Sampling::new(0.5, false).begin(|| 0)[15], 1);
    }

    #[test]
    fn the_flag_of_a_client_counts_only_if_it_is_followed() {
        // The trace's number is the largest, so the ratio samples it only at 1.
        let includes = |ratio, follow, sampled| {
            let parent = TraceContext::new([0xFF; 16], [1; 8], sampled).unwrap();
            Sampling::new(ratio, follow).includes(&parent)
        };
        assert!(!includes(0.5, false, true));
        assert!(includes(1.0, false, false));
        assert!(includes(0.0, true, true));
        assert!(!includes(1.0, true, false));
    }
}
