//! Handshake and heartbeat of one client: no I/O, no lock, takes `now`.

use std::time::Duration;

use tokio::time::Instant;

use crate::{packet::Kind, session::CloseReason};

/// Where a client is in its handshake.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    #[default]
    Awaited,
    Answered,
    Acknowledged,
}

/// Handshake and heartbeat of one client.
#[derive(Debug)]
pub(super) struct Liveness {
    handshake: Handshake,
    heartbeat: Option<Duration>,
    next_heartbeat: Option<Instant>,
    last_seen: Instant,
    /// When the handshake must be acknowledged; `None` once it is.
    handshake_by: Option<Instant>,
}

/// What a packet requires.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Answer the handshake.
    Handshake,
    /// Send what waited for the acknowledgement.
    Acknowledged,
    /// Dispatch the message in it.
    Data,
    Nothing,
    Close(CloseReason),
}

/// What a deadline requires.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Heartbeat,
    Nothing,
    Close(CloseReason),
}

/// Heartbeats fall on multiples of this part of the interval, so that one wake-up of an I/O thread
/// serves many of the idle connections: 10 of 5,000 with an interval of 10 s. They come that much early
/// at most, never late: a silent client gets its second one before it is closed, as in Go nano.
const PHASES: u32 = 512;

impl Liveness {
    /// Begins `now`, at a gate that began at `gate`: what heartbeats are in phase with.
    pub(super) fn new(
        heartbeat: Option<Duration>,
        handshake_timeout: Duration,
        (gate, now): (Instant, Instant),
    ) -> Self {
        Self {
            handshake: Handshake::Awaited,
            heartbeat,
            next_heartbeat: heartbeat.map(|interval| {
                let next = now + interval;
                next - since_phase(next.saturating_duration_since(gate), interval / PHASES)
            }),
            last_seen: now,
            handshake_by: Some(now + handshake_timeout),
        }
    }

    /// Applies the rules of Go nano: an acknowledgement alone is enough to begin, every handshake is
    /// answered and needs another acknowledgement, and data before one closes the connection.
    pub(super) fn receive(&mut self, kind: Kind, now: Instant) -> Step {
        self.last_seen = now;
        match (kind, self.handshake) {
            (Kind::Handshake, _) => {
                self.handshake = Handshake::Answered;
                Step::Handshake
            }
            (Kind::Ack, _) => {
                self.handshake = Handshake::Acknowledged;
                match self.handshake_by.take() {
                    Some(_) => Step::Acknowledged,
                    None => Step::Nothing,
                }
            }
            (Kind::Data, Handshake::Acknowledged) => Step::Data,
            (Kind::Data, _) => Step::Close(CloseReason::Protocol(
                "data before the handshake was acknowledged".to_owned(),
            )),
            (Kind::Heartbeat | Kind::Kick, _) => Step::Nothing,
        }
    }

    /// Gives the client back the `spent` time of a check, which counts against no deadline of it.
    pub(super) fn extend(&mut self, spent: Duration, now: Instant) {
        self.handshake_by = self.handshake_by.map(|by| by + spent);
        self.touch(now);
    }

    /// Restarts the silence of a client whose socket was not read: its packets may wait there.
    pub(super) fn touch(&mut self, now: Instant) {
        self.last_seen = now;
    }

    /// Handles a deadline that may have passed. Once per interval, a client that was silent for two
    /// intervals times out, and any other is sent a heartbeat.
    pub(super) fn on_deadline(&mut self, now: Instant) -> Tick {
        if self.handshake_by.is_some_and(|by| by <= now) {
            return Tick::Close(CloseReason::HandshakeTimeout);
        }
        let (Some(interval), Some(due)) = (self.heartbeat, self.next_heartbeat) else {
            return Tick::Nothing;
        };
        if now < due {
            return Tick::Nothing;
        }
        // Measured at the deadline, not at `now`: a late call must not lengthen the silence.
        if due.saturating_duration_since(self.last_seen) > interval * 2 {
            return Tick::Close(CloseReason::HeartbeatTimeout);
        }
        // Missed heartbeats are not made up for. The next one is in phase again, and the client has an
        // interval to answer this one.
        let mut next = due + interval;
        if next <= now {
            next = now + interval;
            next -= since_phase(next - due, interval / PHASES);
        }
        self.next_heartbeat = Some(next);
        Tick::Heartbeat
    }

    /// Returns when [`on_deadline`](Liveness::on_deadline) must be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.handshake_by
            .into_iter()
            .chain(self.next_heartbeat)
            .min()
    }
}

/// The time since the last multiple of `step`; less than a step.
fn since_phase(since: Duration, step: Duration) -> Duration {
    let behind = since.as_nanos().checked_rem(step.as_nanos());
    let behind = behind.and_then(|behind| u64::try_from(behind).ok());
    Duration::from_nanos(behind.unwrap_or_default())
}
