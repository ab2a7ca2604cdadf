//! Outbound frames about no session of this node: its calls, replies and multicasts.

use std::task::Waker;

use bytes::Bytes;

use super::{proto::Frame, session::LinkedSession, state::LinkState};
use crate::error::{Error, Result, code};

impl<S: LinkedSession> LinkState<S> {
    /// Queues a push to several sessions. Those that move to another gate, or have moved, are added to
    /// `displaced` instead.
    ///
    /// # Errors
    /// [`code::TOO_MANY`], or [`code::CLOSED`] when the peer is gone.
    pub(super) fn multicast(
        &mut self,
        mut frame: Frame,
        displaced: &mut Vec<i64>,
    ) -> Result<Option<Waker>> {
        displaced.extend(self.receiver.take_displaced(&mut frame.sessions));
        if frame.sessions.is_empty() {
            return Ok(None);
        }
        self.sender.try_push(frame, &self.multicast_quota)
    }

    /// Queues a call of this node.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the peer cannot be reached, [`code::TOO_MANY`].
    pub(super) fn call(&mut self, frame: Frame) -> Result<Option<Waker>> {
        if self.sender.is_down() {
            return Err(Error::new(
                code::UNAVAILABLE,
                "the member cannot be reached",
            ));
        }
        self.sender.try_push(frame, &self.node_quota)
    }

    /// Lets the peer know that nothing waits for the reply to a call. Bounded by the calls in
    /// flight. A peer whose stream is down learns of it from that.
    pub(super) fn cancel(&mut self, request: u64) -> Option<Waker> {
        if self.sender.is_down() {
            return None;
        }
        self.sender.push(Frame::cancel(request))
    }

    /// Queues the reply to a call of the peer. Bounded by the calls in flight.
    pub(super) fn reply(&mut self, request: u64, answer: Result<Bytes>) -> Option<Waker> {
        self.sender.push(Frame::reply(request, answer))
    }
}
