//! The other nodes of the cluster, as components and the rest of the program see them.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::error;

use super::Handle;
use crate::{
    member::{Member, MemberSet, OnMember},
    metrics::Metrics,
    panic::catch_panic,
};

#[derive(Default)]
pub(super) struct Membership {
    /// Set once, before the components' hooks run, if the node is part of a cluster.
    cluster: OnceLock<Cluster>,
    on_joined: RwLock<Vec<OnMember>>,
    on_left: RwLock<Vec<OnMember>>,
}

struct Cluster {
    own: Member,
    members: watch::Receiver<Arc<MemberSet>>,
    metrics: Arc<Metrics>,
}

impl Handle {
    /// This node as the other members know it; `None` for a standalone node.
    pub fn member(&self) -> Option<&Member> {
        Some(&self.0.membership.cluster.get()?.own)
    }

    /// The other members of the cluster as this node knows them now: the master first, then in the
    /// order they joined.
    ///
    /// Empty for a standalone node, and before this node has joined, which is after `after_init`.
    pub fn members(&self) -> Vec<Member> {
        let Some(cluster) = self.0.membership.cluster.get() else {
            return Vec::new();
        };
        cluster.members.borrow().to_vec()
    }

    /// Calls `callback` whenever a member has joined, after this node's table has it.
    ///
    /// A callback registered in `init` or `after_init`, or with
    /// [`App::on_member_joined`](crate::App::on_member_joined), is also called for each member that
    /// is there when this node joins; one registered later, for those that join from then on. To
    /// miss no member, register first and then read [`members`](Handle::members); a member may
    /// appear in both.
    ///
    /// A member that restarts, or was evicted and returns, leaves and joins. Callbacks run on the
    /// node's default scheduler, in the order in which the table changed. A panic is counted and
    /// ends that call only. Never called on a standalone node.
    pub fn on_member_joined(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_joined.write().push(Arc::new(callback));
    }

    /// Calls `callback` whenever a member has left or was evicted, after this node's table has
    /// forgotten it. Otherwise like [`on_member_joined`](Handle::on_member_joined).
    pub fn on_member_left(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_left.write().push(Arc::new(callback));
    }

    /// Makes this the handle of a node in a cluster. Called once.
    pub(crate) fn set_cluster(
        &self,
        own: Member,
        members: watch::Receiver<Arc<MemberSet>>,
        metrics: Arc<Metrics>,
    ) {
        let cluster = Cluster {
            own,
            members,
            metrics,
        };
        // A handle belongs to one node, which is in one cluster.
        let _ = self.0.membership.cluster.set(cluster);
    }

    pub(crate) fn notify_member_joined(&self, member: &Member) {
        for callback in self.0.membership.on_joined.read().iter() {
            self.call_back("on_member_joined", callback.clone(), member, ());
        }
    }

    pub(crate) fn notify_member_left(&self, member: &Member) {
        for callback in self.0.membership.on_left.read().iter() {
            self.call_back("on_member_left", callback.clone(), member, ());
        }
    }

    /// Queues a membership callback on the default scheduler. A panic is counted. `done` is dropped
    /// when the callback has returned, or when it never will because the node has stopped.
    pub(crate) fn call_back(
        &self,
        hook: &'static str,
        callback: OnMember,
        member: &Member,
        done: impl Send + 'static,
    ) {
        // Callbacks run on nodes of a cluster only.
        let Some(cluster) = self.0.membership.cluster.get() else {
            return;
        };
        let (member, metrics) = (member.clone(), cluster.metrics.clone());
        let task = move || {
            let _done = done;
            let call = || {
                callback(&member);
                Ok(())
            };
            if catch_panic(&metrics.panics, "callback panicked", call).is_err() {
                error!(hook, member = member.address(), "callback panicked");
            }
        };
        // An error means that the node has stopped.
        let _ = self.scheduler().push_always(Box::new(task));
    }

    /// Drops all callbacks, when the node has stopped: one that owns a handle of the node would
    /// keep both alive for ever.
    pub(crate) fn forget_callbacks(&self) {
        for callbacks in [&self.0.membership.on_joined, &self.0.membership.on_left] {
            // Dropped after unlocking: what a callback owns may register or notify as it is
            // dropped.
            let forgotten = mem::take(&mut *callbacks.write());
            drop(forgotten);
        }
        self.0.sessions.forget_callbacks();
    }
}
