//! When a link is open: its streams come up with the first frame, are probed while something is
//! awaited, and close after a time without any, when nothing is shared or owed. No I/O.
//!
//! Each node closes the stream it has opened. The last frame of such a stream is IDLE, which the peer
//! answers on the answer stream, and to which it closes its own if nothing is shared or owed there
//! either. A frame that crosses the IDLE finds the other stream open, and opens this one again.

use std::task::{Poll, Waker};

use tokio::time::Instant;

use super::{
    config::PROBE_INTERVAL,
    effect::Effect,
    proto::Frame,
    receiver::{Phase as Inbound, Receiver},
    sender::Phase as Outbound,
    session::LinkedSession,
    state::LinkState,
};

/// Calls on a stream that the driver keeps.
#[derive(Clone, Copy, Default)]
pub(super) struct OpenCalls {
    /// Whether calls of this node wait for their replies.
    pub(super) sent: bool,
    /// Whether calls of the peer have not been answered.
    pub(super) served: bool,
}

impl<S: LinkedSession> LinkState<S> {
    /// Ready when the outbound stream is to be opened. Otherwise `opener` is kept, and woken when it
    /// is.
    pub(super) fn poll_open(&mut self, opener: &Waker) -> Poll<()> {
        self.sender.poll_open(opener)
    }

    /// Whether no stream is open in either direction, nor about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.sender.is_idle() && self.receiver.phase == Inbound::Waiting
    }

    /// Whether IDLE was sent and not answered yet.
    #[cfg(test)]
    pub(super) fn is_retiring(&self) -> bool {
        self.sender.phase == Outbound::Retiring
    }

    /// Whether the outbound stream was closed in order.
    pub(super) fn has_retired(&self) -> bool {
        self.sender.phase == Outbound::Idle
    }

    /// Whether a stream is up, in either direction, or the first attempt to open one is under way.
    pub(super) fn is_active(&self) -> bool {
        self.is_linked() || self.sender.is_opening() || self.sender.phase == Outbound::Retiring
    }

    /// Counts a probe: sends a PING, suspects or gives up a silent peer, detaches sessions after the
    /// partition grace, closes the stream after the idle timeout. Returns when to probe again; `None`
    /// if not before something is sent or received, or a stream comes or goes.
    ///
    /// Silence counts while something is awaited. It is counted in probes, not read from the clock: a
    /// node that was itself suspended probes less often, and suspects no peer for it.
    pub(super) fn probe(
        &mut self,
        now: Instant,
        calls: OpenCalls,
        effects: &mut Vec<Effect<S>>,
    ) -> Option<Instant> {
        let waits = self.waits(calls);
        if self.receiver.probe(waits, effects) {
            if self.receiver.is_up() {
                self.inbound_down(self.receiver.stream, now, effects);
                effects.push(Effect::InboundClosed);
            } else {
                self.receiver.phase = Inbound::Down(now.checked_add(self.grace));
                self.answers_lost(effects);
                self.detach_if_due(now, effects);
            }
        }
        effects.extend(self.sender.refresh_stale().map(Effect::Wake));
        let missed = self.receiver.missed_probes;
        let overdue = self.sender.probe(now, waits, missed, effects);
        if self.receiver.grace_is_over(now) || overdue {
            self.detach(effects);
        }

        self.sender.probe_user_pushes(now, effects);
        let used = std::mem::take(&mut self.sender.used);
        if used
            && self.sender.is_up()
            && let Some(number) = self.ping_due(now)
        {
            effects.extend(self.sender.push(Frame::ping(number)).map(Effect::Wake));
        }
        let idle_at = self.idle_at(now, used || self.is_needed(calls));
        if idle_at.is_some_and(|at| at <= now) {
            effects.extend(self.sender.close_idle().map(Effect::Wake));
        }
        let detaches = matches!(self.sender.phase, Outbound::Down(Some(_)))
            || matches!(self.receiver.phase, Inbound::Down(Some(_)));
        let soon = used || waits || detaches || self.sender.any_stale || self.sender.retiring;
        if soon {
            return Some(now + PROBE_INTERVAL);
        }
        idle_at
    }

    /// Whether the peer is expected to send something.
    fn waits(&self, calls: OpenCalls) -> bool {
        match self.sender.phase {
            Outbound::Up => {
                let sender = &self.sender;
                calls.sent
                    || sender.unheard
                    || sender.requests > 0
                    || !sender.user_pushes.is_empty()
                    || !sender.queue.is_empty()
            }
            Outbound::Opening | Outbound::Retiring => true,
            Outbound::Idle => self.sender.is_opening(),
            Outbound::Down(_) | Outbound::Closed => false,
        }
    }

    /// Whether something is shared or owed, so that the streams must stay open.
    fn is_needed(&self, calls: OpenCalls) -> bool {
        calls.served
            || self.waits(calls)
            || self.receiver.is_down()
            || self.sender.sessions() > 0
            || !self.receiver.sessions.is_empty()
            || !self.receiver.answers.is_empty()
            || self.is_draining()
    }

    /// When the outbound stream is to be closed, if it is not needed until then.
    fn idle_at(&mut self, now: Instant, needed: bool) -> Option<Instant> {
        if needed || self.sender.phase != Outbound::Up {
            self.unneeded_since = None;
            return None;
        }
        let since = *self.unneeded_since.get_or_insert(now);
        since.checked_add(self.idle_timeout?)
    }

    /// The peer has closed its stream in order.
    pub(super) fn peer_idle(&mut self, calls: OpenCalls) -> Option<Waker> {
        if self.idle_timeout.is_none() || self.is_needed(calls) {
            return None;
        }
        self.sender.close_idle()
    }

    /// Handles IDLE, the last frame of an inbound stream.
    pub(super) fn handle_idle(&mut self, effects: &mut Vec<Effect<S>>) {
        self.receiver.phase = Inbound::Waiting;
        self.receiver.closed_in_order = self.receiver.stream;
        self.receiver.reset_answers(effects);
        effects.push(Effect::PeerIdle);
    }

    /// Answers a PING, unless something else is about to be sent. One with a number is timed, and
    /// answered unless the peer sends more of them than it reads answers.
    pub(super) fn handle_ping(&mut self, number: u64, effects: &mut Vec<Effect<S>>) {
        if self.sender.is_down() {
            return;
        }
        let writer = match number {
            0 if self.sender.queue.is_empty() => self.sender.push(Frame::keepalive(0)),
            0 => None,
            _ => {
                let answer = Frame::keepalive(number);
                let queued = self.sender.try_push(answer, &self.node_quota);
                queued.unwrap_or_default()
            }
        };
        effects.extend(writer.map(Effect::Wake));
    }
}

/// What is timed.
impl<S: LinkedSession> LinkState<S> {
    /// Times requests and PINGs from now on.
    pub(super) fn measure(&mut self) {
        self.timing = Some(Box::default());
    }

    /// Whether the next request that is queued is to be timed.
    pub(super) fn times_next_request(&self) -> bool {
        self.timing.as_ref().is_some_and(|timing| timing.is_due())
    }

    /// Counts a request that was queued. Times it if its route and the time are given.
    pub(super) fn request_queued(
        &mut self,
        session: i64,
        request: u64,
        timed: Option<(Box<str>, Instant)>,
    ) {
        if let Some(timing) = &mut self.timing {
            timing.sent(session, request, timed);
        }
    }

    pub(super) fn request_answered(
        &mut self,
        session: i64,
        (request, failed): (u64, bool),
        effects: &mut Vec<Effect<S>>,
    ) {
        let timing = self.timing.as_mut();
        let timed = timing.and_then(|timing| timing.answered(session, request));
        effects.extend(timed.map(|request| Effect::RequestTimed { request, failed }));
    }

    /// The number of a PING that is to be sent now, on a stream that is in use.
    pub(super) fn ping_due(&mut self, now: Instant) -> Option<u64> {
        self.timing.as_mut()?.ping(now)
    }

    /// A KEEPALIVE that answers the PING of this number; 0 for none.
    pub(super) fn handle_keepalive(&mut self, ping: u64, effects: &mut Vec<Effect<S>>) {
        let timing = self.timing.as_mut().filter(|_| ping != 0);
        let sent = timing.and_then(|timing| timing.pong(ping));
        effects.extend(sent.map(Effect::PingTimed));
    }

    /// A stream broke: what was under way is not answered.
    pub(super) fn forget_timed(&mut self) {
        if let Some(timing) = &mut self.timing {
            timing.forget();
        }
    }
}

impl<S: LinkedSession> Receiver<S> {
    /// Whether the partition grace of a broken stream is over; true once.
    pub(super) fn grace_is_over(&mut self, now: Instant) -> bool {
        match self.phase {
            Inbound::Down(Some(detach_at)) if detach_at <= now => {
                self.phase = Inbound::Down(None);
                true
            }
            _ => false,
        }
    }
}
