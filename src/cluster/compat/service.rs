//! What nodes of Go nano send: nano's data RPCs, with the replies that Go nano gives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tonic::Status;

use super::{peer::CompatPeer, peers::CompatPeers, remote::CompatSession, served::ServedSession};
use crate::{
    cluster::{
        link::{context::LinkContext, peers::LinkPeers},
        proto::{NotifyMessage, PushMessage, RequestMessage, ResponseMessage},
    },
    dispatch::{Dispatch, Origin},
    error::{Error, code},
    message::Message,
    session::{CloseReason, Push, Session},
};

/// How long a message may wait for room on its scheduler. Its gate waits meanwhile, with at least
/// the messages of that client.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(3);

/// The data plane as nano's protocol knows it.
///
/// Whatever it answers, it answers soon: Go nodes wait for the response without a deadline, some of
/// them with everything they do.
pub(in crate::cluster) struct CompatService {
    pub(in crate::cluster) peers: Arc<CompatPeers>,
    /// Peers of this crate, for whose clients a Go node may send something first.
    pub(in crate::cluster) links: Arc<LinkPeers>,
    pub(in crate::cluster) dispatch: Arc<Dispatch>,
}

impl CompatService {
    fn context(&self) -> &LinkContext {
        &self.peers.context
    }

    /// A message for a handler of this node, acknowledged when it is queued.
    async fn handle(
        &self,
        gate: &str,
        session: i64,
        id: u64,
        route: String,
        data: Bytes,
    ) -> Result<(), Status> {
        let dispatch = &self.dispatch;
        if !dispatch.has(&route) {
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
        // Go's messages do not say whether a client or a node sent them.
        let origin = if self.peers.trusts_clients() {
            Origin::Node
        } else {
            Origin::Client
        };
        if let Err(error) = dispatch.filter_inbound(&session, &mut message) {
            dispatch.reporter().fail_unhandled(&session, error);
            return Ok(());
        }
        let Some(mut job) = dispatch.accept(session, &message, origin) else {
            return Ok(());
        };
        let queued = async {
            while let Err(held) = job.submit() {
                held.ready.await;
                job = held.call;
            }
        };
        if timeout(QUEUE_TIMEOUT, queued).await.is_err() {
            // Dropped unqueued, the message has answered its request.
            return Err(Status::unknown("the node is busy"));
        }
        Ok(())
    }

    fn session(&self, gate: &str, id: i64, request: u64) -> Result<Session, Status> {
        let context = self.context();
        let unknown = |error: Error| Status::unknown(error.message().to_owned());
        if gate == context.address {
            // On behalf of a client of this very node.
            return self.client(id);
        }
        if let Some(peer) = self.links.get(gate) {
            return peer.serve_unannounced(id).map_err(unknown);
        }
        let gate = self.peers.get_or_create(gate).map_err(unknown)?;
        let served = gate.served(id, || self.open(&gate, id)).map_err(unknown)?;
        if request != 0 {
            served.requests.expect(request);
        }
        Ok(served.session)
    }

    fn open(&self, gate: &Arc<CompatPeer>, id: i64) -> ServedSession {
        let context = self.context();
        let requests = Arc::default();
        let sink = CompatSession::new(id, gate.clone(), Arc::clone(&requests));
        ServedSession {
            session: context.node.sessions().open_remote(id, sink),
            requests,
        }
    }

    fn client(&self, id: i64) -> Result<Session, Status> {
        self.context()
            .node
            .sessions()
            .find_local(id)
            .ok_or_else(|| not_found(id))
    }
}

/// The RPCs.
impl CompatService {
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
        self.peers.answered(message.session_id, message.id);
        match session.with_request(message.id).answer(Ok(message.data)) {
            Err(error) if error.code() == code::CLOSED => {
                Err(Status::unknown("broken low-level pipe"))
            }
            // A late response is counted, and no fault of the node.
            _ => Ok(()),
        }
    }

    pub(in crate::cluster) fn session_closed(&self, session: i64) {
        // A Go node sends no reason.
        self.peers.closed(session, &CloseReason::Client);
    }

    pub(in crate::cluster) fn close_session(&self, session: i64) {
        if let Some(session) = self.context().node.sessions().find_local(session) {
            session.close();
        }
    }
}

fn not_found(session: i64) -> Status {
    Status::unknown(format!("session not found: {session}"))
}
