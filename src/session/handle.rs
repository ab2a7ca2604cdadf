//! The session: its handle, the state that all handles share, and what stands behind them.
//!
//! One file, because these types name each other: sessions have sinks, and sinks receive sessions.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::{
    bindings::Bindings,
    close_reason::CloseReason,
    close_state::{CloseState, SessionKey},
    data::Data,
    extensions::Extensions,
    pins::Pins,
    push::{GateMulticast, Push},
    reply_to::ReplyTo,
    sequencer::{Sequenced, Sequencer},
    shared_values::SharedValues,
    user_id::UserId,
};
use crate::{
    error::{Error, Result, code},
    message::Message,
    metrics::{CallMetrics, GroupMetrics, InputRefusals},
    serialize::{Json, Serializer},
};

/// A handle to a player's session, with the id of the request being handled.
///
/// Handles are cheap: clone them, keep them, use them from any thread. All handles of a session
/// share its user, data, bindings and connection, are equal and hash alike. `S` is the format of
/// its messages, a view that [`typed`](Session::typed) changes at no cost.
///
/// The handle a handler receives carries the request id of its message, and so do its clones. A
/// response through it answers that request and no other, however late it is sent.
///
/// No method blocks or waits for the network: messages go into the connection's bounded queue.
///
/// ```
/// use nano::{Result, Session};
///
/// fn login(session: &Session, uid: i64) -> Result<&'static str> {
///     session.bind(uid)?;
///     session.set("lives", 3);
///     session.push("onAnnounce", "a tournament begins")?;
///     session.on_closed(|session, reason| println!("{} left: {reason}", session.uid()));
///     Ok("hello")
/// }
/// ```
pub struct Session<S: Serializer = Json> {
    inner: Arc<SessionInner>,
    request: u64,
    /// Takes the answer instead of the client, in the handler of a call.
    pub(super) reply_to: Option<Arc<ReplyTo>>,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer> Session<S> {
    /// Makes a session with a sink of your own, for tests (see [`mock`](crate::mock)).
    ///
    /// It belongs to no node: no table lists it, nothing runs its close callbacks, and its calls
    /// fail.
    pub fn new(id: i64, sink: Arc<dyn SessionSink>) -> Self {
        Self::of(Arc::new(SessionInner::new(id, false, sink, None)), 0)
    }

    /// A session that uses the calls of `table` and is not listed in it.
    pub(crate) fn outside(
        id: i64,
        sink: Arc<dyn SessionSink>,
        table: Weak<dyn SessionTable>,
    ) -> Self {
        Self::of(Arc::new(SessionInner::new(id, false, sink, Some(table))), 0)
    }

    pub(crate) fn of(inner: Arc<SessionInner>, request: u64) -> Self {
        Self {
            inner,
            request,
            reply_to: None,
            format: PhantomData,
        }
    }

    pub(crate) fn inner(&self) -> &Arc<SessionInner> {
        &self.inner
    }

    /// Whether the client is connected to another node.
    pub(crate) fn is_remote(&self) -> bool {
        self.inner.remote
    }

    /// Tells this session apart from all others of the process.
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey::of(&self.inner)
    }

    /// The same session and request, in another format.
    pub fn typed<T: Serializer>(&self) -> Session<T> {
        Session {
            inner: self.inner.clone(),
            request: self.request,
            reply_to: self.reply_to.clone(),
            format: PhantomData,
        }
    }

    /// The same session and request in the default format; `copy` holds it if its own is another.
    #[inline]
    pub(crate) fn in_default_format<'a>(&'a self, copy: &'a mut Option<Session>) -> &'a Session {
        let session: &dyn Any = self;
        match session.downcast_ref() {
            Some(session) => session,
            None => copy.get_or_insert_with(|| self.typed()),
        }
    }

    /// The same session with another request id, for code that keeps ids instead of responders.
    pub fn with_request(&self, id: u64) -> Self {
        let reply_to = self.reply_to.clone().filter(|call| call.id() == id);
        Self {
            inner: self.inner.clone(),
            request: id,
            reply_to,
            format: PhantomData,
        }
    }

    /// [`with_request`](Session::with_request) of a handle that is not needed any more.
    pub(crate) fn into_request(mut self, id: u64) -> Self {
        self.request = id;
        self.reply_to = self.reply_to.filter(|call| call.id() == id);
        self
    }

    /// The same session as the handler of a call sees it.
    pub(crate) fn with_reply_to(&self, reply_to: Arc<ReplyTo>) -> Self {
        Self {
            inner: self.inner.clone(),
            request: reply_to.id(),
            reply_to: Some(reply_to),
            format: PhantomData,
        }
    }

    /// The session's id, the same on every node.
    ///
    /// Positive, below 2^53 (the integers JavaScript holds exactly), and unique in a cluster
    /// without configuration.
    pub fn id(&self) -> i64 {
        self.inner.id
    }

    /// The uid the session is bound to; 0 while unbound, and for a user with a text id.
    pub fn uid(&self) -> i64 {
        self.inner.uid()
    }

    /// The user the session is bound to: a number or a text. `None` while unbound.
    pub fn user(&self) -> Option<UserId> {
        self.inner.user()
    }

    /// The id of the request being handled; 0 for a notify, and outside of handlers.
    #[doc(alias = "LastMid")]
    pub fn request_id(&self) -> u64 {
        self.request
    }

    /// When the caller stops waiting for the answer. Known in handlers of a
    /// [`call`](Session::call) only.
    pub fn deadline(&self) -> Option<Instant> {
        self.reply_to.as_ref()?.deadline()
    }
}

impl<S: Serializer> Sequenced for Session<S> {
    fn sequencer(&self) -> &Sequencer {
        &self.inner.sequencer
    }
}

impl<S: Serializer> Clone for Session<S> {
    fn clone(&self) -> Self {
        self.typed()
    }
}

/// Equal when they are the same session, whatever request they carry.
impl<S: Serializer> PartialEq for Session<S> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl<S: Serializer> Eq for Session<S> {}

impl<S: Serializer> Hash for Session<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.inner).hash(state);
    }
}

impl<S: Serializer> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("user", &self.user())
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// A callback given to [`Session::on_closed`].
pub(super) type OnClosed = Box<dyn FnOnce(&Session, &CloseReason) + Send>;

/// The part that all handles of one session share.
pub(crate) struct SessionInner {
    pub(crate) id: i64,
    /// Whether the client is connected to another node.
    pub(crate) remote: bool,
    uid: AtomicI64,
    /// The user with a text id; `uid` is 0 then. Both change under this lock.
    user_text: RwLock<Option<UserId>>,
    /// Takes pushes and responses: a connection of this node, or the link to its gate.
    pub(crate) sink: Arc<dyn SessionSink>,
    pub(super) data: Data,
    pub(crate) shared: SharedValues,
    pub(super) extensions: Extensions,
    pub(super) pins: Pins,
    pub(crate) bindings: Bindings,
    pub(crate) close_state: CloseState<OnClosed>,
    /// Messages of its client that reached this node's dispatch, on nodes with an admin server.
    pub(crate) messages: AtomicU64,
    pub(crate) sequencer: Sequencer,
    /// The node's table; `None` for a session of no node. Weak, because the table owns the session.
    table: Option<Weak<dyn SessionTable>>,
}

impl SessionInner {
    pub(super) fn new(
        id: i64,
        remote: bool,
        sink: Arc<dyn SessionSink>,
        table: Option<Weak<dyn SessionTable>>,
    ) -> Self {
        Self {
            id,
            remote,
            uid: AtomicI64::new(0),
            user_text: RwLock::default(),
            sink,
            data: Data::default(),
            shared: SharedValues::default(),
            extensions: Extensions::default(),
            pins: Pins::default(),
            bindings: Bindings::default(),
            close_state: CloseState::default(),
            messages: AtomicU64::new(0),
            sequencer: Sequencer::default(),
            table,
        }
    }

    pub(crate) fn uid(&self) -> i64 {
        self.uid.load(Ordering::Acquire)
    }

    pub(crate) fn user(&self) -> Option<UserId> {
        let number = self.uid();
        if number != 0 {
            return Some(number.into());
        }
        let text = self.user_text.read();
        match &*text {
            Some(user) => Some(user.clone()),
            // It may have been bound to a number since.
            None => UserId::of_parts(self.uid(), ""),
        }
    }

    /// Changes the user on this node alone.
    pub(crate) fn rebind(&self, user: Option<UserId>) {
        match self.table() {
            Some(table) => table.rebind(self, user),
            None => {
                self.swap_user(user);
            }
        }
    }

    /// The call router of the session's node.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) for a session of no node, and as
    /// [`SessionTable::call_router`].
    pub(crate) fn call_router(&self) -> Result<Arc<dyn CallRouter>> {
        self.table()
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "the session belongs to no node"))?
            .call_router()
    }

    /// The node's table; `None` when the node is gone, or there never was one.
    pub(crate) fn table(&self) -> Option<Arc<dyn SessionTable>> {
        self.table.as_ref()?.upgrade()
    }

    /// For the table, which changes its index with the user, and for sessions in no table.
    pub(super) fn swap_user(&self, user: Option<UserId>) -> Option<UserId> {
        let mut text = self.user_text.write();
        let number = user.as_ref().and_then(UserId::number).unwrap_or_default();
        let user = user.filter(|user| user.text().is_some());
        let before = std::mem::replace(&mut *text, user);
        let number_before = self.uid.swap(number, Ordering::AcqRel);
        before.or_else(|| UserId::of_parts(number_before, ""))
    }
}

/// Takes a session's pushes and responses: a connection, the link to a gate, or a mock. No method
/// may block.
#[doc(alias = "NetworkEntity")]
pub trait SessionSink: Any + Send + Sync {
    /// Queues a push.
    ///
    /// # Errors
    /// See [`Session::push`].
    fn push(&self, push: &Push<'_>) -> Result;

    /// Queues the answer of a request: a body, or an error reply. Only the first answer of a
    /// request is taken.
    ///
    /// # Errors
    /// See [`Session::respond`].
    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result;

    /// [`respond`](Self::respond), with the time that the caller has just read.
    fn respond_at(&self, request: u64, answer: Result<Bytes>, _now: Instant) -> Result {
        self.respond(request, answer)
    }

    /// Sends a one-way message to a service, for [`Session::rpc`].
    ///
    /// # Errors
    /// See [`Session::rpc`].
    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result;

    /// Begins to close. Only the first reason counts.
    fn close(&self, reason: CloseReason);

    /// The client's address, where there is one.
    fn remote_addr(&self) -> Option<SocketAddr>;

    /// Binds the session to a user, or to none, here and on the other nodes that serve it.
    #[doc(hidden)]
    fn bind(&self, session: &Session, user: Option<UserId>) {
        session.inner().rebind(user);
    }

    /// Binds a service of the session to the member at an address, or to none, on its gate.
    ///
    /// # Errors
    /// See [`Router::bind`](super::Router::bind).
    #[doc(hidden)]
    fn route(&self, session: &Session, service: &str, address: Option<&str>) -> Result {
        session.inner().bindings.set(service, address);
        Ok(())
    }

    /// Sets a shared value of the session to JSON, or removes it, here and on its gate.
    ///
    /// # Errors
    /// See [`SharedData::set`](super::SharedData::set).
    #[doc(hidden)]
    fn share(&self, session: &Session, key: &str, value: Option<Bytes>) -> Result {
        session.inner().shared.set(key, value).map(drop)
    }

    /// Bytes that wait to be sent to the client, and its requests in flight, where they are known.
    #[doc(hidden)]
    fn unsent(&self) -> Option<(usize, usize)> {
        None
    }

    /// Bytes received from the client, packets and bytes sent to it, where they are known.
    #[doc(hidden)]
    fn traffic(&self) -> Option<[u64; 3]> {
        None
    }

    /// The address of the session's gate, if that is another node which answers calls.
    #[doc(hidden)]
    fn gate_address(&self) -> Option<Arc<str>> {
        None
    }

    /// Notes that one message of the session is finished: handled, refused or dropped.
    #[doc(hidden)]
    fn done(&self) {}

    /// Runs the rest of a [`Session::spawn`] outside of any scheduler. Dropping it answers the
    /// request with an error.
    #[doc(hidden)]
    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(work);
    }

    /// The multicast of the session's gate, for sinks that are not local.
    #[doc(hidden)]
    fn gate_multicast(&self) -> Option<Arc<dyn GateMulticast>> {
        None
    }
}

/// The node's table of sessions, as one session sees it.
pub(crate) trait SessionTable: Send + Sync {
    /// Changes the user of a session and the table's index together. A session that is not listed
    /// gets the user alone.
    fn rebind(&self, session: &SessionInner, user: Option<UserId>);

    /// Asks the application whether a session may be bound to a user.
    ///
    /// # Errors
    /// The refusal of its hook.
    fn check_bind(&self, session: &Session, user: &UserId) -> Result;

    /// Whether to log that a request was dropped: see [`LogLimit::pass`](crate::log_limit::LogLimit).
    fn log_dropped(&self) -> Option<u64>;

    /// The node's call router.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) before the node has started, and after it has stopped.
    fn call_router(&self) -> Result<Arc<dyn CallRouter>>;

    /// The inside of the node's handle, which is above this module; `None` without a node.
    fn node(&self) -> Option<Arc<dyn Any + Send + Sync>>;

    /// What counts the groups of the node's sessions.
    fn groups(&self) -> Arc<GroupMetrics>;

    /// What counts input of the application that the node refuses.
    fn inputs(&self) -> Arc<InputRefusals>;
}

/// Delivers what sessions and nodes send to services; dispatch implements it, and the mock.
pub(crate) trait CallRouter: Send + Sync {
    /// Delivers a call to its handler. Answers it with an error if that fails.
    fn call(&self, call: Call);

    /// Delivers a one-way message on behalf of a session.
    ///
    /// # Errors
    /// No node has the route, or the node that has it cannot take the message.
    fn rpc(&self, session: &Session, message: Message) -> Result;

    /// The addresses of all nodes that have the route, this one included.
    fn nodes_with(&self, route: &str) -> Vec<String>;

    /// Checks that a session's service may be bound to the node at an address.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`](crate::code::NOT_FOUND).
    fn check_binding(&self, service: &str, address: &str) -> Result;

    /// The deadline of a call that starts now without a timeout of its own.
    fn deadline(&self) -> Option<Instant>;

    /// What is measured of calls; `None` unless the node has an admin address.
    fn metrics(&self) -> Option<&CallMetrics> {
        None
    }
}

/// A request to a service, on its way.
pub(crate) struct Call {
    /// The session it is made for; `None` for a call of the node itself.
    pub(crate) session: Option<Session>,
    /// The address of the node it is for; `None` for any node that has the route.
    pub(crate) to: Option<String>,
    pub(crate) route: ByteString,
    pub(crate) body: Bytes,
    pub(crate) caller: Arc<ReplyTo>,
}
