//! Calls of the node to all nodes that have a service.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    error::Result,
    serialize::{Decode, Encode, Json, Protobuf, Serializer, decode_message},
    session::{CallBuilder, SessionTable, Sessions},
};

/// A call to all nodes that have a service, before it is sent; [`Handle::call_all`](crate::Handle::call_all) makes it.
///
/// The messages are sent at once, as by [`CallBuilder`]. The futures end when every node has
/// answered or failed, with the address of each beside its reply. A node outside of a cluster has
/// the empty address, which [`CallBuilder::to`] takes too.
///
/// # Errors
/// The futures fail with [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) when this node is not
/// running, and with the format's error for a message it cannot write. The error of one call is in
/// the list.
///
/// ```
/// use nano::{Handle, Result};
/// use std::time::Duration;
///
/// async fn players(node: &Handle) -> Result<u64> {
///     let call = node.call_all("Rooms.Players").timeout(Duration::from_secs(2));
///     let counts = call.json::<u64, _>(&()).await?;
///     Ok(counts.into_iter().filter_map(|(_, count)| count.ok()).sum())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a call is sent when it gets its message"]
pub struct CallAllBuilder {
    sessions: Arc<Sessions>,
    route: String,
    timeout: Option<Duration>,
}

impl CallAllBuilder {
    pub(super) fn new(sessions: Arc<Sessions>, route: &str) -> Self {
        Self {
            sessions,
            route: route.to_owned(),
            timeout: None,
        }
    }

    /// How long to wait for each reply. The default is the node's timeout for requests.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends a message in JSON, and reads the replies as JSON.
    pub fn json<R: 'static, M: ?Sized>(
        self,
        message: &M,
    ) -> impl Future<Output = Result<Vec<(String, Result<R>)>>> + Send + use<R, M>
    where
        Json: Encode<M> + Decode<R>,
    {
        self.message::<Json, R, M>(message)
    }

    /// Sends a protobuf message, and reads the replies as such.
    pub fn protobuf<R: 'static, M: ?Sized>(
        self,
        message: &M,
    ) -> impl Future<Output = Result<Vec<(String, Result<R>)>>> + Send + use<R, M>
    where
        Protobuf: Encode<M> + Decode<R>,
    {
        self.message::<Protobuf, R, M>(message)
    }

    /// Sends a message in the format `F`, and reads the replies in it.
    pub fn message<F, R: 'static, M: ?Sized>(
        self,
        message: &M,
    ) -> impl Future<Output = Result<Vec<(String, Result<R>)>>> + Send + use<F, R, M>
    where
        F: Serializer + Encode<M> + Decode<R>,
    {
        let replies = F::encode(message).map(|body| self.raw(body));
        async move {
            let decode =
                |reply: Result<Bytes>| reply.and_then(|body| decode_message::<F, R>(&body));
            let replies = replies?.await?.into_iter();
            Ok(replies.map(|(node, reply)| (node, decode(reply))).collect())
        }
    }

    /// Sends bytes as they are, and returns the replies'.
    pub fn raw<B: Into<Bytes>>(
        self,
        body: B,
    ) -> impl Future<Output = Result<Vec<(String, Result<Bytes>)>>> + Send + use<B> {
        let body = body.into();
        let send = |address: String| {
            let mut call = CallBuilder::by_node(self.sessions.clone(), &self.route).to(&address);
            if let Some(timeout) = self.timeout {
                call = call.timeout(timeout);
            }
            (address, call.raw(body.clone()))
        };
        let call_router = self.sessions.call_router();
        let sent = call_router.map(|call_router| {
            let nodes = call_router.nodes_with(&self.route);
            nodes.into_iter().map(send).collect::<Vec<_>>()
        });
        async move {
            let mut replies = Vec::new();
            // All are under way, so the order in which they are awaited does not matter.
            for (address, reply) in sent? {
                replies.push((address, reply.await));
            }
            Ok(replies)
        }
    }
}
