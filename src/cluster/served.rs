//! Sessions that this node serves and that move between gates: what their gates ask of it.

use std::{
    any::Any,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use prost::Message;

use super::{
    link::{config::stream_index, peer::LinkPeer, peers::LinkPeers, remote::RemoteSession},
    node_services::{NodeCall, NodeService, unknown},
    players::{SessionAttach, SessionHold, SessionRelease},
};
use crate::{
    error::{Error, Result, code},
    session::{CloseReason, Session},
};

/// Holds, releases and attaches sessions for their gates.
pub(super) struct ServedSessions(Weak<LinkPeers>);

impl ServedSessions {
    pub(super) fn new(links: &Arc<LinkPeers>) -> Self {
        Self(Arc::downgrade(links))
    }

    fn peer(&self, address: &str) -> Result<Arc<LinkPeer>> {
        let links = self.0.upgrade();
        let peer = links.and_then(|links| links.get(address));
        peer.ok_or_else(|| Error::new(code::NOT_FOUND, format!("no peer at {address}")))
    }

    /// Lets what is for the gate of a session wait.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if the session is not served for that gate.
    fn hold(&self, from: &str, request: &SessionHold) -> Result {
        let peer = self.peer(from)?;
        let id = request.session;
        let held = peer.streams[stream_index(id)].input(|state| {
            let session = state.hold(id, &request.to)?;
            // Under the lock, so that each frame is either sent before or waits.
            remote(&session).map(RemoteSession::hold)
        });
        held.ok_or_else(|| not_served(id))
    }

    /// Sends the gate of a session what has waited, if it has waited.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if the session is not served for that gate.
    fn release(&self, from: &str, request: &SessionRelease) -> Result {
        let peer = self.peer(from)?;
        let id = request.session;
        let released = peer.streams[stream_index(id)].input(|state| {
            let (session, key) = state.release(id)?;
            let items = remote(&session)?.settle(None);
            Some(state.send_held(&session, key, items))
        });
        let writer = released.ok_or_else(|| not_served(id))?;
        writer.into_iter().for_each(std::task::Waker::wake);
        Ok(())
    }

    /// Gives a session that is held to its next gate, with what has waited.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if the session is not held for that gate.
    fn attach(&self, from: &str, request: &SessionAttach) -> Result {
        let id = request.session;
        let (former, next) = (self.peer(&request.gate)?, self.peer(from)?);
        let index = stream_index(id);
        let next_stream = &next.streams[index];
        if next_stream.read(|state| state.serves(id)) {
            // The call was repeated.
            return Ok(());
        }
        let served = former.streams[index].input(|state| state.take_held(id, from));
        let served = served.ok_or_else(|| not_served(id))?;
        let session = served.session().clone();
        let attached = next_stream.input(|state| {
            let key = state.adopt(served, request.number)?;
            // Frames that follow go to the link of the next gate, whose lock is held.
            let items = remote(&session)?.settle(Some(next.place(id, key)));
            Some(state.send_held(&session, key, items))
        });
        let Some(writer) = attached else {
            let reason = CloseReason::Broken(format!("the gate {from} is gone"));
            let node = &next.context().node;
            node.sessions().close(&session, &reason, node.scheduler());
            return Err(not_served(id));
        };
        writer.into_iter().for_each(std::task::Waker::wake);
        Ok(())
    }
}

impl NodeService for ServedSessions {
    fn answer(&self, method: &str, call: NodeCall) {
        let (body, from) = (call.body.clone(), call.from.clone());
        let done = match method {
            "Hold" => decode(body).and_then(|request| self.hold(&from, &request)),
            "Release" => decode(body).and_then(|request| self.release(&from, &request)),
            "Attach" => decode(body).and_then(|request| self.attach(&from, &request)),
            other => Err(unknown(&format!("Served.{other}"))),
        };
        // The reply has no fields.
        call.respond(done.map(|()| Bytes::new()));
    }
}

fn remote(session: &Session) -> Option<&RemoteSession> {
    let sink: &dyn Any = &**session.sink();
    sink.downcast_ref()
}

fn decode<Request: Message + Default>(body: Bytes) -> Result<Request> {
    Request::decode(body)
        .map_err(|error| Error::bad_request("invalid message of a gate").with_source(error))
}

fn not_served(id: i64) -> Error {
    Error::new(
        code::NOT_FOUND,
        format!("session {id} is not served for the gate"),
    )
}
