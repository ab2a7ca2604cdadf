//! How a node calls the services of other nodes themselves.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    node_services::{NodeCall, NodeServices},
    peer_table::PeerTable,
    transport::{OutboundNodeCall, PeerTransport, Unreached},
};
use crate::{
    error::{Error, Result, code},
    session::{Caller, Push, ReplyTo, UserId},
};

/// The id of calls that never leave this node.
const LOCAL: u64 = 0;

/// Calls services of nodes, this one included. On a standalone node there is no other.
///
/// Cheap to clone. Owns nothing, because the services it reaches own it.
#[derive(Clone)]
pub(crate) struct NodeCaller {
    own: Arc<str>,
    services: Weak<NodeServices>,
    peers: Option<Weak<PeerTable>>,
}

impl NodeCaller {
    /// `own` is this node's address; empty for a standalone node.
    pub(in crate::cluster) fn new(
        own: &str,
        services: &Arc<NodeServices>,
        peers: &Arc<PeerTable>,
    ) -> Self {
        Self {
            peers: Some(Arc::downgrade(peers)),
            ..Self::standalone(own, services)
        }
    }

    /// The caller of a node that is in no cluster.
    pub(crate) fn standalone(own: &str, services: &Arc<NodeServices>) -> Self {
        Self {
            own: own.into(),
            services: Arc::downgrade(services),
            peers: None,
        }
    }

    /// This node's address.
    pub(crate) fn own_address(&self) -> &str {
        &self.own
    }

    /// Whether a node is this one or a member.
    pub(crate) fn is_member(&self, address: &str) -> bool {
        let peers = self.peers.as_ref().and_then(Weak::upgrade);
        address == &*self.own || peers.is_some_and(|peers| peers.is_member(address))
    }

    /// Whether a member takes new sessions, as far as this node knows: its link is not broken, and it does
    /// not drain.
    pub(crate) fn takes_sessions(&self, address: &str) -> bool {
        let peers = self.peers.as_ref().and_then(Weak::upgrade);
        let status = peers.and_then(|peers| Some(peers.get(address)?.status()));
        status.is_some_and(|status| status.available && !status.draining)
    }

    /// Calls `method`, as in `Directory.Claim`, and waits for the reply, at most `timeout`.
    ///
    /// Calls with one key arrive in the order in which this method was called. The key of a session
    /// is its id: such a call arrives behind what was sent for the session before.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the node cannot be reached, has left, or goes away before it has
    /// answered, [`code::TIMEOUT`], [`code::NOT_FOUND`] for an address that never had a member,
    /// [`code::UNSUPPORTED`] for basic members, [`code::TOO_MANY`], [`code::TOO_LARGE`], or what
    /// the service answers.
    pub(crate) fn call<Request: Message, Reply: Message + Default>(
        &self,
        to: &str,
        key: u64,
        method: &'static str,
        request: &Request,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reply>> + Send + use<Request, Reply> {
        let deadline = Instant::now() + timeout;
        let (sender, reply) = oneshot::channel();
        // The receiver is gone when the future was dropped: the reply is discarded.
        let caller = ReplyTo::new(LOCAL, Some(deadline), move |answer| {
            drop(sender.send(answer));
        });
        let waiting = Caller::new(&caller);
        let body = Bytes::from(request.encode_to_vec());
        let sent = self.dispatch(to, key, method, body, Some(caller));
        async move {
            // Its drop lets the other node know that no caller waits any more.
            let _waiting = waiting;
            sent?;
            let answer = match timeout_at(deadline, reply).await {
                Ok(answer) => answer.unwrap_or_else(|_| Err(stopped()))?,
                Err(_) => {
                    let text = format!("call of {method} timed out");
                    return Err(Error::new(code::TIMEOUT, text));
                }
            };
            Reply::decode(answer).map_err(|error| {
                Error::new(code::INTERNAL, format!("invalid reply of {method}")).with_source(error)
            })
        }
    }

    /// Pushes to all sessions that users have at another node, as their gate, and whose frames go on
    /// this stream of the link. What is returned is sent the end of the push.
    ///
    /// In order with frames of such sessions, and with calls whose key is the stream.
    ///
    /// # Errors
    /// As [`call`](NodeCaller::call), when the push is not sent.
    pub(in crate::cluster) fn push_to_users<'a>(
        &self,
        (to, stream): (&str, usize),
        mut users: impl Iterator<Item = &'a UserId>,
        push: &Push<'_>,
    ) -> Result<oneshot::Receiver<Unreached>> {
        self.transport(to)?.push_to_users(stream, &mut users, push)
    }

    /// Sends a one-way message, in order with calls of the same key. It is lost when the link breaks
    /// on its way.
    ///
    /// # Errors
    /// As [`call`](NodeCaller::call), when the message is not sent.
    pub(crate) fn send<Request: Message>(
        &self,
        to: &str,
        key: u64,
        method: &'static str,
        request: &Request,
    ) -> Result {
        self.send_encoded(to, key, method, request.encode_to_vec().into())
    }

    /// [`send`](NodeCaller::send) of a message that is encoded.
    ///
    /// # Errors
    /// As [`send`](NodeCaller::send).
    pub(crate) fn send_encoded(
        &self,
        to: &str,
        key: u64,
        method: &'static str,
        body: Bytes,
    ) -> Result {
        self.dispatch(to, key, method, body, None)
    }

    fn dispatch(
        &self,
        to: &str,
        key: u64,
        method: &'static str,
        body: Bytes,
        caller: Option<Arc<ReplyTo>>,
    ) -> Result {
        if to == &*self.own {
            let services = self.services.upgrade().ok_or_else(stopped)?;
            let from = self.own.clone();
            services.answer(method, NodeCall { from, body, caller });
            return Ok(());
        }
        self.transport(to)?.node_call(OutboundNodeCall {
            key,
            method: method.into(),
            body,
            caller,
        })
    }

    fn transport(&self, to: &str) -> Result<Arc<dyn PeerTransport>> {
        let Some(peers) = &self.peers else {
            return Err(Error::new(code::NOT_FOUND, format!("no member at {to}")));
        };
        peers.upgrade().ok_or_else(stopped)?.answering(to)
    }
}

fn stopped() -> Error {
    Error::new(code::UNAVAILABLE, "the node has stopped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node_services::NodeService;

    /// Answers `Echo.Twice` with the text doubled.
    struct Echo;

    impl NodeService for Echo {
        fn answer(&self, method: &str, call: NodeCall) {
            let doubled = String::decode(call.body.clone()).map(|text| text.clone() + &text);
            match (method, doubled) {
                ("Twice", Ok(text)) => call.respond(Ok(text.encode_to_vec().into())),
                ("Never", _) => drop(call),
                _ => call.fail(Error::bad_request("no")),
            }
        }
    }

    fn caller(services: &Arc<NodeServices>) -> NodeCaller {
        services.insert("Echo", Arc::new(Echo));
        NodeCaller::standalone("", services)
    }

    async fn call(caller: &NodeCaller, to: &str, method: &'static str) -> Result<String> {
        let (text, second) = ("ab".to_owned(), Duration::from_secs(1));
        caller.call(to, 0, method, &text, second).await
    }

    #[tokio::test]
    async fn a_standalone_node_answers_its_own_calls_and_reaches_no_other() {
        let services = Arc::default();
        let caller = caller(&services);
        assert_eq!(call(&caller, "", "Echo.Twice").await.unwrap(), "abab");
        let error = call(&caller, "a:1", "Echo.Twice").await.unwrap_err();
        assert_eq!(error.code(), code::NOT_FOUND);
    }

    #[tokio::test]
    async fn every_call_ends_also_of_unknown_methods_and_of_services_that_forget_it() {
        let services = Arc::default();
        let caller = caller(&services);
        for (method, expected) in [
            ("Echo.Other", code::BAD_REQUEST),
            ("Other.Twice", code::UNSUPPORTED),
            ("Echo", code::UNSUPPORTED),
            ("Echo.Never", code::INTERNAL),
        ] {
            let error = call(&caller, "", method).await.unwrap_err();
            assert_eq!(error.code(), expected, "{method}");
        }
        drop(services);
        let error = call(&caller, "", "Echo.Twice").await.unwrap_err();
        assert_eq!(error.code(), code::UNAVAILABLE);
    }
}
