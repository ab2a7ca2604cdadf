//! The latest publications of one channel, for members that return. No I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::message::Publication;
use crate::channel::{MAX_KEPT, MAX_TTL, Position};

/// How much of a channel is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keep {
    /// The number of publications.
    pub(super) count: usize,
    /// How long each is kept.
    pub(super) ttl: Duration,
}

impl Keep {
    /// The same, as far as a channel keeps anything.
    pub(super) fn within_bounds(self) -> Self {
        Self {
            count: self.count.min(MAX_KEPT),
            ttl: self.ttl.min(MAX_TTL),
        }
    }
}

/// The bytes of one channel's history, at most.
const MAX_BYTES: usize = 1024 * 1024;

/// Publications in order, without gaps, the last of the channel last; or none.
#[derive(Debug, Default)]
pub(super) struct History {
    kept: VecDeque<(Publication, Instant)>,
    bytes: usize,
}

impl History {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// When the first publication expires.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.kept.iter().map(|(_, expires)| *expires).min()
    }

    /// Adds the next publication. The oldest beyond the bounds go.
    pub(super) fn push(&mut self, publication: Publication, keep: Keep, now: Instant) {
        self.expire(now);
        self.bytes += publication.weight();
        self.kept.push_back((publication, now + keep.ttl));
        while self.kept.len() > keep.count || self.bytes > MAX_BYTES {
            self.pop();
        }
    }

    /// Drops what has expired, and everything before it.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.kept.iter().any(|(_, expires)| *expires <= now) {
            self.pop();
        }
    }

    /// What another owner goes on with, and how long each is kept still.
    pub(super) fn into_kept(self, now: Instant) -> Vec<(Publication, Duration)> {
        let kept = self.kept.into_iter();
        kept.map(|(publication, expires)| (publication, expires - now))
            .collect()
    }

    /// What a former owner had, within the bounds. Empty if there are gaps before `last`, which is the
    /// last position of the channel.
    pub(super) fn of_kept(
        kept: Vec<(Publication, Duration)>,
        last: Position,
        now: Instant,
    ) -> Self {
        let mut history = Self::default();
        let mut offsets = (1..=last.offset).rev();
        let whole = kept.iter().rev().all(|(publication, _)| {
            let offset = offsets.next();
            offset.is_some_and(|offset| publication.position == Position { offset, ..last })
        });
        if !whole || last.epoch == 0 {
            return history;
        }
        for (publication, left) in kept {
            let keep = Keep {
                count: MAX_KEPT,
                ttl: left.min(MAX_TTL),
            };
            history.push(publication, keep, now);
        }
        history
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All publications between `since` and `last`, the latest of the channel. `None` if one of them
    /// is not kept.
    pub(super) fn after(&self, since: Position, last: Position) -> Option<Vec<Publication>> {
        if since.epoch != last.epoch || since.offset > last.offset {
            return None;
        }
        let missed = usize::try_from(last.offset - since.offset).ok()?;
        let first = self.kept.len().checked_sub(missed)?;
        let missed = self.kept.iter().skip(first);
        Some(missed.map(|(publication, _)| publication.clone()).collect())
    }

    fn pop(&mut self) {
        if let Some((publication, _)) = self.kept.pop_front() {
            self.bytes -= publication.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const KEEP: Keep = Keep {
        count: 3,
        ttl: Duration::from_secs(10),
    };

    fn at(offset: u64) -> Position {
        Position { epoch: 7, offset }
    }

    fn publication(offset: u64, body: usize) -> Publication {
        Publication {
            position: at(offset),
            route: "on".into(),
            body: Bytes::from(vec![0; body]),
        }
    }

    fn offsets(history: &History, since: Position, last: u64) -> Option<Vec<u64>> {
        let missed = history.after(since, at(last))?;
        Some(missed.iter().map(|missed| missed.position.offset).collect())
    }

    #[test]
    fn all_that_was_missed_or_nothing() {
        let (mut history, now) = (History::default(), Instant::now());
        for offset in 1..=5 {
            history.push(publication(offset, 10), KEEP, now);
        }
        assert_eq!(offsets(&history, at(5), 5), Some(vec![]));
        assert_eq!(offsets(&history, at(3), 5), Some(vec![4, 5]));
        assert_eq!(offsets(&history, at(2), 5), Some(vec![3, 4, 5]));
        assert_eq!(offsets(&history, at(1), 5), None);
        assert_eq!(offsets(&history, at(6), 5), None);
        let other = Position {
            epoch: 6,
            offset: 4,
        };
        assert_eq!(offsets(&history, other, 5), None);
        history.clear();
        assert_eq!(offsets(&history, at(4), 5), None);
        assert_eq!(offsets(&history, at(5), 5), Some(vec![]));
    }

    #[test]
    fn another_owner_goes_on_with_what_is_kept_and_refuses_gaps() {
        let (mut history, now) = (History::default(), Instant::now());
        for offset in 1..=5 {
            history.push(publication(offset, 10), KEEP, now);
        }
        let later = now + Duration::from_secs(4);
        let kept = history.into_kept(later);
        let moved = History::of_kept(kept.clone(), at(5), later);
        assert_eq!(offsets(&moved, at(2), 5), Some(vec![3, 4, 5]));
        assert_eq!(offsets(&moved, at(1), 5), None);
        assert_eq!(moved.expires(), Some(now + KEEP.ttl));
        for (kept, last) in [
            (kept.clone(), at(6)),
            (kept.clone(), at(2)),
            (kept.clone(), Position::default()),
            (vec![kept[0].clone(), kept[2].clone()], at(5)),
            (kept.iter().rev().cloned().collect(), at(5)),
        ] {
            assert!(History::of_kept(kept, last, later).is_empty(), "{last:?}");
        }
    }

    #[test]
    fn publications_expire_and_large_ones_push_out_others() {
        let (mut history, now) = (History::default(), Instant::now());
        history.push(publication(1, 10), KEEP, now);
        let later = now + Duration::from_secs(9);
        history.push(publication(2, 10), KEEP, later);
        assert_eq!(history.expires(), Some(now + KEEP.ttl));
        history.expire(now + KEEP.ttl);
        assert_eq!(offsets(&history, at(1), 2), Some(vec![2]));
        assert_eq!(offsets(&history, at(0), 2), None);
        let rest = MAX_BYTES - 2 * publication(2, 10).weight() - 10;
        history.push(publication(3, rest), KEEP, later);
        assert_eq!(offsets(&history, at(1), 3), Some(vec![2, 3]));
        history.push(publication(4, 100), KEEP, later);
        assert_eq!(offsets(&history, at(2), 4), None);
        history.push(publication(5, MAX_BYTES), KEEP, later);
        assert!(history.is_empty());
        assert_eq!(history.bytes(), 0);
    }
}
