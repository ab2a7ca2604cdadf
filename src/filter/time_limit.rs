//! Ends handlers that take too long.

use std::{collections::HashMap, time::Duration};

use super::{
    context::{Context, Flow},
    route::Route,
    traits::{Filter, Install},
};
use crate::error::Result;

/// Ends async handlers that take longer than their route may, with
/// [`code::TIMEOUT`](crate::code::TIMEOUT).
///
/// The handler's future is dropped, so the handler should hold nothing that another depends on
/// across an `await`. Without this filter, a handler that takes longer than the request timeout is
/// logged and runs on. Sync handlers cannot be interrupted.
///
/// ```
/// use nano::{App, filter::TimeLimit};
/// use std::time::Duration;
///
/// let limits = TimeLimit::new(Duration::from_secs(2))
///     .route("Report.Monthly", Duration::from_secs(20))
///     .unlimited("Lobby.Wait");
/// let app = App::new().filter(limits);
/// ```
#[derive(Clone, Debug)]
pub struct TimeLimit {
    default: Option<Duration>,
    routes: HashMap<String, Option<Duration>>,
}

impl TimeLimit {
    /// This limit for every route.
    pub fn new(limit: Duration) -> Self {
        Self {
            default: Some(limit),
            routes: HashMap::new(),
        }
    }

    /// Another limit for one route.
    #[must_use]
    pub fn route(mut self, route: impl Into<String>, limit: Duration) -> Self {
        self.routes.insert(route.into(), Some(limit));
        self
    }

    /// No limit for one route.
    #[must_use]
    pub fn unlimited(mut self, route: impl Into<String>) -> Self {
        self.routes.insert(route.into(), None);
        self
    }
}

impl Filter for TimeLimit {
    fn for_route(&self, route: &mut Route<'_>) -> Result<Install> {
        let limit = self.routes.get(route.name()).unwrap_or(&self.default);
        Ok(limit.map_or(Install::Skip, |limit| Install::replace(RouteLimit(limit))))
    }
}

/// The limit of one route.
struct RouteLimit(Duration);

impl Filter for RouteLimit {
    fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        call.limit_time(self.0);
        Ok(Flow::Continue)
    }
}
