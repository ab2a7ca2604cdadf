//! The outbound half of a link: the send queue and the windows of the gate's sessions. No I/O.

use std::{
    sync::Arc,
    task::{Poll, Waker},
};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

use super::{
    config::BATCH_BYTES,
    effect::Effect,
    flow::{Quota, SendQueue},
    frame::is_traffic,
    proto::{Batch, Frame, Kind},
    session::LinkedSession,
    session_window::SessionWindow,
    user_pushes::{Done, UserPushes},
};
use crate::{
    error::{Error, Result, code},
    session::CloseReason,
};

/// What a node sends to one peer on one stream index. It outlives its streams: frames that are
/// queued without a stream go out on the next one.
pub(super) struct Sender<S> {
    pub(super) queue: SendQueue,
    pub(super) phase: Phase,
    /// The stream that may take from the queue; 0 for none.
    pub(super) stream: u64,
    /// The epoch of the peer that accepted the stream; 0 if it has none.
    pub(super) accepted_by: u64,
    /// Whether the next stream is to name the sessions that still exist: the last one broke.
    pub(super) resync: bool,
    /// Whether a stream is to come up although nothing is queued: the peer has opened one, or sends.
    pub(super) wanted: bool,
    /// Whether the stream closes when the queue is empty, for nothing is shared or owed.
    pub(super) retiring: bool,
    /// Whether anything but signs of life was sent or received since the last probe.
    pub(super) used: bool,
    /// Whether anything but signs of life was sent since the last inbound frame.
    pub(super) unheard: bool,
    /// Requests in flight, of all windows.
    pub(super) requests: usize,
    pub(super) windows: FxHashMap<i64, SessionWindow<S>>,
    /// Sessions that the peer has ended, or is to end, before they end at this gate.
    pub(super) lost: FxHashSet<i64>,
    pub(super) user_pushes: UserPushes<Done>,
    pub(super) any_stale: bool,
    /// Sessions opened so far.
    pub(super) opened: u64,
    pub(super) writer: Option<Waker>,
    /// Whether the stream ends when the queue is empty.
    pub(super) finishing: bool,
    /// Whether the peer sent GOAWAY: no message follows the DRAINED.
    peer_draining: bool,
    /// Whether readers of sessions wait for room in the queue.
    queue_awaited: bool,
    /// Whether nothing is refused for want of room: it was accepted before.
    pub(super) accepts_all: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Phase {
    /// No stream is open, and none is needed. The first frame opens one.
    #[default]
    Idle,
    /// A stream is about to come up. Frames are queued.
    Opening,
    Up,
    /// IDLE was sent, and its answer is awaited. Frames are queued for the next stream.
    Retiring,
    /// The stream broke. Messages are refused, other frames queued; at the time given, shared
    /// sessions are detached.
    Down(Option<Instant>),
    /// The peer is gone for good.
    Closed,
}

/// Why a message was not queued.
pub(super) enum Blocked<M> {
    /// The window or the queue is full.
    Full(M),
    /// The peer is draining; the message is to be routed again.
    Draining(M),
    Refused(Error),
}

impl<S: LinkedSession> Sender<S> {
    pub(super) fn new() -> Self {
        Self {
            queue: SendQueue::default(),
            phase: Phase::default(),
            stream: 0,
            accepted_by: 0,
            resync: true,
            wanted: false,
            retiring: false,
            used: false,
            unheard: false,
            requests: 0,
            windows: FxHashMap::default(),
            lost: FxHashSet::default(),
            user_pushes: UserPushes::new(),
            any_stale: false,
            opened: 0,
            writer: None,
            finishing: false,
            peer_draining: false,
            queue_awaited: false,
            accepts_all: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down(_) | Phase::Closed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(super) fn peer_is_draining(&self) -> bool {
        self.peer_draining
    }

    pub(super) fn sessions(&self) -> usize {
        self.windows.len()
    }

    /// Queues a message of a session, behind a SESSION_OPEN if the peer does not know the session.
    /// Returns the writer to wake.
    pub(super) fn message<M>(
        &mut self,
        session: &S,
        message: M,
        frame: impl FnOnce(M) -> Frame,
    ) -> Result<Option<Waker>, Blocked<M>> {
        if self.is_down() {
            return Err(Blocked::Refused(unreachable()));
        }
        // Under the lock, so that no window is opened after the session's end was announced.
        if session.is_closed() {
            let error = Error::new(code::CLOSED, "the session is closed");
            return Err(Blocked::Refused(error));
        }
        if self.peer_draining {
            return Err(Blocked::Draining(message));
        }
        let Self {
            windows,
            queue,
            opened,
            requests,
            ..
        } = self;
        let window = windows.entry(session.id()).or_insert_with(|| {
            *opened += 1;
            queue.push(Frame::session_open(session, *opened, 0, false));
            SessionWindow::new(session, *opened)
        });
        if !window.has_room() || !queue.accepts_message(&window.quota) {
            return Err(Blocked::Full(message));
        }
        window.refresh(queue);
        let frame = frame(message);
        *requests += usize::from(window.sent(if frame.kind() == Kind::Message {
            frame.request
        } else {
            0
        }));
        queue.charge(frame, &window.quota);
        Ok(self.writer.take())
    }

    /// Ready when the session may have room. `waker` is kept until then.
    pub(super) fn poll_room(&mut self, session: i64, waker: &Waker) -> Poll<()> {
        if self.is_down() {
            return Poll::Ready(());
        }
        let Some(window) = self.windows.get_mut(&session) else {
            return Poll::Ready(());
        };
        let in_queue = self.queue.accepts_message(&window.quota);
        if window.has_room() && in_queue {
            return Poll::Ready(());
        }
        self.queue_awaited |= !in_queue;
        window.reader = Some(waker.clone());
        Poll::Pending
    }

    /// Queues a frame that is bounded elsewhere: by the number of sessions or of requests. Returns
    /// the writer to wake.
    pub(super) fn push(&mut self, frame: Frame) -> Option<Waker> {
        if self.phase == Phase::Closed {
            return None;
        }
        self.queue.push(frame);
        self.writer.take()
    }

    /// Queues a frame within a quota. Returns the writer to wake.
    ///
    /// # Errors
    /// [`code::TOO_MANY`] above the quota, [`code::CLOSED`] when the peer is gone.
    pub(super) fn try_push(&mut self, frame: Frame, quota: &Arc<Quota>) -> Result<Option<Waker>> {
        if self.phase == Phase::Closed {
            return Err(Error::new(code::CLOSED, "the other node is gone"));
        }
        if !self.accepts_all && !self.queue.accepts(quota, frame.weight()) {
            return Err(Error::new(
                code::TOO_MANY,
                "the other node does not take more",
            ));
        }
        self.queue.charge(frame, quota);
        Ok(self.writer.take())
    }

    /// Queues BINDs and ROUTEs that the last stream may have lost.
    pub(super) fn repeat(&mut self, binds: Vec<Frame>) {
        self.queue.repeat(binds);
    }

    /// Fails every request in flight, and wakes all tasks that wait for this stream.
    pub(super) fn orphan_requests(&mut self, effects: &mut Vec<Effect<S>>) {
        self.requests = 0;
        let first = effects.len();
        for window in self.windows.values_mut() {
            let requests = window.orphan();
            if !requests.is_empty() {
                effects.push(Effect::FailRequests {
                    session: window.session.clone(),
                    requests,
                });
            }
        }
        // In an order that does not depend on the table's.
        effects[first..].sort_by_key(|effect| match effect {
            Effect::FailRequests { session, .. } => session.id(),
            _ => 0,
        });
        self.wake_all(effects);
    }

    /// Closes all windows and announces it to the peer, when it can be reached again. Returns their
    /// number.
    pub(super) fn detach(&mut self, effects: &mut Vec<Effect<S>>) -> usize {
        let reason = CloseReason::Broken("the nodes were cut off from each other".to_owned());
        let windows = self.take_windows();
        let count = windows.len();
        for window in windows {
            self.push(Frame::session_closed(window.session.id(), &reason));
            self.lost.insert(window.session.id());
            forget(window, effects);
        }
        self.wake_all(effects);
        count
    }

    /// The peer is gone: nothing is sent any more.
    pub(super) fn close(&mut self, effects: &mut Vec<Effect<S>>) {
        for window in self.take_windows() {
            forget(window, effects);
        }
        self.lost = FxHashSet::default();
        self.fail_user_pushes(effects);
        self.phase = Phase::Closed;
        self.queue.clear();
        self.wake_all(effects);
    }

    fn take_windows(&mut self) -> Vec<SessionWindow<S>> {
        self.requests = 0;
        let mut windows: Vec<_> = self.windows.drain().map(|(_, window)| window).collect();
        windows.sort_unstable_by_key(|window| window.number);
        windows
    }

    /// The peer sent GOAWAY: answers with DRAINED, behind all that was sent before.
    pub(super) fn peer_draining(&mut self) -> Option<Waker> {
        self.peer_draining = true;
        self.push(Frame::drained())
    }

    /// The next batch for a stream; `None` when the stream is over. Readers that may go on are added
    /// to `readers`.
    pub(super) fn poll_batch(
        &mut self,
        stream: u64,
        waker: &Waker,
        readers: &mut Vec<Waker>,
    ) -> Poll<Option<Batch>> {
        if self.stream != stream || self.phase == Phase::Closed {
            return Poll::Ready(None);
        }
        if self.phase == Phase::Retiring {
            return Poll::Ready(None);
        }
        if self.queue.is_empty() && self.phase == Phase::Up {
            if self.finishing {
                return Poll::Ready(None);
            }
            if self.retiring {
                return Poll::Ready(Some(self.retire()));
            }
        }
        if self.queue.is_empty() || self.phase != Phase::Up {
            self.writer = Some(waker.clone());
            return Poll::Pending;
        }
        self.retiring = false;
        let mut frames = Vec::with_capacity(self.queue.len().min(256));
        let (mut bytes, before) = (0, self.queue.bytes());
        while bytes < BATCH_BYTES
            && let Some((frame, quota)) = self.queue.pop()
        {
            bytes += frame.weight();
            if self.queue_awaited && quota.is_some_and(|quota| quota.is_under_share()) {
                readers.extend(
                    self.windows
                        .get_mut(&frame.session)
                        .and_then(|window| window.reader.take()),
                );
            }
            frames.push(frame);
        }
        if self.queue_awaited && (self.queue.is_short() || self.queue.has_shrunk(before)) {
            self.queue_awaited = !self.queue.is_short();
            readers.extend(self.waiting_readers());
        }
        if is_traffic(&frames) {
            (self.used, self.unheard) = (true, true);
        }
        Poll::Ready(Some(Batch { frames }))
    }

    /// Announces the session's user to the peer, if the peer serves it.
    pub(super) fn session_bound(&mut self, session: &S) -> Option<Waker> {
        let window = self.windows.get(&session.id())?;
        // The user is read under the lock, so that the last of these frames has the last user.
        let bound = Frame::bound(session, window.binds);
        self.push(bound)
    }

    /// Announces the session's end behind all its messages: to a peer that serves it, or to any with
    /// `always`. Its calls under way are answered by the peer, or end with the stream.
    pub(super) fn session_closed(
        &mut self,
        session: &S,
        reason: &CloseReason,
        always: bool,
    ) -> Option<Waker> {
        // The caller has another handle of the session, so this one's drop runs nothing.
        let window = self.windows.remove(&session.id());
        self.lost.remove(&session.id());
        self.requests -= window.as_ref().map_or(0, SessionWindow::in_flight);
        (window.is_some() || always)
            .then(|| self.push(Frame::session_closed(session.id(), reason)))?
    }

    /// A BIND of the peer with the number `binds`. False if it has been applied before: a
    /// later user, of whatever origin, stays.
    pub(super) fn applies_bind(&mut self, session: i64, binds: u32) -> bool {
        let Some(window) = self.windows.get_mut(&session) else {
            return true;
        };
        let applies = binds > window.binds;
        window.binds = binds.max(window.binds);
        applies
    }

    /// The session with this id, if the peer serves it.
    pub(super) fn session(&self, id: i64) -> Option<S> {
        self.windows.get(&id).map(|window| window.session.clone())
    }

    /// Takes a request that the peer answers. `None` if it is not in flight.
    pub(super) fn answered(&mut self, session: i64, request: u64) -> Option<S> {
        let window = self.windows.get_mut(&session)?;
        if !window.answered(request) {
            return None;
        }
        self.requests -= 1;
        Some(window.session.for_request(request))
    }

    /// Reopens the window of a session. Returns the reader to wake.
    pub(super) fn credit(&mut self, session: i64, credit: u32) -> Option<Waker> {
        self.windows.get_mut(&session)?.credit(credit)
    }

    /// The peer does not serve the session, unless it was opened again since the peer said so.
    pub(super) fn session_unknown(
        &mut self,
        session: i64,
        opened: u64,
        effects: &mut Vec<Effect<S>>,
    ) {
        let known = self.windows.get(&session);
        if known.is_some_and(|window| window.number <= opened)
            && let Some(window) = self.windows.remove(&session)
        {
            self.requests -= window.in_flight();
            self.lost.insert(session);
            forget(window, effects);
        }
    }

    fn waiting_readers(&mut self) -> impl Iterator<Item = Waker> {
        self.windows
            .values_mut()
            .filter_map(|window| window.reader.take())
    }

    pub(super) fn wake_all(&mut self, effects: &mut Vec<Effect<S>>) {
        let writer = self.writer.take();
        effects.extend(
            writer
                .into_iter()
                .chain(self.waiting_readers())
                .map(Effect::Wake),
        );
    }
}

/// Frees the session's binding, fails its requests and wakes its reader.
fn forget<S: LinkedSession>(mut window: SessionWindow<S>, effects: &mut Vec<Effect<S>>) {
    let (requests, reader) = (window.orphan(), window.reader.take());
    effects.push(Effect::Unbind(window.session.clone()));
    if !requests.is_empty() {
        effects.push(Effect::FailRequests {
            session: window.session,
            requests,
        });
    }
    effects.extend(reader.map(Effect::Wake));
}

fn unreachable() -> Error {
    Error::new(code::UNAVAILABLE, "the member cannot be reached")
}

impl<S> Sender<S> {
    #[cfg(any(test, feature = "admin"))]
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    #[cfg(test)]
    pub(super) fn windows(&self) -> impl Iterator<Item = &SessionWindow<S>> {
        self.windows.values()
    }
}
