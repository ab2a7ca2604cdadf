//! Sessions that move between gates, as the links of those gates and of the nodes that serve them see
//! it. No I/O.
//!
//! ```text
//!                   hold                      take_held
//!   served by old --------> held for the next ----------> adopt: served by the next
//!        ^                        |                       (items that waited are sent)
//!        +------- release --------+
//! ```
//!
//! While a session is held, messages of the old gate arrive as before, and everything for it waits.

use std::task::Waker;

use super::{
    effect::Effect, held::HeldItem, proto::Frame, receiver::Receiver,
    served_session::ServedSession, session::LinkedSession, session_window::SessionWindow,
    state::LinkState,
};
use crate::session::CloseReason;

/// Sessions of the peer, which this node serves.
impl<S: LinkedSession> LinkState<S> {
    /// Refuses frames for the peer of a session, until it is taken for the gate at this address or
    /// released. Returns its handle; `None` if the session is not served.
    pub(in crate::cluster) fn hold(&mut self, id: i64, next: &str) -> Option<S> {
        self.receiver.displaces = true;
        let served = self.receiver.sessions.get_mut(&id)?;
        served.held_for = Some(next.into());
        Some(served.session.clone())
    }

    /// Takes frames for the peer again. Returns the session's handle and key, also if it was not held:
    /// the call may be repeated, or follow one that did not arrive. `None` if it is not served.
    pub(in crate::cluster) fn release(&mut self, id: i64) -> Option<(S, u64)> {
        let served = self.receiver.sessions.get_mut(&id)?;
        served.held_for = None;
        Some((served.session.clone(), served.key))
    }

    /// Gives up a session that is held for the gate at this address.
    pub(in crate::cluster) fn take_held(
        &mut self,
        id: i64,
        next: &str,
    ) -> Option<ServedSession<S>> {
        let sessions = &mut self.receiver.sessions;
        let held_for = sessions.get(&id)?.held_for.as_deref();
        held_for.filter(|held_for| *held_for == next)?;
        sessions.remove(&id)
    }

    /// Whether the session is served for the peer.
    pub(in crate::cluster) fn serves(&self, id: i64) -> bool {
        self.receiver.sessions.contains_key(&id)
    }

    /// Serves a session that another peer had, with its requests in flight. `number` is the peer's,
    /// as in SESSION_OPEN. Returns its key; `None` if the peer is gone, or has a session with this id.
    pub(in crate::cluster) fn adopt(
        &mut self,
        served: ServedSession<S>,
        number: u64,
    ) -> Option<u64> {
        self.receiver.adopt(served, number)
    }

    /// Sends what has waited for the gate of a session: all of it, since it was accepted, and takes no
    /// more memory here. Returns the writer to wake.
    pub(in crate::cluster) fn send_held(
        &mut self,
        session: &S,
        key: u64,
        items: Vec<HeldItem>,
    ) -> Option<Waker> {
        let (id, mut writer) = (session.id(), None);
        self.sender.accepts_all = true;
        for item in items {
            let sent = match item {
                HeldItem::Frame(frame) => self.push(id, key, frame),
                HeldItem::Respond(request, answer) => self.respond(id, key, request, || answer),
                HeldItem::Close(reason) => self.close_session(id, key, reason),
                HeldItem::Bind(user) => self.bind(session, key, user),
                HeldItem::Route(service, address) => {
                    self.route(id, key, &service, address.as_deref())
                }
                HeldItem::Share(name) => {
                    let value = session.shared().get(&name);
                    self.share(session, key, &name, value)
                }
            };
            // Of a session that was closed before, and of a request that was failed, nothing is sent.
            writer = writer.or(sent.ok().flatten());
        }
        self.sender.accepts_all = false;
        writer
    }
}

/// Sessions of this gate, which the peer serves.
impl<S: LinkedSession> LinkState<S> {
    /// The requests of a session that the peer has not answered; `None` if it does not serve the
    /// session.
    pub(in crate::cluster) fn requests_of(&self, id: i64) -> Option<Vec<u64>> {
        let window = self.sender.windows.get(&id)?;
        Some(window.requests().collect())
    }

    /// Forgets a session that another gate has now. A peer that still holds the session is to end it:
    /// the next gate could not attach it there. Returns the reader and the writer to wake.
    pub(in crate::cluster) fn session_moved(&mut self, id: i64) -> [Option<Waker>; 2] {
        self.sender.lost.remove(&id);
        let Some(mut window) = self.sender.windows.remove(&id) else {
            return [None, None];
        };
        self.sender.requests -= window.in_flight();
        // A peer where the next gate has attached it ignores this.
        let closed = self.sender.push(Frame::session_closed(id, &lost()));
        [window.reader.take(), closed]
    }

    /// Goes on with a session that the peer serves for another gate, once the peer has attached it.
    /// Returns the number of its opening.
    pub(in crate::cluster) fn session_adopted(&mut self, session: &S, requests: Vec<u64>) -> u64 {
        self.sender.opened += 1;
        let number = self.sender.opened;
        self.sender.requests += requests.len();
        let window = SessionWindow::adopted(session, number, requests);
        self.sender.windows.insert(session.id(), window);
        number
    }

    /// The peer serves the adopted session, or does not. A change while it was attached is announced
    /// now.
    pub(in crate::cluster) fn session_attached(
        &mut self,
        session: &S,
        attached: bool,
        effects: &mut Vec<Effect<S>>,
    ) {
        if !attached {
            let (id, any) = (session.id(), u64::MAX);
            let known = self.sender.windows.contains_key(&id);
            self.sender.session_unknown(id, any, effects);
            if known {
                // The peer may attach it still, or have done so: nothing else would end it there.
                let closed = self.sender.push(Frame::session_closed(id, &lost()));
                effects.extend(closed.map(Effect::Wake));
            }
            return;
        }
        if let Some(window) = self.sender.windows.get_mut(&session.id()) {
            window.attaching = false;
            window.stale = true;
            self.sender.any_stale = true;
        }
        let bound = self.sender.session_bound(session);
        let refreshed = self.sender.refresh_stale();
        effects.extend(bound.or(refreshed).map(Effect::Wake));
    }
}

/// Why a session ends at a node that the next gate could not reach.
fn lost() -> CloseReason {
    CloseReason::Broken("it was lost when it moved".to_owned())
}

impl<S: LinkedSession> Receiver<S> {
    fn adopt(&mut self, served: ServedSession<S>, number: u64) -> Option<u64> {
        let id = served.session.id();
        if self.is_closed() || self.sessions.contains_key(&id) {
            return None;
        }
        // It may have been at that gate before.
        self.closed_sessions.remove(id);
        self.opened = self.opened.max(number);
        self.last_key += 1;
        let key = self.last_key;
        let adopted = ServedSession {
            key,
            stream: self.stream,
            held_for: None,
            // The former gate has applied all that it was sent.
            binds_sent: 0,
            binds_applied: 0,
            routes: Vec::new(),
            shares: Vec::new(),
            ..served
        };
        self.sessions.insert(id, adopted);
        Some(key)
    }

    /// Removes those that are not served for the peer any more, or are held, and returns them.
    pub(super) fn take_displaced(&self, sessions: &mut Vec<i64>) -> Vec<i64> {
        if !self.displaces {
            return Vec::new();
        }
        let is_here = |id: &i64| {
            let served = self.sessions.get(id);
            served.is_some_and(|served| served.held_for.is_none())
        };
        let (here, displaced) = sessions.drain(..).partition(is_here);
        *sessions = here;
        displaced
    }
}
