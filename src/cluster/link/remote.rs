//! The sink of a session whose client is connected to another gate.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    held::{Held, HeldItem},
    proto::{Frame, Kind},
    stream::LinkStream,
    whereabouts::{Destination, Whereabouts},
};
use crate::{
    error::Result,
    message::Message,
    session::{CloseReason, GateMulticast, Push, Session, SessionSink, UserId},
    trace::current_trace,
};

/// How often [`RemoteSession::settled`] looks, and for how long.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
const MAX_HELD: Duration = Duration::from_secs(10);

/// Sends what is for a session to its gate. The state of the session is part of the link's; this
/// names it by id and key, so that a handle that outlives the session does not reach the next one of
/// the same id.
///
/// The session may move to another gate. Before it does it is held: what is for its gate waits here.
pub(in crate::cluster) struct RemoteSession {
    id: i64,
    first: Place,
    client_address: Option<SocketAddr>,
    /// Set when the session is held for the first time; `now` counts from then on. Set under the
    /// lock of its link, which refuses frames of the session at the same time.
    displaced: AtomicBool,
    /// Taken within the lock of a link. What the session shares and its user change under it while it is
    /// held, so that the order of changes is that in which they are sent.
    now: Mutex<Whereabouts<Place>>,
}

/// A session at one gate.
#[derive(Clone)]
pub(in crate::cluster) struct Place {
    pub(in crate::cluster) key: u64,
    pub(in crate::cluster) stream: Arc<LinkStream>,
    pub(in crate::cluster) gate: Arc<str>,
}

impl Place {
    fn is(&self, other: &Self) -> bool {
        self.key == other.key && Arc::ptr_eq(&self.stream, &other.stream)
    }
}

impl RemoteSession {
    pub(super) fn new(id: i64, first: Place, client_address: &str) -> Arc<Self> {
        Arc::new(Self {
            id,
            first,
            client_address: client_address.parse().ok(),
            displaced: AtomicBool::new(false),
            now: Mutex::default(),
        })
    }

    /// Holds the session: what is for its gate waits. Called under the lock of its link.
    pub(in crate::cluster) fn hold(&self) {
        self.now.lock().hold();
        self.displaced.store(true, Ordering::Release);
    }

    /// Ends the hold, at another gate if one is given. Returns what has waited. Called under the lock
    /// of the link to that gate, which is then sent what has waited.
    pub(in crate::cluster) fn settle(&self, place: Option<Place>) -> Vec<HeldItem> {
        self.now.lock().settle(place)
    }

    /// Sends something to the gate, or keeps it while the session is held. `attempt` is called again
    /// if the session was held or has moved meanwhile.
    fn send(
        &self,
        mut attempt: impl FnMut(&Place) -> Result,
        hold: impl FnOnce(&mut Held) -> Result,
    ) -> Result {
        if !self.displaced.load(Ordering::Acquire) {
            let sent = attempt(&self.first);
            if sent.is_ok() || !self.displaced.load(Ordering::Acquire) {
                return sent;
            }
        }
        loop {
            let place = match self.now.lock().destination(&self.first) {
                Destination::Held(held) => return hold(held),
                Destination::Gate(place) => place,
            };
            let sent = attempt(&place);
            if sent.is_ok() || self.is_at(&place) {
                return sent;
            }
        }
    }

    fn is_at(&self, place: &Place) -> bool {
        let now = self.now.lock();
        !now.is_held() && now.place().unwrap_or(&self.first).is(place)
    }

    /// Waits while the session is held, ten seconds at most, for calls that go to its gate by address.
    pub(in crate::cluster) async fn settled(&self) {
        let until = Instant::now() + MAX_HELD;
        while self.is_held() && Instant::now() < until {
            sleep(POLL_INTERVAL).await;
        }
    }

    fn is_held(&self) -> bool {
        self.displaced.load(Ordering::Acquire) && self.now.lock().is_held()
    }

    /// Where the session is; while it is held, where it was.
    fn place(&self) -> Place {
        if !self.displaced.load(Ordering::Acquire) {
            return self.first.clone();
        }
        let place = self.now.lock().place().cloned();
        place.unwrap_or_else(|| self.first.clone())
    }

    fn check_open(&self) -> Result {
        let check = |place: &Place| place.stream.check_open(self.id, place.key);
        self.send(check, |_| Ok(()))
    }

    /// Sends a frame within the session's quota.
    fn push_frame(&self, frame: impl Fn() -> Frame) -> Result {
        self.send(
            |place| place.stream.push(self.id, place.key, frame()),
            |held| held.push(frame()),
        )
    }

    /// Sends a one-way message on behalf of the session, by way of its gate: only the gate knows
    /// which member serves the session.
    ///
    /// # Errors
    /// [`CLOSED`](crate::code::CLOSED), [`TOO_MANY`](crate::code::TOO_MANY).
    pub(in crate::cluster) fn rpc_via_gate(&self, message: Message) -> Result {
        let frame = self.frame(Kind::RpcViaGate, 0, message);
        self.push_frame(|| frame.clone())
    }

    /// [`rpc_via_gate`](RemoteSession::rpc_via_gate) for a call, which the gate answers. With `to` it is
    /// for the member at that address.
    ///
    /// # Errors
    /// As [`rpc_via_gate`](RemoteSession::rpc_via_gate).
    pub(in crate::cluster) fn call_via_gate(
        &self,
        id: u64,
        message: Message,
        to: Option<String>,
        deadline: Option<Instant>,
    ) -> Result {
        let frame = self.frame(Kind::CallViaGate, id, message);
        let frame = frame.until(deadline).with_target(to);
        self.push_frame(|| frame.clone())
    }

    fn frame(&self, kind: Kind, id: u64, message: Message) -> Frame {
        let trace = current_trace();
        Frame::message(kind, self.id, id, message.route, message.body)
            .with_trace(trace.as_ref().map(|trace| &trace.context))
    }

    /// The stream that carries the session's calls.
    pub(in crate::cluster) fn stream(&self) -> Arc<LinkStream> {
        if !self.displaced.load(Ordering::Acquire) {
            return self.first.stream.clone();
        }
        self.place().stream
    }
}

impl SessionSink for RemoteSession {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        self.push_frame(|| Frame::push(self.id, Vec::new(), push.route(), push.body().clone()))
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        // Taken once: where it is queued.
        let answer = Cell::new(Some(answer));
        let take = || answer.take().unwrap_or_else(|| Ok(Bytes::new()));
        self.send(
            |place| {
                let Place { stream, key, .. } = place;
                stream.respond(self.id, *key, request, take)
            },
            |held| held.respond(request, take),
        )
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        self.check_open()?;
        let message = Message::notify(route, body);
        session.inner().call_router()?.rpc(session, message)
    }

    fn close(&self, reason: CloseReason) {
        // Of a session that has ended, nothing is left to close.
        let _ = self.send(
            |place| {
                let Place { stream, key, .. } = place;
                stream.close_session(self.id, *key, reason.clone())
            },
            |held| held.close(reason.clone()),
        );
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.client_address
    }

    fn bind(&self, session: &Session, user: Option<UserId>) {
        // Of a session that has ended, the user is of no interest.
        let _ = self.send(
            |place| place.stream.bind(session, place.key, user.clone()),
            |held| {
                session.inner().rebind(user.clone());
                held.bind(user.clone())
            },
        );
    }

    fn route(&self, session: &Session, service: &str, address: Option<&str>) -> Result {
        self.send(
            |place| {
                let Place { stream, key, .. } = place;
                stream.route(self.id, *key, service, address)
            },
            |held| held.route(service, address),
        )?;
        session.inner().bindings.set(service, address);
        Ok(())
    }

    fn share(&self, session: &Session, key: &str, value: Option<Bytes>) -> Result {
        self.send(
            |place| {
                let stream = &place.stream;
                stream.share(session, place.key, key, value.clone())
            },
            |held| {
                let set = || session.inner().shared.set(key, value.clone()).map(drop);
                held.share(key, set)
            },
        )
    }

    fn gate_address(&self) -> Option<Arc<str>> {
        Some(self.place().gate)
    }

    fn done(&self) {
        if self.displaced.load(Ordering::Acquire) {
            let place = self.place();
            place.stream.finished(self.id, place.key);
        } else {
            self.first.stream.finished(self.id, self.first.key);
        }
    }

    fn gate_multicast(&self) -> Option<Arc<dyn GateMulticast>> {
        if self.is_held() {
            return None;
        }
        // A session that is closing gets its own error.
        self.check_open().ok()?;
        Some(self.stream())
    }
}
