//! What a gate keeps of one of its sessions for one member that serves it. No I/O.
//!
//! Its requests are ids alone: their deadlines are in the gate's own table, an
//! [`InFlight`](crate::in_flight::InFlight).

use std::{collections::VecDeque, sync::Arc, task::Waker};

use super::{
    config::{SESSION_QUOTA, WINDOW},
    flow::Quota,
    session::LinkedSession,
};

/// Requests kept at most. The oldest beyond are forgotten: the gate's timeout has answered them, or
/// will.
const MAX_REQUESTS: usize = 4096;

/// The unfinished messages of one session at one member.
pub(in crate::cluster) struct SessionWindow<S> {
    pub(in crate::cluster) session: S,
    /// Counts the sessions opened on this stream index, so that a late SESSION_UNKNOWN is not taken
    /// for one about a session opened since.
    pub(in crate::cluster) number: u64,
    /// The number of the member's last BIND that this gate has applied.
    pub(super) binds: u32,
    /// Whether the member is about to take the session over from another gate: no stream names it yet.
    pub(super) attaching: bool,
    /// Whether a SHARED was left out because the queue was full: all values are to be sent.
    pub(super) stale: bool,
    unfinished: u32,
    /// Requests in flight, in the order they were sent. Mostly answered in that order, so a search
    /// ends at the front.
    requests: VecDeque<u64>,
    /// Wakes the reader of the session's connection when there is room in the window or the queue.
    pub(in crate::cluster) reader: Option<Waker>,
    /// The session's share of the send queue.
    pub(super) quota: Arc<Quota>,
}

impl<S: LinkedSession> SessionWindow<S> {
    pub(in crate::cluster) fn new(session: &S, number: u64) -> Self {
        Self {
            session: session.for_request(0),
            number,
            binds: 0,
            attaching: false,
            stale: false,
            unfinished: 0,
            requests: VecDeque::new(),
            reader: None,
            quota: Quota::new(SESSION_QUOTA),
        }
    }

    /// That of a session which another gate had before, with its requests in flight at the member.
    pub(super) fn adopted(session: &S, number: u64, requests: Vec<u64>) -> Self {
        Self {
            requests: requests.into(),
            attaching: true,
            ..Self::new(session, number)
        }
    }

    /// The requests in flight, in the order they were sent.
    pub(super) fn requests(&self) -> impl Iterator<Item = u64> {
        self.requests.iter().copied()
    }

    /// Whether another message may be sent.
    pub(in crate::cluster) fn has_room(&self) -> bool {
        self.unfinished < WINDOW
    }

    /// Counts a message that is sent. `request` is 0 for one without an answer. Returns whether one
    /// request more is in flight.
    pub(in crate::cluster) fn sent(&mut self, request: u64) -> bool {
        self.unfinished += 1;
        if request == 0 {
            return false;
        }
        let full = self.requests.len() == MAX_REQUESTS;
        if full {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
        !full
    }

    /// How many requests are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Reopens the window by `finished` messages. Returns the reader to wake.
    pub(in crate::cluster) fn credit(&mut self, finished: u32) -> Option<Waker> {
        self.unfinished = self.unfinished.saturating_sub(finished);
        self.reader.take()
    }

    /// Takes a request that has been answered. False if it was not in flight.
    pub(in crate::cluster) fn answered(&mut self, request: u64) -> bool {
        match self.requests.iter().position(|waiting| *waiting == request) {
            Some(at) => self.requests.remove(at).is_some(),
            None => false,
        }
    }

    /// Takes the requests in flight and reopens the window: what was under way is lost.
    pub(in crate::cluster) fn orphan(&mut self) -> VecDeque<u64> {
        self.unfinished = 0;
        std::mem::take(&mut self.requests)
    }

    #[cfg(test)]
    pub(super) fn unfinished(&self) -> u32 {
        self.unfinished
    }
}
