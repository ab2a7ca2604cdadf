//! Where the answer of one call goes.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::{Error, Result, code};

/// Takes the answer of one call. Dropped without one, it answers with an error.
pub(crate) struct ReplyTo {
    id: u64,
    deadline: Option<Instant>,
    reply: Mutex<Option<Reply>>,
}

type Reply = Box<dyn FnOnce(Result<Bytes>) + Send>;

impl ReplyTo {
    /// `reply` is called once, on the thread that answers or drops the last reference.
    pub(crate) fn new(
        id: u64,
        deadline: Option<Instant>,
        reply: impl FnOnce(Result<Bytes>) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            deadline,
            reply: Mutex::new(Some(Box::new(reply))),
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
    /// [`code::CONFLICT`] when it is answered already.
    pub(crate) fn answer(&self, answer: Result<Bytes>) -> Result {
        let reply = self.reply.lock().take();
        let reply = reply
            .ok_or_else(|| Error::new(code::CONFLICT, "this call has been answered already"))?;
        reply(answer);
        Ok(())
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.get_mut().take() {
            reply(Err(Error::new(
                code::INTERNAL,
                "the request was dropped without an answer",
            )));
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
