//! Pushes to users that the peer has not acknowledged. No I/O.
//!
//! Users are numbered in the order of their pushes. The peer handles pushes in that order, and one
//! acknowledgement is for all up to a number: it names those that it has missed. A number is never used
//! again by the node, also on another link to the same peer: an acknowledgement may be for an earlier
//! one.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    cluster::transport::Unreached,
    error::{Error, code},
};

/// How long the peer has to acknowledge a push, from the first probe after it was queued.
pub(super) const PUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes the end of a push.
pub(super) type Done = oneshot::Sender<Unreached>;

/// The pushes of the peer that were handled here since the last acknowledgement.
#[derive(Default)]
pub(super) struct Handled {
    /// The number of the last user.
    pub(super) last: u64,
    pub(super) missed: Vec<u64>,
}

/// The pushes of one link in flight. `T` takes the end of a push.
#[derive(Debug)]
pub(super) struct UserPushes<T> {
    /// In the order of their numbers.
    pending: VecDeque<Pending<T>>,
}

#[derive(Debug)]
struct Pending<T> {
    /// The numbers of its first and of its last user.
    first: u64,
    last: u64,
    missed: Vec<usize>,
    /// Set with the first probe.
    deadline: Option<Instant>,
    done: T,
}

impl<T> UserPushes<T> {
    pub(super) fn new() -> Self {
        Self {
            pending: VecDeque::new(),
        }
    }

    /// Whether nothing waits for the peer.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// A push is queued, behind all others. `first` is the number of the first of its users.
    pub(super) fn queued(&mut self, first: u64, users: usize, done: T) {
        self.pending.push_back(Pending {
            first,
            last: first + users.saturating_sub(1) as u64,
            missed: Vec::new(),
            deadline: None,
            done,
        });
    }

    /// The peer has handled all users up to one, and has missed some of them. Adds the pushes that end.
    /// Numbers of pushes that have ended before are ignored.
    pub(super) fn acknowledged(
        &mut self,
        last: u64,
        missed: &[u64],
        ended: &mut Vec<(T, Unreached)>,
    ) {
        for number in missed {
            let at = self.pending.partition_point(|push| push.last < *number);
            if let Some(push) = self.pending.get_mut(at)
                && let Some(place) = number.checked_sub(push.first)
            {
                push.missed.push(place as usize);
            }
        }
        let answered = self.pending.partition_point(|push| push.last <= last);
        let answered = self.pending.drain(..answered);
        ended.extend(answered.map(|push| (push.done, Ok(push.missed))));
    }

    /// Ends the pushes that have waited too long.
    pub(super) fn probe(&mut self, now: Instant, ended: &mut Vec<(T, Unreached)>) {
        let unseen = |push: &&mut Pending<T>| push.deadline.is_none();
        for push in self.pending.iter_mut().rev().take_while(unseen) {
            push.deadline = Some(now + PUSH_TIMEOUT);
        }
        let is_over = |push: &Pending<T>| push.deadline.is_some_and(|deadline| deadline <= now);
        let over = self.pending.partition_point(is_over);
        ended.extend(self.pending.drain(..over).map(|push| {
            let text = "the gate has not acknowledged the push in time";
            (push.done, Err(Error::new(code::TIMEOUT, text)))
        }));
    }

    /// Ends all pushes: their acknowledgements are lost.
    pub(super) fn fail(&mut self, ended: &mut Vec<(T, Unreached)>) {
        ended.extend(self.pending.drain(..).map(|push| {
            let text = "the gate went away before it acknowledged the push";
            (push.done, Err(Error::new(code::UNAVAILABLE, text)))
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{
        collection::vec,
        prelude::{Just, any, proptest},
        prop_oneof,
        strategy::Strategy,
    };

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Queue(usize),
        /// The peer handles a push, and misses the users that are chosen.
        Handle([bool; 4]),
        Acknowledge,
        Fail,
        /// A probe after so many seconds.
        Probe(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..4usize).prop_map(Step::Queue),
            4 => any::<[bool; 4]>().prop_map(Step::Handle),
            3 => Just(Step::Acknowledge),
            1 => Just(Step::Fail),
            2 => (0..4u64).prop_map(Step::Probe),
        ]
    }

    /// Pushes as their senders see them. A push is named by the number of its first user.
    #[derive(Default)]
    struct Model {
        open: BTreeSet<u64>,
        last_ended: u64,
        /// What the peer has missed of the pushes that it has handled.
        missed: BTreeMap<u64, Vec<usize>>,
    }

    impl Model {
        /// Each push ends once, and in order.
        fn end(&mut self, ended: Vec<(u64, Unreached)>, expected: &[u64]) {
            let names: Vec<_> = ended.iter().map(|(push, _)| *push).collect();
            assert_eq!(names, expected);
            for (push, unreached) in ended {
                assert!(self.open.remove(&push) && push > self.last_ended);
                self.last_ended = push;
                if let Ok(unreached) = unreached {
                    assert_eq!(Some(&unreached), self.missed.get(&push));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn each_push_ends_once_in_order_with_exactly_what_was_missed(
            steps in vec(step(), 0..80),
            gap in 0..3u64,
        ) {
            let (mut pushes, mut model) = (UserPushes::new(), Model::default());
            let mut next = 1;
            let (mut under_way, mut now) = (VecDeque::new(), Instant::now());
            let mut handled: Option<(u64, Vec<u64>)> = None;
            let mut probed: BTreeMap<u64, Instant> = BTreeMap::new();
            for step in steps {
                let mut ended = Vec::new();
                match step {
                    Step::Queue(users) => {
                        let first = next;
                        next += users as u64 + gap;
                        pushes.queued(first, users, first);
                        model.open.insert(first);
                        under_way.push_back((first, users));
                    }
                    Step::Handle(misses) => {
                        let Some((first, users)) = under_way.pop_front() else {
                            continue;
                        };
                        let missed: Vec<_> = (0..users).filter(|at| misses[*at]).collect();
                        let (last, numbers) = handled.get_or_insert_default();
                        *last = first + users as u64 - 1;
                        numbers.extend(missed.iter().map(|at| first + *at as u64));
                        model.missed.insert(first, missed);
                    }
                    Step::Acknowledge => {
                        let Some((last, missed)) = handled.take() else {
                            continue;
                        };
                        pushes.acknowledged(last, &missed, &mut ended);
                        let of_it = model.open.iter().filter(|push| **push <= last);
                        let expected: Vec<_> = of_it.copied().collect();
                        model.end(ended, &expected);
                    }
                    Step::Fail => {
                        pushes.fail(&mut ended);
                        assert!(ended.iter().all(|(_, unreached)| unreached.is_err()));
                        let expected: Vec<_> = model.open.iter().copied().collect();
                        model.end(ended, &expected);
                    }
                    Step::Probe(seconds) => {
                        now += Duration::from_secs(seconds);
                        pushes.probe(now, &mut ended);
                        for push in &model.open {
                            probed.entry(*push).or_insert(now);
                        }
                        let over = |push: &&u64| now - probed[*push] >= PUSH_TIMEOUT;
                        let expected: Vec<_> = model.open.iter().filter(over).copied().collect();
                        assert!(ended.iter().all(|(_, unreached)| unreached.is_err()));
                        model.end(ended, &expected);
                    }
                }
                assert_eq!(pushes.is_empty(), model.open.is_empty());
            }
        }

        #[test]
        fn any_acknowledgement_ends_pushes_once(
            users in vec(1..4usize, 0..10),
            acknowledgements in vec((0..30u64, vec(prop_oneof![0..30u64, any::<u64>()], 0..4)), 0..6),
        ) {
            let mut pushes = UserPushes::new();
            let mut next = 1;
            for (push, users) in users.iter().enumerate() {
                pushes.queued(next, *users, push);
                next += *users as u64;
            }
            let mut ended = Vec::new();
            for (last, missed) in acknowledgements {
                pushes.acknowledged(last, &missed, &mut ended);
            }
            pushes.fail(&mut ended);
            let names: Vec<_> = ended.iter().map(|(push, _)| *push).collect();
            assert_eq!(names, (0..users.len()).collect::<Vec<_>>());
        }
    }
}
