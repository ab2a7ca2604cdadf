//! The other members of the node's cluster, and the callbacks for joins and leaves.

use std::{mem, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::error;

use super::lost_members::LostMembers;
use crate::{
    member::{Member, MemberSet, OnMember},
    metrics::Metrics,
    panic::catch_panic,
    scheduler::Scheduler,
};

/// What a node's handle knows of the cluster.
///
/// The locks guard the address and the lists alone. Callbacks run without them, on the scheduler.
pub(crate) struct Membership {
    /// `None` for a standalone node.
    cluster: Option<ClusterMembership>,
    /// The address of the master that this node reports to.
    master: RwLock<Option<Arc<str>>>,
    /// Those that this node evicted.
    pub(crate) lost: LostMembers,
    on_joined: RwLock<Vec<OnMember>>,
    on_left: RwLock<Vec<OnMember>>,
}

/// A node in its cluster.
pub(crate) struct ClusterMembership {
    pub(crate) own: Member,
    /// The other members.
    pub(crate) members: watch::Receiver<Arc<MemberSet>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Membership {
    pub(super) fn new(cluster: Option<ClusterMembership>) -> Self {
        Self {
            cluster,
            master: RwLock::default(),
            lost: LostMembers::default(),
            on_joined: RwLock::default(),
            on_left: RwLock::default(),
        }
    }

    /// This node; `None` for a standalone node.
    pub(super) fn own(&self) -> Option<&Member> {
        Some(&self.cluster.as_ref()?.own)
    }

    /// The other members; empty for a standalone node.
    pub(super) fn others(&self) -> Vec<Member> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        cluster.members.borrow().to_vec()
    }

    /// The latest set of members, and those that follow; `None` for a standalone node.
    pub(crate) fn sets(&self) -> Option<watch::Receiver<Arc<MemberSet>>> {
        Some(self.cluster.as_ref()?.members.clone())
    }

    pub(super) fn master(&self) -> Option<String> {
        self.master.read().as_deref().map(str::to_owned)
    }

    pub(crate) fn set_master(&self, address: &str) {
        *self.master.write() = Some(address.into());
    }

    pub(super) fn on_joined(&self, callback: OnMember) {
        self.on_joined.write().push(callback);
    }

    pub(super) fn on_left(&self, callback: OnMember) {
        self.on_left.write().push(callback);
    }

    pub(super) fn notify_joined(&self, scheduler: &Scheduler, member: &Member) {
        self.lost.returned(member.address());
        for callback in self.on_joined.read().iter() {
            self.call_back(scheduler, "on_member_joined", callback.clone(), member, ());
        }
    }

    pub(super) fn notify_left(&self, scheduler: &Scheduler, member: &Member) {
        for callback in self.on_left.read().iter() {
            self.call_back(scheduler, "on_member_left", callback.clone(), member, ());
        }
    }

    /// Queues a callback on a scheduler. A panic is counted. `done` is dropped when the callback
    /// has returned, or when it never will because the node has stopped.
    pub(super) fn call_back(
        &self,
        scheduler: &Scheduler,
        hook: &'static str,
        callback: OnMember,
        member: &Member,
        done: impl Send + 'static,
    ) {
        // Callbacks run on nodes of a cluster only.
        let Some(cluster) = &self.cluster else {
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
        let _ = scheduler.push_always(Box::new(task));
    }

    /// Drops all callbacks.
    pub(super) fn forget_callbacks(&self) {
        for callbacks in [&self.on_joined, &self.on_left] {
            // Dropped after unlocking: what a callback owns may register or notify as it is
            // dropped.
            let forgotten = mem::take(&mut *callbacks.write());
            drop(forgotten);
        }
    }
}
