//! From a message's route to its handler: on this node, or on another member.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use bytestring::ByteString;
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::{
    component::{ErasedHandler, ErrorReporter, Service},
    error::{Error, Result, code},
    message::{Kind, Message},
    metrics::{CallMetrics, Refusal},
    panic::catch_panic,
    pipeline::{Channel, Pipeline},
    scheduler::Scheduler,
    session::{Call, CallRouter, CloseReason, SequencedTask, Session, Sessions},
};

mod cluster_router;
mod detached;
mod dispatched;
mod local;
mod remote;

pub(crate) use self::{
    cluster_router::{ClusterRouter, ForwardError},
    dispatched::{Blocked, Dispatched},
};
use self::{detached::detached_session, local::LocalCall};

/// The routes of a node, and the pipeline in front of them.
pub(crate) struct Dispatch {
    handlers: FxHashMap<ByteString, Arc<ErasedHandler>>,
    pipeline: Arc<Pipeline>,
    reporter: Arc<ErrorReporter>,
    /// The table of the node, through which the session of a node's call finds the node.
    sessions: Arc<Sessions>,
    /// The way to the other nodes; `None` outside of a cluster.
    cluster: Option<Arc<dyn ClusterRouter>>,
}

/// The sender of a message: clients cannot reach internal handlers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Client,
    Node,
}

impl Dispatch {
    /// # Errors
    /// [`code::BAD_REQUEST`] when two components have one name.
    pub(crate) fn new(
        services: &[Service],
        pipeline: Arc<Pipeline>,
        reporter: Arc<ErrorReporter>,
        sessions: Arc<Sessions>,
        cluster: Option<Arc<dyn ClusterRouter>>,
    ) -> Result<Self> {
        let mut handlers = FxHashMap::default();
        for (at, service) in services.iter().enumerate() {
            if services[..at]
                .iter()
                .any(|other| other.name == service.name)
            {
                return Err(Error::new(
                    code::BAD_REQUEST,
                    format!("two components named {}", service.name),
                ));
            }
            handlers.extend(
                service
                    .handlers
                    .iter()
                    .map(|handler| (ByteString::from(handler.route()), handler.clone())),
            );
        }
        Ok(Self {
            handlers,
            pipeline,
            reporter,
            sessions,
            cluster,
        })
    }

    /// Returns all routes, sorted.
    pub(crate) fn routes(&self) -> Vec<ByteString> {
        let mut routes: Vec<_> = self.handlers.keys().cloned().collect();
        routes.sort();
        routes
    }

    /// Returns the routes that clients can reach, sorted.
    pub(crate) fn open_routes(&self) -> Vec<ByteString> {
        let mut routes = self.routes();
        routes.retain(|route| {
            self.handlers
                .get(route)
                .is_some_and(|handler| !handler.is_internal())
        });
        routes
    }

    pub(crate) fn outbound(&self) -> &Channel {
        self.pipeline.outbound()
    }

    pub(crate) fn reporter(&self) -> &ErrorReporter {
        &self.reporter
    }

    /// Sends a message of this node's client to its handler or its member.
    ///
    /// Runs the inbound pipeline, and decodes a message for a handler of this node. If one of these
    /// fails, the request has been answered. Returns the message when its destination is full.
    pub(crate) fn receive(
        &self,
        session: &Session,
        mut message: Message,
        arrived: Instant,
    ) -> Option<Blocked> {
        self.count(session);
        let session = session.with_request(request_of(&message));
        let filtered = match message.kind {
            Kind::Request | Kind::Notify => self
                .filter(&session, &mut message)
                .map_err(|error| (Refusal::Pipeline, error)),
            _ => Err((
                Refusal::Kind,
                Error::bad_request("only servers send responses and pushes"),
            )),
        };
        if let (Ok(()), Some(cluster)) = (&filtered, &self.cluster)
            && !self.has(&message.route)
        {
            let sent = remote::forward(cluster, &self.reporter, session, message);
            return sent.err().map(Blocked::remote);
        }
        let prepare = || self.prepare(&session, &message, Origin::Client, Some(arrived));
        match filtered.and_then(|()| prepare()) {
            Ok((scheduler, task)) => {
                let call = LocalCall::new(session, scheduler, task);
                Dispatched::Local(call).submit().err()
            }
            Err(refused) => {
                self.refuse(&session, &message.route, refused);
                None
            }
        }
    }

    /// Counts a message of a client, where an admin server shows how much each sends.
    fn count(&self, session: &Session) {
        if self.reporter.metrics.calls.is_some() {
            let messages = &session.inner().messages;
            messages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues a message that another node forwarded.
    ///
    /// A full scheduler takes it too, since the sender's session window bounds such messages.
    pub(crate) fn deliver(&self, session: Session, message: &Message, origin: Origin) {
        if let Some(call) = self.accept(session, message, origin) {
            call.submit_always();
        }
    }

    /// Prepares a message that another node forwarded.
    ///
    /// Returns `None` when its route or body is not valid; the request has been answered then.
    pub(crate) fn accept(
        &self,
        session: Session,
        message: &Message,
        origin: Origin,
    ) -> Option<Dispatched> {
        if origin == Origin::Client {
            self.count(&session);
        }
        match self.prepare(&session, message, origin, None) {
            Ok((scheduler, task)) => {
                let call = LocalCall::new(session, scheduler, task);
                Some(Dispatched::Local(call))
            }
            Err(refused) => {
                session.sink().done();
                self.refuse(&session, &message.route, refused);
                None
            }
        }
    }

    /// Calls a handler of this node. A full scheduler fails the call.
    pub(crate) fn answer(&self, call: Call) {
        let session = match call.session {
            Some(session) => {
                if session.closed().is_none() {
                    call.caller.end_with_session();
                }
                session
            }
            None => detached_session(&self.sessions),
        }
        .with_reply_to(call.caller);
        let message = Message::request(session.request_id(), call.route, call.body);
        // A message that is dropped here answers its call.
        let _ = self
            .accept(session, &message, Origin::Node)
            .map(Dispatched::try_submit);
    }

    /// Runs the inbound pipeline for a message of a basic member, which has no pipeline of ours.
    ///
    /// # Errors
    /// The error of the step that refuses the message.
    pub(crate) fn filter_inbound(&self, session: &Session, message: &mut Message) -> Result {
        self.filter(session, message)
    }

    /// The way to the other nodes; `None` outside of a cluster.
    pub(crate) fn cluster(&self) -> Option<&Arc<dyn ClusterRouter>> {
        self.cluster.as_ref()
    }

    /// Whether this node has the route.
    pub(crate) fn has(&self, route: &str) -> bool {
        self.handlers.contains_key(route)
    }

    /// Tells the members that serve this session its user id.
    pub(crate) fn bound(&self, session: &Session) {
        if let Some(cluster) = &self.cluster {
            cluster.bound(session);
        }
    }

    /// Tells the members that serve this session its shared value under a key.
    pub(crate) fn shared(&self, session: &Session, key: &str) {
        if let Some(cluster) = &self.cluster {
            cluster.shared(session, key);
        }
    }

    /// Tells the members that serve this session that it has ended.
    pub(crate) fn closed(&self, session: &Session, reason: &CloseReason) {
        if let Some(cluster) = &self.cluster {
            cluster.closed(session, reason);
        }
    }

    fn refuse(&self, session: &Session, route: &str, (reason, error): (Refusal, Error)) {
        self.reporter.metrics.refused.count(reason);
        let handler = self.handlers.get(route);
        let encode = handler.map(|handler| handler.encode_error);
        self.reporter.fail(session, route, error, encode);
    }

    fn filter(&self, session: &Session, message: &mut Message) -> Result {
        let inbound = self.pipeline.inbound();
        if inbound.is_empty() {
            return Ok(());
        }
        catch_panic(
            &self.reporter.metrics.panics,
            "the pipeline panicked",
            || inbound.process(session, message),
        )
    }

    /// Decodes a message for a handler of this node.
    fn prepare(
        &self,
        session: &Session,
        message: &Message,
        origin: Origin,
        arrived: Option<Instant>,
    ) -> Result<(Scheduler, SequencedTask), (Refusal, Error)> {
        let handler = self
            .handlers
            .get(&message.route)
            .filter(|handler| origin == Origin::Node || !handler.is_internal())
            .ok_or_else(|| {
                let unknown = format!("route not found: {}", message.route);
                (Refusal::Route, Error::new(code::NOT_FOUND, unknown))
            })?;
        let scheduler = handler
            .scheduler(session)
            .map_err(|error| (Refusal::Scheduler, error))?;
        let panics = &self.reporter.metrics.panics;
        let task = catch_panic(panics, "decoding the message panicked", || {
            handler.prepare(session, &scheduler, &message.body, arrived)
        })
        .map_err(|error| (Refusal::Body, error))?;
        Ok((scheduler, task))
    }
}

/// The request to answer. A client's response has an id too, but takes no answer.
fn request_of(message: &Message) -> u64 {
    if message.kind == Kind::Request {
        message.id
    } else {
        0
    }
}

impl CallRouter for Dispatch {
    fn call(&self, call: Call) {
        let here = match (&call.to, &self.cluster) {
            (Some(to), Some(cluster)) => cluster.is_here(to),
            // The address of a node outside of a cluster.
            (Some(to), None) => to.is_empty(),
            (None, _) => self.has(&call.route),
        };
        if !here && let Some(cluster) = &self.cluster {
            return cluster.call(call);
        }
        if !here && let Some(to) = &call.to {
            let error = Error::new(code::NOT_FOUND, format!("no member at {to}"));
            return drop(call.caller.answer(Err(error)));
        }
        self.answer(call);
    }

    fn rpc(&self, session: &Session, message: Message) -> Result {
        match &self.cluster {
            Some(cluster) if !self.has(&message.route) => cluster.rpc(session, message),
            _ => {
                let session = session.with_request(0);
                let (scheduler, task) = self
                    .prepare(&session, &message, Origin::Node, None)
                    .map_err(|(_, error)| error)?;
                Dispatched::Local(LocalCall::new(session, scheduler, task)).try_submit()
            }
        }
    }

    fn nodes_with(&self, route: &str) -> Vec<String> {
        let here = self.has(route);
        match &self.cluster {
            Some(cluster) => cluster.nodes_with(route, here),
            None => here.then(String::new).into_iter().collect(),
        }
    }

    fn check_binding(&self, service: &str, address: &str) -> Result {
        let is_of_service = |route: &ByteString| {
            let name = route.rsplit_once('.').map(|(name, _)| name);
            name == Some(service)
        };
        let here = self.handlers.keys().any(is_of_service);
        let nodes = match &self.cluster {
            Some(cluster) => cluster.nodes_with(&format!("{service}."), here),
            None => here.then(String::new).into_iter().collect(),
        };
        let problem = match &nodes[..] {
            [] => format!("no node has the service {service}"),
            nodes if nodes.iter().any(|node| node == address) => return Ok(()),
            _ => format!("the node at {address} does not have the service {service}"),
        };
        Err(Error::new(code::NOT_FOUND, problem))
    }

    fn deadline(&self) -> Option<Instant> {
        self.reporter
            .request_timeout
            .map(|timeout| Instant::now() + timeout)
    }

    fn metrics(&self) -> Option<&CallMetrics> {
        self.reporter.metrics.calls.as_ref()
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("routes", &self.routes())
            .finish_non_exhaustive()
    }
}
