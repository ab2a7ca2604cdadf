//! The epochs that one node gives its channels. No I/O.

use tokio::time::Instant;

use super::view::hash;
use crate::channel::MAX_POSITION;

/// An epoch is a time in milliseconds above these bits, which tell the incarnations of nodes apart.
/// It stays below 2^53, which a JavaScript number holds exactly.
const TAG_BITS: u32 = 12;

/// Gives epochs that only grow, and are larger than those of other nodes that began theirs earlier,
/// as far as their clocks agree.
pub(super) struct Epochs {
    tag: u64,
    last: u64,
    /// A moment, and its time in milliseconds.
    begun: (Instant, u64),
}

impl Epochs {
    /// `started` is the time in milliseconds at `now`.
    pub(super) fn new(own: &str, started: u64, now: Instant) -> Self {
        Self {
            tag: hash(&format!("{own} {started}")) & ((1 << TAG_BITS) - 1),
            last: 0,
            begun: (now, started),
        }
    }

    /// Notes the epoch of another node, which goes on here.
    pub(super) fn observe(&mut self, epoch: u64) {
        self.last = self.last.max(epoch);
    }

    /// Whether an epoch can be above this one.
    pub(super) fn has_next(epoch: u64) -> bool {
        (epoch >> TAG_BITS) + 1 < MAX_POSITION >> TAG_BITS
    }

    /// Returns an epoch above all that were given or noted before, and above another one; `None` if
    /// that would be above [`MAX_POSITION`], which another node could not name.
    pub(super) fn next(&mut self, above: u64, now: Instant) -> Option<u64> {
        let (begun, started) = self.begun;
        let since = u64::try_from((now - begun).as_millis()).unwrap_or(u64::MAX);
        let time = started.saturating_add(since);
        let next = time.max((self.last.max(above) >> TAG_BITS) + 1);
        if next >= MAX_POSITION >> TAG_BITS {
            return None;
        }
        self.last = (next << TAG_BITS) | self.tag;
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_epoch_is_above_all_before_it_and_above_those_of_an_earlier_time() {
        let now = Instant::now();
        let (mut a, mut b) = (Epochs::new("a", 1_000, now), Epochs::new("b", 1_000, now));
        let first = a.next(0, now).unwrap();
        let second = a.next(0, now).unwrap();
        assert!(first < second);
        let later = b.next(0, now + Duration::from_millis(5)).unwrap();
        assert!(second < later);
        assert!(a.next(later, now).unwrap() > later);
        let today = Epochs::new("a", 1_795_000_000_000, now).next(0, now);
        assert!(today.unwrap() < 1 << 53);
    }

    #[test]
    fn an_epoch_that_cannot_be_surpassed_is_refused_and_leaves_no_trace() {
        let now = Instant::now();
        let mut epochs = Epochs::new("a", 1_000, now);
        let first = epochs.next(0, now).unwrap();
        for above in [u64::MAX, u64::MAX - (1 << TAG_BITS), MAX_POSITION] {
            assert_eq!(epochs.next(above, now), None);
        }
        let next = epochs.next(0, now).unwrap();
        assert!(first < next && next < 1 << 53);
    }
}
