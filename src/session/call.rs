//! Calls: messages from service to service, with an answer.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Session, Sessions};
use crate::{
    error::{Error, Result, code},
    serialize::{Decode, Encode, Serializer, decode_message},
};

/// What calls of this node have for an id: only those of other nodes are told apart by it.
const LOCAL: u64 = 1;

/// Where calls go: dispatch implements it.
pub(crate) trait CallRouter: Send + Sync {
    /// Takes a call as far as its handler; whatever happens, it is answered.
    fn call(&self, call: Call);

    /// The addresses of all nodes that have the route, this one included.
    fn nodes_with(&self, route: &str) -> Vec<String>;

    /// When a call that starts now has waited long enough.
    fn deadline(&self) -> Option<Instant>;
}

/// A message that wants an answer from a service.
pub(crate) struct Call {
    /// On whose behalf; a call of the node itself has nobody.
    pub(crate) session: Option<Session>,
    /// The node it is for; any that has the route, unless it says.
    pub(crate) to: Option<String>,
    pub(crate) route: ByteString,
    pub(crate) body: Bytes,
    pub(crate) caller: Arc<ReplyTo>,
}

/// Who waits for the answer of a call.
pub(crate) struct ReplyTo {
    id: u64,
    deadline: Option<Instant>,
    reply: Mutex<Option<Reply>>,
}

type Reply = Box<dyn FnOnce(Result<Bytes>) + Send>;

impl ReplyTo {
    /// `reply` is called once, on whatever thread.
    pub(crate) fn new(
        id: u64,
        deadline: Option<Instant>,
        reply: impl FnOnce(Result<Bytes>) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            deadline,
            reply: Mutex::new(Some(Box::new(reply))),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Until when the caller waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// # Errors
    /// It has been answered already.
    pub(crate) fn answer(&self, answer: Result<Bytes>) -> Result {
        let reply = self.reply.lock().take();
        let reply = reply
            .ok_or_else(|| Error::new(code::CONFLICT, "this call has been answered already"))?;
        reply(answer);
        Ok(())
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.get_mut().take() {
            reply(Err(Error::new(
                code::INTERNAL,
                "the request was dropped without an answer",
            )));
        }
    }
}

/// Which node a call is for.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Any,
    Node(String),
}

/// Starts a call at once; the future waits for its answer.
pub(crate) fn call(
    sessions: &Sessions,
    session: Option<Session>,
    target: Target,
    route: &str,
    body: Result<Bytes>,
) -> impl Future<Output = Result<Bytes>> + Send + use<> {
    let started = sessions.call_router().and_then(|call_router| {
        let deadline = call_router.deadline();
        let (tell, answer) = oneshot::channel();
        // A caller that stopped waiting does not mind.
        let caller = ReplyTo::new(LOCAL, deadline, move |answer| drop(tell.send(answer)));
        let to = match target {
            Target::Any => None,
            Target::Node(address) => Some(address),
        };
        call_router.call(Call {
            session,
            to,
            route: route.into(),
            body: body?,
            caller,
        });
        Ok((answer, deadline))
    });
    let route = route.to_owned();
    async move {
        let (answer, deadline) = started?;
        let gone = |_| Err(Error::new(code::UNAVAILABLE, "the node has stopped"));
        let Some(deadline) = deadline else {
            return answer.await.unwrap_or_else(gone);
        };
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer.unwrap_or_else(gone),
            Err(_) => Err(Error::new(
                code::TIMEOUT,
                format!("nobody answered the call of {route} in time"),
            )),
        }
    }
}

impl<S: Serializer> Session<S> {
    /// Asks the service of `route` something on behalf of this session, and waits for its answer.
    /// The handler sees a request of this session, and answers it as it answers clients; the
    /// service may be [internal](crate::Options::internal). A service of this node answers without
    /// the network.
    ///
    /// The message is on its way when this returns; the future waits for the answer, for as long as
    /// a client's request may wait. Await it in an async handler, or spawn it: a handler that
    /// returns at once has no way to wait. Dropping the future drops the answer. A reply of type
    /// `()` is whatever is answered, unread.
    ///
    /// # Errors
    /// - What the service answers as an error: its code, message and metadata.
    /// - [`code::NOT_FOUND`] when no node offers the route, [`code::UNSUPPORTED`] when only nodes
    ///   of Go do, which cannot answer.
    /// - [`code::TIMEOUT`], [`code::UNAVAILABLE`] when the node that has the service goes away
    ///   first, [`code::TOO_MANY`] when it cannot take more.
    /// - Whatever the format says of a message it cannot write or an answer it cannot read.
    pub fn call<R: 'static, M: ?Sized>(
        &self,
        route: &str,
        message: &M,
    ) -> impl Future<Output = Result<R>> + Send + use<R, M, S>
    where
        S: Encode<M> + Decode<R>,
    {
        let answer = self.call_raw_result(route, S::encode(message));
        async move { decode_message::<S, R>(&answer.await?) }
    }

    /// [`call`](Session::call) with bytes as they are.
    ///
    /// # Errors
    /// As [`call`](Session::call).
    pub fn call_raw<B: Into<Bytes>>(
        &self,
        route: &str,
        body: B,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<B, S> {
        self.call_raw_result(route, Ok(body.into()))
    }

    fn call_raw_result(
        &self,
        route: &str,
        body: Result<Bytes>,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<S> {
        let session = self.typed().with_request(0);
        let started = match self.core().sessions() {
            Some(sessions) => Ok(call(&sessions, Some(session), Target::Any, route, body)),
            None => Err(Error::new(
                code::UNAVAILABLE,
                "the session belongs to no node",
            )),
        };
        async move { started?.await }
    }
}

impl fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo")
            .field("id", &self.id)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
