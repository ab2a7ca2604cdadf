//! Queue, drain, loss and close of one client: no I/O, no lock, takes `now`.
//!
//! The connection handle keeps it under its lock. `Liveness`, which belongs to the connection's task,
//! is a file of its own.
//!
//! ```text
//!          close(Shutdown)             no request in flight, or closed again
//!   Open ------------------> Draining ---------------------------------------+
//!    |                          |                                            v
//!    +------ any other reason --+----- queue full: SlowClient ----------> Flushing ---> Closed
//! ```

use std::{collections::VecDeque, mem, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    close_code::{Ending, Greeted},
    live_limits::LiveLimits,
    liveness::Handshake,
    resume::replay::Replay,
    route_text::RouteText,
    send_queue::SendQueue,
};
use crate::{
    error::{Error, code},
    in_flight::InFlight,
    kick::Kick,
    packet::Kind,
    resume::Lost,
    session::CloseReason,
    trace::OpenSpan,
};

/// The time limit for writing the last packets of a closing connection. The same limit then applies
/// to the client closing its side.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The requests of a client that wait for an answer.
pub(super) type Requests = InFlight<Unanswered>;

/// One client's phase, its queued packets and its unanswered requests.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    pub(super) phase: Phase,
    /// Once it is acknowledged the client may be sent messages.
    pub(super) handshake: Handshake,
    /// Whether the client knows the error bit of responses.
    pub(super) error_flag: bool,
    pub(super) queue: SendQueue,
    /// Messages that wait for the acknowledgement.
    pub(super) held: Option<Box<SendQueue>>,
    pub(super) in_flight: Requests,
    /// Set for a client that may return after a lost connection.
    pub(super) replay: Option<Box<Replay>>,
}

/// What is known of a request in flight.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    /// For the log of its timeout.
    pub(super) route: RouteText,
    /// The span of a sampled request. Ended and dropped without the lock.
    pub(super) span: Option<Box<OpenSpan>>,
}

#[derive(Debug, Default)]
pub(super) enum Phase {
    #[default]
    Open,
    /// Without a connection: what is sent waits for the client's return.
    Away,
    /// Away, and about to move to another gate: what is sent is refused, and a close is only noted.
    Moving(Option<Ending>),
    /// Shutting down: nothing is read any more, requests in flight may be answered.
    Draining,
    /// The reason is final. The last packets are queued, then written until `by`, which is set
    /// when the task first finds that the socket does not take them at once.
    Flushing {
        ending: Ending,
        stage: CloseStage,
        by: Option<Instant>,
    },
    Closed,
}

/// Which of the last packets are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseStage {
    Begun,
    RequestsFailed,
    Kicked,
}

/// What the connection's task has to do next for the end of a connection. Each step comes once,
/// except [`Process`](CloseStep::Process) and [`Flush`](CloseStep::Flush).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CloseStep {
    /// Nothing: the connection stays.
    Stay,
    /// Queue error replies for the requests in flight.
    FailRequests,
    /// Let the pipeline process what is queued first.
    Process,
    /// Queue a kick packet.
    QueueKick(Kick),
    /// Write what is queued, at most until `by`, then close.
    Flush { ending: Ending, by: Instant },
}

/// What the connection's task has to write.
pub(super) enum Output {
    Packets,
    Nothing,
    /// The client is away: it has returned on another connection, or its session is to move. This
    /// connection is over.
    Away,
    /// Write the packets, at most until `by`, then close.
    Flush {
        ending: Ending,
        by: Instant,
    },
}

/// What is left to do when the socket takes no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Wait for the socket or for a wake-up.
    Wait,
    /// Wait for the socket until this time, then close.
    FlushBy(Instant),
    /// Close now.
    Abort(Ending),
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection is closing or closed.
    Closed,
    /// The queue is full, and the push is dropped.
    Dropped,
    /// The queue is full, and the connection closes.
    Disconnected,
}

impl ClientState {
    /// Whether input is still wanted.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether a full socket, or none, is all that the connection's task has to know.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Away)
    }

    /// Whether pushes and responses may still be queued.
    ///
    /// # Errors
    /// [`Refusal::Closed`] once the last packets are being queued.
    pub(super) fn check_output(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Open | Phase::Away | Phase::Draining => Ok(()),
            Phase::Moving(_) | Phase::Flushing { .. } | Phase::Closed => Err(Refusal::Closed),
        }
    }

    /// The queue of pushes and responses. What is queued before the client has acknowledged the
    /// handshake waits for that.
    pub(super) fn messages(&mut self) -> &mut SendQueue {
        if self.handshake == Handshake::Acknowledged {
            &mut self.queue
        } else {
            self.held.get_or_insert_default()
        }
    }

    /// Notes what the client's handshake says.
    pub(super) fn set_error_flag(&mut self, known: bool) {
        self.error_flag = known;
    }

    /// Whether a failed request is answered with the error bit set.
    pub(super) fn error_flag(&self) -> bool {
        self.error_flag
    }

    /// Notes that a handshake reply is queued.
    pub(super) fn answer(&mut self) {
        if self.handshake == Handshake::Awaited {
            self.handshake = Handshake::Answered;
        }
    }

    /// Notes that the client has acknowledged the handshake: releases the messages that waited, in
    /// order, behind the handshake reply.
    pub(super) fn acknowledge(&mut self) {
        self.handshake = Handshake::Acknowledged;
        if let Some(replay) = &mut self.replay {
            replay.acknowledge(&mut self.queue);
        }
        if let Some(held) = self.held.take() {
            self.queue.append(*held);
        }
    }

    /// Checks that a message of `len` bytes may be queued. Closes the connection of a slow client,
    /// unless the message is `droppable` and the configuration drops pushes.
    ///
    /// # Errors
    /// The message must not be queued.
    pub(super) fn admit(
        &mut self,
        len: usize,
        droppable: bool,
        limits: &LiveLimits,
    ) -> Result<(), Refusal> {
        self.check_output()?;
        let has_room = match self.room_away(len, limits) {
            // What is to be processed is in the queue still when the client is back.
            Some(room) if self.messages().has_unprocessed() => {
                room && !is_full(self.messages(), len, limits)
            }
            Some(room) => room,
            None => !is_full(self.messages(), len, limits),
        };
        match has_room {
            true => Ok(()),
            false => self.refuse(droppable, limits),
        }
    }

    /// The bytes that wait for the client or for its acknowledgement.
    pub(super) fn queued_bytes(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.bytes());
        let kept = self
            .replay
            .as_ref()
            .map_or(0, |replay| replay.unacknowledged().0);
        self.queue.bytes() + held + kept
    }

    /// Whether nothing waits but in the queue: neither for an acknowledgement nor to be sent again.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.held.is_none() && self.replay.is_none()
    }

    /// Refuses a message because the client reads too slowly; as [`admit`](ClientState::admit).
    ///
    /// # Errors
    /// Always.
    pub(super) fn refuse(&mut self, droppable: bool, limits: &LiveLimits) -> Result<(), Refusal> {
        self.check_output()?;
        if droppable && limits.drops_pushes() {
            return Err(Refusal::Dropped);
        }
        self.flush(CloseReason::SlowClient);
        Err(Refusal::Disconnected)
    }

    /// Whether a message of `len` bytes fits behind what waits for a client that is away; `None` if it is
    /// not.
    fn room_away(&self, len: usize, limits: &LiveLimits) -> Option<bool> {
        let (Phase::Away, Some(replay)) = (&self.phase, &self.replay) else {
            return None;
        };
        let (mut bytes, mut messages) = replay.unacknowledged();
        for queue in [Some(&self.queue), self.held.as_deref()]
            .into_iter()
            .flatten()
        {
            bytes += queue.bytes();
            messages += queue.messages();
        }
        let fits = bytes + len <= limits.unacknowledged_bytes();
        Some(messages == 0 || fits && messages < limits.unacknowledged_messages())
    }

    /// Moves all packets that may be sent to `into` and returns their number.
    pub(super) fn take(&mut self, into: &mut VecDeque<Bytes>) -> usize {
        match &mut self.replay {
            Some(replay) => replay.take(&mut self.queue, into),
            None => self.queue.take(into),
        }
    }

    /// Takes the connection from a client that may return; false if it may not.
    pub(super) fn detach(&mut self) -> bool {
        if self.replay.is_some() && matches!(self.phase, Phase::Open) {
            self.phase = Phase::Away;
        }
        self.is_away()
    }

    /// Whether the client is away.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    /// Checks that a client can return after it has received so many packets.
    ///
    /// # Errors
    /// It cannot; nothing changes.
    pub(super) fn check_return(&self, received: u64) -> Result<(), Lost> {
        match (&self.phase, &self.replay) {
            (Phase::Open | Phase::Away, Some(replay)) => replay.check(received),
            _ => Err(Lost::Closed),
        }
    }

    /// Gives a client that was away its new connection, whose handshake is not answered yet.
    ///
    /// # Errors
    /// It cannot go on after `received` packets.
    pub(super) fn attach(&mut self, received: u64) -> Result<(), Lost> {
        let (Phase::Away, Some(replay)) = (&self.phase, &mut self.replay) else {
            return Err(Lost::Closed);
        };
        if let Some(held) = self.held.take() {
            self.queue.append(*held);
        }
        replay.resume(received, &mut self.queue)?;
        if self.queue.has_unprocessed() {
            self.held = Some(Box::new(mem::take(&mut self.queue)));
        }
        self.phase = Phase::Open;
        self.handshake = Handshake::Awaited;
        Ok(())
    }

    /// Checks that a handshake reply or a heartbeat of `len` bytes may be queued. A full queue
    /// closes the connection, but only refuses a heartbeat: its packets are signs of life, too.
    pub(super) fn admit_control(&mut self, kind: Kind, len: usize, limits: &LiveLimits) -> bool {
        if !self.is_open() {
            return false;
        }
        let full = is_full(&self.queue, len, limits);
        if full && kind != Kind::Heartbeat {
            self.flush(CloseReason::SlowClient);
        }
        !full
    }

    /// Begins to close. A shutdown drains first; a second call ends the drain. The first reason
    /// counts.
    pub(super) fn close(&mut self, ending: impl Into<Ending>) {
        let ending = ending.into();
        match self.phase {
            Phase::Open if ending.reason == CloseReason::Shutdown => self.phase = Phase::Draining,
            Phase::Open | Phase::Away => self.flush(ending),
            Phase::Draining => self.flush(CloseReason::Shutdown),
            // A shutdown is this gate's: what else closes the session counts at the next one.
            Phase::Moving(ref mut closed) => {
                let noted = closed.as_ref().map(|closed| &closed.reason);
                if noted.is_none_or(|noted| *noted == CloseReason::Shutdown) {
                    *closed = Some(ending);
                }
            }
            Phase::Flushing { .. } | Phase::Closed => {}
        }
    }

    /// Returns what to do before the connection may close. `now` starts the flush deadline.
    pub(super) fn next_step(&mut self, now: Instant) -> CloseStep {
        self.end_drain();
        let client = self.greeted();
        let Phase::Flushing { ending, stage, by } = &mut self.phase else {
            return CloseStep::Stay;
        };
        if *stage == CloseStage::Begun {
            *stage = CloseStage::RequestsFailed;
            match ending.reason {
                // The client does not read: nothing more can reach it.
                CloseReason::SlowClient => self.queue.clear(),
                // For any other reason unanswered requests end with the connection.
                CloseReason::Shutdown => return CloseStep::FailRequests,
                _ => {}
            }
        }
        if self.queue.has_unprocessed() {
            return CloseStep::Process;
        }
        if mem::replace(stage, CloseStage::Kicked) != CloseStage::Kicked
            && let Some(kick) = ending.kick(client)
        {
            return CloseStep::QueueKick(kick);
        }
        CloseStep::Flush {
            ending: ending.clone(),
            by: *by.get_or_insert(now + FLUSH_TIMEOUT),
        }
    }

    /// Returns how to go on when the socket takes no more. `now` starts the flush deadline.
    pub(super) fn blocked(&mut self, now: Instant) -> Blocked {
        self.end_drain();
        match &mut self.phase {
            Phase::Flushing { ending, .. } if ending.reason == CloseReason::SlowClient => {
                Blocked::Abort(ending.clone())
            }
            Phase::Flushing { by, .. } => Blocked::FlushBy(*by.get_or_insert(now + FLUSH_TIMEOUT)),
            // As `Output::Away`.
            Phase::Away => Blocked::Abort(CloseReason::Client.into()),
            Phase::Open | Phase::Moving(_) | Phase::Draining | Phase::Closed => Blocked::Wait,
        }
    }

    /// Returns why the connection is flushing.
    pub(super) fn ending(&self) -> Option<Ending> {
        match &self.phase {
            Phase::Flushing { ending, .. } => Some(ending.clone()),
            _ => None,
        }
    }

    /// Returns what is known of the client.
    pub(super) fn greeted(&self) -> Greeted {
        Greeted {
            answered: self.handshake != Handshake::Awaited,
            acknowledged: self.handshake == Handshake::Acknowledged,
            extended: self.error_flag || self.replay.is_some(),
        }
    }

    /// Closes, and returns what was left, to be dropped without a lock.
    pub(super) fn end(&mut self) -> Self {
        let closed = Self {
            phase: Phase::Closed,
            ..Self::default()
        };
        mem::replace(self, closed)
    }

    /// A drain ends with the last request in flight.
    fn end_drain(&mut self) {
        if matches!(self.phase, Phase::Draining) && self.in_flight.is_empty() {
            self.flush(CloseReason::Shutdown);
        }
    }

    /// Begins to queue the last packets. A close by the application or the node does not wait for
    /// the acknowledgement, which may be on its way: what waited follows the handshake reply.
    fn flush(&mut self, ending: impl Into<Ending>) {
        let ending = ending.into();
        let sends_rest = matches!(
            ending.reason,
            CloseReason::Kicked(_)
                | CloseReason::KickedWith(_)
                | CloseReason::Closed(_)
                | CloseReason::Shutdown
        );
        if sends_rest && self.handshake == Handshake::Answered {
            self.acknowledge();
        }
        self.phase = Phase::Flushing {
            ending,
            stage: CloseStage::Begun,
            by: None,
        };
    }
}

/// Whether a packet of `len` bytes exceeds the limits of a queue.
fn is_full(queue: &SendQueue, len: usize, limits: &LiveLimits) -> bool {
    queue.is_full(len, limits.queue_bytes(), limits.queue_messages())
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Closed => Self::new(code::CLOSED, "the connection is closed"),
            Refusal::Dropped => Self::new(code::TOO_MANY, "the client reads too slowly"),
            Refusal::Disconnected => Self::new(
                code::CLOSED,
                "the client reads too slowly and is disconnected",
            ),
        }
    }
}

#[cfg(test)]
mod returns;
#[cfg(test)]
mod tests;
