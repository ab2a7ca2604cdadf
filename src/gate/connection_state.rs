//! What the lock of a connection guards.

use std::task::{Context, Waker};

use super::client_state::ClientState;
use crate::memory_budget::MemoryBudget;

#[derive(Default)]
pub(super) struct State {
    pub(super) client: ClientState,
    /// The connection's task, while it has nothing to write or the socket takes no more.
    pub(super) writer: Option<Waker>,
    /// Whether the socket takes no more. Then a packet does not wake the task, a close does.
    pub(super) blocked: bool,
    /// What the socket has yet to take of the packets that were taken last, at most, in bytes.
    pub(super) taken: usize,
    /// What is charged to the node's memory budget.
    charged: usize,
}

impl State {
    /// Charges what is queued to the node's memory budget.
    pub(super) fn charge(&mut self, memory: &MemoryBudget) {
        let brief = self.taken + self.client.queue.bytes() < MemoryBudget::STEP;
        if self.charged == 0 && brief && self.client.keeps_nothing() {
            // The way of every message to a client that reads.
            return;
        }
        let queued = self.taken + self.client.queued_bytes();
        memory.charge(&mut self.charged, queued);
    }

    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self
            .writer
            .as_ref()
            .is_some_and(|writer| writer.will_wake(cx.waker()))
        {
            self.writer = Some(cx.waker().clone());
        }
    }
}
