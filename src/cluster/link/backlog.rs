//! What waits for one stream, and on whose account, so that whoever sends too much is refused
//! alone.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{CROWDED, FULL, MESSAGE_BYTES, SHARE, proto::Frame};

/// Who sends: one session, all broadcasts, or the node itself. For one stream, under whose lock it
/// changes.
#[derive(Debug)]
pub(in crate::cluster) struct Account {
    /// How much of it waits.
    bytes: AtomicUsize,
    /// How much may wait.
    limit: usize,
    /// How much of that in a crowd.
    share: usize,
}

impl Account {
    pub(in crate::cluster) fn new((limit, share): (usize, usize)) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            limit,
            share,
        })
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether less than its share waits.
    pub(super) fn is_modest(&self) -> bool {
        self.bytes() < self.share
    }
}

/// The frames, first in, first out.
#[derive(Default)]
pub(super) struct Backlog {
    frames: VecDeque<(Frame, Option<Arc<Account>>)>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().map(|(frame, _)| frame)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so little waits that everybody may send messages.
    pub(super) fn is_short(&self) -> bool {
        self.bytes <= MESSAGE_BYTES / 2
    }

    /// Whether sessions that could not send when so many bytes waited may be able to now.
    pub(super) fn has_shrunk(&self, before: usize) -> bool {
        [FULL, MESSAGE_BYTES / 2]
            .into_iter()
            .any(|mark| before > mark && self.bytes <= mark)
    }

    /// Whether a session may send another message.
    pub(super) fn takes_message(&self, of: &Account) -> bool {
        self.bytes <= MESSAGE_BYTES || (of.bytes() < SHARE && self.bytes <= FULL)
    }

    /// Whether there is room for a frame of this weight. There is for one of any, if none of the
    /// same account waits.
    pub(super) fn takes(&self, of: &Account, weight: usize) -> bool {
        let after = of.bytes() + weight;
        if self.bytes <= CROWDED {
            after <= of.limit || after == weight
        } else {
            after <= of.share && self.bytes <= FULL
        }
    }

    /// Queues a frame that is on nobody's account.
    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.weight();
        self.frames.push_back((frame, None));
    }

    pub(super) fn charge(&mut self, frame: Frame, to: &Arc<Account>) {
        let weight = frame.weight();
        self.bytes += weight;
        to.bytes.fetch_add(weight, Ordering::Relaxed);
        self.frames.push_back((frame, Some(to.clone())));
    }

    /// Queues a frame before all others.
    pub(super) fn push_front(&mut self, frame: Frame) {
        self.bytes += frame.weight();
        self.frames.push_front((frame, None));
    }

    /// The next frame, and whose it was.
    pub(super) fn pop(&mut self) -> Option<(Frame, Option<Arc<Account>>)> {
        let (frame, account) = self.frames.pop_front()?;
        let weight = frame.weight();
        self.bytes -= weight;
        if let Some(account) = &account {
            account.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        Some((frame, account))
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Frame) -> bool) {
        let mut dropped = 0;
        self.frames.retain(|(frame, account)| {
            let keep = keep(frame);
            if !keep {
                let weight = frame.weight();
                dropped += weight;
                account
                    .iter()
                    .for_each(|account| _ = account.bytes.fetch_sub(weight, Ordering::Relaxed));
            }
            keep
        });
        self.bytes -= dropped;
    }

    pub(super) fn clear(&mut self) {
        self.retain(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cluster::link::{NODE_ACCOUNT, SESSION_ACCOUNT};

    fn frame(body: usize) -> Frame {
        Frame {
            body: Bytes::from(vec![0; body]),
            ..Frame::default()
        }
    }

    fn fill(backlog: &mut Backlog, account: &Arc<Account>, body: usize) -> usize {
        let mut taken = 0;
        while backlog.takes(account, frame(body).weight()) {
            backlog.charge(frame(body), account);
            taken += body;
        }
        taken
    }

    #[test]
    fn a_crowd_leaves_room_for_the_modest_up_to_a_bound() {
        let mut backlog = Backlog::default();
        let mut greedy: Vec<_> = (0..5).map(|_| Account::new(SESSION_ACCOUNT)).collect();
        let each: Vec<_> = greedy
            .iter()
            .map(|account| fill(&mut backlog, account, 16 * 1024))
            .collect();
        assert!(
            each[..4]
                .iter()
                .all(|taken| (SESSION_ACCOUNT.0 - 64 * 1024..=SESSION_ACCOUNT.0).contains(taken)),
            "{each:?}"
        );
        assert!(
            each[4] < SESSION_ACCOUNT.0 / 2,
            "the fifth makes it a crowd: {each:?}"
        );

        let modest = Account::new(SESSION_ACCOUNT);
        assert!((SHARE / 2..=SHARE).contains(&fill(&mut backlog, &modest, 1024)));
        assert!(
            backlog.takes_message(&Account::new(SESSION_ACCOUNT))
                && !backlog.takes_message(&greedy[0])
        );
        assert!(fill(&mut backlog, &Account::new(NODE_ACCOUNT), 1024) > SHARE);
        while backlog.bytes <= FULL {
            let another = Account::new(SESSION_ACCOUNT);
            assert!(fill(&mut backlog, &another, 1024) > 0);
            greedy.push(another);
        }
        let last = Account::new(SESSION_ACCOUNT);
        assert!(!backlog.takes(&last, 1) && !backlog.takes_message(&last));

        while backlog.pop().is_some() {}
        assert_eq!((backlog.bytes, modest.bytes()), (0, 0));
        assert!(
            greedy.iter().all(|account| account.bytes() == 0),
            "all is given back"
        );
    }

    #[test]
    fn one_message_of_any_size_passes_and_what_is_dropped_is_given_back() {
        let (mut backlog, account) = (Backlog::default(), Account::new(SESSION_ACCOUNT));
        assert!(backlog.takes(&account, 2 * SESSION_ACCOUNT.0));
        backlog.charge(frame(2 * SESSION_ACCOUNT.0), &account);
        assert!(!backlog.takes(&account, 1));
        backlog.push(frame(1));
        backlog.retain(|frame| frame.body.len() == 1);
        assert_eq!((backlog.bytes, account.bytes()), (frame(1).weight(), 0));
        backlog.clear();
        assert_eq!((backlog.bytes, backlog.len()), (0, 0));
    }
}
