//! Closing a session, and what runs when it has closed.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio_util::sync::CancellationToken;

use super::{
    close_reason::CloseReason,
    handle::{Session, SessionInner},
};
use crate::{kick::Kick, serialize::Serializer};

impl<S: Serializer> Session<S> {
    /// Sends what is queued, then closes the connection. Close callbacks see
    /// [`CloseReason::Closed`].
    pub fn close(&self) {
        self.close_because("");
    }

    /// [`close`](Session::close) with a reason for the close callbacks. It is not sent to the
    /// client.
    pub fn close_because(&self, reason: impl Into<String>) {
        self.inner().sink.close(CloseReason::Closed(reason.into()));
    }

    /// Sends what is queued and a kick with the reason, then closes the connection. Close callbacks
    /// see [`CloseReason::Kicked`].
    pub fn kick(&self, reason: impl Into<String>) {
        self.inner().sink.close(CloseReason::Kicked(reason.into()));
    }

    /// [`kick`](Session::kick) with a code, and with advice whether and where to connect again. Close
    /// callbacks see [`CloseReason::KickedWith`].
    ///
    /// Clients of nano and pomelo show the reason and ignore the rest. A gate of Go nano sends none.
    ///
    /// ```
    /// use nano::{Session, kick::{Kick, Reconnect}};
    ///
    /// fn replace(session: &Session) {
    ///     let kick = Kick::new("LOGIN-REPLACED", "logged in elsewhere");
    ///     session.kick_with(kick.with_reconnect(Reconnect::Never));
    /// }
    /// ```
    pub fn kick_with(&self, kick: Kick) {
        self.inner().sink.close(CloseReason::KickedWith(kick));
    }

    /// Why the session ended; `None` while it is open.
    pub fn closed(&self) -> Option<CloseReason> {
        self.inner().close_state.closed()
    }

    /// A token that is cancelled when the session ends.
    pub(crate) fn close_signal(&self) -> CancellationToken {
        self.inner().close_state.signal()
    }

    /// Runs `callback` once when the session has closed.
    ///
    /// It runs on the node's scheduler, after the handlers of all messages of the session have
    /// started; on a closed session at once, on this thread. The value returned can withdraw it,
    /// and may be ignored: dropping it changes nothing.
    #[doc(alias = "Lifetime")]
    pub fn on_closed(
        &self,
        callback: impl FnOnce(&Session, &CloseReason) + Send + 'static,
    ) -> CloseCallback {
        let close_state = &self.inner().close_state;
        match close_state.on_closed(Box::new(callback)) {
            Ok(id) => CloseCallback::new(self.inner(), id),
            Err((callback, reason)) => {
                callback(&self.typed(), &reason);
                CloseCallback::default()
            }
        }
    }

    /// Ends a session that no table lists: its callbacks run here and now.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn end(&self, reason: &CloseReason) {
        let Some(ended) = self.inner().close_state.end(reason) else {
            return;
        };
        for group in ended.groups {
            group.forget(self.key());
        }
        for callback in ended.callbacks {
            callback(&self.typed(), reason);
        }
    }
}

/// A callback registered with [`Session::on_closed`]. Dropping this does not withdraw it.
///
/// ```
/// use nano::{CloseCallback, Session};
///
/// fn sit_down(session: &Session) -> CloseCallback {
///     session.on_closed(|session, _| println!("seat of {} is free", session.uid()))
/// }
///
/// fn stand_up(seat: CloseCallback) -> bool {
///     seat.cancel() // false if the session has closed
/// }
/// ```
#[derive(Default)]
pub struct CloseCallback {
    session: Weak<SessionInner>,
    id: u64,
}

impl CloseCallback {
    fn new(session: &Arc<SessionInner>, id: u64) -> Self {
        Self {
            session: Arc::downgrade(session),
            id,
        }
    }

    /// Withdraws the callback, and returns whether it did: false once the session has closed. Then
    /// it has run, runs now, or will.
    ///
    /// What the callback owns is dropped here.
    pub fn cancel(self) -> bool {
        let session = self.session.upgrade();
        let callback = session.and_then(|session| session.close_state.withdraw(self.id));
        callback.is_some()
    }
}

impl fmt::Debug for CloseCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseCallback").finish_non_exhaustive()
    }
}
