//! The inbound half of a link: the sessions of the peer's clients that this node serves. No I/O.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::{
    closed_sessions::ClosedSessions,
    config::{CREDIT, SESSION_QUOTA},
    effect::{Effect, EndCause},
    flow::Quota,
    proto::{Batch, Frame, SessionOpen},
    served_session::{NewSession, ServedRoute, ServedSession, unknown},
    session::LinkedSession,
    user_pushes::Handled,
};
use crate::{
    error::{Error, Result, code},
    in_flight::InFlight,
    session::CloseReason,
};

/// Frames of one batch on the answer stream.
const ANSWERS: usize = 256;

/// What a node receives from one peer on one stream index.
pub(super) struct Receiver<S> {
    pub(super) phase: Phase,
    /// The number of the latest stream.
    pub(super) stream: u64,
    /// The stream that the peer has closed in order, until that is answered; 0 for none.
    pub(super) closed_in_order: u64,
    /// The epoch of the peer; 0 before the first stream, or if it has none.
    epoch: u64,
    pub(super) missed_probes: u32,
    /// The largest number of a session that the peer has opened.
    pub(super) opened: u64,
    /// By id. Ids are chosen by gates, so a fast hash is safe.
    pub(super) sessions: FxHashMap<i64, ServedSession<S>>,
    pub(super) last_key: u64,
    /// Whether a session was ever held to move to another gate.
    pub(super) displaces: bool,
    /// The number of the last BIND, of any session: one of a session that has ended may still be
    /// queued when the gate opens the session again.
    pub(super) last_bind: u32,
    /// Sessions that have ended, while nodes outside of links may still send messages for them.
    pub(super) closed_sessions: ClosedSessions,
    /// Frames for the answer stream. Bounded by what the peer sends.
    pub(super) answers: VecDeque<Frame>,
    answer_writer: Option<Waker>,
    /// The peer's pushes to users that are not acknowledged yet.
    pub(super) user_pushes: Option<Handled>,
    /// Whether the peer, which knows that this node stops, has sent everything.
    drained: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Phase {
    /// No stream has been accepted yet, or the peer has closed the last one in order.
    #[default]
    Waiting,
    Up,
    /// The stream broke; at the time given, shared sessions are detached.
    Down(Option<Instant>),
    Closed,
}

impl<S: LinkedSession> Receiver<S> {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::default(),
            stream: 0,
            closed_in_order: 0,
            epoch: 0,
            missed_probes: 0,
            opened: 0,
            sessions: FxHashMap::default(),
            last_key: 0,
            displaces: false,
            last_bind: 0,
            closed_sessions: ClosedSessions::default(),
            answers: VecDeque::new(),
            answer_writer: None,
            user_pushes: None,
            drained: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down(_) | Phase::Closed)
    }

    /// The number of the last stream, if it broke and no other has come up since.
    pub(super) fn lost_stream(&self) -> Option<u64> {
        matches!(self.phase, Phase::Down(_)).then_some(self.stream)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    pub(super) fn set_drained(&mut self) {
        self.drained = true;
    }

    /// Whether frames of this stream are accepted.
    pub(super) fn is_current(&self, stream: u64) -> bool {
        self.phase == Phase::Up && self.stream == stream
    }

    /// A batch has arrived. False if its stream is not the current one.
    pub(super) fn hear(&mut self, stream: u64) -> bool {
        let current = self.is_current(stream);
        if current {
            self.missed_probes = 0;
        }
        current
    }

    /// A new stream of the peer takes the place of the last one. Returns whether that was still up.
    ///
    /// # Errors
    /// [`code::CONFLICT`] if a later stream is known, [`code::CLOSED`] if the peer is gone.
    pub(super) fn accept(&mut self, stream: u64, effects: &mut Vec<Effect<S>>) -> Result<bool> {
        if self.phase == Phase::Closed {
            return Err(Error::new(code::CLOSED, "the peer is gone"));
        }
        if self.stream >= stream {
            return Err(Error::new(code::CONFLICT, "a later stream is known"));
        }
        let replaced = self.phase == Phase::Up;
        self.phase = Phase::Up;
        self.stream = stream;
        self.closed_in_order = 0;
        self.missed_probes = 0;
        self.reset_answers(effects);
        Ok(replaced)
    }

    /// Notes the epoch of an accepted stream. If the peer began anew, what it shared on earlier links
    /// ends. Returns whether it did.
    pub(super) fn set_epoch(&mut self, epoch: u64, effects: &mut Vec<Effect<S>>) -> bool {
        let before = std::mem::replace(&mut self.epoch, epoch);
        let anew = before != 0 && before < epoch;
        if anew {
            self.opened = 0;
            self.drained = false;
            self.end_all(|| EndCause::NotResumed, false, effects);
        }
        anew
    }

    /// The stream broke. False if it is not the current one.
    pub(super) fn down(
        &mut self,
        stream: u64,
        now: Instant,
        grace: Duration,
        effects: &mut Vec<Effect<S>>,
    ) -> bool {
        if !self.is_current(stream) {
            return false;
        }
        self.phase = Phase::Down(now.checked_add(grace));
        self.reset_answers(effects);
        true
    }

    /// Ends the answer stream: its frames belong to an inbound stream that is over. So do acknowledgements.
    pub(super) fn reset_answers(&mut self, effects: &mut Vec<Effect<S>>) {
        self.answers.clear();
        self.user_pushes = None;
        effects.extend(self.answer_writer.take().map(Effect::Wake));
    }

    /// The next frames of the answer stream; `None` when the stream is over.
    pub(super) fn poll_answers(&mut self, stream: u64, waker: &Waker) -> Poll<Option<Batch>> {
        if !self.is_current(stream) {
            let closed = std::mem::take(&mut self.closed_in_order);
            return Poll::Ready((closed == stream).then(|| Batch {
                frames: vec![Frame::idle()],
            }));
        }
        if self.answers.is_empty() {
            self.answer_writer = Some(waker.clone());
            return Poll::Pending;
        }
        let count = self.answers.len().min(ANSWERS);
        let frames = self.answers.drain(..count).collect();
        Poll::Ready(Some(Batch { frames }))
    }

    fn answer(&mut self, frame: Frame) -> Option<Waker> {
        if self.phase != Phase::Up {
            return None;
        }
        self.answers.push_back(frame);
        self.answer_writer.take()
    }

    /// Answers that a session is not served here, as far as its openings are known.
    pub(super) fn session_unknown(&mut self, session: i64) -> Option<Waker> {
        self.answer(Frame::session_unknown(session, self.opened))
    }

    /// Handles SESSION_OPEN: a new session, or one that is resumed.
    pub(super) fn session_open(
        &mut self,
        frame: Frame,
        open: &mut dyn FnMut(NewSession<'_>) -> S,
    ) -> Option<Waker> {
        let new = SessionOpen::default();
        let info = frame.open.as_deref().unwrap_or(&new);
        self.closed_sessions.remove(frame.session);
        self.opened = self.opened.max(info.number);
        if let Some(served) = self.sessions.get_mut(&frame.session) {
            served.stream = self.stream;
        } else if info.resumed {
            return self.session_unknown(frame.session);
        } else {
            self.serve(frame.session, &info.client_address, open);
        }
        // It is served, so these find it.
        self.bound(&frame).ok();
        self.shared(frame).ok();
        None
    }

    /// Serves a session, which may be known already.
    pub(super) fn serve(
        &mut self,
        id: i64,
        client_address: &str,
        open: &mut dyn FnMut(NewSession<'_>) -> S,
    ) -> &S {
        let Self {
            sessions,
            last_key,
            stream,
            ..
        } = self;
        let served = sessions.entry(id).or_insert_with(|| {
            *last_key += 1;
            let key = *last_key;
            ServedSession {
                session: open(NewSession {
                    id,
                    key,
                    client_address,
                }),
                key,
                stream: *stream,
                held_for: None,
                closing: None,
                requests: InFlight::default(),
                binds_sent: 0,
                binds_applied: 0,
                routes: Vec::new(),
                shares: Vec::new(),
                unfinished: 0,
                uncredited: 0,
                quota: Quota::new(SESSION_QUOTA),
            }
        });
        &served.session
    }

    /// The gate's user of the session. While a BIND of this node is under way, that one counts.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`].
    pub(super) fn bound(&mut self, frame: &Frame) -> Result {
        let served = self.applied(frame)?;
        if frame.binds >= served.binds_sent {
            served.session.rebind(frame.user_id());
        }
        Ok(())
    }

    /// Handles RESYNC_DONE: sessions that the current stream has not named have ended.
    pub(super) fn resync_done(&mut self, effects: &mut Vec<Effect<S>>) {
        let stream = self.stream;
        let ended = self
            .sessions
            .extract_if(|_, served| served.stream != stream)
            .collect();
        end(ended, || EndCause::NotResumed, effects);
    }

    /// Handles SESSION_CLOSED. An unknown session has ended here first.
    pub(super) fn session_closed(
        &mut self,
        frame: &mut Frame,
        remember: bool,
        effects: &mut Vec<Effect<S>>,
    ) {
        if remember {
            self.closed_sessions.insert(frame.session);
        }
        if let Some(served) = self.sessions.remove(&frame.session) {
            let close = frame.take_close();
            let reason = match frame.take_kick() {
                None => CloseReason::of(&close.reason, close.detail),
                Some(kick) => CloseReason::KickedWith(kick),
            };
            effects.push(Effect::EndSession {
                session: served.session,
                cause: EndCause::Closed(reason),
            });
        }
    }

    /// Counts a message of a session, and its request if it is one. `timeout` is the time, and for
    /// how long the gate waits from then on.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`].
    pub(super) fn arrived(
        &mut self,
        session: i64,
        request: u64,
        timeout: impl FnOnce() -> Option<(Instant, Duration)>,
    ) -> Result<S> {
        let served = self.served(session)?;
        served.unfinished += 1;
        if request != 0 {
            let deadline = timeout().map(|(now, timeout)| {
                served.requests.discard_expired(now);
                now + timeout
            });
            served.requests.insert(request, deadline, ());
        }
        Ok(served.session.clone())
    }

    pub(super) fn served(&mut self, id: i64) -> Result<&mut ServedSession<S>> {
        self.sessions.get_mut(&id).ok_or_else(|| unknown(id))
    }

    /// The session of a handle, unless it has ended, is closing, or moves.
    ///
    /// # Errors
    /// [`code::CLOSED`].
    pub(super) fn open_session(&mut self, id: i64, key: u64) -> Result<&mut ServedSession<S>> {
        self.sessions
            .get_mut(&id)
            .filter(|served| served.is_open(key))
            .ok_or_else(|| Error::new(code::CLOSED, "the session is closed"))
    }

    /// Counts a message as finished, or never to be handled. Returns the writer of the answer stream
    /// to wake.
    pub(super) fn finished(&mut self, id: i64, key: u64) -> Option<Waker> {
        let served = self
            .sessions
            .get_mut(&id)
            .filter(|served| served.key == key)?;
        // Messages that this node itself sends to the session's handlers are not the gate's.
        served.unfinished = served.unfinished.checked_sub(1)?;
        served.uncredited += 1;
        if served.uncredited < CREDIT {
            return None;
        }
        served.uncredited = 0;
        self.answer(Frame::credit(id, CREDIT))
    }

    /// Returns the number of the next BIND.
    pub(super) fn next_bind(&self) -> u32 {
        self.last_bind + 1
    }

    pub(super) fn bind_sent(&mut self, session: i64, number: u32) {
        self.last_bind = number;
        if let Some(served) = self.sessions.get_mut(&session) {
            served.binds_sent = number;
        }
    }

    pub(super) fn route_sent(&mut self, session: i64, route: ServedRoute) {
        self.last_bind = route.number;
        if let Some(served) = self.sessions.get_mut(&session) {
            served.routes.retain(|other| other.service != route.service);
            served.routes.push(route);
        }
    }

    /// CLOSEs to send again on a new stream, because the last one may have lost them.
    pub(super) fn closings(&self) -> Vec<Frame> {
        let mut closing: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(&id, served)| Some((id, served.closing.clone()?)))
            .collect();
        closing.sort_unstable_by_key(|(id, _)| *id);
        let closing = closing.into_iter();
        closing
            .map(|(id, reason)| Frame::close(id, reason))
            .collect()
    }

    /// Requests of the peer's clients that wait for an answer, and whose gate still waits.
    pub(super) fn requests(&self, now: Instant) -> usize {
        self.sessions
            .values()
            .map(|served| served.requests.waiting(now))
            .sum()
    }

    /// Ends all sessions. Each is answered with SESSION_UNKNOWN if `answer` is set. Returns their
    /// number.
    pub(super) fn end_all(
        &mut self,
        cause: impl Fn() -> EndCause,
        answer: bool,
        effects: &mut Vec<Effect<S>>,
    ) -> usize {
        let ended = std::mem::take(&mut self.sessions);
        if answer {
            let mut ids: Vec<_> = ended.keys().copied().collect();
            ids.sort_unstable();
            for id in ids {
                effects.extend(self.session_unknown(id).map(Effect::Wake));
            }
        }
        let count = ended.len();
        end(ended, cause, effects);
        count
    }

    /// The peer is gone: nothing is accepted any more.
    pub(super) fn close(&mut self, effects: &mut Vec<Effect<S>>) {
        self.phase = Phase::Closed;
        self.reset_answers(effects);
        self.end_all(|| EndCause::GateGone, false, effects);
    }
}

fn end<S>(
    ended: FxHashMap<i64, ServedSession<S>>,
    cause: impl Fn() -> EndCause,
    effects: &mut Vec<Effect<S>>,
) {
    let mut ended: Vec<_> = ended.into_iter().collect();
    // In an order that does not depend on the table's.
    ended.sort_unstable_by_key(|(id, _)| *id);
    effects.extend(ended.into_iter().map(|(_, served)| Effect::EndSession {
        session: served.session,
        cause: cause(),
    }));
}

#[cfg(test)]
impl<S> Receiver<S> {
    pub(super) fn sessions(&self) -> impl Iterator<Item = &ServedSession<S>> {
        self.sessions.values()
    }
}
