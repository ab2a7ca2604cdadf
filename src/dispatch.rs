//! From a message to the handler it is for.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytestring::ByteString;

use crate::{
    component::{Failure, Invoke, Service},
    error::{Error, Result, code},
    message::{Kind, Message},
    pipeline::{Channel, Pipeline},
    scheduler::{Full, Scheduler, Task},
    session::Session,
};

/// The routes of a node and what messages pass on their way to them.
pub(crate) struct Dispatch {
    routes: HashMap<ByteString, Arc<dyn Invoke>>,
    pipeline: Arc<Pipeline>,
    failure: Arc<Failure>,
}

/// Who sends a message: internal services are open to nodes only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Client,
    Node,
}

impl Dispatch {
    /// # Errors
    /// Names the component that is there twice.
    pub(crate) fn new(services: &[Service], pipeline: Arc<Pipeline>, failure: Arc<Failure>) -> Result<Self> {
        let mut routes = HashMap::new();
        for (at, service) in services.iter().enumerate() {
            if services[..at].iter().any(|other| other.name == service.name) {
                return Err(Error::new(code::BAD_REQUEST, format!("two components named {}", service.name)));
            }
            routes.extend(service.routes.iter().map(|(route, invoke)| (ByteString::from(route.as_str()), invoke.clone())));
        }
        Ok(Self { routes, pipeline, failure })
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
        routes.retain(|route| self.routes.get(route).is_some_and(|invoke| !invoke.setup().internal));
        routes
    }

    pub(crate) fn outbound(&self) -> &Channel {
        self.pipeline.outbound()
    }

    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Takes a message of this node's client as far as the scheduler it belongs on. `None` when that is nowhere: it has been answered then.
    pub(crate) fn receive(&self, session: &Session, mut message: Message) -> Option<Job> {
        let session = session.with_request(request_of(&message));
        let result = match message.kind {
            Kind::Response | Kind::Push => Err(Error::new(code::BAD_REQUEST, "only servers send responses and pushes")),
            Kind::Request | Kind::Notify => self.filter(&session, &mut message).and_then(|()| self.job(&session, &message, Origin::Client)),
        };
        result
            .inspect_err(|_| self.failure.metrics.refused.increment(1))
            .map_err(|error| self.failure.fail(&session, &message.route, error))
            .ok()
    }

    /// Takes a message that a handler sends on behalf of a session.
    ///
    /// # Errors
    /// The route is unknown, or its scheduler is missing.
    pub(crate) fn rpc(&self, session: &Session, message: &Message) -> Result<Job> {
        self.job(&session.with_request(0), message, Origin::Node)
    }

    fn filter(&self, session: &Session, message: &mut Message) -> Result {
        let inbound = self.pipeline.inbound();
        if inbound.is_empty() {
            return Ok(());
        }
        self.guard("the pipeline panicked", || inbound.process(session, message))
    }

    /// Calls the application's code where messages are read.
    fn guard<R>(&self, panicked: &'static str, call: impl FnOnce() -> Result<R>) -> Result<R> {
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            self.failure.metrics.panics.increment(1);
            Err(Error::new(code::INTERNAL, panicked))
        })
    }

    fn job(&self, session: &Session, message: &Message, origin: Origin) -> Result<Job> {
        let invoke = self
            .routes
            .get(&message.route)
            // To clients an internal route does not exist.
            .filter(|invoke| origin == Origin::Node || !invoke.setup().internal)
            .ok_or_else(|| Error::new(code::NOT_FOUND, format!("route not found: {}", message.route)))?;
        let scheduler = invoke.setup().placement.scheduler(session)?;
        let task = self.guard("decoding the message panicked", || invoke.clone().prepare(session, &message.body))?;
        Ok(Job { session: session.clone(), scheduler, task })
    }
}

/// The request to answer: a client's response has an id too, but nobody who waits.
fn request_of(message: &Message) -> u64 {
    if message.kind == Kind::Request { message.id } else { 0 }
}

/// A decoded message on its way to its scheduler.
pub(crate) struct Job {
    session: Session,
    scheduler: Scheduler,
    task: Task,
}

impl Job {
    /// Queues it behind the session's earlier messages. Gives it back when the scheduler is full; wait for [`room`](Job::room) then. On a
    /// scheduler that has been shut down it ends at once.
    pub(crate) fn submit(self) -> Result<(), Self> {
        let Self { session, scheduler, task } = self;
        match session.core().lane.enter(&scheduler, task) {
            Ok(()) => Ok(()),
            Err(Full::Closed(task)) => {
                session.core().lane.refuse(task);
                Ok(())
            }
            Err(Full::Queue(task)) => Err(Self { session, scheduler, task }),
        }
    }

    /// Queues it now or never.
    ///
    /// # Errors
    /// The scheduler is full.
    pub(crate) fn try_submit(self) -> Result {
        // Those that wait for another scheduler are not in its queue yet.
        let full = self.session.core().lane.waiting() >= self.scheduler.capacity();
        let refused = if full { Err(self) } else { self.submit() };
        refused.map_err(|job| {
            let error = Error::new(code::TOO_MANY, format!("the scheduler {} is full", job.scheduler.name()));
            job.refuse();
            error
        })
    }

    /// Ends it without running it.
    pub(crate) fn refuse(self) {
        self.session.core().lane.refuse(self.task);
    }

    /// Ready when its scheduler may have room.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + 'static {
        let scheduler = self.scheduler.clone();
        async move { scheduler.room().await }
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch").field("routes", &self.routes()).finish_non_exhaustive()
    }
}
