//! From a message to the handler it is for.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytestring::ByteString;
use tokio::time::Instant;

use crate::{
    component::{ErrorReporter, Invoke, Service},
    error::{Error, Result, code},
    message::{Kind, Message},
    pipeline::{Channel, Pipeline},
    session::{Call, CallRouter, CloseReason, Session},
};

mod forward;
mod job;

use self::forward::DetachedSink;
pub(crate) use self::{
    forward::{ClusterRouter, ForwardError},
    job::Dispatched,
};

/// The routes of a node and what messages pass on their way to them.
pub(crate) struct Dispatch {
    routes: HashMap<ByteString, Arc<dyn Invoke>>,
    pipeline: Arc<Pipeline>,
    reporter: Arc<ErrorReporter>,
    /// How long clients' requests, and calls, wait for their answer.
    request_timeout: Option<Duration>,
    /// The rest of the cluster; weak, for it hands messages to this.
    forward: OnceLock<Weak<dyn ClusterRouter>>,
}

/// Who sends a message: internal services are open to nodes only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Client,
    Node,
}

impl Dispatch {
    /// # Errors
    /// Names the component that is there twice.
    pub(crate) fn new(
        services: &[Service],
        pipeline: Arc<Pipeline>,
        reporter: Arc<ErrorReporter>,
        request_timeout: Option<Duration>,
    ) -> Result<Self> {
        let mut routes = HashMap::new();
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
            routes.extend(
                service
                    .routes
                    .iter()
                    .map(|(route, invoke)| (ByteString::from(route.as_str()), invoke.clone())),
            );
        }
        Ok(Self {
            routes,
            pipeline,
            reporter,
            request_timeout,
            forward: OnceLock::new(),
        })
    }

    /// Makes it part of a cluster.
    pub(crate) fn connect(&self, forward: Weak<dyn ClusterRouter>) {
        // A node joins one cluster, and does it once.
        let _ = self.forward.set(forward);
    }

    fn forward(&self) -> Option<Arc<dyn ClusterRouter>> {
        self.forward.get()?.upgrade()
    }

    /// All routes, sorted.
    pub(crate) fn routes(&self) -> Vec<ByteString> {
        let mut routes: Vec<_> = self.routes.keys().cloned().collect();
        routes.sort();
        routes
    }

    /// Those that exist for clients, sorted.
    pub(crate) fn open_routes(&self) -> Vec<ByteString> {
        let mut routes = self.routes();
        routes.retain(|route| {
            self.routes
                .get(route)
                .is_some_and(|invoke| !invoke.setup().internal)
        });
        routes
    }

    /// How long clients' requests, and calls, wait for their answer.
    pub(crate) fn request_timeout(&self) -> Option<Duration> {
        self.request_timeout
    }

    pub(crate) fn outbound(&self) -> &Channel {
        self.pipeline.outbound()
    }

    pub(crate) fn reporter(&self) -> &ErrorReporter {
        &self.reporter
    }

    /// Takes a message of this node's client as far as the scheduler or the member it belongs to.
    /// `None` when that is nowhere: it has been answered then.
    pub(crate) fn receive(&self, session: &Session, mut message: Message) -> Option<Dispatched> {
        let session = session.with_request(request_of(&message));
        let result = match message.kind {
            Kind::Response | Kind::Push => Err(Error::new(
                code::BAD_REQUEST,
                "only servers send responses and pushes",
            )),
            Kind::Request | Kind::Notify => self.filter(&session, &mut message),
        };
        let route = message.route.clone();
        let result = result.and_then(|()| match self.forward() {
            Some(forward) if !self.routes.contains_key(&message.route) => Ok(Dispatched::away(
                session.clone(),
                message,
                forward,
                self.reporter.clone(),
            )),
            _ => self.job(&session, &message, Origin::Client),
        });
        result
            .inspect_err(|_| self.reporter.metrics.refused.increment(1))
            .map_err(|error| self.reporter.fail(&session, &route, error))
            .ok()
    }

    /// Takes a message that another node hands over as far as its scheduler. It is bounded where it
    /// comes from, so a full scheduler takes it too. What keeps it from its handler is answered as
    /// a handler's error is.
    pub(crate) fn deliver(&self, session: &Session, message: &Message, origin: Origin) {
        if let Some(job) = self.accept(session, message, origin) {
            job.submit_always();
        }
    }

    /// Prepares a message that another node hands over for its scheduler. `None` when it has been
    /// answered instead.
    pub(crate) fn accept(
        &self,
        session: &Session,
        message: &Message,
        origin: Origin,
    ) -> Option<Dispatched> {
        let refused = |error| {
            session.sink().done();
            self.reporter.metrics.refused.increment(1);
            self.reporter.fail(session, &message.route, error);
        };
        self.job(session, message, origin).map_err(refused).ok()
    }

    /// Takes a call as far as its handler on this node.
    pub(crate) fn answer(&self, call: Call) {
        let session = call
            .session
            .unwrap_or_else(session_of_nobody)
            .with_caller(call.caller);
        let message = Message::request(session.request_id(), call.route, call.body);
        // A full scheduler drops the message, which then answers for itself.
        let _ = self
            .accept(&session, &message, Origin::Node)
            .map(Dispatched::try_submit);
    }

    /// Runs the inbound pipeline for a message that came through a gate that has none of ours.
    ///
    /// # Errors
    /// That of the step that refuses it.
    pub(crate) fn filter_inbound(&self, session: &Session, message: &mut Message) -> Result {
        self.filter(session, message)
    }

    /// Answers a message that a session sent and nobody will handle.
    pub(crate) fn fail(&self, session: &Session, error: Error) {
        self.reporter.fail(session, "", error);
    }

    /// Whether this node has the route.
    pub(crate) fn has(&self, route: &str) -> bool {
        self.routes.contains_key(route)
    }

    /// Sends a one-way message on behalf of a session.
    ///
    /// # Errors
    /// Nobody has the route, or the one who has it cannot take it.
    pub(crate) fn rpc(&self, session: &Session, message: Message) -> Result {
        match self.forward() {
            Some(forward) if !self.has(&message.route) => forward.rpc(session, message),
            _ => self
                .job(&session.with_request(0), &message, Origin::Node)?
                .try_submit(),
        }
    }

    /// Tells the members that know this session of its uid.
    pub(crate) fn bound(&self, session: &Session) {
        if let Some(forward) = self.forward() {
            forward.bound(session);
        }
    }

    /// Tells the members that know this session of its end.
    pub(crate) fn closed(&self, session: &Session, reason: &CloseReason) {
        if let Some(forward) = self.forward() {
            forward.closed(session, reason);
        }
    }

    fn filter(&self, session: &Session, message: &mut Message) -> Result {
        let inbound = self.pipeline.inbound();
        if inbound.is_empty() {
            return Ok(());
        }
        self.guard("the pipeline panicked", || {
            inbound.process(session, message)
        })
    }

    /// Calls the application's code where messages are read.
    fn guard<R>(&self, panicked: &'static str, call: impl FnOnce() -> Result<R>) -> Result<R> {
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            self.reporter.metrics.panics.increment(1);
            Err(Error::new(code::INTERNAL, panicked))
        })
    }

    fn job(&self, session: &Session, message: &Message, origin: Origin) -> Result<Dispatched> {
        let invoke = self
            .routes
            .get(&message.route)
            // To clients an internal route does not exist.
            .filter(|invoke| origin == Origin::Node || !invoke.setup().internal)
            .ok_or_else(|| {
                Error::new(
                    code::NOT_FOUND,
                    format!("route not found: {}", message.route),
                )
            })?;
        let scheduler = invoke.setup().placement.scheduler(session)?;
        let task = self.guard("decoding the message panicked", || {
            invoke.clone().prepare(session, &scheduler, &message.body)
        })?;
        Ok(Dispatched::here(session.clone(), scheduler, task))
    }
}

/// The request to answer: a client's response has an id too, but nobody who waits.
fn request_of(message: &Message) -> u64 {
    if message.kind == Kind::Request {
        message.id
    } else {
        0
    }
}

impl CallRouter for Dispatch {
    fn call(&self, call: Call) {
        let forward = self.forward();
        let here = match (&call.to, &forward) {
            (Some(to), Some(forward)) => forward.is_here(to),
            (Some(_), None) => false,
            (None, _) => self.has(&call.route),
        };
        if !here && let Some(forward) = forward {
            return forward.call(call);
        }
        if !here && let Some(to) = &call.to {
            // Answered once, and by nobody else.
            return drop(call.caller.answer(Err(Error::new(
                code::NOT_FOUND,
                format!("no member at {to}"),
            ))));
        }
        self.answer(call);
    }

    fn nodes_with(&self, route: &str) -> Vec<String> {
        let here = self.has(route);
        match self.forward() {
            Some(forward) => forward.nodes_with(route, here),
            None => here.then(String::new).into_iter().collect(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.request_timeout.map(|timeout| Instant::now() + timeout)
    }
}

/// What the handler of a node's own call gets for a session: without a client, and gone with the
/// call.
fn session_of_nobody() -> Session {
    Session::new(0, Arc::new(DetachedSink))
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("routes", &self.routes())
            .finish_non_exhaustive()
    }
}
