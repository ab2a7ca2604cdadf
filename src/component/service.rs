//! A registered component, with its types erased.

use std::{
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use super::{Component, ErrorReporter, Handlers, Options, Where};
use crate::{
    error::{Error, Result, code},
    handle::Handle,
    message::MAX_ROUTE,
    scheduler::Scheduler,
    serialize::Serializer,
    session::{SequencedTask, Session},
};

/// One route of this node: decodes where the message arrived, and gives the task that runs the
/// handler on a scheduler.
pub(crate) trait Invoke: Send + Sync {
    fn setup(&self) -> &Setup;
    fn prepare(
        self: Arc<Self>,
        session: &Session,
        scheduler: &Scheduler,
        body: &Bytes,
    ) -> Result<SequencedTask>;
}

/// What all routes of one service share.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) service: String,
    pub(crate) placement: Placement,
    pub(crate) internal: bool,
    pub(crate) reporter: Arc<ErrorReporter>,
}

/// Where the handlers of a service run.
#[derive(Debug)]
pub(crate) enum Placement {
    Node(Scheduler),
    Session(String),
    Spread(Vec<Scheduler>),
}

impl Placement {
    fn of(choice: &Where, service: &str, node: &Handle) -> Result<Self> {
        match choice {
            Where::Node => Ok(Self::Node(node.scheduler().clone())),
            Where::Session(name) => Ok(Self::Session(name.clone())),
            Where::Spread(0) => Err(Error::new(
                code::BAD_REQUEST,
                format!("component {service}: spread over 0 schedulers"),
            )),
            Where::Spread(count) => Ok(Self::Spread(
                (0..*count)
                    .map(|n| node.new_scheduler(format!("{service}-{n}")))
                    .collect(),
            )),
        }
    }

    /// The scheduler for a message of this session.
    pub(crate) fn scheduler(&self, session: &Session) -> Result<Scheduler> {
        match self {
            Self::Node(scheduler) => Ok(scheduler.clone()),
            Self::Session(name) => session.pinned(name).ok_or_else(|| {
                Error::new(
                    code::UNAVAILABLE,
                    format!("the session has no scheduler named {name}"),
                )
            }),
            Self::Spread(schedulers) => {
                Ok(schedulers[session.id().unsigned_abs() as usize % schedulers.len()].clone())
            }
        }
    }
}

/// One registered component.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) routes: Vec<(String, Arc<dyn Invoke>)>,
    pub(crate) hooks: Box<dyn Hooks>,
}

impl Service {
    /// Registers a component.
    ///
    /// # Errors
    /// Names what is wrong: no handlers, two of one name, a route that no client could send.
    pub(crate) fn new<S: Serializer, C: Component<S>>(
        component: Arc<C>,
        options: &Options,
        node: &Handle,
        reporter: &Arc<ErrorReporter>,
    ) -> Result<Self> {
        let name = options.service_name::<C>();
        let setup = Setup {
            placement: Placement::of(&options.placement, &name, node)?,
            internal: options.internal,
            reporter: reporter.clone(),
            service: name.clone(),
        };
        let handlers = C::handlers(Handlers::new(
            component.clone(),
            Arc::new(setup),
            options.name_func,
        ));
        let mut routes = handlers.into_routes();
        if routes.is_empty() {
            return Err(invalid(format!("component {name} has no handlers")));
        }
        routes.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some([(route, _), _]) = routes
            .windows(2)
            .find(|pair| pair[0].0 == pair[1].0)
            .and_then(|pair| pair.first_chunk::<2>())
        {
            return Err(invalid(format!("two handlers for the route {route}")));
        }
        for (route, _) in &routes {
            check_route(&name, route)?;
        }
        Ok(Self {
            name,
            routes,
            hooks: Box::new(Hooked {
                component,
                format: PhantomData,
            }),
        })
    }
}

fn invalid(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}

fn check_route(service: &str, route: &str) -> Result {
    if service.is_empty() || service.len() + 1 == route.len() {
        return Err(invalid(format!(
            "invalid route {route:?}: service and handler need a name"
        )));
    }
    // What stands behind the last dot is the handler: a dot in its name would change the service.
    if route[service.len() + 1..].contains('.') {
        return Err(invalid(format!(
            "invalid route {route:?}: a dot in the name of the handler"
        )));
    }
    if route.len() > MAX_ROUTE {
        return Err(invalid(format!(
            "invalid route {route:?}: {} bytes, over the limit of {MAX_ROUTE}",
            route.len()
        )));
    }
    Ok(())
}

/// The hooks of a component. A panic in one is its error.
pub(crate) trait Hooks: Send + Sync {
    fn init(&self, node: &Handle) -> Result;
    fn after_init(&self, node: &Handle) -> Result;
    fn before_shutdown(&self, node: &Handle) -> Result;
    fn shutdown(&self, node: &Handle) -> Result;
}

struct Hooked<C, S> {
    component: Arc<C>,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer, C: Component<S>> Hooks for Hooked<C, S> {
    fn init(&self, node: &Handle) -> Result {
        guard(|| self.component.init(node))
    }

    fn after_init(&self, node: &Handle) -> Result {
        guard(|| self.component.after_init(node))
    }

    fn before_shutdown(&self, node: &Handle) -> Result {
        guard(|| {
            self.component.before_shutdown(node);
            Ok(())
        })
    }

    fn shutdown(&self, node: &Handle) -> Result {
        guard(|| {
            self.component.shutdown(node);
            Ok(())
        })
    }
}

fn guard(hook: impl FnOnce() -> Result) -> Result {
    catch_unwind(AssertUnwindSafe(hook))
        .unwrap_or_else(|_| Err(Error::new(code::INTERNAL, "panicked")))
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes: Vec<_> = self.routes.iter().map(|(route, _)| route).collect();
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}
