//! The order of one session's messages (see docs/semantics.md), also across schedulers.
//!
//! A message takes its place when its [`Ticket`] is made, and gives it up when the ticket is
//! dropped or suspended: by a handler that returned or panicked, by an async handler that waits or
//! ended, or by a scheduler that drops the task unrun. Nothing else counts messages.

use std::{
    collections::VecDeque,
    fmt, mem,
    task::{Context, Poll, Waker},
};

use parking_lot::{Mutex, MutexGuard};

use crate::scheduler::{PushError, Scheduler, Task};

#[cfg(test)]
mod tests;

/// Keeps the messages of one session in order.
///
/// Messages for one scheduler follow each other in its queue. The first one for another scheduler
/// waits here until all before it have ended or first been suspended; everything behind it waits
/// too.
///
/// The lock guards the order alone. It is released before a task is pushed, dropped or woken: a
/// scheduler that has ended drops what it is given, and the ticket inside takes this lock.
#[derive(Default)]
pub(crate) struct Sequencer(Mutex<Order>);

#[derive(Default)]
struct Order {
    /// The scheduler of the running tickets; meaningful while `running` is not 0.
    current: Option<Scheduler>,
    /// Tickets whose task is on its way to `current`, in its queue, or in its first poll there.
    running: usize,
    /// The last of the running tickets is exclusive: all later ones wait, also for `current`.
    exclusive: bool,
    /// Tickets behind the running ones, by number.
    waiting: VecDeque<Waiting>,
    next_number: u64,
    /// A thread moves tasks from `waiting` to `current` without the lock. Later tickets wait until
    /// it has finished, so that they cannot overtake.
    advancing: bool,
    /// Tickets of async handlers that gave up their place and have not ended.
    suspended: usize,
    /// The reader that stopped because the session has too many unfinished messages.
    reader: Option<Waker>,
}

struct Waiting {
    number: u64,
    scheduler: Scheduler,
    exclusive: bool,
    /// `None` until the task is submitted. Tickets behind it wait for that too.
    task: Option<Task>,
}

/// Gives access to the sequencer a ticket belongs to, without a second reference count.
pub(crate) trait Sequenced {
    fn sequencer(&self) -> &Sequencer;
}

/// One message's place in the order of its session.
///
/// Counts as unfinished from its creation until it is dropped.
pub(crate) struct Ticket<H: Sequenced> {
    session: H,
    place: Place,
}

/// Where a ticket stood when it was made, or that it was suspended since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Running,
    /// Behind running tickets of another scheduler. The number stays when the ticket moves up.
    Waiting(u64),
    Suspended,
}

/// The task that owns a ticket, and the place it was given.
pub(crate) struct SequencedTask {
    place: Place,
    task: Task,
}

impl<H: Sequenced> Ticket<H> {
    /// Takes the place behind all earlier tickets of the session.
    pub(crate) fn new(session: H, scheduler: &Scheduler) -> Self {
        let place = session.sequencer().enter(scheduler, false);
        Self { session, place }
    }

    /// [`new`](Self::new), for a ticket that keeps all later ones waiting until it is dropped or
    /// suspended, those for the same scheduler too.
    pub(crate) fn exclusive(session: H, scheduler: &Scheduler) -> Self {
        let place = session.sequencer().enter(scheduler, true);
        Self { session, place }
    }

    pub(crate) fn session(&self) -> &H {
        &self.session
    }

    /// Names the task that owns this ticket, for [`Sequencer::submit`].
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Lets the session's next message start. The ticket still counts as unfinished. For async
    /// handlers, after their first poll; a second call does nothing.
    pub(crate) fn suspend(&mut self) {
        let place = mem::replace(&mut self.place, Place::Suspended);
        if place != Place::Suspended {
            self.session.sequencer().suspend(place);
        }
    }
}

impl<H: Sequenced> Drop for Ticket<H> {
    fn drop(&mut self) {
        self.session.sequencer().release(self.place);
    }
}

impl SequencedTask {
    /// `place` is that of the ticket `task` owns.
    pub(crate) fn new(place: Place, task: Task) -> Self {
        Self { place, task }
    }
}

impl Sequencer {
    /// Queues a task on the scheduler its ticket was made for.
    ///
    /// A pool that is shut down drops the task.
    ///
    /// # Errors
    /// Gives the task back when the scheduler's queue is full. It keeps its place.
    pub(crate) fn submit(
        &self,
        scheduler: &Scheduler,
        SequencedTask { place, task }: SequencedTask,
    ) -> Result<(), SequencedTask> {
        if let Place::Waiting(number) = place {
            self.fill(number, task);
            return Ok(());
        }
        match scheduler.push(task) {
            Ok(()) | Err(PushError::Closed(_)) => Ok(()),
            Err(PushError::Full(task)) => Err(SequencedTask { place, task }),
        }
    }

    /// [`submit`](Sequencer::submit) past the scheduler's capacity, for tasks bounded elsewhere.
    pub(crate) fn submit_always(
        &self,
        scheduler: &Scheduler,
        SequencedTask { place, task }: SequencedTask,
    ) {
        if let Place::Waiting(number) = place {
            self.fill(number, task);
        } else {
            drop(scheduler.push_always(task));
        }
    }

    /// Ready while fewer than `limit` messages are unfinished. Wakes one reader, the last to ask.
    pub(crate) fn poll_ready(&self, limit: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut order = self.0.lock();
        if order.running + order.waiting.len() + order.suspended < limit {
            return Poll::Ready(());
        }
        order.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether all messages are finished.
    pub(crate) fn is_idle(&self) -> bool {
        let order = self.0.lock();
        order.running + order.waiting.len() + order.suspended == 0
    }

    /// Whether there was never a message.
    pub(crate) fn is_unused(&self) -> bool {
        self.0.lock().current.is_none()
    }

    /// Whether this many tickets were waiting before `task`, in no scheduler's queue.
    pub(crate) fn is_congested(&self, task: &SequencedTask, limit: usize) -> bool {
        matches!(task.place, Place::Waiting(_)) && self.0.lock().waiting.len() > limit
    }

    fn enter(&self, scheduler: &Scheduler, exclusive: bool) -> Place {
        let mut order = self.0.lock();
        let same = order.current.as_ref() == Some(scheduler);
        let follows = order.running == 0 || (same && !order.exclusive);
        if !follows || order.advancing || !order.waiting.is_empty() {
            return order.wait(scheduler, exclusive);
        }
        order.running += 1;
        order.exclusive = exclusive;
        if !same {
            order.current = Some(scheduler.clone());
        }
        Place::Running
    }

    fn fill(&self, number: u64, task: Task) {
        let mut order = self.0.lock();
        if let Some(at) = order.find(number) {
            order.waiting[at].task = Some(task);
        }
        self.advance(order);
    }

    fn suspend(&self, place: Place) {
        let mut order = self.0.lock();
        order.leave(place);
        order.suspended += 1;
        // No reader is woken: as many messages are unfinished as before.
        self.advance(order);
    }

    fn release(&self, place: Place) {
        let mut order = self.0.lock();
        order.leave(place);
        let reader = order.reader.take();
        self.advance(order);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Hands over the longest run of waiting tasks that share a scheduler. The queue's capacity
    /// does not apply: the reader's limit bounds their number, and schedulers never wait.
    fn advance(&self, mut order: MutexGuard<'_, Order>) {
        if order.advancing || order.waiting.is_empty() {
            return;
        }
        order.advancing = true;
        let mut refused = Vec::new();
        while let Some((scheduler, task)) = order.next() {
            refused.extend(MutexGuard::unlocked(&mut order, || scheduler.push_always(task)).err());
        }
        order.advancing = false;
        drop(order);
        // Each refused task releases its ticket as it drops, which advances those behind it.
        drop(refused);
    }
}

impl Order {
    fn wait(&mut self, scheduler: &Scheduler, exclusive: bool) -> Place {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push_back(Waiting {
            number,
            scheduler: scheduler.clone(),
            exclusive,
            task: None,
        });
        Place::Waiting(number)
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&number, |waiting| waiting.number)
            .ok()
    }

    /// Counts a ticket out of its place. A ticket that waited and is not found has moved up.
    fn leave(&mut self, place: Place) {
        match place {
            Place::Running => self.running -= 1,
            Place::Suspended => self.suspended -= 1,
            Place::Waiting(number) => match self.find(number) {
                // Dropped before its task was submitted.
                Some(at) => drop(self.waiting.remove(at)),
                None => self.running -= 1,
            },
        }
    }

    /// The task that may follow the running ones, counted as one of them.
    fn next(&mut self) -> Option<(Scheduler, Task)> {
        let next = self.waiting.front_mut()?;
        let follows = !self.exclusive && self.current.as_ref() == Some(&next.scheduler);
        if self.running > 0 && !follows {
            return None;
        }
        let task = next.task.take()?;
        self.exclusive = next.exclusive;
        let scheduler = self.waiting.pop_front()?.scheduler;
        self.running += 1;
        if self.current.as_ref() != Some(&scheduler) {
            self.current = Some(scheduler.clone());
        }
        Some((scheduler, task))
    }
}

impl fmt::Debug for SequencedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SequencedTask").field(&self.place).finish()
    }
}
