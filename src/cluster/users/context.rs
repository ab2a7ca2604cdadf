//! What all that is done for users needs.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{runtime, sync::watch};

use crate::{
    cluster::{membership::view_status::ViewStatus, node_caller::NodeCaller},
    handle::Unique,
    member::MemberSet,
    metrics::UserMetrics,
    session::Sessions,
};

/// How long another node has for what takes it no time.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the gate of a session may take for a login: a little longer than the directory does.
pub(super) const LOGIN_TIMEOUT: Duration = Duration::from_secs(16);

/// The node, as far as its users are concerned.
pub(in crate::cluster) struct UserContext {
    pub(in crate::cluster) caller: NodeCaller,
    pub(in crate::cluster) sessions: Arc<Sessions>,
    /// The other members; `None` for a standalone node.
    pub(in crate::cluster) members: Option<watch::Receiver<Arc<MemberSet>>>,
    /// `None` for a standalone node.
    pub(in crate::cluster) view_status: Option<watch::Receiver<ViewStatus>>,
    pub(in crate::cluster) unique: Option<Unique>,
    pub(in crate::cluster) metrics: UserMetrics,
    /// Runs what goes on when its caller does not.
    pub(in crate::cluster) runtime: runtime::Handle,
}

impl UserContext {
    pub(super) fn own(&self) -> Arc<str> {
        self.caller.own_address().into()
    }

    /// Whether the master is basic: it numbers no views, so that two nodes may take themselves for the
    /// owner of a user.
    pub(super) fn has_basic_master(&self) -> bool {
        let status = self.view_status.as_ref();
        status.is_some_and(|status| status.borrow().basic_master)
    }

    /// The addresses of all nodes that answer node calls, this one first.
    pub(super) fn nodes(&self) -> Vec<Arc<str>> {
        let mut nodes = vec![self.own()];
        nodes.extend(self.other_nodes());
        nodes
    }

    /// [`nodes`](Self::nodes) without this one.
    pub(super) fn other_nodes(&self) -> Vec<Arc<str>> {
        let Some(members) = &self.members else {
            return Vec::new();
        };
        let members = members.borrow();
        let linked = members.iter().filter(|member| member.info().link);
        linked.map(|member| member.address().into()).collect()
    }
}

/// Runs futures at the same time, and returns their results in their order.
pub(super) async fn all<T>(
    runtime: &runtime::Handle,
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<Option<T>>
where
    T: Send + 'static,
{
    let tasks: Vec<_> = futures
        .into_iter()
        .map(|future| tokio_util::task::AbortOnDropHandle::new(runtime.spawn(future)))
        .collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        // An error means that the runtime stops.
        results.push(task.await.ok());
    }
    results
}
