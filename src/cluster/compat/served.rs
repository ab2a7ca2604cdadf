//! The sessions that this node serves for Go gates, and their requests. No I/O.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    error::{Error, Result, code},
    in_flight::InFlight,
    session::Session,
};

/// A session that this node serves for a Go gate.
#[derive(Clone)]
pub(super) struct ServedSession {
    pub(super) session: Session,
    pub(super) requests: Arc<ServedRequests>,
}

/// The requests in flight of one served session.
#[derive(Default)]
pub(super) struct ServedRequests(
    /// Held for a few instructions.
    Mutex<State>,
);

#[derive(Default)]
struct State {
    closing: bool,
    requests: InFlight,
}

impl ServedRequests {
    /// Counts a request that has arrived.
    pub(super) fn expect(&self, request: u64) {
        self.0.lock().requests.insert(request, None, ());
    }

    /// How many requests wait for an answer.
    pub(super) fn count(&self) -> usize {
        self.0.lock().requests.len()
    }

    /// Takes a request that a handler answers.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the session has ended, [`code::CONFLICT`] when the request is not in
    /// flight.
    pub(super) fn answered(&self, request: u64) -> Result {
        let mut state = self.0.lock();
        state.check_open()?;
        state.requests.take(request).ok_or_else(|| {
            Error::new(
                code::CONFLICT,
                format!("request {request} does not wait for an answer"),
            )
        })
    }

    /// # Errors
    /// [`code::CLOSED`] when the session has ended or is closing.
    pub(super) fn check_open(&self) -> Result {
        self.0.lock().check_open()
    }

    /// The session closes. False if it did before.
    pub(super) fn close(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().closing, true)
    }

    /// The session has ended: its requests are not answered any more.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.closing = true;
        state.requests = InFlight::default();
    }
}

impl State {
    fn check_open(&self) -> Result {
        if self.closing {
            Err(Error::new(code::CLOSED, "the session is closed"))
        } else {
            Ok(())
        }
    }
}
