//! What is known of a node before it has a handle.

use std::{net::SocketAddr, sync::Arc};

use bytestring::ByteString;

use super::{
    certificates::ReadCertificates, membership::ClusterMembership, schedulers::Schedulers,
};
use crate::{memory_budget::MemoryBudget, session::SessionHooks};

/// What a [`Handle`](super::Handle) is made from.
pub(crate) struct HandleConfig {
    pub(crate) schedulers: Schedulers,
    pub(crate) hooks: SessionHooks,
    /// What is queued on the node.
    pub(crate) memory: Arc<MemoryBudget>,
    /// The routes of all handlers, sorted.
    pub(crate) routes: Vec<ByteString>,
    /// `None` for a standalone node.
    pub(crate) cluster: Option<ClusterMembership>,
    /// The bound address of the admin server.
    pub(crate) admin: Option<SocketAddr>,
    /// Reads the certificates between nodes again; `None` without TLS there.
    pub(crate) certificates: Option<ReadCertificates>,
}
