//! The end of a session with its connection.

use std::sync::Arc;

use tracing::debug;

use super::{
    close_code::Ending, connection::Connection, handle::ConnectionHandle, linger::linger,
    shared::Shared,
};
use crate::{
    net::stream::Transport,
    resume::Lost,
    session::{CloseReason, Session},
};

/// Ends a session, and then its connection.
pub(super) async fn finish<T: Transport>(
    connection: Connection<T>,
    mut guard: SessionGuard,
    ending: Ending,
    lost: Option<Lost>,
) {
    let client = guard.handle.greeted();
    let (close_code, text) = (ending.close_code(client), ending.text(client));
    let orderly = !matches!(
        ending.reason,
        CloseReason::Broken(_) | CloseReason::SlowClient
    );
    guard.end = Some((ending.reason, lost));
    drop(guard);
    if orderly {
        linger(connection.transport, close_code, &text).await;
    }
}

/// Ends a session with its connection, also when the connection's task is dropped or panics.
pub(super) struct SessionGuard {
    gate: Arc<Shared>,
    handle: Arc<ConnectionHandle>,
    session: Session,
    /// Why it ends, and why its client cannot return where that says more.
    end: Option<(CloseReason, Option<Lost>)>,
    fate: Fate,
}

/// What becomes of a session.
#[derive(PartialEq)]
enum Fate {
    Ends,
    /// Its client uses another session.
    Unused,
    /// Another gate has it.
    Moved,
}

impl SessionGuard {
    pub(super) fn new(gate: Arc<Shared>, handle: Arc<ConnectionHandle>, session: Session) -> Self {
        Self {
            gate,
            handle,
            session,
            end: None,
            fate: Fate::Ends,
        }
    }

    /// Drops a session whose client uses another one.
    pub(super) fn discard(mut self) {
        self.fate = Fate::Unused;
    }

    /// Drops a session that another gate has now.
    pub(super) fn moved(mut self) {
        self.fate = Fate::Moved;
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if self.fate != Fate::Ends {
            self.handle.end();
            return match self.fate {
                Fate::Moved => self.gate.session_moved(&self.session),
                _ => self.gate.session_discarded(&self.session),
            };
        }
        let dropped = || CloseReason::Broken("its task was dropped".to_owned());
        let (reason, lost) = self.end.take().unwrap_or_else(|| (dropped(), None));
        debug!(session = self.session.id(), user = self.session.logged_user(), remote = ?self.session.remote_addr(), %reason, "session closed");
        // First, so that close callbacks cannot push to the connection any more.
        if self.handle.end() {
            let lost = lost.unwrap_or(match reason {
                CloseReason::SlowClient => Lost::Overflow,
                _ => Lost::Closed,
            });
            self.gate.resumable.remove(self.session.id(), lost);
        }
        self.gate.session_closed(&self.session, &reason);
    }
}
