//! A route as a filter sees it when it is installed.

use std::{
    any::{TypeId, type_name},
    fmt,
};

use crate::metrics::Handles;

/// The type of a handler's message or reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageType {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl MessageType {
    pub(crate) fn of<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }
}

/// One route of a node, while a filter is installed on it at start.
pub struct Route<'a> {
    pub(crate) service: &'a str,
    pub(crate) route: &'a str,
    pub(crate) metrics: &'a Handles,
    pub(crate) message: MessageType,
    pub(crate) reply: MessageType,
    pub(crate) internal: bool,
    pub(crate) measures_queue: bool,
}

impl Route<'_> {
    /// The node's name, as metrics name it.
    pub fn node(&self) -> &str {
        self.metrics.node()
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        self.service
    }

    /// The whole route, `Service.Method`.
    pub fn name(&self) -> &str {
        self.route
    }

    /// Whether its handler takes messages of this type.
    pub fn takes<M: 'static>(&self) -> bool {
        self.message == MessageType::of::<M>()
    }

    /// Whether its handler replies with this type; `()` for one that answers later or not at all.
    pub fn replies<R: 'static>(&self) -> bool {
        self.reply == MessageType::of::<R>()
    }

    /// Whether clients cannot reach it.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// Has [`Context::queue_time`](super::Context::queue_time) measured on this route.
    pub fn measure_queue_time(&mut self) {
        self.measures_queue = true;
    }
}

impl fmt::Debug for Route<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("node", &self.node())
            .field("route", &self.route)
            .field("message", &self.message.name)
            .field("reply", &self.reply.name)
            .field("internal", &self.internal)
            .finish_non_exhaustive()
    }
}
