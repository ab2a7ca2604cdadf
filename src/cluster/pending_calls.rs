//! Calls of this node that wait for a peer's reply. Requests of clients wait in `gate::requests`.
//!
//! A hash map, not an [`InFlight`](crate::in_flight::InFlight): replies of all peers come in any
//! order, and the calls of one stream end together.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::time::Instant;

use crate::{
    ErrorCode,
    error::{Error, code},
    session::{CancelCall, ReplyTo},
};

/// All pending calls of a node.
#[derive(Default)]
pub(in crate::cluster) struct PendingCalls {
    last_id: AtomicU64,
    /// Never held while a caller is answered.
    pending: Mutex<HashMap<u64, PendingCall>>,
}

struct PendingCall {
    stream: Arc<dyn CallStream>,
    caller: Arc<ReplyTo>,
}

/// The way a call went out.
pub(in crate::cluster) trait CallStream: Send + Sync {
    /// The stream. The reply is lost with it.
    fn id(&self) -> StreamId;

    /// Lets the peer know that nothing waits for its reply.
    fn cancel(&self, call: u64);
}

/// The stream that a call went out on. Its reply is lost with the stream of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::cluster) struct StreamId {
    pub(in crate::cluster) incarnation: u64,
    pub(in crate::cluster) index: usize,
}

impl PendingCalls {
    pub(in crate::cluster) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(in crate::cluster) fn insert(
        &self,
        id: u64,
        stream: Arc<dyn CallStream>,
        caller: Arc<ReplyTo>,
    ) {
        self.pending
            .lock()
            .insert(id, PendingCall { stream, caller });
    }

    pub(in crate::cluster) fn take(&self, id: u64) -> Option<Arc<ReplyTo>> {
        self.pending.lock().remove(&id).map(|call| call.caller)
    }

    /// Fails the calls whose deadline has passed with [`code::TIMEOUT`].
    pub(in crate::cluster) fn expire(&self, now: Instant) {
        self.fail(
            |_, caller| is_late(caller, now),
            code::TIMEOUT,
            "no answer to the call in time",
        );
    }

    /// Fails the calls of a stream with [`code::UNAVAILABLE`]: their replies are lost.
    pub(in crate::cluster) fn fail_stream(&self, stream: StreamId) {
        self.fail(
            |of, _| of == stream,
            code::UNAVAILABLE,
            "the member went away before it answered",
        );
    }

    /// The streams that calls went out on.
    pub(in crate::cluster) fn streams(&self) -> FxHashSet<StreamId> {
        let pending = self.pending.lock();
        pending.values().map(|call| call.stream.id()).collect()
    }

    /// How many calls wait whose callers still do.
    pub(in crate::cluster) fn waiting(&self, now: Instant) -> usize {
        self.pending
            .lock()
            .values()
            .filter(|call| !is_late(&call.caller, now))
            .count()
    }

    fn fail(
        &self,
        is_over: impl Fn(StreamId, &ReplyTo) -> bool,
        code: ErrorCode<'static>,
        text: &'static str,
    ) {
        let over: Vec<_> = self
            .pending
            .lock()
            .extract_if(|_, call| is_over(call.stream.id(), &call.caller))
            .collect();
        for (id, PendingCall { stream, caller }) in over {
            stream.cancel(id);
            // An answer that came first counts.
            let _ = caller.answer(Err(Error::new(code, text)));
        }
    }
}

impl CancelCall for PendingCalls {
    fn cancel(&self, id: u64) {
        let pending = self.pending.lock().remove(&id);
        if let Some(call) = pending {
            call.stream.cancel(id);
        }
    }
}

fn is_late(caller: &ReplyTo, now: Instant) -> bool {
    caller.deadline().is_some_and(|deadline| deadline <= now)
}
