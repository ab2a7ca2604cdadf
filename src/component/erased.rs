//! A registered handler with its types erased.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    placement::ResolvedPlacement,
    report::{EncodeError, ErrorReporter},
};
use crate::{
    error::Result,
    filter::{AnyFilter, Chain, MessageType, Route},
    metrics::RouteMetrics,
    scheduler::{Scheduler, TaskLabel},
    session::{SequencedTask, Session},
};

/// What all handlers of one service share.
#[derive(Debug)]
pub(super) struct ServiceConfig {
    pub(super) name: String,
    pub(super) placement: ResolvedPlacement,
    pub(super) reporter: Arc<ErrorReporter>,
}

/// Decodes a message and returns the task that calls the typed handler.
pub(super) type Prepare = dyn Fn(&Arc<ErasedHandler>, &Session, &Scheduler, &Bytes, Option<Instant>) -> Result<SequencedTask>
    + Send
    + Sync;

/// One route of this node.
pub(crate) struct ErasedHandler {
    pub(super) route: ByteString,
    /// Names the route when a call blocks its scheduler.
    pub(super) label: TaskLabel,
    pub(super) service: Arc<ServiceConfig>,
    /// Clients cannot reach it.
    pub(super) internal: bool,
    /// The session's next message waits until the handler's future has ended.
    pub(super) sequential: bool,
    /// Encodes the body of an error reply in the handler's format.
    pub(crate) encode_error: EncodeError,
    /// The future is dropped when nothing waits for its answer any more.
    pub(super) cancellable: bool,
    pub(super) message: MessageType,
    pub(super) reply: MessageType,
    /// The route's own filters, until they are installed in `chain`.
    pub(super) filters: Vec<AnyFilter>,
    /// The filters of the node, the service and the route.
    pub(super) chain: Chain,
    /// `None` unless the node has an admin address.
    pub(super) measured: Option<Box<RouteMetrics>>,
    pub(super) prepare: Box<Prepare>,
}

impl ErasedHandler {
    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// Installs the filters of the node, the service and the route, in this order.
    ///
    /// # Errors
    /// A filter cannot be installed on this route.
    pub(super) fn install(&mut self, node: &[AnyFilter], service: &[AnyFilter]) -> Result {
        let own = std::mem::take(&mut self.filters);
        let route = Route {
            service: &self.service.name,
            route: &self.route,
            metrics: self.service.reporter.metrics.handles(),
            message: self.message,
            reply: self.reply,
            internal: self.internal,
            measures_queue: false,
        };
        self.chain = Chain::install(node.iter().chain(service).chain(&own), route)?;
        Ok(())
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.internal
    }

    /// Returns the scheduler that runs the handler for `session`.
    ///
    /// # Errors
    /// The service is placed on a scheduler the session is not pinned to.
    pub(crate) fn scheduler(&self, session: &Session) -> Result<Scheduler> {
        self.service.placement.scheduler(session)
    }

    /// Decodes a message on the calling thread and returns the task that runs the handler.
    ///
    /// The task ends the request even when it is dropped unrun. The message waits since it `arrived`,
    /// or since now.
    ///
    /// # Errors
    /// The body cannot be decoded.
    pub(crate) fn prepare(
        self: &Arc<Self>,
        session: &Session,
        scheduler: &Scheduler,
        body: &Bytes,
        arrived: Option<Instant>,
    ) -> Result<SequencedTask> {
        (self.prepare)(self, session, scheduler, body, arrived)
    }
}

impl fmt::Debug for ErasedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasedHandler")
            .field("route", &self.route)
            .field("internal", &self.internal)
            .field("sequential", &self.sequential)
            .finish_non_exhaustive()
    }
}
