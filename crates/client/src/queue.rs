//! A bounded queue that drops its oldest item when it is full.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// A queue with any number of senders and one receiver.
///
/// Unlike `tokio::sync::broadcast`, which would also do, it allocates for what it holds and not for
/// its capacity: a bot with a dozen subscriptions that are read in time costs next to nothing.
pub(crate) struct Queue<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<T>,
    missed: u64,
    closed: bool,
    receiver: Option<Waker>,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            missed: 0,
            closed: false,
            receiver: None,
        };
        Self {
            capacity,
            state: Mutex::new(state),
        }
    }

    /// Appends an item. A full queue drops its oldest item and counts it as missed.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.state.lock();
        let oldest = if state.items.len() == self.capacity {
            state.missed += 1;
            state.items.pop_front()
        } else {
            None
        };
        state.items.push_back(item);
        let receiver = state.receiver.take();
        drop(state);
        drop(oldest);
        wake(receiver);
    }

    /// Ends the queue. The receiver still gets what is in it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let receiver = state.receiver.take();
        drop(state);
        wake(receiver);
    }

    /// Takes the oldest item; `None` once the queue is closed and empty.
    pub(crate) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        let previous = state.receiver.replace(cx.waker().clone());
        drop(state);
        drop(previous);
        Poll::Pending
    }

    /// Takes the oldest item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        self.state.lock().items.pop_front()
    }

    /// How many items were dropped because the queue was full.
    pub(crate) fn missed(&self) -> u64 {
        self.state.lock().missed
    }
}

fn wake(receiver: Option<Waker>) {
    if let Some(receiver) = receiver {
        receiver.wake();
    }
}
