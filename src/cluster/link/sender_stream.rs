//! How the outbound stream comes and goes. No I/O.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    config::PING_AFTER,
    effect::Effect,
    proto::{Batch, Frame},
    sender::{Phase, Sender},
    session::LinkedSession,
};

impl<S: LinkedSession> Sender<S> {
    /// Ready when a stream is to be opened. Otherwise `opener` is kept, and woken with the first frame.
    pub(super) fn poll_open(&mut self, opener: &Waker) -> Poll<()> {
        match self.phase {
            Phase::Closed => Poll::Pending,
            Phase::Idle if !self.is_opening() => {
                self.writer = Some(opener.clone());
                Poll::Pending
            }
            Phase::Idle => {
                (self.phase, self.wanted) = (Phase::Opening, false);
                Poll::Ready(())
            }
            _ => Poll::Ready(()),
        }
    }

    /// Whether a stream is about to come up, and none was up or broke before.
    pub(super) fn is_opening(&self) -> bool {
        match self.phase {
            Phase::Idle => !self.queue.is_empty() || self.wanted && !self.finishing,
            phase => phase == Phase::Opening,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && !self.is_opening()
    }

    /// Opens a stream although nothing is queued, for the peer has opened one or sends. Returns the
    /// opener to wake.
    pub(super) fn want(&mut self) -> Option<Waker> {
        self.wanted |= matches!(self.phase, Phase::Idle | Phase::Retiring);
        self.writer.take_if(|_| self.phase == Phase::Idle)
    }

    /// A stream is about to come up. It gets nothing before it [is](Sender::up).
    pub(super) fn connecting(&mut self, stream: u64) {
        self.stream = stream;
    }

    /// A stream is up: every session of the last stream is named again, ahead of what is queued,
    /// unless that stream was closed in order. False if the stream is not the current one.
    pub(super) fn up(&mut self, stream: u64, epoch: u64, effects: &mut Vec<Effect<S>>) -> bool {
        if self.phase == Phase::Closed || self.stream != stream {
            return false;
        }
        let unsent = self.queue.sessions_opened();
        let mut resumed: Vec<_> = self
            .windows
            .values()
            .filter(|window| !window.attaching && !unsent.contains(&window.session.id()))
            .collect();
        resumed.sort_unstable_by_key(|window| window.number);
        let frames: Vec<_> = resumed
            .into_iter()
            .map(|window| Frame::session_open(&window.session, window.number, window.binds, true))
            .chain(self.resync.then(Frame::resync_done))
            .collect();
        for frame in frames.into_iter().rev() {
            self.queue.push_front(frame);
        }
        self.phase = Phase::Up;
        self.resync = true;
        self.accepted_by = epoch;
        effects.extend(self.writer.take().map(Effect::Wake));
        true
    }

    /// The stream broke, or did not come up. Requests in flight are orphaned.
    pub(super) fn down(&mut self, now: Instant, grace: Duration, effects: &mut Vec<Effect<S>>) {
        if self.phase == Phase::Closed {
            return;
        }
        // Requests that a peer waits for were failed there when the stream broke, so their answers
        // are dropped. Answers given since are for requests that came later, and stay.
        let was_up = self.phase == Phase::Up;
        if !matches!(self.phase, Phase::Down(_)) {
            self.phase = Phase::Down(now.checked_add(grace));
        }
        self.stream = 0;
        (self.resync, self.retiring, self.unheard) = (true, false, false);
        self.fail_user_pushes(effects);
        self.queue
            .retain(|frame| !(frame.is_request() || was_up && frame.is_answer()));
        self.orphan_requests(effects);
    }

    /// The peer does not read this stream any more. Returns whether it is up. One that is about to
    /// come up never does: the notice may overtake the acceptance, which is on another connection.
    pub(super) fn lose(&mut self, stream: u64) -> bool {
        let current = self.stream == stream;
        if current && self.phase != Phase::Up {
            self.stream = 0;
        }
        current && self.phase == Phase::Up
    }

    /// Whether the current stream is one that a peer which began anew with `epoch` does not read.
    pub(super) fn is_of_earlier_epoch(&self, epoch: u64) -> bool {
        self.phase == Phase::Up && (1..epoch).contains(&self.accepted_by)
    }

    /// Queues a PING if this node `waits` and has received nothing for `missed_probes`, behind whatever is
    /// queued: what is sent meanwhile need not be answered. Returns whether the partition grace of a broken
    /// stream is over.
    pub(super) fn probe(
        &mut self,
        now: Instant,
        waits: bool,
        missed_probes: u32,
        effects: &mut Vec<Effect<S>>,
    ) -> bool {
        let silent = missed_probes > 0 && missed_probes.is_multiple_of(PING_AFTER);
        if waits && silent && self.phase == Phase::Up {
            effects.extend(self.push(Frame::ping(0)).map(Effect::Wake));
        }
        match self.phase {
            Phase::Down(Some(detach_at)) if detach_at <= now => {
                self.phase = Phase::Down(None);
                true
            }
            _ => false,
        }
    }

    /// Closes the stream when the queue is empty. Returns the writer to wake.
    pub(super) fn close_idle(&mut self) -> Option<Waker> {
        self.retiring = self.phase == Phase::Up;
        self.writer.take_if(|_| self.retiring)
    }

    /// Returns the last batch of a stream that closes in order.
    pub(super) fn retire(&mut self) -> Batch {
        (self.phase, self.retiring) = (Phase::Retiring, false);
        Batch {
            frames: vec![Frame::idle()],
        }
    }

    /// The peer has answered IDLE: it has received everything.
    pub(super) fn retired(&mut self) {
        if self.phase == Phase::Retiring {
            self.phase = Phase::Idle;
            self.stream = 0;
            (self.resync, self.unheard) = (false, false);
        }
    }

    /// Ends the stream in order, behind what is queued.
    pub(super) fn finish(&mut self, effects: &mut Vec<Effect<S>>) {
        self.finishing = true;
        self.wake_all(effects);
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }
}
