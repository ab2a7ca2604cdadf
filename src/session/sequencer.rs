//! The order of one session's messages (promise 1), also when its services run on different
//! schedulers.

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll, Waker},
};

use parking_lot::{Mutex, MutexGuard};

use crate::scheduler::{Full, Scheduler, Task};

/// Messages that go to one scheduler follow each other in its queue. When the next one belongs to
/// another scheduler it waits here until those before it have been started; so does everything
/// behind it.
#[derive(Default)]
pub(crate) struct Sequencer(Mutex<State>);

#[derive(Default)]
struct State {
    /// Where the messages in flight are; meaningful while `running` is not 0.
    current: Option<Scheduler>,
    /// How many are in `current`'s queue or running there.
    running: usize,
    waiting: VecDeque<(Scheduler, Task)>,
    /// Somebody moves what waits to `current`: until that is done, whatever comes waits behind it.
    moving: bool,
    /// Async handlers that have given up their place in the order and not ended yet.
    unfinished: usize,
    /// The reader that stopped because the sequencer is full.
    reader: Option<Waker>,
}

impl Sequencer {
    /// Queues a task behind all earlier ones. Whoever runs or drops it calls [`done`](Sequencer::done)
    /// once.
    ///
    /// # Errors
    /// Gives the task back when the scheduler's queue is full or closed.
    pub(crate) fn enter(&self, scheduler: &Scheduler, task: Task) -> Result<(), Full> {
        self.enter_with(scheduler, task, Scheduler::push)
    }

    /// [`enter`](Sequencer::enter) past the scheduler's capacity, for the one task that ends a session.
    pub(crate) fn enter_always(&self, scheduler: &Scheduler, task: Task) -> Result<(), Task> {
        self.enter_with(scheduler, task, Scheduler::push_always)
    }

    fn enter_with<E>(
        &self,
        scheduler: &Scheduler,
        task: Task,
        push: fn(&Scheduler, Task) -> Result<(), E>,
    ) -> Result<(), E> {
        {
            let mut state = self.0.lock();
            let here = state.running == 0 || state.current.as_ref() == Some(scheduler);
            if !here || state.moving || !state.waiting.is_empty() {
                state.waiting.push_back((scheduler.clone(), task));
                return Ok(());
            }
            // Before it is queued, so that its own `done` finds it counted.
            state.running += 1;
            if state.current.as_ref() != Some(scheduler) {
                state.current = Some(scheduler.clone());
            }
        }
        // Without the lock: a runtime that has ended drops what it is given at once, and that says
        // `done`.
        push(scheduler, task).inspect_err(|_| self.done())
    }

    /// [`enter_always`](Sequencer::enter_always) of a task that a scheduler which has been shut down may
    /// drop.
    pub(crate) fn enter_or_drop(&self, scheduler: &Scheduler, task: Task) {
        if let Err(task) = self.enter_always(scheduler, task) {
            self.refuse(task);
        }
    }

    /// One task has been started (or never will be): lets the next ones go when the scheduler
    /// changes.
    pub(crate) fn done(&self) {
        let mut state = self.0.lock();
        state.running = state.running.saturating_sub(1);
        let reader = mem::take(&mut state.reader);
        self.advance(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Hands over the longest run of waiting tasks that share a scheduler, and the next one if none
    /// of those is left. Their number is bounded by the reader's limit, so a full queue cannot
    /// refuse them: the one who calls is a scheduler, and schedulers never wait.
    fn advance(&self, mut state: MutexGuard<'_, State>) {
        if state.moving {
            return;
        }
        state.moving = true;
        let mut refused = Vec::new();
        while let Some((scheduler, task)) = state.next() {
            // Without the lock, as in `enter_with`.
            refused.extend(MutexGuard::unlocked(&mut state, || scheduler.push_always(task)).err());
        }
        state.moving = false;
        drop(state);
        // A refused task says `done` as it drops, which lets those behind it go.
        drop(refused);
    }

    /// A task that has been started goes on for longer than its place in the order. Whoever says so
    /// says [`end`](Sequencer::end) once.
    pub(crate) fn begin(&self) {
        self.0.lock().unfinished += 1;
    }

    /// A task that went on has ended.
    pub(crate) fn end(&self) {
        let reader = {
            let mut state = self.0.lock();
            state.unfinished = state.unfinished.saturating_sub(1);
            mem::take(&mut state.reader)
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Drops a task that has not entered: it says [`done`](Sequencer::done) as it drops, so it is
    /// counted first.
    pub(crate) fn refuse(&self, task: Task) {
        self.0.lock().running += 1;
        drop(task);
    }

    /// How many wait for those before them, in no scheduler's queue yet.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Ready while fewer than `limit` messages are on their way or in an async handler.
    pub(crate) fn poll_room(&self, limit: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.running + state.waiting.len() + state.unfinished < limit {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl State {
    /// The task that may follow those in flight, counted as one of them.
    fn next(&mut self) -> Option<(Scheduler, Task)> {
        let (next, _) = self.waiting.front()?;
        if self.running > 0 && self.current.as_ref() != Some(next) {
            return None;
        }
        let (scheduler, task) = self.waiting.pop_front()?;
        self.running += 1;
        if self.current.as_ref() != Some(&scheduler) {
            self.current = Some(scheduler.clone());
        }
        Some((scheduler, task))
    }
}
