//! The sink of a session whose client is connected to another gate.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    proto::{Frame, Kind},
    stream::LinkStream,
};
use crate::{
    error::Result,
    message::Message,
    session::{CloseReason, GateMulticast, Push, Session, SessionSink, UserId},
    trace::current_trace,
};

/// Sends what is for a session to its gate. The state of the session is part of the link's; this
/// names it by id and key, so that a handle that outlives the session does not reach the next one of
/// the same id.
pub(in crate::cluster) struct RemoteSession {
    id: i64,
    key: u64,
    stream: Arc<LinkStream>,
    gate: Arc<str>,
    client_address: Option<SocketAddr>,
}

impl RemoteSession {
    pub(super) fn new(
        (id, key): (i64, u64),
        stream: Arc<LinkStream>,
        gate: Arc<str>,
        client_address: &str,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            key,
            stream,
            gate,
            client_address: client_address.parse().ok(),
        })
    }

    fn check_open(&self) -> Result {
        self.stream.check_open(self.id, self.key)
    }

    /// Sends a one-way message on behalf of the session, by way of its gate: only the gate knows
    /// which member serves the session.
    ///
    /// # Errors
    /// [`CLOSED`](crate::code::CLOSED), [`TOO_MANY`](crate::code::TOO_MANY).
    pub(in crate::cluster) fn relay(&self, message: Message) -> Result {
        let frame = self.frame(Kind::Relay, 0, message);
        self.stream.push(self.id, self.key, frame)
    }

    /// [`relay`](RemoteSession::relay) for a call, which the gate answers. With `to` it is for the
    /// member at that address.
    ///
    /// # Errors
    /// As [`relay`](RemoteSession::relay).
    pub(in crate::cluster) fn relay_call(
        &self,
        id: u64,
        message: Message,
        to: Option<String>,
        deadline: Option<Instant>,
    ) -> Result {
        let frame = self.frame(Kind::RelayCall, id, message);
        let frame = frame.until(deadline).with_target(to);
        self.stream.push(self.id, self.key, frame)
    }

    fn frame(&self, kind: Kind, id: u64, message: Message) -> Frame {
        let trace = current_trace();
        Frame::message(kind, self.id, id, message.route, message.body)
            .with_trace(trace.as_ref().map(|trace| &trace.context))
    }

    /// The stream that carries the session's calls.
    pub(in crate::cluster) fn stream(&self) -> Arc<LinkStream> {
        self.stream.clone()
    }
}

impl SessionSink for RemoteSession {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        let frame = Frame::push(self.id, Vec::new(), push.route(), push.body().clone());
        self.stream.push(self.id, self.key, frame)
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        self.stream.respond(self.id, self.key, request, answer)
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        self.check_open()?;
        let message = Message::notify(route, body);
        session.inner().call_router()?.rpc(session, message)
    }

    fn close(&self, reason: CloseReason) {
        self.stream.close_session(self.id, self.key, reason);
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.client_address
    }

    fn bind(&self, session: &Session, user: Option<UserId>) {
        self.stream.bind(session, self.key, user);
    }

    fn route(&self, session: &Session, service: &str, address: Option<&str>) -> Result {
        self.stream.route(self.id, self.key, service, address)?;
        session.inner().bindings.set(service, address);
        Ok(())
    }

    fn share(&self, session: &Session, key: &str, value: Option<Bytes>) -> Result {
        self.stream.share(session, self.key, key, value)
    }

    fn gate_address(&self) -> Option<Arc<str>> {
        Some(self.gate.clone())
    }

    fn done(&self) {
        self.stream.finished(self.id, self.key);
    }

    fn relay(&self) -> Option<Arc<dyn GateMulticast>> {
        // A session that is closing gets its own error.
        self.check_open().ok()?;
        Some(self.stream.clone())
    }
}
