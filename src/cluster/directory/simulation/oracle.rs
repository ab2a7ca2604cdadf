//! What clients see, and what they must not see.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::session::UserId;

/// A session of the whole simulation: process, session.
pub(super) type Key = (u64, i64);

#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The first thing that went wrong.
    pub(super) problem: Option<String>,
    pub(super) granted: usize,
    pub(super) replaced: usize,
    pub(super) cut_off: usize,
    /// Sessions that had a user alone and whose close callbacks have not run.
    unfinished: BTreeMap<UserId, Vec<Key>>,
    /// Since when the close callbacks run.
    closing: BTreeMap<Key, Instant>,
}

impl Oracle {
    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Checks that no user is in force twice.
    pub(super) fn check(&mut self, in_force: impl Iterator<Item = (UserId, Key)>) {
        let mut seen = BTreeMap::new();
        for (user, key) in in_force {
            if let Some(other) = seen.insert(user.clone(), key) {
                self.fail(format!(
                    "user {user} has two sessions: {other:?} and {key:?}"
                ));
            }
        }
    }

    /// A login has been granted.
    pub(super) fn granted(&mut self, user: &UserId, key: Key, replaced: bool, late: bool) {
        self.granted += 1;
        self.replaced += usize::from(replaced);
        let unfinished = self.unfinished.entry(user.clone()).or_default();
        let others: Vec<_> = unfinished
            .iter()
            .filter(|other| **other != key)
            .copied()
            .collect();
        if late {
            unfinished.clear();
        } else if !others.is_empty() {
            self.fail(format!(
                "user {user} at {key:?}: close callbacks of {others:?} still run"
            ));
        }
        let unfinished = self.unfinished.entry(user.clone()).or_default();
        unfinished.retain(|other| *other != key);
        unfinished.push(key);
    }

    /// The close callbacks of a session begin to run. Returns `false` if they run already.
    pub(super) fn closing(&mut self, key: Key, now: Instant) -> bool {
        let is_new = !self.closing.contains_key(&key);
        self.closing.entry(key).or_insert(now);
        is_new
    }

    /// No login has to wait for close callbacks beyond their deadline.
    pub(super) fn pass(&mut self, now: Instant) {
        let late = |since: &Instant| now.duration_since(*since) >= Duration::from_secs(5);
        let closing = self.closing.iter().filter(|(_, since)| late(since));
        let late: Vec<_> = closing.map(|(key, _)| *key).collect();
        late.into_iter().for_each(|key| self.finished(key));
    }

    /// No login has to wait for some sessions: their gates have lost the cluster.
    pub(super) fn forget(&mut self, lost: impl Fn(&Key) -> bool) {
        self.unfinished
            .values_mut()
            .for_each(|keys| keys.retain(|key| !lost(key)));
    }

    /// The close callbacks of a session have run, or no login can wait for them.
    pub(super) fn finished(&mut self, key: Key) {
        self.closing.remove(&key);
        self.unfinished
            .values_mut()
            .for_each(|keys| keys.retain(|other| *other != key));
    }

    /// A process is gone with all its sessions, or has given up its claims.
    pub(super) fn gone(&mut self, process: u64) {
        self.unfinished
            .values_mut()
            .for_each(|keys| keys.retain(|other| other.0 != process));
    }
}
