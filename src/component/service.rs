//! A registered component with its types erased.

use std::{fmt, sync::Arc};

use super::erased::ErasedHandler;
use crate::{
    error::{Error, Result, code},
    handle::Handle,
    message::MAX_ROUTE,
};

/// One registered component: its handlers and its hooks.
pub(crate) struct Service {
    pub(crate) name: String,
    /// Sorted by route.
    pub(crate) handlers: Vec<Arc<ErasedHandler>>,
    pub(crate) hooks: Box<dyn Hooks>,
}

/// The hooks of a component. A panic in one becomes its error.
pub(crate) trait Hooks: Send + Sync {
    fn init(&self, node: &Handle) -> Result;
    fn after_init(&self, node: &Handle) -> Result;
    fn before_drain(&self, node: &Handle) -> Result;
    fn before_shutdown(&self, node: &Handle) -> Result;
    fn shutdown(&self, node: &Handle) -> Result;
}

impl Service {
    /// Checks the routes of a component.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] names the fault: no handlers, two for one route, a route that no
    /// client could send.
    pub(super) fn new(
        name: String,
        mut handlers: Vec<ErasedHandler>,
        hooks: Box<dyn Hooks>,
    ) -> Result<Self> {
        if handlers.is_empty() {
            return Err(invalid(format!("component {name} has no handlers")));
        }
        handlers.sort_by(|a, b| a.route.cmp(&b.route));
        for pair in handlers.windows(2) {
            if pair[0].route == pair[1].route {
                let route = &pair[0].route;
                return Err(invalid(format!("two handlers for the route {route}")));
            }
        }
        for handler in &handlers {
            check_route(&name, &handler.route)?;
        }
        Ok(Self {
            name,
            handlers: handlers.into_iter().map(Arc::new).collect(),
            hooks,
        })
    }
}

fn check_route(service: &str, route: &str) -> Result {
    if service.is_empty() || service.len() + 1 == route.len() {
        return Err(invalid(format!(
            "invalid route {route:?}: service and handler need a name"
        )));
    }
    // A route is split at its last dot: one in the handler's name would change the service.
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

fn invalid(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}
