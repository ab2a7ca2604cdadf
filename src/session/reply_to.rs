//! Where the answer of one call goes, and whether its caller still waits for it.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, code};

/// Takes the answer of one call. Dropped without one, it answers with an error.
pub(crate) struct ReplyTo {
    id: u64,
    deadline: Option<Instant>,
    /// A leaf lock: replies, tokens and cancellations run after it is released.
    state: Mutex<State>,
}

struct State {
    /// `None` once the call is answered or cancelled.
    reply: Option<Reply>,
    cancelled: bool,
    /// Made when the handler asks for it.
    token: Option<CancellationToken>,
    /// Passes a cancellation on to the node that has the handler.
    forwarded: Option<(Weak<dyn CancelCall>, u64)>,
    /// Whether the end of the session cancels the call.
    ends_with_session: bool,
}

type Reply = Box<dyn FnOnce(Result<Bytes>) + Send>;

/// Cancels calls that went to other nodes.
pub(crate) trait CancelCall: Send + Sync {
    /// The caller no longer waits for the answer.
    fn cancel(&self, call: u64);
}

impl ReplyTo {
    /// `reply` is called once, on the thread that answers or drops the last reference; never after
    /// a cancellation.
    pub(crate) fn new(
        id: u64,
        deadline: Option<Instant>,
        reply: impl FnOnce(Result<Bytes>) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            deadline,
            state: Mutex::new(State {
                reply: Some(Box::new(reply)),
                cancelled: false,
                token: None,
                forwarded: None,
                ends_with_session: false,
            }),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// When the caller stops waiting.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Answers the call.
    ///
    /// # Errors
    /// [`code::CONFLICT`] when it is answered already, or cancelled.
    pub(crate) fn answer(&self, answer: Result<Bytes>) -> Result {
        let (reply, cancelled) = {
            let mut state = self.state.lock();
            (state.reply.take(), state.cancelled)
        };
        let reply = reply.ok_or_else(|| {
            let text = match cancelled {
                true => "the caller no longer waits for this answer",
                false => "this call has been answered already",
            };
            Error::new(code::CONFLICT, text)
        })?;
        reply(answer);
        Ok(())
    }

    /// The caller no longer waits: notifies the handler, wherever it runs. Does nothing once the
    /// call is answered.
    pub(crate) fn cancel(&self) {
        let (reply, token, forwarded) = {
            let mut state = self.state.lock();
            let Some(reply) = state.reply.take() else {
                return;
            };
            state.cancelled = true;
            (reply, state.token.clone(), state.forwarded.take())
        };
        drop(reply);
        if let Some(token) = token {
            token.cancel();
        }
        if let Some((calls, id)) = forwarded {
            cancel(&calls, id);
        }
    }

    /// The call has been sent to another node, as the call `id` of `calls`.
    pub(crate) fn forwarded(&self, calls: Weak<dyn CancelCall>, id: u64) {
        {
            let mut state = self.state.lock();
            if !state.cancelled {
                state.forwarded = Some((calls, id));
                return;
            }
        }
        cancel(&calls, id);
    }

    /// Cancels the call also when its session ends, which is open now.
    pub(crate) fn end_with_session(&self) {
        self.state.lock().ends_with_session = true;
    }

    pub(super) fn ends_with_session(&self) -> bool {
        self.state.lock().ends_with_session
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// Cancelled when the call is.
    pub(super) fn token(&self) -> CancellationToken {
        let (token, cancelled) = {
            let mut state = self.state.lock();
            let token = state.token.get_or_insert_with(CancellationToken::new);
            (token.clone(), state.cancelled)
        };
        if cancelled {
            token.cancel();
        }
        token
    }
}

fn cancel(calls: &Weak<dyn CancelCall>, id: u64) {
    if let Some(calls) = calls.upgrade() {
        calls.cancel(id);
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(reply) = self.state.get_mut().reply.take() {
            reply(Err(Error::new(
                code::INTERNAL,
                "the request was dropped without an answer",
            )));
        }
    }
}

/// Cancels the call when it is dropped, unless the call has its answer: the caller's half.
pub(crate) struct Caller(Weak<ReplyTo>);

impl Caller {
    pub(crate) fn new(call: &Arc<ReplyTo>) -> Self {
        Self(Arc::downgrade(call))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(call) = self.0.upgrade() {
            call.cancel();
        }
    }
}

impl fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo")
            .field("id", &self.id)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
