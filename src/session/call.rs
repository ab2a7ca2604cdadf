//! Calls: requests from service to service.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    handle::{Call, Session, SessionTable},
    reply_to::{Caller, ReplyTo},
};
use crate::{
    error::{Error, Result, code},
    serialize::{Decode, Encode, Json, Protobuf, Serializer, decode_message},
    trace::{current_trace, within},
};

/// The id of a call by this node. Ids tell calls of other nodes apart only.
const LOCAL: u64 = 1;

/// Which node a call is for.
#[derive(Debug)]
enum Target {
    Any,
    Node(String),
}

/// Marks calls of a node itself.
#[derive(Debug)]
pub enum ByNode {}

/// Marks calls on behalf of a session.
#[derive(Debug)]
pub enum BySession {}

/// A call to a service, before it is sent: [`Handle::call`](crate::Handle::call) and
/// [`Session::call`] make it.
///
/// The methods named after a format send the message at once and return a future that waits for
/// the reply, so calls are sent in the order of the code whenever they are awaited. Dropping the
/// future discards the reply and cancels the call, as the end of its timeout does: the handler can
/// [learn of it](Session::cancelled), and runs on unless it is
/// [`cancellable`](crate::Handlers::cancellable). A reply of type `()` is discarded unread.
///
/// ```
/// # use nano::{Handle, Result};
/// # use std::time::Duration;
/// async fn stock(node: &Handle, item: u32) -> Result<u64> {
///     node.call("Store.Stock").timeout(Duration::from_secs(2)).json(&item).await
/// }
/// ```
///
/// # Errors
/// The futures fail with
/// - the error the service answers: its code, message and metadata;
/// - [`code::NOT_FOUND`] when no node ever offered the route or had the address, and
///   [`code::UNSUPPORTED`] when only nodes of Go nano offer it, which cannot answer;
/// - [`code::TIMEOUT`] when there is no reply in time;
/// - [`code::UNAVAILABLE`] when the node that has the service goes away first or has left, or this
///   node is not running;
/// - [`code::TOO_MANY`] when the service's node cannot take more;
/// - the format's error for a message it cannot write or a reply it cannot read.
#[must_use = "a call is sent when it gets its message"]
pub struct CallBuilder<By> {
    table: Option<Arc<dyn SessionTable>>,
    session: Option<Session>,
    target: Target,
    route: ByteString,
    timeout: Option<Duration>,
    by: PhantomData<fn() -> By>,
}

impl<By> CallBuilder<By> {
    /// Calls the node with this address, as other members know it, and no other.
    ///
    /// The call fails with [`code::NOT_FOUND`] if that node does not have the route, and with
    /// [`code::UNAVAILABLE`] if it was a member and has left. A node outside
    /// of a cluster has the empty address, which [`Handle::call_all`](crate::Handle::call_all)
    /// reports for it too. The session's [bindings](crate::Router) stay as they are.
    pub fn to(mut self, address: impl Into<String>) -> Self {
        self.target = Target::Node(address.into());
        self
    }

    /// How long to wait for the reply. The default is the node's timeout for requests.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends a message in JSON, and reads the reply as JSON.
    pub fn json<R: 'static, M: ?Sized>(
        self,
        message: &M,
    ) -> impl Future<Output = Result<R>> + Send + use<R, M, By>
    where
        Json: Encode<M> + Decode<R>,
    {
        self.message::<Json, R, M>(message)
    }

    /// Sends a protobuf message, and reads the reply as one.
    pub fn protobuf<R: 'static, M: ?Sized>(
        self,
        message: &M,
    ) -> impl Future<Output = Result<R>> + Send + use<R, M, By>
    where
        Protobuf: Encode<M> + Decode<R>,
    {
        self.message::<Protobuf, R, M>(message)
    }

    /// Sends a message in the format `F`, and reads the reply in it.
    pub fn message<F, R: 'static, M: ?Sized>(
        self,
        message: &M,
    ) -> impl Future<Output = Result<R>> + Send + use<F, R, M, By>
    where
        F: Serializer + Encode<M> + Decode<R>,
    {
        let reply = self.send(F::encode(message));
        async move { decode_message::<F, R>(&reply.await?) }
    }

    /// Sends bytes as they are, and returns the reply's.
    pub fn raw<B: Into<Bytes>>(
        self,
        body: B,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<B, By> {
        self.send(Ok(body.into()))
    }

    fn send(self, body: Result<Bytes>) -> impl Future<Output = Result<Bytes>> + Send + use<By> {
        let Self {
            table,
            session,
            target,
            route,
            timeout,
            ..
        } = self;
        let started = table
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "the session belongs to no node"))
            .and_then(|table| table.call_router())
            .and_then(|call_router| {
                let deadline =
                    timeout.map_or_else(|| call_router.deadline(), |t| Some(Instant::now() + t));
                let (sender, reply) = oneshot::channel();
                // The receiver is gone when the future was dropped: the reply is discarded.
                let caller = ReplyTo::new(LOCAL, deadline, move |answer| drop(sender.send(answer)));
                let waiting = Caller::new(&caller);
                let begun = call_router.metrics().map(|_| Instant::now());
                let span = current_trace().map(|trace| trace.call(&route));
                let to = match target {
                    Target::Any => None,
                    Target::Node(address) => Some(address),
                };
                let call = Call {
                    session,
                    to,
                    route: route.clone(),
                    body: body?,
                    caller,
                };
                within(span.as_ref().map(|span| span.trace()), || {
                    call_router.call(call);
                });
                let measured = begun.map(|begun| (begun, call_router));
                Ok((reply, deadline, waiting, measured, span))
            });
        async move {
            let (reply, deadline, _waiting, measured, span) = started?;
            let answer = answered(&route, reply, deadline).await;
            if let Some(span) = span {
                span.end(answer.as_ref().err());
            }
            if let Some((begun, call_router)) = measured
                && let Some(metrics) = call_router.metrics()
            {
                metrics.seconds.record(begun.elapsed());
                metrics.ended.count(answer.as_ref().err());
            }
            answer
        }
    }
}

/// Waits for the answer of a call, at most until its deadline.
async fn answered(
    route: &str,
    reply: oneshot::Receiver<Result<Bytes>>,
    deadline: Option<Instant>,
) -> Result<Bytes> {
    let stopped = |_| Err(Error::new(code::UNAVAILABLE, "the node has stopped"));
    let Some(deadline) = deadline else {
        return reply.await.unwrap_or_else(stopped);
    };
    match timeout_at(deadline, reply).await {
        Ok(answer) => answer.unwrap_or_else(stopped),
        Err(_) => Err(Error::new(
            code::TIMEOUT,
            format!("call of {route} timed out"),
        )),
    }
}

impl CallBuilder<ByNode> {
    pub(crate) fn by_node(table: Arc<dyn SessionTable>, route: &str) -> Self {
        Self {
            table: Some(table),
            session: None,
            target: Target::Any,
            route: route.into(),
            timeout: None,
            by: PhantomData,
        }
    }
}

impl<S: Serializer> Session<S> {
    /// Calls a service on behalf of this session: its handler sees a request of this session, and
    /// answers it as it answers clients.
    ///
    /// The service may be [internal](crate::Options::internal), and may be of this node, which is
    /// reached without the network. Await the reply in an async handler, or
    /// [`spawn`](Session::spawn) it. In a handler of a node's own call, it is one more call of the
    /// node.
    ///
    /// ```
    /// # use nano::{Result, Session};
    /// async fn balance(session: &Session) -> Result<u64> {
    ///     session.call("Bank.Balance").json(&session.uid()).await
    /// }
    /// ```
    pub fn call(&self, route: &str) -> CallBuilder<BySession> {
        // A node's own call has a session without a client, with id 0.
        let session = (self.id() != 0).then(|| self.typed().with_request(0));
        CallBuilder {
            table: self.inner().table(),
            session,
            target: Target::Any,
            route: route.into(),
            timeout: None,
            by: PhantomData,
        }
    }
}

impl<By> fmt::Debug for CallBuilder<By> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallBuilder")
            .field("route", &self.route)
            .field("target", &self.target)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
