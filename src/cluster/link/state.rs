//! All decisions of a link for one peer and one stream index.
//!
//! `LinkState` does no I/O, starts and wakes no task and reads no clock. Its inputs are methods:
//!
//! - streams: [`connecting`](LinkState::connecting), [`outbound_up`](LinkState::outbound_up),
//!   [`outbound_down`](LinkState::outbound_down), [`accept`](LinkState::accept),
//!   [`inbound_down`](LinkState::inbound_down);
//! - inbound, in `receive.rs`: [`hear`](LinkState::hear) for a batch and
//!   [`receive`](LinkState::receive) for each of its frames, [`answer`](LinkState::answer) for a
//!   frame of an answer stream;
//! - outbound: [`message`](LinkState::message), [`push`](LinkState::push),
//!   [`respond`](LinkState::respond) and closes, users and bindings in `binds.rs`, shared values in
//!   `shared_data.rs`, calls in `call_frames.rs`, and pushes to users in `user_push_frames.rs`; [`poll_batch`](LinkState::poll_batch) and
//!   [`poll_answers`](LinkState::poll_answers) take it out again;
//! - in `activity.rs`: [`poll_open`](LinkState::poll_open) and [`peer_idle`](LinkState::peer_idle), and
//!   time: [`probe`](LinkState::probe), in a fixed interval while it asks for that;
//! - the end: [`cordon`](LinkState::cordon), [`goaway`](LinkState::goaway), [`finish`](LinkState::finish),
//!   [`end_served`](LinkState::end_served), [`close`](LinkState::close).
//!
//! What follows from an input is pushed as [`Effect`]s into a vector of the caller, or returned as
//! the waker of the stream's writer where nothing else can follow. The caller applies them after it
//! has unlocked the state. The driver (`stream.rs`) does so in a node, `tests/pair.rs` in virtual
//! time.
//!
//! Invariants:
//!
//! - Frames leave in the order in which they were queued, and a session uses one stream index, so
//!   the frames of a session keep their order across reconnects. Frames of any but the current
//!   stream are refused.
//! - A request that was accepted by [`message`](LinkState::message) ends once: with the peer's
//!   answer, or as orphaned when a stream of either direction breaks, the peer does not serve the
//!   session, or the peer is gone.
//! - After a reconnect, a session exists on both sides or on none.
//! - A push to users ends once: with the peer's acknowledgement, with a stream of either direction, or
//!   when it has waited too long.
//! - A stream that closes because it is idle loses no frame.
//! - Queued bytes return to zero when the queue is empty, and windows reopen with every break.

use std::{
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    config::NODE_QUOTA,
    effect::{Effect, EndCause},
    flow::Quota,
    health::Health,
    proto::{Batch, Frame, Kind},
    receiver::Receiver,
    sender::{Blocked, Sender},
    served_session::{NewSession, unknown},
    session::LinkedSession,
    timing::Timing,
};
use crate::{error::Result, memory_budget::PeerCharge, session::CloseReason};

/// Both directions of a link, for the sessions of one stream index.
pub(in crate::cluster) struct LinkState<S> {
    pub(super) sender: Sender<S>,
    pub(super) receiver: Receiver<S>,
    pub(super) index: usize,
    /// Whether this node takes no new messages.
    draining: bool,
    /// Whether this node takes no new sessions.
    cordoned: bool,
    /// Whether the peer takes none.
    pub(super) peer_cordoned: bool,
    /// How long the outbound stream may be open without need; `None` for ever.
    pub(super) idle_timeout: Option<Duration>,
    /// Since when the outbound stream is open without need.
    pub(super) unneeded_since: Option<Instant>,
    /// How long the nodes may be cut off from each other before the sessions they share end.
    pub(super) grace: Duration,
    /// The share of the send queue for frames to several sessions, and for those about none.
    pub(super) multicast_quota: Arc<Quota>,
    pub(super) node_quota: Arc<Quota>,
    /// `None` unless the node records metrics.
    pub(super) timing: Option<Box<Timing>>,
}

impl<S: LinkedSession> LinkState<S> {
    pub(in crate::cluster) fn new(
        index: usize,
        grace: Duration,
        idle_timeout: Option<Duration>,
    ) -> Self {
        Self {
            sender: Sender::new(),
            receiver: Receiver::new(),
            index,
            draining: false,
            cordoned: false,
            peer_cordoned: false,
            idle_timeout,
            unneeded_since: None,
            grace,
            multicast_quota: Quota::new(NODE_QUOTA),
            node_quota: Quota::new(NODE_QUOTA),
            timing: None,
        }
    }

    /// Counts what is queued for the node's memory budget from now on.
    pub(super) fn charge_to(&mut self, charge: PeerCharge) {
        self.sender.queue.charge_to(charge);
    }

    pub(super) fn health(&self) -> Health {
        if self.sender.is_closed() {
            Health::Closed
        } else if self.sender.peer_is_draining() {
            Health::Draining
        } else if self.sender.is_down() || self.receiver.is_down() {
            Health::Broken
        } else if self.peer_cordoned {
            Health::Cordoned
        } else if self.receiver.is_suspect() {
            Health::Suspect
        } else {
            Health::Good
        }
    }

    pub(super) fn is_outbound_up(&self) -> bool {
        self.sender.is_up()
    }

    /// Whether a stream is up, in either direction.
    pub(super) fn is_linked(&self) -> bool {
        self.sender.is_up() || self.receiver.is_up()
    }

    /// Whether a direction is broken.
    pub(super) fn is_broken(&self) -> bool {
        self.sender.is_down() || self.receiver.is_down()
    }

    /// Whether frames of this inbound stream are accepted.
    pub(super) fn is_current(&self, stream: u64) -> bool {
        self.receiver.is_current(stream)
    }

    /// Sessions of this gate that the peer serves.
    pub(super) fn sessions(&self) -> usize {
        self.sender.sessions()
    }

    /// Requests of the peer's clients that wait for an answer of this node.
    pub(super) fn served_requests(&self, now: Instant) -> usize {
        self.receiver.requests(now)
    }
}

/// Streams that come and go.
impl<S: LinkedSession> LinkState<S> {
    /// An outbound stream is about to come up. It gets nothing before
    /// [`outbound_up`](LinkState::outbound_up): it would be lost if the peer refuses the stream.
    pub(super) fn connecting(&mut self, stream: u64) {
        self.sender.connecting(stream);
    }

    /// The peer has accepted the outbound stream, and is in this epoch.
    pub(super) fn outbound_up(&mut self, stream: u64, epoch: u64, effects: &mut Vec<Effect<S>>) {
        if self.sender.up(stream, epoch, effects) {
            // The last stream may have lost the notice. Without it the peer would queue answers to
            // the messages that follow on a stream that is gone.
            if let Some(lost) = self.receiver.lost_stream() {
                self.sender.push(Frame::stream_lost(lost));
            }
            for frame in self.receiver.closings() {
                self.sender.push(frame);
            }
            self.sender.repeat(self.receiver.unapplied());
            if self.cordoned {
                self.sender.push(Frame::cordon());
            }
            if self.is_draining() && !self.sender.queue.holds(Kind::Goaway) {
                self.sender.push(Frame::goaway());
            }
        }
    }

    /// The outbound stream broke, or did not come up: what was under way to the peer is lost.
    pub(super) fn outbound_down(&mut self, now: Instant, effects: &mut Vec<Effect<S>>) {
        self.forget_timed();
        // Replies that were under way are lost. Those given while no stream is up are not.
        if self.sender.is_up() {
            effects.push(Effect::CancelCalls);
        }
        self.sender.down(now, self.grace, effects);
        effects.push(Effect::FailCalls);
        self.detach_if_due(now, effects);
    }

    /// The peer opens a stream. It takes the place of the last one.
    ///
    /// With a later epoch the peer has closed this link and begun anew, while this node noticed
    /// nothing of it: sessions of the peer end, and the outbound stream is over, for the peer does
    /// not read it. Answers to what follows would be lost on it.
    ///
    /// # Errors
    /// A later stream is known, or the peer is gone.
    pub(super) fn accept(
        &mut self,
        stream: u64,
        epoch: u64,
        now: Instant,
        effects: &mut Vec<Effect<S>>,
    ) -> Result {
        if self.receiver.accept(stream, effects)? {
            // The previous stream has not ended here, but the peer has ended it.
            self.answers_lost(effects);
        }
        let began_anew = self.receiver.set_epoch(epoch, effects);
        let unread = self.sender.is_of_earlier_epoch(epoch);
        if unread {
            self.outbound_down(now, effects);
        }
        effects.extend(self.sender.want().map(Effect::Wake));
        if (began_anew || unread) && self.draining {
            effects.extend(self.goaway(true).map(Effect::Wake));
        }
        Ok(())
    }

    /// The inbound stream broke: what was under way from the peer is lost.
    pub(super) fn inbound_down(
        &mut self,
        stream: u64,
        now: Instant,
        effects: &mut Vec<Effect<S>>,
    ) -> bool {
        let down = self.receiver.down(stream, now, self.grace, effects);
        if down {
            // Ahead of the messages that follow, so that their answers wait for the next stream.
            let writer = self.sender.push(Frame::stream_lost(stream));
            effects.extend(writer.map(Effect::Wake));
            self.answers_lost(effects);
            self.detach_if_due(now, effects);
        }
        down
    }

    pub(super) fn answers_lost(&mut self, effects: &mut Vec<Effect<S>>) {
        self.forget_timed();
        self.sender.orphan_requests(effects);
        self.sender.fail_user_pushes(effects);
        effects.extend([Effect::CancelCalls, Effect::FailCalls]);
    }

    pub(super) fn detach_if_due(&mut self, now: Instant, effects: &mut Vec<Effect<S>>) {
        if self.grace.is_zero() && (self.receiver.grace_is_over(now) || self.sender.is_down()) {
            self.detach(effects);
        }
    }

    /// Ends all shared sessions: the nodes were cut off from each other for too long.
    pub(super) fn detach(&mut self, effects: &mut Vec<Effect<S>>) {
        let own = self.sender.detach(effects);
        let served = self
            .receiver
            .end_all(|| EndCause::Unreachable, true, effects);
        if own + served > 0 {
            effects.push(Effect::Detached { own, served });
        }
    }

    /// Announces that this node takes no new sessions; again on each stream that comes up. Opens an
    /// idle link for it with `open`.
    pub(super) fn cordon(&mut self, open: bool) -> Option<Waker> {
        self.cordoned = true;
        if self.is_idle() && !open {
            return None;
        }
        self.sender.push(Frame::cordon())
    }

    /// Announces that this node is about to stop and takes no new messages; again on each stream that
    /// comes up. Opens an idle link for it with `open`.
    pub(super) fn goaway(&mut self, open: bool) -> Option<Waker> {
        self.draining = true;
        if self.is_idle() && !open {
            return None;
        }
        self.sender.push(Frame::goaway())
    }

    /// Whether this node is about to stop, and the peer may not know it.
    pub(super) fn is_draining(&self) -> bool {
        self.draining && !self.receiver.is_drained()
    }

    /// Whether everything that the peer sent before it knew of the GOAWAY has arrived, or nothing was
    /// sent.
    pub(super) fn is_drained(&self) -> bool {
        self.receiver.is_drained() || self.is_idle()
    }

    /// Ends the outbound stream in order, behind what is queued.
    pub(super) fn finish(&mut self, effects: &mut Vec<Effect<S>>) {
        self.sender.finish(effects);
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.sender.is_finishing()
    }

    /// Ends all sessions that this node serves for the peer: this node shuts down.
    pub(super) fn end_served(&mut self, effects: &mut Vec<Effect<S>>) {
        self.receiver.end_all(|| EndCause::Shutdown, false, effects);
    }

    /// The peer is gone: all that was shared with it ends.
    pub(super) fn close(&mut self, effects: &mut Vec<Effect<S>>) {
        self.sender.close(effects);
        effects.extend([Effect::CancelCalls, Effect::FailCalls]);
        self.receiver.close(effects);
    }
}

/// Sessions of this gate, which the peer serves.
impl<S: LinkedSession> LinkState<S> {
    /// Queues a message of a session. Returns the writer to wake.
    ///
    /// # Errors
    /// Gives the message back when the session has to wait. [`code::UNAVAILABLE`] when the peer
    /// cannot be reached, [`code::CLOSED`] when the session has ended.
    pub(super) fn message<M>(
        &mut self,
        session: &S,
        message: M,
        frame: impl FnOnce(M) -> Frame,
    ) -> Result<Option<Waker>, Blocked<M>> {
        self.sender.message(session, message, frame)
    }

    /// Ready when the session may have room for another message.
    pub(super) fn poll_room(&mut self, session: i64, waker: &Waker) -> Poll<()> {
        self.sender.poll_room(session, waker)
    }

    pub(super) fn session_bound(&mut self, session: &S) -> Option<Waker> {
        self.sender.session_bound(session)
    }

    /// Whether the peer runs close callbacks of a session of this gate: it serves the session, or has
    /// lost it.
    pub(super) fn runs_callbacks_of(&self, id: i64) -> bool {
        self.sender.windows.contains_key(&id) || self.sender.lost.contains(&id)
    }

    /// Announces the end of a session to a peer that serves it, or to any with `always`.
    pub(super) fn session_closed(
        &mut self,
        session: &S,
        reason: &CloseReason,
        always: bool,
    ) -> Option<Waker> {
        self.sender.session_closed(session, reason, always)
    }
}

/// Sessions of the peer, which this node serves. A handle names one by its id and key.
impl<S: LinkedSession> LinkState<S> {
    /// Returns the session with this id, and serves it if it is new: a node outside of links knew of
    /// it first.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if it has ended, or the peer is gone.
    pub(in crate::cluster) fn serve_unannounced(
        &mut self,
        id: i64,
        open: &mut dyn FnMut(NewSession<'_>) -> S,
    ) -> Result<S> {
        if self.receiver.is_closed() || self.receiver.closed_sessions.contains(id) {
            return Err(unknown(id));
        }
        Ok(self.receiver.serve(id, "", open).clone())
    }

    /// Queues a frame to the gate of a session, within the session's quota.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the session has ended, [`code::TOO_MANY`] above the quota.
    pub(super) fn push(&mut self, id: i64, key: u64, frame: Frame) -> Result<Option<Waker>> {
        let served = self.receiver.open_session(id, key)?;
        self.sender.try_push(frame, &served.quota)
    }

    /// Queues the answer to a request, which `answer` makes. Bounded by the requests in flight, so it is
    /// never refused.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the session has ended, [`code::CONFLICT`] when the request is not in
    /// flight.
    pub(super) fn respond(
        &mut self,
        id: i64,
        key: u64,
        request: u64,
        answer: impl FnOnce() -> Result<Bytes>,
    ) -> Result<Option<Waker>> {
        self.receiver.open_session(id, key)?.answered(request)?;
        Ok(self.sender.push(Frame::response(id, request, answer())))
    }

    /// Asks the gate to close the client's connection. Only the first time counts.
    ///
    /// # Errors
    /// [`code::CLOSED`].
    pub(super) fn close_session(
        &mut self,
        id: i64,
        key: u64,
        reason: CloseReason,
    ) -> Result<Option<Waker>> {
        let served = self.receiver.open_session(id, key)?;
        served.set_closing(reason.clone());
        Ok(self.sender.push(Frame::close(id, reason)))
    }

    /// Counts a message as finished by its handler.
    pub(super) fn finished(&mut self, id: i64, key: u64) -> Option<Waker> {
        self.receiver.finished(id, key)
    }

    pub(super) fn is_open(&mut self, id: i64, key: u64) -> bool {
        self.receiver.open_session(id, key).is_ok()
    }
}

/// What leaves on the streams.
impl<S: LinkedSession> LinkState<S> {
    /// The next batch of the outbound stream; `None` when the stream is over.
    pub(super) fn poll_batch(
        &mut self,
        stream: u64,
        waker: &Waker,
        readers: &mut Vec<Waker>,
    ) -> Poll<Option<Batch>> {
        self.sender.poll_batch(stream, waker, readers)
    }

    /// The next batch of the answers to an inbound stream; `None` when the stream is over.
    pub(super) fn poll_answers(&mut self, stream: u64, waker: &Waker) -> Poll<Option<Batch>> {
        self.receiver.poll_answers(stream, waker)
    }
}

impl<S: LinkedSession> LinkState<S> {
    #[cfg(any(test, feature = "admin"))]
    pub(super) fn queued_bytes(&self) -> usize {
        self.sender.queued_bytes()
    }
}

#[cfg(test)]
impl<S: LinkedSession> LinkState<S> {
    pub(super) fn sender(&self) -> &Sender<S> {
        &self.sender
    }

    pub(super) fn receiver(&self) -> &Receiver<S> {
        &self.receiver
    }
}
