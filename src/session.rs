//! One player's session, wherever its connection is.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    error::{Error, Result, code},
    scheduler::Scheduler,
    serialize::{Encode, Json, Serializer},
};

mod bindings;
mod call;
mod close_state;
mod data;
mod extensions;
mod inner;
mod pins;
mod registry;
mod responder;
mod sequencer;
mod sink;

pub use self::{
    bindings::Router,
    call::{ByNode, BySession, CallBuilder},
    close_state::{CloseCallback, CloseReason},
    data::State,
    extensions::Extensions,
    registry::Sessions,
    responder::Responder,
    sink::Push,
    sink::SessionSink,
};
pub(crate) use self::{
    call::{Call, CallRouter, ReplyTo},
    inner::SessionInner,
    sequencer::{Place, Sequenced, SequencedTask, Sequencer, Ticket},
    sink::GateMulticast,
};
pub(crate) use close_state::GroupRef;

/// A handle to a player's session, with the id of the request being handled.
///
/// Handles are cheap: clone them, keep them, use them from any thread. All handles of a session
/// share its uid, data, bindings and connection, are equal and hash alike. `S` is the format of
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
///     session.push("onNews", "a tournament begins")?;
///     session.on_closed(|session, reason| println!("{} left: {reason}", session.uid()));
///     Ok("welcome")
/// }
/// ```
pub struct Session<S: Serializer = Json> {
    core: Arc<SessionInner>,
    request: u64,
    /// Takes the answer instead of the client, in the handler of a call.
    caller: Option<Arc<ReplyTo>>,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer> Session<S> {
    /// Makes a session with a sink of your own, for tests (see [`mock`](crate::mock)).
    ///
    /// It belongs to no node: no table lists it, nothing runs its close callbacks, and its calls
    /// fail.
    pub fn new(id: i64, sink: Arc<dyn SessionSink>) -> Self {
        Self::of(Arc::new(SessionInner::detached(id, sink)), 0)
    }

    /// A session that uses the calls of `sessions`, and that no table lists.
    pub(crate) fn outside(id: i64, sink: Arc<dyn SessionSink>, sessions: &Arc<Sessions>) -> Self {
        let sessions = Arc::downgrade(sessions);
        Self::of(Arc::new(SessionInner::new(id, false, sink, sessions)), 0)
    }

    /// Ends a session that no table lists: its callbacks run here and now.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn end(&self, reason: &CloseReason) {
        let Some(ended) = self.core.close_state.end(reason) else {
            return;
        };
        for group in ended.groups {
            group.forget(&self.core);
        }
        for callback in ended.callbacks {
            callback(&self.typed(), reason);
        }
    }

    pub(crate) fn of(core: Arc<SessionInner>, request: u64) -> Self {
        Self {
            core,
            request,
            caller: None,
            format: PhantomData,
        }
    }

    pub(crate) fn core(&self) -> &Arc<SessionInner> {
        &self.core
    }

    /// The same session and request, in another format.
    pub fn typed<T: Serializer>(&self) -> Session<T> {
        Session {
            core: self.core.clone(),
            request: self.request,
            caller: self.caller.clone(),
            format: PhantomData,
        }
    }

    /// The same session with another request id, for code that keeps ids instead of responders.
    pub fn with_request(&self, id: u64) -> Self {
        let caller = self.caller.clone().filter(|caller| caller.id() == id);
        Self {
            core: self.core.clone(),
            request: id,
            caller,
            format: PhantomData,
        }
    }

    /// The same session as the handler of a call sees it.
    pub(crate) fn with_caller(&self, caller: Arc<ReplyTo>) -> Self {
        Self {
            core: self.core.clone(),
            request: caller.id(),
            caller: Some(caller),
            format: PhantomData,
        }
    }

    /// The session's id, the same on every node.
    ///
    /// Positive, below 2^53 (the integers JavaScript holds exactly), and unique in a cluster
    /// without configuration.
    pub fn id(&self) -> i64 {
        self.core.id
    }

    /// The uid the session is bound to; 0 while unbound.
    pub fn uid(&self) -> i64 {
        self.core.uid()
    }

    /// Binds the session to a uid, in place of an earlier one. Several sessions may share a uid.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a uid below 1.
    pub fn bind(&self, uid: i64) -> Result {
        if uid < 1 {
            return Err(Error::new(code::BAD_REQUEST, format!("illegal uid: {uid}")));
        }
        self.core.sink.bind(&self.typed(), uid);
        Ok(())
    }

    /// The id of the request being handled; 0 for a notify, and outside of handlers.
    pub fn request_id(&self) -> u64 {
        self.request
    }

    /// When the caller stops waiting for the answer. Known in handlers of a
    /// [`call`](Session::call) only.
    pub fn deadline(&self) -> Option<tokio::time::Instant> {
        self.caller.as_ref()?.deadline()
    }

    /// Sends the client a message that no request asked for.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the connection is gone, [`code::TOO_LARGE`] for a route over 255 bytes
    /// or a message over 16 MiB, and the format's error for a message it cannot write. A full
    /// queue closes the connection, unless the node's policy is to drop pushes: then
    /// [`code::TOO_MANY`].
    pub fn push<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.push_raw(route, S::encode(message)?)
    }

    /// [`push`](Session::push) of bytes as they are.
    pub fn push_raw(&self, route: &str, body: impl Into<Bytes>) -> Result {
        self.core.sink.push(&Push::new(route, body.into()))
    }

    /// Answers the request this handle carries.
    ///
    /// The alternative to returning the reply from the handler. For code that kept a request's id,
    /// [`with_request`](Session::with_request) gives the handle.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when the handle carries no request (a notify), [`code::CONFLICT`] when
    /// it is answered already or timed out, and as [`push`](Session::push).
    #[doc(alias = "response")]
    #[doc(alias = "ResponseMID")]
    pub fn respond<M: ?Sized>(&self, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.respond_raw(S::encode(message)?)
    }

    /// [`respond`](Session::respond) of bytes as they are.
    pub fn respond_raw(&self, body: impl Into<Bytes>) -> Result {
        self.answer(Ok(body.into()))
    }

    /// Answers the request with an error reply, as returning the error from the handler does.
    ///
    /// # Errors
    /// As [`respond`](Session::respond).
    pub fn respond_error(&self, error: Error) -> Result {
        self.answer(Err(error))
    }

    pub(crate) fn answer(&self, answer: Result<Bytes>) -> Result {
        if let Some(caller) = &self.caller {
            return caller.answer(answer);
        }
        if self.request == 0 {
            return Err(Error::new(
                code::BAD_REQUEST,
                "this message is a notify, which takes no response",
            ));
        }
        self.core.sink.respond(self.request, answer)
    }

    /// A handle that answers this request later, from anywhere.
    ///
    /// Dropped unused, it answers with an error.
    pub fn responder(&self) -> Responder<S> {
        Responder::new(self.clone())
    }

    /// Sends a one-way message to the service of `route`. Its handler sees a notify of this session.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] when no node offers the route, [`code::UNAVAILABLE`] when its member
    /// cannot be reached, [`code::TOO_MANY`] when it cannot take more.
    pub fn rpc<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.core
            .sink
            .rpc(&self.typed(), route, S::encode(message)?)
    }

    /// Sends what is queued, then closes the connection. Close callbacks see
    /// [`CloseReason::Closed`].
    pub fn close(&self) {
        self.close_because("");
    }

    /// [`close`](Session::close) with a reason for the close callbacks. It is not sent to the
    /// client.
    pub fn close_because(&self, reason: impl Into<String>) {
        self.core.sink.close(CloseReason::Closed(reason.into()));
    }

    /// Sends what is queued and a kick with the reason, then closes the connection. Close callbacks
    /// see [`CloseReason::Kicked`].
    pub fn kick(&self, reason: impl Into<String>) {
        self.core.sink.close(CloseReason::Kicked(reason.into()));
    }

    /// Why the session ended; `None` while it is open.
    pub fn closed(&self) -> Option<CloseReason> {
        self.core.close_state.closed()
    }

    /// Runs `callback` once when the session has closed.
    ///
    /// It runs on the node's scheduler, after the handlers of all messages of the session have
    /// started; on a closed session at once, on this thread. The value returned can withdraw it,
    /// and may be ignored: dropping it changes nothing.
    pub fn on_closed(
        &self,
        callback: impl FnOnce(&Session, &CloseReason) + Send + 'static,
    ) -> CloseCallback {
        let close_state = &self.core.close_state;
        match close_state.on_closed(Box::new(callback)) {
            Ok(id) => CloseCallback::new(&self.core, id),
            Err((callback, reason)) => {
                callback(&self.typed(), &reason);
                CloseCallback::default()
            }
        }
    }

    /// The client's address; `None` for a sink without one.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.core.sink.remote_addr()
    }

    /// The sink that carries its messages.
    pub fn sink(&self) -> &Arc<dyn SessionSink> {
        &self.core.sink
    }

    /// The members that serve the session, by service.
    pub fn router(&self) -> &Router {
        &self.core.router
    }

    /// Runs the services registered with the scheduler name `name` on `scheduler` for this session:
    /// a room's or a desk's.
    ///
    /// Replaces an earlier pin of the name. Messages that wait elsewhere keep their order. Names of
    /// pins and keys of data are apart: no change of data touches a pin.
    pub fn pin(&self, name: &str, scheduler: &Scheduler) {
        self.core.pins.pin(name, scheduler);
    }

    /// Undoes [`pin`](Session::pin), and returns whether it did.
    ///
    /// A pin to another scheduler stays: a room that cleans up late does not unpin the session
    /// from the next one. Requests to services without a pin are answered with
    /// [`code::UNAVAILABLE`].
    pub fn unpin(&self, name: &str, scheduler: &Scheduler) -> bool {
        self.core.pins.unpin(name, scheduler)
    }

    /// The scheduler a name is [pinned](Session::pin) to.
    pub fn pinned(&self, name: &str) -> Option<Scheduler> {
        self.core.pins.get(name)
    }

    /// Runs `future` on the runtime's threads, then `then` with its output on the current scheduler.
    ///
    /// A sync handler waits this way without holding up its scheduler, and continues where no other
    /// handler runs beside it. An error that `then` returns answers the request, as a handler's
    /// does.
    ///
    /// ```
    /// # use nano::{Result, Session};
    /// # async fn load(uid: i64) -> String { String::new() }
    /// fn profile(session: &Session) {
    ///     session.spawn(load(session.uid()), |session, profile| session.respond(&profile));
    /// }
    /// ```
    ///
    /// `then` does not run outside of a scheduler, when the future panics, or when the node has
    /// stopped. The request is then answered with an error.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&Self, T) -> Result + Send + 'static,
    ) {
        let responder = self.responder();
        let then = move |output| match then(responder.session(), output) {
            Ok(()) => responder.release(),
            // Fails when the request is answered already or the connection is gone.
            Err(error) => drop(responder.respond_error(error)),
        };
        match Scheduler::current() {
            Some(scheduler) => scheduler.offload(future, then),
            None => self
                .core
                .sink
                .spawn(Box::pin(async move { then(future.await) })),
        }
    }

    /// The typed values of the application, at most one of each type.
    pub fn extensions(&self) -> &Extensions {
        &self.core.extensions
    }

    /// Stores a value under a key.
    pub fn set<T: Send + Sync + 'static>(&self, key: impl Into<String>, value: T) {
        self.core.data.set(key.into(), value);
    }

    /// A copy of the value under a key; `None` if there is none or it is not a `T`. Store an `Arc`
    /// to share it.
    pub fn value<T: Clone + 'static>(&self, key: &str) -> Option<T> {
        self.core.data.value(key)
    }

    /// A copy of the value under a key, or the default of `T` where [`value`](Session::value) is
    /// `None`. Go nano's typed getters do this.
    pub fn value_or_default<T: Clone + Default + 'static>(&self, key: &str) -> T {
        self.value(key).unwrap_or_default()
    }

    /// Whether there is a value under a key.
    pub fn has_key(&self, key: &str) -> bool {
        self.core.data.has_key(key)
    }

    /// Removes the value under a key.
    pub fn remove(&self, key: &str) {
        self.core.data.remove(key);
    }

    /// A snapshot of the data under keys. Later changes do not affect it.
    pub fn state(&self) -> State {
        self.core.data.state()
    }

    /// Replaces the data under keys.
    pub fn restore(&self, state: State) {
        self.core.data.restore(state);
    }

    /// Forgets the uid and the data under keys. Extensions, pins and bindings of the router stay.
    pub fn clear(&self) {
        self.core.sink.bind(&self.typed(), 0);
        self.core.data.restore(State::default());
    }
}

impl<S: Serializer> Sequenced for Session<S> {
    fn sequencer(&self) -> &Sequencer {
        &self.core.sequencer
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
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl<S: Serializer> Eq for Session<S> {}

impl<S: Serializer> Hash for Session<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.core).hash(state);
    }
}

impl<S: Serializer> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("uid", &self.uid())
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
