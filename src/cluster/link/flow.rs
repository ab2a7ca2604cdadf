//! What waits for one stream: the send queue, and the quotas that keep one sender from filling it.
//! No I/O.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    config::{CONGESTED, FAIR_SHARE, FULL, MESSAGE_BYTES},
    proto::{Frame, Kind},
};
use crate::memory_budget::PeerCharge;

/// Bytes that one sender has queued on one stream: a session, all multicasts, or the node itself.
/// Changes under the lock of the stream only.
#[derive(Debug)]
pub(in crate::cluster) struct Quota {
    bytes: AtomicUsize,
    /// Bytes that may be queued.
    limit: usize,
    /// Bytes that may be queued while the stream is congested.
    share: usize,
}

impl Quota {
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

    /// Whether less than the share is queued.
    pub(super) fn is_under_share(&self) -> bool {
        self.bytes() < self.share
    }
}

/// Frames that wait for a stream, first in, first out.
#[derive(Default)]
pub(super) struct SendQueue {
    frames: VecDeque<(Frame, Option<Arc<Quota>>)>,
    bytes: usize,
    /// The part of `bytes` that the node's memory budget was charged.
    charged: usize,
    /// The queue's account with that budget; `None` in tests.
    charge: Option<PeerCharge>,
}

impl SendQueue {
    /// Counts what is queued for the node's memory budget from now on.
    pub(super) fn charge_to(&mut self, charge: PeerCharge) {
        self.charge = Some(charge);
        self.charged = 0;
    }

    fn resize(&mut self, bytes: usize) {
        self.bytes = bytes;
        // Within a step of what is charged nothing is due, and that is nearly always so.
        if bytes.wrapping_sub(self.charged) >= PeerCharge::STEP
            && let Some(charge) = &self.charge
        {
            self.charged = charge.set(bytes);
        }
    }

    /// The bytes above which the queue takes nothing that it may refuse, for the node's memory budget
    /// is nearly used up. `usize::MAX` as long as it is not.
    fn share(&self) -> usize {
        self.charge.as_ref().map_or(usize::MAX, PeerCharge::share)
    }

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

    /// Whether every session may send messages again. Half of the limit, so that readers are not
    /// stopped and woken for each message.
    pub(super) fn is_short(&self) -> bool {
        self.bytes <= (MESSAGE_BYTES / 2).min(self.share())
    }

    /// Whether the queue has shrunk so that sessions with little queued may send again, since it had
    /// `before` bytes.
    pub(super) fn has_shrunk(&self, before: usize) -> bool {
        let full = FULL.min(self.share());
        before > full && self.bytes <= full
    }

    /// Whether a session may send another message.
    pub(super) fn accepts_message(&self, quota: &Quota) -> bool {
        if self.bytes <= PeerCharge::STEP {
            // Neither a share nor a limit is less.
            return true;
        }
        let share = self.share();
        self.bytes <= MESSAGE_BYTES.min(share)
            || (quota.bytes() < FAIR_SHARE && self.bytes <= FULL.min(share))
    }

    /// Whether a frame of `weight` bytes is within the quota. A frame of any size is, if nothing else
    /// of the same quota waits.
    pub(super) fn accepts(&self, quota: &Quota, weight: usize) -> bool {
        let after = quota.bytes() + weight;
        if self.bytes <= PeerCharge::STEP || self.bytes <= CONGESTED.min(self.share()) {
            after <= quota.limit || after == weight
        } else {
            after <= quota.share && self.bytes <= FULL.min(self.share())
        }
    }

    /// Queues a frame without a quota.
    pub(super) fn push(&mut self, frame: Frame) {
        self.resize(self.bytes + frame.weight());
        self.frames.push_back((frame, None));
    }

    /// Queues a frame and charges its bytes to `quota`.
    pub(super) fn charge(&mut self, frame: Frame, quota: &Arc<Quota>) {
        let weight = frame.weight();
        self.resize(self.bytes + weight);
        quota.bytes.fetch_add(weight, Ordering::Relaxed);
        self.frames.push_back((frame, Some(quota.clone())));
    }

    /// Queues a frame ahead of all others.
    pub(super) fn push_front(&mut self, frame: Frame) {
        self.resize(self.bytes + frame.weight());
        self.frames.push_front((frame, None));
    }

    /// Queues BINDs, ROUTEs and SHAREs ahead of what is queued, which followed them, except for those that
    /// are still queued themselves.
    pub(super) fn repeat(&mut self, binds: Vec<Frame>) {
        let queued: HashSet<_> = self
            .iter()
            .filter(|frame| matches!(frame.kind(), Kind::Bind | Kind::Route | Kind::Share))
            .map(|frame| frame.binds)
            .collect();
        for frame in binds.into_iter().rev() {
            if !queued.contains(&frame.binds) {
                self.push_front(frame);
            }
        }
    }

    /// Whether a frame of this kind is queued.
    pub(super) fn holds(&self, kind: Kind) -> bool {
        self.iter().any(|frame| frame.kind() == kind)
    }

    /// Returns the sessions whose SESSION_OPEN is queued.
    pub(super) fn sessions_opened(&self) -> HashSet<i64> {
        self.iter()
            .filter(|frame| frame.kind() == Kind::SessionOpen)
            .map(|frame| frame.session)
            .collect()
    }

    /// Takes the next frame and the quota it was charged to.
    pub(super) fn pop(&mut self) -> Option<(Frame, Option<Arc<Quota>>)> {
        let (frame, quota) = self.frames.pop_front()?;
        let weight = frame.weight();
        self.resize(self.bytes - weight);
        if let Some(quota) = &quota {
            quota.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        Some((frame, quota))
    }

    /// Drops the frames for which `keep` is false, and gives their bytes back.
    pub(super) fn retain(&mut self, keep: impl Fn(&Frame) -> bool) {
        let mut dropped = 0;
        self.frames.retain(|(frame, quota)| {
            let keep = keep(frame);
            if !keep {
                let weight = frame.weight();
                dropped += weight;
                quota
                    .iter()
                    .for_each(|quota| _ = quota.bytes.fetch_sub(weight, Ordering::Relaxed));
            }
            keep
        });
        self.resize(self.bytes - dropped);
    }

    pub(super) fn clear(&mut self) {
        self.retain(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cluster::link::config::{NODE_QUOTA, SESSION_QUOTA};

    fn frame(body: usize) -> Frame {
        Frame {
            body: Bytes::from(vec![0; body]),
            ..Frame::default()
        }
    }

    fn fill(queue: &mut SendQueue, quota: &Arc<Quota>, body: usize) -> usize {
        let mut taken = 0;
        while queue.accepts(quota, frame(body).weight()) {
            queue.charge(frame(body), quota);
            taken += body;
        }
        taken
    }

    #[test]
    fn a_congested_queue_accepts_each_senders_share_up_to_its_limit() {
        let mut queue = SendQueue::default();
        let mut greedy: Vec<_> = (0..5).map(|_| Quota::new(SESSION_QUOTA)).collect();
        let each: Vec<_> = greedy
            .iter()
            .map(|quota| fill(&mut queue, quota, 16 * 1024))
            .collect();
        assert!(
            each[..4]
                .iter()
                .all(|taken| (SESSION_QUOTA.0 - 64 * 1024..=SESSION_QUOTA.0).contains(taken)),
            "{each:?}"
        );
        assert!(
            each[4] < SESSION_QUOTA.0 / 2,
            "the fifth makes it congested: {each:?}"
        );

        let small = Quota::new(SESSION_QUOTA);
        assert!((FAIR_SHARE / 2..=FAIR_SHARE).contains(&fill(&mut queue, &small, 1024)));
        assert!(
            queue.accepts_message(&Quota::new(SESSION_QUOTA)) && !queue.accepts_message(&greedy[0])
        );
        assert!(fill(&mut queue, &Quota::new(NODE_QUOTA), 1024) > FAIR_SHARE);
        while queue.bytes <= FULL {
            let another = Quota::new(SESSION_QUOTA);
            assert!(fill(&mut queue, &another, 1024) > 0);
            greedy.push(another);
        }
        let last = Quota::new(SESSION_QUOTA);
        assert!(!queue.accepts(&last, 1) && !queue.accepts_message(&last));

        while queue.pop().is_some() {}
        assert_eq!((queue.bytes, small.bytes()), (0, 0));
        assert!(
            greedy.iter().all(|quota| quota.bytes() == 0),
            "every quota is given back"
        );
    }

    #[test]
    fn one_frame_of_any_size_is_accepted_and_dropped_frames_are_given_back() {
        let (mut queue, quota) = (SendQueue::default(), Quota::new(SESSION_QUOTA));
        assert!(queue.accepts(&quota, 2 * SESSION_QUOTA.0));
        queue.charge(frame(2 * SESSION_QUOTA.0), &quota);
        assert!(!queue.accepts(&quota, 1));
        queue.push(frame(1));
        queue.retain(|frame| frame.body.len() == 1);
        assert_eq!((queue.bytes, quota.bytes()), (frame(1).weight(), 0));
        queue.clear();
        assert_eq!((queue.bytes, queue.len()), (0, 0));
    }
}
