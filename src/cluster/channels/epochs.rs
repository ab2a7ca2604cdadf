//! The epochs that one node gives its channels. No I/O.

use tokio::time::Instant;

use super::view::hash;

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

    /// Returns an epoch above all that were given or noted before, and above another one.
    pub(super) fn next(&mut self, above: u64, now: Instant) -> u64 {
        let (begun, started) = self.begun;
        let since = u64::try_from((now - begun).as_millis()).unwrap_or(u64::MAX);
        let time = started.saturating_add(since);
        let next = time.max((self.last.max(above) >> TAG_BITS) + 1);
        self.last = (next << TAG_BITS) | self.tag;
        self.last
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
        let first = a.next(0, now);
        let second = a.next(0, now);
        assert!(first < second);
        let later = b.next(0, now + Duration::from_millis(5));
        assert!(second < later);
        assert!(a.next(later, now) > later);
        let today = Epochs::new("a", 1_795_000_000_000, now).next(0, now);
        assert!(today < 1 << 53);
    }
}
