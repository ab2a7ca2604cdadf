//! A client whose session moves to another gate: what is taken of it, and put back. No I/O.

use std::mem;

use super::{
    client_state::{ClientState, Phase, Requests},
    close_code::Ending,
    departure::Step,
    handle::ConnectionHandle,
    liveness::Handshake,
    obstacle::Obstacle,
    resume::replay::Replay,
};
use crate::{
    error::{Error, code},
    session::{Session, SessionSink},
};

/// The most bytes of a client that moves to another gate: they go in one frame.
const MAX_MOVED: usize = 12 * 1024 * 1024;

impl ClientState {
    /// Checks that the client can move to another gate: it may return, has acknowledged its handshake,
    /// and all its requests in flight are among those that other nodes answer.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn check_movable(&self, elsewhere: &[u64]) -> Result<(), Obstacle> {
        let mut requests = self.in_flight.iter();
        Err(match self.phase {
            Phase::Moving(_) => Obstacle::Moving,
            Phase::Draining | Phase::Flushing { .. } | Phase::Closed => Obstacle::Closing,
            _ if self.replay.is_none() => Obstacle::NotResumable,
            _ if self.handshake != Handshake::Acknowledged => Obstacle::Handshake,
            _ if self.held.is_some() => Obstacle::Attempt(Step::Deferred),
            _ if self.queued_bytes() > MAX_MOVED => Obstacle::Queue,
            _ if !requests.all(|(id, _)| elsewhere.contains(&id)) => Obstacle::Requests,
            Phase::Open | Phase::Away => return Ok(()),
        })
    }

    /// Takes everything of a client that is away and [movable](ClientState::check_movable), for another
    /// gate. What is queued counts as sent.
    pub(super) fn take_moving(&mut self, elsewhere: &[u64]) -> Option<Self> {
        if !self.is_away() || self.queue.has_unprocessed() || self.check_movable(elsewhere).is_err()
        {
            return None;
        }
        let moving = Self {
            phase: Phase::Moving(None),
            ..Self::default()
        };
        let mut taken = mem::replace(self, moving);
        if let Some(replay) = &mut taken.replay {
            replay.settle(&mut taken.queue);
        }
        Some(taken)
    }

    /// Puts back what was taken: the client does not move.
    pub(super) fn put_back(&mut self, taken: Self) {
        let moving = mem::replace(self, taken);
        if let Phase::Moving(Some(ending)) = moving.phase {
            self.close(ending);
        }
    }

    /// The requests in flight that no other node answers: its link broke while the client was taken.
    pub(super) fn unserved(&self, elsewhere: &[u64]) -> Vec<u64> {
        let requests = self.in_flight.iter().map(|(id, _)| id);
        requests.filter(|id| !elsewhere.contains(id)).collect()
    }

    /// Ends a client that another gate has now. Returns why its session was closed since it was taken, if
    /// it was: then it has not ended, for that gate is to close it first, and it may be closed again.
    pub(super) fn end_moved(&mut self) -> Option<Ending> {
        let Phase::Moving(closed) = &mut self.phase else {
            return None;
        };
        let closed = closed.take();
        if closed.is_none() {
            self.phase = Phase::Closed;
        }
        closed
    }

    /// [`close`](ClientState::close); false if the client has ended.
    pub(super) fn try_close(&mut self, ending: Ending) -> bool {
        let is_here = !matches!(self.phase, Phase::Closed);
        self.close(ending);
        is_here
    }

    /// A client that is away, and comes from another gate.
    pub(super) fn adopted(error_flag: bool, replay: Replay, requests: Requests) -> Self {
        Self {
            phase: Phase::Away,
            handshake: Handshake::Acknowledged,
            error_flag,
            replay: Some(Box::new(replay)),
            in_flight: requests,
            ..Self::default()
        }
    }
}

impl ConnectionHandle {
    /// See [`ClientState::check_movable`].
    pub(super) fn check_movable(&self, elsewhere: &[u64]) -> Result<(), Obstacle> {
        self.state.lock().client.check_movable(elsewhere)
    }

    /// See [`ClientState::take_moving`]. The pipeline processes what is queued before.
    pub(super) fn take_moving(&self, session: &Session, elsewhere: &[u64]) -> Option<ClientState> {
        while self.state.lock().client.queue.has_unprocessed() {
            self.run_pipeline(session);
        }
        self.swap(|client| client.take_moving(elsewhere))
    }

    /// See [`ClientState::put_back`].
    pub(super) fn put_back(&self, taken: ClientState) {
        self.swap(|client| client.put_back(taken));
    }

    /// Fails the requests of a client that was put back and that no other node answers.
    pub(super) fn fail_unserved(&self, elsewhere: &[u64]) {
        let unserved = self.state.lock().client.unserved(elsewhere);
        for request in unserved {
            let error = Error::new(code::UNAVAILABLE, "the member cannot be reached");
            // One that has timed out meanwhile has its answer.
            let _ = self.respond(request, Err(error));
        }
    }

    /// See [`ClientState::end_moved`].
    pub(super) fn end_moved(&self) -> Option<Ending> {
        self.state.lock().client.end_moved()
    }

    /// See [`ClientState::try_close`].
    pub(super) fn try_close(&self, ending: Ending) -> bool {
        self.change(|state| state.client.try_close(ending))
    }

    /// Makes it the handle of a client that comes from another gate.
    pub(super) fn adopt(&self, adopted: ClientState) {
        self.swap(|client| *client = adopted);
    }

    fn swap<R>(&self, swap: impl FnOnce(&mut ClientState) -> R) -> R {
        let mut state = self.state.lock();
        let result = swap(&mut state.client);
        state.charge(&self.gate.memory);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gate::{config::GateConfig, live_limits::LiveLimits},
        session::CloseReason,
    };

    /// A client that was taken, and what was taken of it.
    fn taken() -> (ClientState, ClientState) {
        let limits = LiveLimits::new(&GateConfig::default());
        let replay = Replay::new(&limits);
        let mut client = ClientState::adopted(false, replay, Requests::default());
        let taken = client.take_moving(&[]).unwrap();
        (client, taken)
    }

    fn kicked() -> Ending {
        CloseReason::Kicked("out".to_owned()).into()
    }

    #[test]
    fn a_client_that_has_moved_ends_when_no_close_is_left_to_be_passed_on() {
        let (mut client, _) = taken();
        assert!(client.try_close(kicked()));
        client.close(CloseReason::Denied);
        assert_eq!(client.end_moved(), Some(kicked()), "the first counts");
        // While that is passed on.
        assert!(client.try_close(CloseReason::Denied.into()));
        assert_eq!(client.end_moved(), Some(CloseReason::Denied.into()));
        assert_eq!(client.end_moved(), None);
        assert!(!client.try_close(kicked()), "it has moved");
        assert_eq!(client.end_moved(), None);
    }

    #[test]
    fn a_shutdown_hides_no_kick_of_a_client_that_moves() {
        let shutdown = || Ending::from(CloseReason::Shutdown);
        let (mut client, _) = taken();
        client.close(shutdown());
        client.close(kicked());
        client.close(shutdown());
        assert_eq!(client.end_moved(), Some(kicked()));
        let (mut client, taken) = taken();
        client.close(shutdown());
        client.put_back(taken);
        assert_eq!(client.ending(), Some(shutdown()), "one that stays ends");
    }
}
