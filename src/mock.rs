//! A session without a client, for the unit tests of handlers.
//!
//! ```
//! use nano::{Result, Session, mock};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct Hello { name: String }
//!
//! // A handler like any other.
//! fn hello(session: &Session, name: String) -> Result {
//!     session.push("onHello", &Hello { name: name.clone() })?;
//!     session.respond(&name.len())
//! }
//!
//! let (session, sink) = mock::session();
//! hello(&session.with_request(7), "Ann".to_owned()).unwrap();
//! assert_eq!(sink.push_as::<Hello>("onHello").unwrap(), Hello { name: "Ann".to_owned() });
//! assert_eq!(sink.response(7).unwrap().unwrap(), "3");
//! ```
//!
//! Calls get the replies a test gives them, and what a handler spawns runs when the test says so:
//!
//! ```
//! # use nano::{Result, Session, mock};
//! fn login(session: &Session, token: String) {
//!     let user = session.call("Accounts.Check").json::<i64, _>(&token);
//!     session.spawn(user, |session, user| {
//!         session.bind(user?)?;
//!         session.respond("hello")
//!     });
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (session, sink) = mock::session();
//! sink.reply("Accounts.Check", &42);
//! login(&session.with_request(1), "token".to_owned());
//! sink.run_spawned().await;
//! assert_eq!(session.uid(), 42);
//! assert_eq!(sink.response(1).unwrap().unwrap(), r#""hello""#);
//! # }
//! ```

use std::{
    any::Any,
    collections::HashMap,
    fmt, mem,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use metrics::Counter;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    error::{Error, Result, code},
    message::Message,
    serialize::{Decode, Encode, Json},
    session::{
        Call, CallRouter, CloseReason, Push, Session, SessionHooks, SessionInner, SessionOwner,
        SessionSink, Sessions, UserObserver,
    },
};

/// Makes a session, and the sink that records what is sent to it.
///
/// Ids count from 1 up, over the whole process. [`Session::node`] is an error: the session belongs
/// to no node.
#[doc(alias = "NewNetworkEntity")]
pub fn session() -> (Session, Arc<MockSink>) {
    static NEXT_ID: AtomicI64 = AtomicI64::new(1);

    let sink = Arc::new_cyclic(|this: &Weak<MockSink>| {
        let hooks = SessionHooks {
            panics: Counter::noop(),
            on_bind: None,
            groups: Arc::default(),
            inputs: Arc::default(),
        };
        MockSink {
            recorded: Mutex::default(),
            sessions: Sessions::new(this.clone(), hooks),
            session: OnceLock::new(),
        }
    });
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let session = Session::outside(id, sink.clone(), Arc::<Sessions>::downgrade(&sink.sessions));
    // Set once: the sink was made for this session.
    let _ = sink.session.set(Arc::downgrade(session.inner()));
    (session, sink)
}

/// Records instead of sending. Every request id waits for an answer, once.
///
/// A [`close`](Session::close) or [`kick`](Session::kick) ends the session as on a node: it leaves
/// its groups, its close callbacks run (at once, on the calling thread), and pushes fail.
pub struct MockSink {
    recorded: Mutex<Recorded>,
    /// The table of the session, whose calls it carries to this sink.
    sessions: Arc<Sessions>,
    /// Weak, because the session owns the sink.
    session: OnceLock<Weak<SessionInner>>,
}

/// A body, or code and message of an error.
type Answer = Result<Bytes, (String, String)>;
type Replier = Arc<dyn Fn(Bytes) -> Result<Bytes> + Send + Sync>;
type Spawned = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
struct Recorded {
    pushes: Vec<(String, Bytes)>,
    rpcs: Vec<(String, Bytes)>,
    calls: Vec<(String, Bytes)>,
    responses: Vec<(u64, Answer)>,
    closed: Option<CloseReason>,
    repliers: HashMap<String, Replier>,
    spawned: Vec<Spawned>,
}

impl MockSink {
    /// All pushes so far: route and body.
    pub fn pushes(&self) -> Vec<(String, Bytes)> {
        self.recorded.lock().pushes.clone()
    }

    /// The first push with this route, from JSON.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] when there is none, and JSON's error for a body of another type.
    pub fn push_as<M: DeserializeOwned>(&self, route: &str) -> Result<M> {
        self.pushes_as(route)?
            .into_iter()
            .next()
            .ok_or_else(|| Error::new(code::NOT_FOUND, format!("nothing was pushed to {route}")))
    }

    /// All pushes with this route, from JSON.
    ///
    /// # Errors
    /// JSON's error for a body of another type.
    pub fn pushes_as<M: DeserializeOwned>(&self, route: &str) -> Result<Vec<M>> {
        self.pushes()
            .iter()
            .filter(|(pushed, _)| pushed == route)
            .map(|(_, body)| Json::decode(body))
            .collect()
    }

    /// The one-way messages to services ([`Session::rpc`]): route and body.
    pub fn rpcs(&self) -> Vec<(String, Bytes)> {
        self.recorded.lock().rpcs.clone()
    }

    /// The calls to services ([`Session::call`]): route and body.
    pub fn calls(&self) -> Vec<(String, Bytes)> {
        self.recorded.lock().calls.clone()
    }

    /// Answers calls of this route with a reply in JSON.
    ///
    /// # Panics
    /// When JSON cannot write the reply.
    pub fn reply<R: Serialize + ?Sized>(&self, route: &str, reply: &R) {
        let body = match Json::encode(reply) {
            Ok(body) => body,
            Err(error) => panic!("the reply to {route}: {error}"),
        };
        self.reply_with(route, move |_| Ok(body.clone()));
    }

    /// Answers calls of this route with what `reply` makes of their body, errors included.
    ///
    /// Replaces an earlier reply of the route. Calls without one end with [`code::NOT_FOUND`].
    pub fn reply_with(
        &self,
        route: &str,
        reply: impl Fn(Bytes) -> Result<Bytes> + Send + Sync + 'static,
    ) {
        let mut recorded = self.recorded.lock();
        recorded.repliers.insert(route.to_owned(), Arc::new(reply));
    }

    /// Runs what [`Session::spawn`] was given so far, one after the other, and what those spawn.
    pub async fn run_spawned(&self) {
        loop {
            let spawned = mem::take(&mut self.recorded.lock().spawned);
            if spawned.is_empty() {
                return;
            }
            for work in spawned {
                work.await;
            }
        }
    }

    /// The answer to request `id`: a body, or an error reply. `None` while there is none.
    #[doc(alias = "FindResponseByMID")]
    #[doc(alias = "LastResponse")]
    pub fn response(&self, id: u64) -> Option<Result<Bytes>> {
        let recorded = self.recorded.lock();
        let (_, answer) = recorded
            .responses
            .iter()
            .find(|(answered, _)| *answered == id)?;
        Some(
            answer
                .clone()
                .map_err(|(code, message)| Error::new(code, message)),
        )
    }

    /// Why the session was closed, if it was.
    pub fn closed(&self) -> Option<CloseReason> {
        self.recorded.lock().closed.clone()
    }
}

impl Recorded {
    fn check_open(&self) -> Result {
        match &self.closed {
            Some(_) => Err(Error::new(code::CLOSED, "the session is closed")),
            None => Ok(()),
        }
    }
}

impl SessionSink for MockSink {
    fn push(&self, push: &Push<'_>) -> Result {
        let mut recorded = self.recorded.lock();
        recorded.check_open()?;
        recorded
            .pushes
            .push((push.route().to_owned(), push.body().clone()));
        Ok(())
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        let mut recorded = self.recorded.lock();
        recorded.check_open()?;
        if recorded
            .responses
            .iter()
            .any(|(answered, _)| *answered == request)
        {
            return Err(Error::new(
                code::CONFLICT,
                format!("request {request} is answered already"),
            ));
        }
        let answer = answer.map_err(|error| (error.code().to_string(), error.message().to_owned()));
        recorded.responses.push((request, answer));
        Ok(())
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        CallRouter::rpc(self, session, Message::notify(route, body))
    }

    fn close(&self, reason: CloseReason) {
        let reason = self.recorded.lock().closed.get_or_insert(reason).clone();
        // Without the lock: close callbacks may use the sink.
        if let Some(session) = self.session.get().and_then(Weak::upgrade) {
            Session::<Json>::of(session, 0).end(&reason);
        }
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn spawn(&self, work: Spawned) {
        self.recorded.lock().spawned.push(work);
    }
}

impl SessionOwner for MockSink {
    fn call_router(self: Arc<Self>) -> Option<Arc<dyn CallRouter>> {
        Some(self)
    }

    fn user_observer(&self) -> Option<Arc<dyn UserObserver>> {
        None
    }

    fn node(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

impl CallRouter for MockSink {
    fn call(&self, call: Call) {
        let replier = {
            let mut recorded = self.recorded.lock();
            recorded
                .calls
                .push((call.route.to_string(), call.body.clone()));
            recorded.repliers.get(&*call.route).cloned()
        };
        let reply = match replier {
            Some(replier) => replier(call.body),
            None => Err(Error::new(
                code::NOT_FOUND,
                format!("route not found: {}", call.route),
            )),
        };
        // Fails only for a call that is answered already, and this one is new.
        drop(call.caller.answer(reply));
    }

    fn rpc(&self, _: &Session, message: Message) -> Result {
        let mut recorded = self.recorded.lock();
        recorded
            .rpcs
            .push((message.route.to_string(), message.body));
        Ok(())
    }

    fn nodes_with(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn check_binding(&self, _: &str, _: &str) -> Result {
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl fmt::Debug for MockSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.recorded.lock();
        f.debug_struct("MockSink")
            .field("pushes", &recorded.pushes)
            .field("rpcs", &recorded.rpcs)
            .field("calls", &recorded.calls)
            .field("responses", &recorded.responses)
            .field("closed", &recorded.closed)
            .finish_non_exhaustive()
    }
}
