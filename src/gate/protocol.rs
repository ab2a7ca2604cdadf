//! Handshake and heartbeat of one client: no I/O, takes `now`.

use std::time::Duration;

use tokio::time::Instant;

use crate::{packet::Kind, session::CloseReason};

/// Where a client is in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Handshaken,
    Working,
}

#[derive(Debug)]
pub(crate) struct Protocol {
    phase: Phase,
    heartbeat: Option<Duration>,
    next_heartbeat: Option<Instant>,
    last_seen: Instant,
    /// Until when the client must have come to work; `None` once it has.
    handshake_by: Option<Instant>,
}

/// What a packet asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Answer the handshake.
    Handshake,
    /// Take the message in it.
    Data,
    Nothing,
    Close(CloseReason),
}

/// What a point in time asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    Heartbeat,
    Nothing,
    Close(CloseReason),
}

impl Protocol {
    pub(crate) fn new(
        heartbeat: Option<Duration>,
        handshake_timeout: Duration,
        now: Instant,
    ) -> Self {
        Self {
            phase: Phase::Start,
            heartbeat,
            next_heartbeat: heartbeat.map(|interval| now + interval),
            last_seen: now,
            handshake_by: Some(now + handshake_timeout),
        }
    }

    /// The rules of nano: an acknowledgement is enough to begin, each handshake is answered and
    /// asks for another acknowledgement, and data without one ends the connection.
    pub(crate) fn receive(&mut self, kind: Kind, now: Instant) -> Step {
        self.last_seen = now;
        match (kind, self.phase) {
            (Kind::Handshake, _) => {
                self.phase = Phase::Handshaken;
                Step::Handshake
            }
            (Kind::Ack, _) => {
                self.phase = Phase::Working;
                self.handshake_by = None;
                Step::Nothing
            }
            (Kind::Data, Phase::Working) => Step::Data,
            (Kind::Data, _) => Step::Close(CloseReason::Protocol(
                "data before the handshake was acknowledged".to_owned(),
            )),
            (Kind::Heartbeat | Kind::Kick, _) => Step::Nothing,
        }
    }

    /// Counts as a sign of life of a client that was not listened to.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.last_seen = now;
    }

    /// A client is looked at once per interval, just before it would be sent a heartbeat: gone is
    /// one that was silent for two intervals.
    pub(crate) fn tick(&mut self, now: Instant) -> Tick {
        if self.handshake_by.is_some_and(|by| by <= now) {
            return Tick::Close(CloseReason::HandshakeTimeout);
        }
        let (Some(interval), Some(due)) = (self.heartbeat, self.next_heartbeat) else {
            return Tick::Nothing;
        };
        if now < due {
            return Tick::Nothing;
        }
        // By the time it was due, not the time it is: a late look must not make a client seem
        // silent for longer.
        if due.saturating_duration_since(self.last_seen) > interval * 2 {
            return Tick::Close(CloseReason::HeartbeatTimeout);
        }
        // Missed beats are not made up for.
        let mut next = due + interval;
        if next <= now {
            next = now + interval;
        }
        self.next_heartbeat = Some(next);
        Tick::Heartbeat
    }

    /// When [`tick`](Protocol::tick) has something to say next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.handshake_by
            .into_iter()
            .chain(self.next_heartbeat)
            .min()
    }
}
