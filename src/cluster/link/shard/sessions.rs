//! What is said on one stream about sessions of this gate, to a member that serves them.

use std::{
    collections::VecDeque,
    future::{poll_fn, ready},
    sync::Arc,
    task::{Context, Poll},
};

use super::{Phase, Shard, State, wake};
use crate::{
    cluster::link::{
        frames::check_size,
        pairing::Pairing,
        proto::{Frame, Kind},
    },
    dispatch::ForwardError,
    error::{Error, code},
    message::Message,
    session::{CloseReason, Session},
};

impl Shard {
    /// Queues a message of a session of this gate, behind the session itself if the member does not
    /// know it yet.
    ///
    /// # Errors
    /// Gives it back when the session's window or the queue is full. [`code::UNAVAILABLE`] when the
    /// member cannot be reached, [`code::CLOSED`] when the session has ended.
    pub(in crate::cluster) fn message(
        self: &Arc<Self>,
        session: &Session,
        message: Message,
        frame: impl FnOnce(Message) -> Frame,
    ) -> Result<(), ForwardError> {
        check_size(message.body.len())?;
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Down(_) | Phase::Closed) {
            return Err(Error::new(code::UNAVAILABLE, "the member cannot be reached").into());
        }
        // Under the lock, so that no pairing comes behind the look for those of a closed session.
        if session.closed().is_some() {
            return Err(Error::new(code::CLOSED, "the session is closed").into());
        }
        if state.drained {
            // To be routed again at once: the member is leaving, so somebody else will be chosen.
            return Err(ForwardError::Full(message, Box::pin(ready(()))));
        }
        let State {
            pairings,
            queue,
            opened,
            ..
        } = &mut *state;
        let pairing = pairings.entry(session.id()).or_insert_with(|| {
            *opened += 1;
            queue.push(Frame::session_open(session, *opened, 0, false));
            Pairing::new(session).numbered(*opened)
        });
        if !pairing.has_room() || !queue.takes_message(&pairing.account) {
            drop(state);
            return Err(ForwardError::Full(
                message,
                Box::pin(self.clone().room(session.id())),
            ));
        }
        let frame = frame(message);
        pairing.sent(if frame.kind() == Kind::Message {
            frame.request
        } else {
            0
        });
        queue.charge(frame, &pairing.account);
        wake(state);
        Ok(())
    }

    /// Ready when a session may have room.
    async fn room(self: Arc<Self>, session: i64) {
        poll_fn(|cx| self.poll_room(session, cx)).await;
    }

    fn poll_room(&self, session: i64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let State {
            pairings,
            queue,
            held,
            phase,
            ..
        } = &mut *state;
        let Some(pairing) = pairings
            .get_mut(&session)
            .filter(|_| matches!(phase, Phase::Connecting | Phase::Up))
        else {
            return Poll::Ready(());
        };
        let in_queue = queue.takes_message(&pairing.account);
        if pairing.has_room() && in_queue {
            return Poll::Ready(());
        }
        *held |= !in_queue;
        pairing.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The session is bound to a uid, or to none any more.
    pub(in crate::cluster) fn bound(&self, session: &Session) {
        let mut state = self.state.lock();
        if let Some(pairing) = state.pairings.get(&session.id()) {
            // Read under the lock, so that the last of these frames has the last uid.
            let bound = Frame::bound(session, pairing.binds);
            state.push(bound);
            wake(state);
        }
    }

    /// The member has bound a session, so often by now: whether that is news.
    pub(in crate::cluster) fn binds(&self, session: i64, binds: u32) -> bool {
        let mut state = self.state.lock();
        let Some(pairing) = state.pairings.get_mut(&session) else {
            return true;
        };
        let news = binds > pairing.binds;
        pairing.binds = binds.max(pairing.binds);
        news
    }

    /// The session has ended, behind all its messages. The calls of it that are under way are
    /// answered by the member, or end with their stream.
    pub(in crate::cluster) fn closed(&self, session: &Session, reason: &CloseReason) {
        let mut state = self.state.lock();
        if state.pairings.remove(&session.id()).is_some() {
            state.push(Frame::session_closed(session.id(), reason));
            wake(state);
        }
    }

    /// The session, if the member serves it.
    pub(in crate::cluster) fn session(&self, id: i64) -> Option<Session> {
        self.state
            .lock()
            .pairings
            .get(&id)
            .map(|pairing| pairing.session.clone())
    }

    /// The session whose request the member answers, if it still waits.
    pub(in crate::cluster) fn answered(&self, session: i64, request: u64) -> Option<Session> {
        let mut state = self.state.lock();
        let pairing = state.pairings.get_mut(&session)?;
        pairing
            .answered(request)
            .then(|| pairing.session.with_request(request))
    }

    /// The member is done with so many messages of a session.
    pub(in crate::cluster) fn credit(&self, session: i64, started: u32) {
        let reader = self
            .state
            .lock()
            .pairings
            .get_mut(&session)
            .and_then(|pairing| pairing.credit(started));
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The member no longer serves the session, unless it was opened again after this was said.
    pub(in crate::cluster) fn gone(
        &self,
        session: i64,
        opened: u64,
    ) -> Option<(Session, VecDeque<u64>)> {
        let mut state = self.state.lock();
        if state.pairings.get(&session)?.number > opened {
            return None;
        }
        let mut pairing = state.pairings.remove(&session)?;
        drop(state);
        let requests = pairing.lose();
        if let Some(reader) = pairing.reader.take() {
            reader.wake();
        }
        Some((pairing.session, requests))
    }
}
