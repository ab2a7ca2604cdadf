//! Pushes to all clients of all gates.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message;
use tracing::debug;

use super::{
    link::config::{STREAMS, stream_index},
    node_caller::NodeCaller,
    node_services::{NodeCall, NodeService, NodeServices, unknown},
    players::Broadcast,
};
use crate::{
    error::{Error, Result, code},
    handle::Handle,
    session::{Push, Sessions},
};

/// Sends pushes to all gates.
///
/// A gate gets a frame on each stream of its link, for the sessions that use the stream: so a
/// broadcast keeps its place among what else a node sends to a session.
pub(super) struct Broadcaster {
    node: Handle,
    caller: NodeCaller,
}

impl Broadcaster {
    /// Adds the service that pushes what other nodes broadcast.
    pub(super) fn new(node: &Handle, services: &NodeServices, caller: NodeCaller) -> Self {
        let sessions = node.sessions().clone();
        services.insert("Clients", Arc::new(ClientService { sessions }));
        Self {
            node: node.clone(),
            caller,
        }
    }

    /// Pushes to all clients. Returns the members whose clients may have missed it: nodes without
    /// links, and those that cannot be reached or take no more.
    ///
    /// # Errors
    /// [`code::TOO_LARGE`].
    pub(super) fn broadcast(&self, push: &Push<'_>) -> Result<Vec<String>> {
        push.check()?;
        let mut missed = Vec::new();
        let members = self.node.members();
        for member in members.iter().filter(|member| member.may_be_gate()) {
            let sent = (0..STREAMS).try_for_each(|index| {
                let message = Broadcast {
                    route: Bytes::copy_from_slice(push.route().as_bytes()),
                    body: push.body().clone(),
                    stream_index: index as u32,
                };
                let key = index as u64;
                self.caller
                    .send(member.address(), key, "Clients.Broadcast", &message)
            });
            if let Err(error) = sent {
                debug!(member = member.address(), route = push.route(), %error, "broadcast to a member failed");
                missed.push(member.address().to_owned());
            }
        }
        push_to_all(self.node.sessions(), push, |_| true);
        Ok(missed)
    }
}

/// Pushes to the clients of this node.
struct ClientService {
    sessions: Arc<Sessions>,
}

impl NodeService for ClientService {
    fn answer(&self, method: &str, call: NodeCall) {
        let malformed = || Error::new(code::BAD_REQUEST, "malformed broadcast");
        let message = match method {
            "Broadcast" => Broadcast::decode(call.body.clone()).map_err(|_| malformed()),
            _ => Err(unknown(method)),
        };
        let result = message.and_then(|message| {
            let route = ByteString::try_from(message.route).map_err(|_| malformed())?;
            let index = message.stream_index as usize;
            let push = Push::new(&route, message.body);
            push_to_all(&self.sessions, &push, |id| stream_index(id) == index);
            Ok(Bytes::new())
        });
        call.respond(result);
    }
}

fn push_to_all(sessions: &Sessions, push: &Push<'_>, is_meant: impl Fn(i64) -> bool) {
    for session in sessions.list_local() {
        if is_meant(session.id())
            && let Err(error) = session.sink().push(push)
        {
            debug!(session = session.id(), user = session.logged_user(), route = push.route(), %error, "broadcast to a client failed");
        }
    }
}
