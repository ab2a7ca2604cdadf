//! The other nodes of the cluster, as components and the rest of the program see them.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;

use super::Handle;
use crate::member::Member;

type Callback = Arc<dyn Fn(&Member) + Send + Sync>;

#[derive(Default)]
pub(super) struct Membership {
    own: OnceLock<Member>,
    members: RwLock<Vec<Member>>,
    on_joined: RwLock<Vec<Callback>>,
    on_left: RwLock<Vec<Callback>>,
}

impl Handle {
    /// This node as the other members know it; `None` outside of a cluster.
    pub fn member(&self) -> Option<&Member> {
        self.0.membership.own.get()
    }

    /// The other members of the cluster, as this node knows them now: the master first, then in the
    /// order they joined. None outside of a cluster, and none before this node has joined, which is
    /// after `after_init`.
    pub fn members(&self) -> Vec<Member> {
        self.0.membership.members.read().clone()
    }

    /// Calls `callback` whenever a member has joined, after this node's table has it. Registered in
    /// `init` or `after_init`, or with [`App::on_member_joined`](crate::App::on_member_joined), it
    /// is also called for each member that is there when this node joins; registered later, for
    /// those that join from then on. Whoever registers first and then looks at
    /// [`members`](Handle::members) misses nobody, and may see somebody in both.
    ///
    /// A member that is started again, or was taken for dead and is not, leaves and joins. Runs on
    /// the node's default scheduler, in the order the table changed; a panic ends that call alone.
    /// Never called outside of a cluster.
    pub fn on_member_joined(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_joined.write().push(Arc::new(callback));
    }

    /// Calls `callback` whenever a member has left, in order or because the master removed it,
    /// after this node's table has forgotten it; as [`on_member_joined`](Handle::on_member_joined).
    pub fn on_member_left(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_left.write().push(Arc::new(callback));
    }

    /// This node becomes a member. Once.
    pub(crate) fn enter(&self, own: Member) {
        // A handle belongs to one node, which has one place in one cluster.
        let _ = self.0.membership.own.set(own);
    }

    pub(crate) fn know_members(&self, members: Vec<Member>) {
        *self.0.membership.members.write() = members;
    }

    pub(crate) fn member_joined(&self, member: &Member) {
        self.tell(&self.0.membership.on_joined, member);
    }

    pub(crate) fn member_left(&self, member: &Member) {
        self.tell(&self.0.membership.on_left, member);
    }

    fn tell(&self, callbacks: &RwLock<Vec<Callback>>, member: &Member) {
        for callback in callbacks.read().iter() {
            let (callback, member) = (callback.clone(), member.clone());
            // ForwardError when the node has stopped: then nobody is interested.
            let _ = self
                .scheduler()
                .push_always(Box::new(move || callback(&member)));
        }
    }

    /// The node has stopped. A callback that keeps a handle of it would keep it for ever.
    pub(crate) fn forget_callbacks(&self) {
        for callbacks in [&self.0.membership.on_joined, &self.0.membership.on_left] {
            // What they own may ask for the lock when it is dropped.
            let forgotten = mem::take(&mut *callbacks.write());
            drop(forgotten);
        }
        self.0.sessions.forget_callbacks();
    }
}
