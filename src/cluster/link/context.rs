//! What all links of a node share.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::detector_wake::DetectorWake;
use crate::{
    cluster::{grpc_channel::Dialer, node_services::NodeServices, pending_calls::PendingCalls},
    component::ErrorReporter,
    error::{Error, code},
    handle::Handle,
    metrics::LinkMetrics,
    session::Session,
};

/// What an application may choose about links.
#[derive(Clone, Copy)]
pub(in crate::cluster) struct LinkOptions {
    /// How long two nodes may be cut off from each other before the sessions they share end.
    pub(in crate::cluster) grace: Duration,
    /// How long a link may be open without need; `None` for ever.
    pub(in crate::cluster) idle_timeout: Option<Duration>,
    /// Whether this node has services, so that other nodes may choose it for new sessions.
    pub(in crate::cluster) has_services: bool,
}

/// This node, as what sends to its peers needs it.
pub(in crate::cluster) struct LinkContext {
    pub(in crate::cluster) address: String,
    pub(in crate::cluster) incarnation: u64,
    pub(in crate::cluster) dialer: Arc<Dialer>,
    pub(in crate::cluster) reporter: Arc<ErrorReporter>,
    pub(in crate::cluster) node: Handle,
    pub(in crate::cluster) node_services: Arc<NodeServices>,
    pub(in crate::cluster) calls: Arc<PendingCalls>,
    pub(in crate::cluster) metrics: LinkMetrics,
    pub(in crate::cluster) detector: Arc<DetectorWake>,
    pub(in crate::cluster) options: LinkOptions,
    /// The number of the next user that is pushed to.
    pub(super) user_numbers: AtomicU64,
    outside_nodes: AtomicBool,
}

impl LinkContext {
    pub(in crate::cluster) fn new(
        (address, incarnation): (&str, u64),
        dialer: Arc<Dialer>,
        reporter: Arc<ErrorReporter>,
        node: Handle,
        node_services: Arc<NodeServices>,
        options: LinkOptions,
    ) -> Arc<Self> {
        Arc::new(Self {
            address: address.to_owned(),
            incarnation,
            dialer,
            metrics: LinkMetrics::new(reporter.metrics.handles()),
            reporter,
            node,
            node_services,
            calls: Arc::default(),
            detector: Arc::default(),
            options,
            user_numbers: AtomicU64::new(1),
            outside_nodes: AtomicBool::new(false),
        })
    }

    /// Whether nodes without links may send messages for sessions of any gate. If so, the end of a
    /// session is announced to every peer, and remembered there.
    pub(in crate::cluster) fn has_outside_nodes(&self) -> bool {
        self.outside_nodes.load(Ordering::Relaxed)
    }

    /// Answers requests of a session of this gate that its member will not answer.
    pub(super) fn fail_requests(&self, session: &Session, requests: VecDeque<u64>) {
        for request in requests {
            let error = Error::new(code::UNAVAILABLE, "the member went away before it answered");
            let session = session.with_request(request);
            self.reporter.fail_unhandled(&session, error);
        }
    }

    pub(in crate::cluster) fn set_outside_nodes(&self, any: bool) {
        self.outside_nodes.store(any, Ordering::Relaxed);
    }
}
