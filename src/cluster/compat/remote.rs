//! The sink of a session whose client is connected to a gate of Go nano.

use std::{any::Any, net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::{
    call_queue::OutboundCall,
    peer::{CompatPeer, check_size},
    served::ServedRequests,
};
use crate::{
    cluster::proto::{PushMessage, ResponseMessage},
    error::{Error, Result, code},
    message::Message,
    session::{CloseReason, Push, Session, SessionSink},
};

/// Sends what is for a session to its gate, which tells neither the uid nor the client's address.
pub(in crate::cluster) struct CompatSession {
    id: i64,
    gate: Arc<CompatPeer>,
    requests: Arc<ServedRequests>,
}

impl CompatSession {
    pub(super) fn new(id: i64, gate: Arc<CompatPeer>, requests: Arc<ServedRequests>) -> Arc<Self> {
        Arc::new(Self { id, gate, requests })
    }

    /// The sink of a session; `None` for clients of gates that have links.
    pub(in crate::cluster) fn of(session: &Session) -> Option<&Self> {
        let sink: &dyn Any = &**session.sink();
        sink.downcast_ref()
    }

    /// Whether a sink is that of such a session.
    pub(in crate::cluster) fn is(sink: &dyn SessionSink) -> bool {
        let sink: &dyn Any = sink;
        sink.is::<Self>()
    }

    /// The refusal of what its gate cannot do: it keeps no users.
    pub(in crate::cluster) fn unsupported(&self) -> Error {
        let gate = self.gate();
        Error::new(
            code::UNSUPPORTED,
            format!("the gate {gate} is a node of Go nano, which knows no users"),
        )
    }

    /// The address of its gate, which every message on its behalf carries.
    pub(in crate::cluster) fn gate(&self) -> &str {
        &self.gate.address
    }
}

impl SessionSink for CompatSession {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        check_size(push.body().len())?;
        self.requests.check_open()?;
        let message = PushMessage {
            session_id: self.id,
            route: push.route().to_owned(),
            data: push.body().clone(),
        };
        self.gate.enqueue(self.id, OutboundCall::Push(message))
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        self.requests.answered(request)?;
        // Go nano has no error replies: an error travels as the body of a response.
        let answer = answer.and_then(|body| check_size(body.len()).map(|()| body));
        let data = answer.unwrap_or_else(|error| error.to_body());
        let response = ResponseMessage {
            session_id: self.id,
            id: request,
            data,
        };
        self.gate.enqueue(self.id, OutboundCall::Response(response))
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        self.requests.check_open()?;
        let message = Message::notify(route, body);
        session.inner().call_router()?.rpc(session, message)
    }

    fn close(&self, _: CloseReason) {
        if self.requests.close() {
            // A gate that is gone has closed the connection already.
            let _ = self
                .gate
                .enqueue(self.id, OutboundCall::CloseSession(self.id));
        }
    }

    fn route(&self, _: &Session, _: &str, _: Option<&str>) -> Result {
        Err(Error::new(
            code::UNSUPPORTED,
            format!(
                "the gate {} is a node of Go nano, which takes no bindings",
                self.gate.address
            ),
        ))
    }

    fn share(&self, _: &Session, _: &str, _: Option<Bytes>) -> Result {
        Err(Error::new(
            code::UNSUPPORTED,
            format!(
                "the gate {} is a node of Go nano, which shares no values",
                self.gate.address
            ),
        ))
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
}
