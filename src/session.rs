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

/// A player's session, and the request being handled.
///
/// A cheap handle: clone it, keep it, use it from any thread. Every handle of one session shares
/// its uid, data, bindings and connection. `S` is the format its messages are written in, a view
/// that [`typed`](Session::typed) changes at no cost.
///
/// The handle a handler receives carries the id of that message's request, and so do its clones: a
/// response sent through it, however late and from wherever, answers that request and no other.
///
/// Nothing here blocks, and nothing waits for the network: messages go into the connection's
/// bounded queue.
pub struct Session<S: Serializer = Json> {
    core: Arc<SessionInner>,
    request: u64,
    /// Who waits for the answer, if not the client.
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

    /// The same session as the handler of request `id` would see it: for code that keeps ids
    /// instead of sessions or responders.
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

    /// The session's id: positive, below 2^53 (so that JavaScript can hold it), unique in a cluster
    /// without configuration, and the same on every node.
    pub fn id(&self) -> i64 {
        self.core.id
    }

    /// The uid it is bound to; 0 while unbound.
    pub fn uid(&self) -> i64 {
        self.core.uid()
    }

    /// Binds it to a uid, which replaces an earlier one. Several sessions may share a uid.
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

    /// Until when the one who asks waits, where that is known: in the handler of a
    /// [`call`](Session::call).
    pub fn deadline(&self) -> Option<tokio::time::Instant> {
        self.caller.as_ref()?.deadline()
    }

    /// Sends a message the client did not ask for.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the connection is gone, [`code::TOO_LARGE`] for a route over 255 bytes
    /// or a message over 16 MiB, and whatever the format says of a message it cannot write. A full
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

    /// A handle that answers this request later, from anywhere, and answers it with an error if it
    /// is dropped first.
    pub fn responder(&self) -> Responder<S> {
        Responder::new(self.clone())
    }

    /// Sends a one-way message to the service of `route`, on behalf of this session. Its handler
    /// sees a notify of this session.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] when no node offers the route, [`code::UNAVAILABLE`] when the one that
    /// does cannot be reached, [`code::TOO_MANY`] when it cannot take more.
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

    /// [`close`](Session::close) with a reason of yours for the close callbacks. The client is not
    /// told.
    pub fn close_because(&self, reason: impl Into<String>) {
        self.core.sink.close(CloseReason::Closed(reason.into()));
    }

    /// Tells the client why, sends what is queued, then closes the connection. Close callbacks see
    /// [`CloseReason::Kicked`].
    pub fn kick(&self, reason: impl Into<String>) {
        self.core.sink.close(CloseReason::Kicked(reason.into()));
    }

    /// Whether its connection is gone, and why.
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

    /// The client's address; `None` for an sink without one.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.core.sink.remote_addr()
    }

    /// What carries its messages.
    pub fn sink(&self) -> &Arc<dyn SessionSink> {
        &self.core.sink
    }

    /// The members its services are bound to.
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

    /// Runs `future` off the scheduler, on the runtime's threads, and then `then` with its output
    /// back on the scheduler this is called on: the way for a handler to wait for something without
    /// holding up its scheduler, and to go on where no other handler runs beside it. An error that
    /// `then` returns answers the request, as a handler's does.
    ///
    /// ```
    /// # use nano::{Result, Session};
    /// # async fn load(uid: i64) -> String { String::new() }
    /// fn profile(session: &Session) {
    ///     session.spawn(load(session.uid()), |session, profile| session.respond(&profile));
    /// }
    /// ```
    ///
    /// Outside of a scheduler, and when the future panics or the node has stopped, `then` does not
    /// run; the request is answered with an error then.
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

    /// A copy of the value under a key, if there is one and it is a `T`. Store an `Arc` to share
    /// instead of copy.
    pub fn value<T: Clone + 'static>(&self, key: &str) -> Option<T> {
        self.core.data.value(key)
    }

    /// The value under a key, or the zero value of `T` where there is none or it is of another
    /// type: the meaning of nano's typed getters.
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

    /// All its data, as a snapshot that later changes do not touch.
    pub fn state(&self) -> State {
        self.core.data.state()
    }

    /// Replaces all its data.
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
