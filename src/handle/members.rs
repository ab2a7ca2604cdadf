//! The members of the cluster, and callbacks when they join and leave.

use std::sync::Arc;

use super::{membership::Membership, node_handle::Handle};
use crate::member::{Member, OnMember};

impl Handle {
    /// This node as the other members know it; `None` for a standalone node.
    pub fn member(&self) -> Option<&Member> {
        self.0.membership.own()
    }

    /// The address of the master that this node reports to, its own if it leads; `None` before any.
    pub fn master(&self) -> Option<String> {
        self.0.membership.master()
    }

    /// The other members of the cluster as this node knows them now: the master first.
    ///
    /// Empty for a standalone node, and before this node has joined, which is after `after_init`.
    pub fn members(&self) -> Vec<Member> {
        self.0.membership.others()
    }

    /// Calls `callback` whenever a member has joined, after this node's table has it.
    ///
    /// A callback registered in `init` or `after_init`, or with
    /// [`Cluster::on_member_joined`](crate::Cluster::on_member_joined), is also called for each member
    /// that is there when this node joins; one registered later, for those that join from then on.
    /// To miss no member, register first and then read [`members`](Handle::members); a member may
    /// appear in both.
    ///
    /// A member that restarts, or was evicted and returns, leaves and joins. Callbacks run on the
    /// node's default scheduler, in the order in which the table changed. A panic is counted and
    /// ends that call only. Never called on a standalone node.
    pub fn on_member_joined(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_joined(Arc::new(callback));
    }

    /// Calls `callback` whenever a member has left or was evicted, after this node's table has
    /// forgotten it. Otherwise like [`on_member_joined`](Handle::on_member_joined).
    pub fn on_member_left(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_left(Arc::new(callback));
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.0.membership
    }

    pub(crate) fn notify_member_joined(&self, member: &Member) {
        self.0.membership.notify_joined(self.scheduler(), member);
    }

    pub(crate) fn notify_member_left(&self, member: &Member) {
        self.0.membership.notify_left(self.scheduler(), member);
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
        self.0
            .membership
            .call_back(self.scheduler(), hook, callback, member, done);
    }
}
