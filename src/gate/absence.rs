//! What the handle of a connection does for a client that may return: while it is away, and when it
//! comes back.

use std::{net::SocketAddr, task::Context};

use super::{
    close_code::Ending,
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
        self.state.lock().client.attach(received)?;
        *self.remote.lock() = remote;
        Ok(())
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
