//! What a node keeps of one session that it serves for a peer. No I/O.

use std::sync::Arc;

use super::flow::Quota;
use crate::{
    error::{Error, Result, code},
    in_flight::InFlight,
    session::CloseReason,
};

/// A session that this node serves for the peer.
pub(in crate::cluster) struct ServedSession<S> {
    pub(super) session: S,
    /// Tells this session from another of the same id that was served before.
    pub(super) key: u64,
    /// The last stream on which the peer named the session.
    pub(super) stream: u64,
    /// The gate that may have the session next: until then nothing is sent to the peer for it.
    pub(super) held_for: Option<Box<str>>,
    /// Why this node asked the gate to close the connection, if it did: nothing else is sent to it.
    pub(super) closing: Option<CloseReason>,
    /// Requests in flight, and until when their gate waits. One gate has one timeout, so the first
    /// mostly expires first.
    pub(super) requests: InFlight,
    /// The number of the last BIND sent to the gate, and of the last that the gate is known to have
    /// applied.
    pub(super) binds_sent: u32,
    pub(super) binds_applied: u32,
    /// ROUTEs that the gate is not known to have applied, the last of each service.
    pub(super) routes: Vec<ServedRoute>,
    /// SHAREs that the gate is not known to have applied, the last of each key.
    pub(super) shares: Vec<ServedShare>,
    /// Messages of the gate that handlers are not done with.
    pub(super) unfinished: u32,
    /// Messages finished since the last CREDIT.
    pub(super) uncredited: u32,
    /// The session's share of the send queue, its responses apart.
    pub(super) quota: Arc<Quota>,
}

/// A ROUTE as it was sent.
pub(super) struct ServedRoute {
    pub(super) number: u32,
    pub(super) service: String,
    pub(super) address: Option<String>,
}

/// A SHARE as it was sent. The value is the session's.
pub(super) struct ServedShare {
    pub(super) number: u32,
    pub(super) key: String,
}

/// A session that is about to be served.
pub(in crate::cluster) struct NewSession<'a> {
    pub(in crate::cluster) id: i64,
    pub(in crate::cluster) key: u64,
    pub(in crate::cluster) client_address: &'a str,
}

impl<S> ServedSession<S> {
    pub(in crate::cluster) fn session(&self) -> &S {
        &self.session
    }

    /// Whether it is the one with this key, and its gate takes more.
    pub(super) fn is_open(&self, key: u64) -> bool {
        self.key == key && self.closing.is_none() && self.held_for.is_none()
    }

    /// Takes a request that a handler answers.
    ///
    /// # Errors
    /// [`code::CONFLICT`] if it is not in flight.
    pub(super) fn answered(&mut self, request: u64) -> Result {
        self.requests.take(request).ok_or_else(|| {
            Error::new(
                code::CONFLICT,
                format!("request {request} does not wait for an answer"),
            )
        })
    }

    pub(super) fn set_closing(&mut self, reason: CloseReason) {
        self.closing = Some(reason);
    }
}

pub(super) fn unknown(id: i64) -> Error {
    Error::new(code::NOT_FOUND, format!("session not found: {id}"))
}
