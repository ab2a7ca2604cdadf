//! What the handle of a connection does for a client that may return: while it is away, and when it
//! comes back.

use std::{mem, net::SocketAddr, task::Context};

use super::{
    client_state::ClientState,
    ending::Ending,
    handle::ConnectionHandle,
    resume::{registry::Resumable, replay::Replay},
};
use crate::resume::Lost;

impl ConnectionHandle {
    /// Lets the client return after a lost connection.
    pub(super) fn allow_return(&self) {
        let replay = Replay::new(&self.gate.limits);
        self.state.lock().client.replay = Some(Box::new(replay));
    }

    /// Uses what is kept for a client that may return; `None` for any other client.
    pub(super) fn replay<R>(&self, work: impl FnOnce(&mut Replay) -> R) -> Option<R> {
        self.state.lock().client.replay.as_deref_mut().map(work)
    }

    /// Takes the connection from a client that may return; false if it may not.
    pub(super) fn detach(&self) -> bool {
        self.state.lock().client.detach()
    }

    /// Whether the client is away.
    pub(super) fn is_away(&self) -> bool {
        self.state.lock().client.is_away()
    }

    /// Returns the reason if the session is closed while the client is away. The task is woken for
    /// that, and when the client returns.
    pub(super) fn poll_away(&self, cx: &Context<'_>) -> Option<Ending> {
        let mut state = self.state.lock();
        let ending = state.client.ending();
        state.blocked = true;
        state.wait(cx);
        ending
    }

    /// Gives a client that was away its new connection; see [`ClientState::attach`].
    pub(super) fn attach(&self, remote: Option<SocketAddr>, received: u64) -> Result<(), Lost> {
        let mut state = self.state.lock();
        state.client.attach(received)?;
        self.release(&mut state.client);
        drop(state);
        *self.remote.lock() = remote;
        Ok(())
    }

    /// Counts `len` more bytes for a client that is away; false if too many wait for all such
    /// clients.
    pub(super) fn reserve(&self, client: &mut ClientState, len: usize) -> bool {
        let Some(replay) = &mut client.replay else {
            return true;
        };
        let queue_bytes = self.gate.limits.queue_bytes();
        let reserved = self.gate.away_bytes.reserve(len, queue_bytes);
        if reserved {
            replay.reserved += len;
        }
        reserved
    }

    /// Gives back what was counted while the client was away.
    pub(super) fn release(&self, client: &mut ClientState) {
        if let Some(replay) = &mut client.replay {
            self.gate
                .away_bytes
                .release(mem::take(&mut replay.reserved));
        }
    }
}

impl Resumable for ConnectionHandle {
    fn check(&self, received: u64) -> Result<(), Lost> {
        self.state.lock().client.check_return(received)
    }

    fn supersede(&self) {
        let mut state = self.state.lock();
        state.client.detach();
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            self.gate.wakes.wake(writer);
        }
    }
}
