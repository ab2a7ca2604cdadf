//! What a scheduler publishes about its turn and its task, for readers on other threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

/// The texts of all labels; label `n` has the text at `n - 1`.
///
/// One table for the process, so that a label means the same in every pool. It grows with the
/// number of distinct texts, which are the routes of handlers. A leaf lock.
static LABELS: Mutex<Vec<Arc<str>>> = Mutex::new(Vec::new());

/// A name for what a task does, as one word that a task can publish without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskLabel(u32);

impl TaskLabel {
    /// A task without a name.
    pub(super) const NONE: Self = Self(0);

    /// Returns the label of a text, such as the route of a handler. Equal texts share a label.
    pub(crate) fn new(text: &str) -> Self {
        let mut labels = LABELS.lock();
        let index = labels.iter().position(|label| **label == *text);
        let index = index.unwrap_or_else(|| {
            labels.push(text.into());
            labels.len() - 1
        });
        u32::try_from(index + 1).map_or(Self::NONE, Self)
    }

    pub(crate) fn text(self) -> Option<Arc<str>> {
        let index = (self.0 as usize).checked_sub(1)?;
        LABELS.lock().get(index).cloned()
    }
}

/// What a scheduler publishes about its turn.
///
/// The turn alone writes; other threads read. All accesses are relaxed loads and stores: a reader
/// may be late by one task.
pub(super) struct Progress {
    pub(super) scheduler: Arc<str>,
    /// Turns begun plus turns ended, so odd within a turn.
    turns: AtomicU64,
    /// Lower half: the tasks that the turn has taken out of the queue and not started. Upper half:
    /// the label of the running task. One word, so that both change with one store per task.
    tasks: AtomicU64,
    /// The id of the session that the running task is for; of an earlier task where that has no label.
    session: AtomicI64,
    /// Microseconds of all turns, and of the longest.
    busy: AtomicU64,
    longest: AtomicU64,
}

impl Progress {
    pub(super) fn new(scheduler: Arc<str>) -> Self {
        Self {
            scheduler,
            turns: AtomicU64::new(0),
            tasks: AtomicU64::new(0),
            session: AtomicI64::new(0),
            busy: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    /// Begins a turn that has taken `tasks` tasks out of the queue.
    pub(super) fn begin_turn(&self, tasks: usize) {
        self.start_task(tasks);
        self.count_turn();
    }

    /// Starts a task, without a label; `waiting` more tasks of the turn have not started.
    pub(super) fn start_task(&self, waiting: usize) {
        self.tasks.store(waiting as u64, Ordering::Relaxed);
    }

    /// Labels the running task, which is for a session.
    pub(super) fn label(&self, TaskLabel(label): TaskLabel, session: i64) {
        self.session.store(session, Ordering::Relaxed);
        let tasks = self.waiting() as u64 | u64::from(label) << 32;
        self.tasks.store(tasks, Ordering::Relaxed);
    }

    pub(super) fn end_turn(&self, took: Duration) {
        let took = took.as_micros() as u64;
        let busy = self.busy.load(Ordering::Relaxed);
        self.busy.store(busy.wrapping_add(took), Ordering::Relaxed);
        if took > self.longest.load(Ordering::Relaxed) {
            self.longest.store(took, Ordering::Relaxed);
        }
        self.count_turn();
    }

    /// Returns how many tasks the turn has taken out and not started.
    pub(super) fn waiting(&self) -> usize {
        self.tasks.load(Ordering::Relaxed) as u32 as usize
    }

    fn count_turn(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns + 1, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> Option<RunningTask> {
        let turn = self.turns.load(Ordering::Relaxed);
        let waiting = self.waiting();
        (turn % 2 == 1).then_some(RunningTask { turn, waiting })
    }

    pub(super) fn task_label(&self) -> TaskLabel {
        TaskLabel((self.tasks.load(Ordering::Relaxed) >> 32) as u32)
    }

    /// How many turns have ended, how long all took together, and how long the longest.
    pub(super) fn turns(&self) -> (u64, Duration, Duration) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let time = |value| Duration::from_micros(read(value));
        (read(&self.turns) / 2, time(&self.busy), time(&self.longest))
    }

    /// The label of the running task, or of the last one that ran, and the session of one with a label.
    pub(super) fn task(&self) -> (TaskLabel, i64) {
        (self.task_label(), self.session.load(Ordering::Relaxed))
    }

    /// What the running task is, if it is a handler: its route, and the id of the session.
    pub(super) fn handler(&self) -> Option<(Arc<str>, i64)> {
        let (label, session) = self.task();
        Some((label.text()?, session))
    }
}

/// Identifies a task of one scheduler while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RunningTask {
    turn: u64,
    waiting: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_label() {
        let first = TaskLabel::new("Watch.First");
        assert_eq!(first, TaskLabel::new("Watch.First"));
        assert_ne!(first, TaskLabel::new("Watch.Second"));
        assert_eq!(first.text().as_deref(), Some("Watch.First"));
        assert_eq!(TaskLabel::NONE.text(), None);
    }
}
