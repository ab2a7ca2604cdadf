//! Whether the answer to a request is still waited for.

use std::{future::pending, sync::Arc};

use tokio::time::{Instant, sleep_until};

use super::handle::Session;
use crate::{
    error::{Error, code},
    serialize::Serializer,
};

impl<S: Serializer> Session<S> {
    /// Waits until nothing waits for the answer any more: the work can stop.
    ///
    /// In the handler of a [`call`](Session::call) that is when the caller drops its future or
    /// stops waiting at its [`deadline`](Session::deadline), when its node or the link to it goes
    /// away, or when the session it is made for ends. In the handler of a client's message, and
    /// outside of handlers, it is when the session ends. A call made for a session that had ended
    /// before does not end with it. Callers of Go nano's nodes do not cancel.
    ///
    /// Cancel safe. [`Handlers::cancellable`](crate::Handlers::cancellable) drops a whole handler
    /// instead.
    ///
    /// ```
    /// use nano::{Result, Session};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// # struct Matchmaker;
    /// # impl Matchmaker {
    /// async fn find(self: Arc<Self>, session: Session, level: u32) -> Result<Option<i64>> {
    ///     loop {
    ///         tokio::select! {
    ///             () = session.cancelled() => return Ok(self.leave_queue(&session)),
    ///             opponent = self.next(level) => return Ok(Some(opponent)),
    ///         }
    ///     }
    /// }
    /// # fn leave_queue(&self, _: &Session) -> Option<i64> { None }
    /// # async fn next(&self, level: u32) -> i64 { i64::from(level) }
    /// # }
    /// ```
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<S> {
        let call = self.reply_to.as_ref();
        let cancelled = call.map(|call| call.token());
        let deadline = self.deadline();
        let expires = call.map(Arc::downgrade);
        let follows = call.is_none_or(|call| call.ends_with_session());
        let closed = follows.then(|| self.inner().close_state.signal());
        async move {
            tokio::select! {
                () = async {
                    match cancelled {
                        Some(cancelled) => cancelled.cancelled().await,
                        None => pending().await,
                    }
                } => {}
                () = async {
                    match closed {
                        Some(closed) => closed.cancelled().await,
                        None => pending().await,
                    }
                } => {}
                () = async {
                    match deadline {
                        Some(deadline) => sleep_until(deadline).await,
                        None => pending().await,
                    }
                } => {
                    // The caller may see its deadline a moment later: an answer that the handler
                    // gives for want of time must not be taken for a reply.
                    if let Some(call) = expires.and_then(|call| call.upgrade()) {
                        let _ = call.answer(Err(Error::new(code::TIMEOUT, "the call timed out")));
                    }
                }
            }
        }
    }

    /// Whether nothing waits for the answer any more; see [`cancelled`](Session::cancelled).
    pub fn is_cancelled(&self) -> bool {
        let late = self.deadline().is_some_and(|at| at <= Instant::now());
        match &self.reply_to {
            Some(call) => {
                late || call.is_cancelled() || call.ends_with_session() && self.closed().is_some()
            }
            None => self.closed().is_some(),
        }
    }
}
