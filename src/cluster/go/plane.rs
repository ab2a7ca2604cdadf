//! What nodes of Go nano send, with the answers they know.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tonic::Status;

use super::{
    GoPeer, closed_by_gate,
    remote::{GoRemote, GoServed},
};
use crate::{
    cluster::{
        peers::Peers,
        proto::{NotifyMessage, PushMessage, RequestMessage, ResponseMessage},
    },
    dispatch::Origin,
    error::{Error, code},
    message::Message,
    session::{Push, Session},
};

/// How long a message may wait for room on its scheduler. Its gate waits meanwhile, with the
/// messages of that client at least.
const PATIENCE: Duration = Duration::from_secs(3);

/// The data plane as nano's protocol knows it.
///
/// Whatever it answers, it answers soon: Go nodes wait for the response without a deadline, some of
/// them with everything they do.
pub(in crate::cluster) struct Plane(pub(in crate::cluster) Arc<Peers>);

impl Plane {
    /// A message for a handler of this node, acknowledged when it is queued.
    async fn handle(
        &self,
        gate: &str,
        session: i64,
        id: u64,
        route: String,
        data: Bytes,
    ) -> Result<(), Status> {
        let peers = &self.0;
        if !peers.dispatch.has(&route) {
            return Err(Status::unknown(format!(
                "service not found in current node: {route}"
            )));
        }
        let mut message = if id == 0 {
            Message::notify(route, data)
        } else {
            Message::request(id, route, data)
        };
        let session = self.session(gate, session, id)?.with_request(id);
        // Go's frames do not say whether a client or a node sent it.
        let origin = if peers.trust_go {
            Origin::Node
        } else {
            Origin::Client
        };
        if let Err(error) = peers.dispatch.filter_inbound(&session, &mut message) {
            peers.dispatch.fail(&session, error);
            return Ok(());
        }
        let Some(mut job) = peers.dispatch.accept(&session, &message, origin) else {
            return Ok(());
        };
        let queued = async {
            while let Err(held) = job.submit() {
                held.ready.await;
                job = held.call;
            }
        };
        if timeout(PATIENCE, queued).await.is_err() {
            // Dropped unqueued, the message has answered for itself.
            return Err(Status::unknown("the node is busy"));
        }
        Ok(())
    }

    fn session(&self, gate: &str, id: i64, request: u64) -> Result<Session, Status> {
        let peers = &self.0;
        let unknown = |error: Error| Status::unknown(error.message().to_owned());
        if gate == peers.address {
            // On behalf of a client of this very node.
            return peers
                .node
                .sessions()
                .find_local(id)
                .ok_or_else(|| not_found(id));
        }
        if let Some(peer) = peers.linked(gate) {
            return peers.served_by_notify(&peer, id).map_err(unknown);
        }
        let gate = peers.go_peer(gate).map_err(unknown)?;
        let served = gate.served(id, || self.open(&gate, id)).map_err(unknown)?;
        if request != 0 {
            served.sink.expect(request);
        }
        Ok(served.session)
    }

    fn open(&self, gate: &Arc<GoPeer>, id: i64) -> GoServed {
        let sink = GoRemote::new(id, gate.clone(), self.0.dispatch.clone());
        GoServed {
            session: self.0.node.sessions().open_remote(id, sink.clone()),
            sink,
        }
    }

    fn client(&self, id: i64) -> Result<Session, Status> {
        self.0
            .node
            .sessions()
            .find_local(id)
            .ok_or_else(|| not_found(id))
    }
}

impl Plane {
    pub(in crate::cluster) async fn handle_request(
        &self,
        message: RequestMessage,
    ) -> Result<(), Status> {
        let RequestMessage {
            gate_addr,
            session_id,
            id,
            route,
            data,
        } = message;
        self.handle(&gate_addr, session_id, id, route, data).await
    }

    pub(in crate::cluster) async fn handle_notify(
        &self,
        message: NotifyMessage,
    ) -> Result<(), Status> {
        let NotifyMessage {
            gate_addr,
            session_id,
            route,
            data,
        } = message;
        self.handle(&gate_addr, session_id, 0, route, data).await
    }

    pub(in crate::cluster) async fn handle_push(&self, message: PushMessage) -> Result<(), Status> {
        let session = self.client(message.session_id)?;
        session
            .sink()
            .push(&Push::new(&message.route, message.data))
            .map_err(|error| {
                Status::unknown(match error.code() {
                    code::CLOSED => "broken low-level pipe",
                    code::TOO_MANY => "session send buffer exceed",
                    _ => error.message(),
                })
            })
    }

    pub(in crate::cluster) async fn handle_response(
        &self,
        message: ResponseMessage,
    ) -> Result<(), Status> {
        let session = self.client(message.session_id)?;
        if message.id == 0 {
            return Err(Status::unknown("current session working on notify mode"));
        }
        self.0.answered_by_go(message.session_id, message.id);
        match session.with_request(message.id).answer(Ok(message.data)) {
            Err(error) if error.code() == code::CLOSED => {
                Err(Status::unknown("broken low-level pipe"))
            }
            // One that came too late is counted, and nobody's fault.
            _ => Ok(()),
        }
    }

    pub(in crate::cluster) fn session_closed(&self, session: i64) {
        self.0.closed_by_go(session, &closed_by_gate());
    }

    pub(in crate::cluster) fn close_session(&self, session: i64) {
        if let Some(session) = self.0.node.sessions().find_local(session) {
            session.close();
        }
    }
}

fn not_found(session: i64) -> Status {
    Status::unknown(format!("session not found: {session}"))
}
