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

    /// Decides on one message, and returns the id of its trace if it is sampled. `random` is called
    /// for a trace that begins here.
    ///
    /// One trace always has the same decision, which is that of OpenTelemetry's sampler by ratio.
    pub(super) fn decide(
        self,
        parent: Option<&TraceContext>,
        mut random: impl FnMut() -> u64,
    ) -> Option<[u8; 16]> {
        match parent {
            Some(parent) if self.0 & FOLLOW != 0 => parent.is_sampled().then(|| parent.trace_id()),
            Some(parent) => {
                let low = u128::from_be_bytes(parent.trace_id()) as u64;
                self.includes(low).then(|| parent.trace_id())
            }
            None => {
                let low = random();
                self.includes(low).then(|| {
                    let id = u128::from(random()) << 64 | u128::from(low);
                    id.max(1).to_be_bytes()
                })
            }
        }
    }

    fn includes(self, low: u64) -> bool {
        low >> 1 < self.0 & !FOLLOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled_of_1000(ratio: f64) -> usize {
        let step = u64::MAX / 1000;
        let sampling = Sampling::new(ratio, false);
        (0..1000)
            .filter(|at| sampling.decide(None, || at * step).is_some())
            .count()
    }

    #[test]
    fn the_ratio_is_that_of_sampled_traces() {
        assert_eq!(sampled_of_1000(0.0), 0);
        assert_eq!(sampled_of_1000(1.0), 1000);
        assert!((249..=251).contains(&sampled_of_1000(0.25)));
        for (ratio, all) in [(f64::NAN, 0), (-1.0, 0), (2.0, 1000)] {
            assert_eq!(sampled_of_1000(ratio), all, "{ratio}");
        }
        assert_eq!(
            Sampling::from_bits(Sampling::new(0.0, false).to_bits()),
            None
        );
    }

    #[test]
    fn the_flag_of_a_client_counts_only_if_it_is_followed() {
        // The trace's number is the largest, so the ratio samples it only at 1.
        let parent = |sampled| TraceContext::new([0xFF; 16], [1; 8], sampled).unwrap();
        let decide = |ratio, follow, sampled| {
            let sampling = Sampling::new(ratio, follow);
            let id = sampling.decide(Some(&parent(sampled)), || unreachable!());
            assert!(id.is_none_or(|id| id == [0xFF; 16]));
            id.is_some()
        };
        assert!(!decide(0.5, false, true));
        assert!(decide(1.0, false, false));
        assert!(decide(0.0, true, true));
        assert!(!decide(1.0, true, false));
    }
}
