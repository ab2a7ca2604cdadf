//! Shared values of sessions: a node's changes on their way to the gate, and the gate's on their way
//! to the nodes. No I/O.
//!
//! The gate's values count. A node applies a change of its own at once and keeps its number until the
//! gate has applied it: meanwhile the gate's value of that key does not count here, for it is older.

use std::{collections::HashSet, mem, task::Waker};

use bytes::Bytes;

use super::{
    config::MAX_SHARES,
    effect::Effect,
    flow::SendQueue,
    proto::Frame,
    receiver::Receiver,
    sender::Sender,
    served_session::{ServedSession, ServedShare},
    session::LinkedSession,
    session_window::SessionWindow,
    state::LinkState,
};
use crate::error::{Error, Result, code};

impl<S: LinkedSession> LinkState<S> {
    /// Announces the value under a key to the peer, if the peer serves the session.
    pub(super) fn session_shared(&mut self, session: &S, key: &str) -> Option<Waker> {
        self.sender.session_shared(session, key)
    }

    /// Changes a value of a session that this node serves, and asks its gate to do so.
    ///
    /// # Errors
    /// Nothing has changed then: [`code::CLOSED`] when the session has ended, [`code::TOO_MANY`], and
    /// what [`SharedValues::set`](crate::session::SharedValues::set) returns.
    pub(super) fn share(
        &mut self,
        session: &S,
        key: u64,
        name: &str,
        value: Option<Bytes>,
    ) -> Result<Option<Waker>> {
        let number = self.receiver.next_bind();
        let served = self.receiver.open_session(session.id(), key)?;
        let pending = served.shares.iter().position(|share| share.key == name);
        let is_full = served.shares.len() >= MAX_SHARES && !self.sender.accepts_all;
        if pending.is_none() && is_full {
            return Err(Error::new(
                code::TOO_MANY,
                "the gate has not applied earlier changes yet",
            ));
        }
        let before = session.shared().set(name, value)?;
        let frame = Frame::share(session, name, number);
        let writer = self
            .sender
            .try_push(frame, &self.node_quota)
            .inspect_err(|_| {
                // It fitted before.
                let _ = session.shared().follow(name, before);
            })?;
        if let Some(at) = pending {
            served.shares.remove(at);
        }
        served.shares.push(ServedShare {
            number,
            key: name.to_owned(),
        });
        self.receiver.last_bind = number;
        Ok(writer)
    }

    /// A SHARE for a session of this gate. One that is sent again because a stream broke must not
    /// undo a later one.
    pub(super) fn share_for_gate(
        &mut self,
        mut frame: Frame,
        effects: &mut Vec<Effect<S>>,
    ) -> Result {
        let (id, share) = (frame.session, frame.share.take());
        let values = share.map(|share| share.values).unwrap_or_default();
        let session = self.sender.session(id);
        if self.sender.applies_bind(id, frame.binds) {
            effects.push(Effect::Share {
                session,
                id,
                values,
            });
        } else {
            let writer = session.and_then(|session| self.sender.session_bound(&session));
            effects.extend(writer.map(Effect::Wake));
        }
        Ok(())
    }
}

impl<S: LinkedSession> Sender<S> {
    /// The value is read under the lock, so that the last of these frames has the last value.
    fn session_shared(&mut self, session: &S, key: &str) -> Option<Waker> {
        let window = self.windows.get_mut(&session.id())?;
        if window.stale {
            return None;
        }
        let frame = Frame::shared(session, Some(key), window.binds);
        if !self.queue.accepts(&window.quota, frame.weight()) {
            window.stale = true;
            self.any_stale = true;
            return None;
        }
        self.queue.charge(frame, &window.quota);
        self.writer.take()
    }

    /// Announces what was left out while the queue was full. Returns the writer to wake.
    pub(super) fn refresh_stale(&mut self) -> Option<Waker> {
        if !mem::take(&mut self.any_stale) {
            return None;
        }
        let Self { windows, queue, .. } = self;
        for window in windows.values_mut().filter(|window| window.stale) {
            if queue.accepts_message(&window.quota) {
                window.refresh(queue);
            }
        }
        self.any_stale = self.windows.values().any(|window| window.stale);
        self.writer.take()
    }
}

impl<S: LinkedSession> SessionWindow<S> {
    /// Queues all values, if the peer has missed a change.
    pub(super) fn refresh(&mut self, queue: &mut SendQueue) {
        if mem::take(&mut self.stale) {
            let frame = Frame::shared(&self.session, None, self.binds);
            queue.charge(frame, &self.quota);
        }
    }
}

impl<S: LinkedSession> Receiver<S> {
    /// The gate's values of a session: all of them with SESSION_OPEN. Those of this node that are
    /// under way to the gate stay.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`], and [`code::BAD_REQUEST`] or [`code::TOO_LARGE`] for a value that is not
    /// taken.
    pub(super) fn shared(&mut self, mut frame: Frame) -> Result {
        let served = self.applied(&frame)?;
        let share = frame.share.take().map(|share| *share);
        let all = frame.open.is_some() || share.as_ref().is_none_or(|share| share.all);
        let values = share.map(|share| share.values).unwrap_or_default();
        let shared = served.session.shared();
        let is_pending = |key: &str| served.shares.iter().any(|share| share.key == key);
        if all {
            let named: HashSet<_> = values.iter().map(|value| &*value.key).collect();
            for (key, _) in shared.all() {
                if !is_pending(&key) && !named.contains(&*key) {
                    shared.follow(&key, None)?;
                }
            }
        }
        for value in values {
            if !is_pending(&value.key) {
                let json = (!value.value.is_empty()).then_some(value.value);
                shared.follow(&value.key, json)?;
            }
        }
        Ok(())
    }

    /// Notes which changes of this node the gate has applied.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`].
    pub(super) fn applied(&mut self, frame: &Frame) -> Result<&mut ServedSession<S>> {
        let served = self.served(frame.session)?;
        served.binds_applied = frame.binds.max(served.binds_applied);
        served.routes.retain(|route| route.number > frame.binds);
        served.shares.retain(|share| share.number > frame.binds);
        Ok(served)
    }

    /// BINDs, ROUTEs and SHAREs that the last stream may have lost, in the order they were sent.
    pub(super) fn unapplied(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (&id, served) in &self.sessions {
            let sent = served.binds_sent;
            frames.extend(
                (sent > served.binds_applied)
                    .then(|| Frame::bind(id, served.session.user().as_ref(), sent)),
            );
            let routes = served.routes.iter();
            frames.extend(routes.map(|route| {
                Frame::route(id, &route.service, route.address.as_deref(), route.number)
            }));
            let shares = served.shares.iter();
            let share =
                |share: &ServedShare| Frame::share(&served.session, &share.key, share.number);
            frames.extend(shares.map(share));
        }
        frames.sort_unstable_by_key(|frame| frame.binds);
        frames
    }
}
