//! Which nodes have named the channels that they have members of, in one view. No I/O.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::view::{Address, View};

/// How long an owner waits for nodes that do not say which channels they have members of.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before a node that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The answers of all nodes to one owner. It begins with the first use of a channel in a view.
#[derive(Debug, Default)]
pub(super) struct Collection {
    begun: bool,
    /// The nodes that have not answered, and how many channels each has named in a part of its answer.
    missing: BTreeMap<Address, u64>,
    /// Until when messages wait for the missing.
    until: Option<Instant>,
    ask_at: Option<Instant>,
}

impl Collection {
    /// Begins, once. Returns the nodes to ask.
    pub(super) fn begin(&mut self, view: &View, now: Instant) -> Vec<Address> {
        if std::mem::replace(&mut self.begun, true) {
            return Vec::new();
        }
        self.missing = view.nodes().iter().map(|node| (node.clone(), 0)).collect();
        self.until = Some(now + TIMEOUT);
        self.ask(now)
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether messages wait for its end.
    pub(super) fn is_waiting(&self) -> bool {
        self.until.is_some()
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.ask_at).min()
    }

    /// Returns the nodes that are to be asked again by now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Address> {
        if self.ask_at.is_some_and(|at| at <= now) {
            return self.ask(now);
        }
        Vec::new()
    }

    /// Whether messages have waited long enough. They wait no more then.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }

    /// Notes a part of an answer: so many channels behind those that earlier parts have named. A part
    /// behind one that was lost does not count. Returns whether this was the last of all answers,
    /// while messages wait.
    pub(super) fn answered(&mut self, node: &Address, named: (u64, u64), last: bool) -> bool {
        let (before, channels) = named;
        let Some(known) = self.missing.get_mut(node) else {
            return false;
        };
        if before != 0 && before != *known {
            return false;
        }
        *known = before + channels;
        if last {
            self.missing.remove(node);
        }
        if !self.missing.is_empty() {
            return false;
        }
        self.ask_at = None;
        self.until.take().is_some()
    }

    fn ask(&mut self, now: Instant) -> Vec<Address> {
        let again = !self.missing.is_empty();
        self.ask_at = again.then(|| now + RETRY);
        self.missing.keys().cloned().collect()
    }
}
