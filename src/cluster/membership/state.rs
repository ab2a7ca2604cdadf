//! The member table of a node, and the one way in which it changes: apply, publish, notify.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{error, info, warn};

use super::{
    broadcaster::MembershipBroadcaster,
    heartbeat::{HeartbeatReply, ViewStamp},
    registry::{MembershipDelta, Refusal, Registry, Removal},
    standing::{NumberedView, Standing},
    subscriber::MembershipSubscriber,
    table::{Change, MemberTable},
};
use crate::{
    cluster::channel::Dialer,
    handle::Handle,
    member::{Member, MemberSet, OnMember},
    metrics::ClusterMetrics,
};

/// How long the unregister callback may delay a removal.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the tasks and services of the control plane share.
///
/// Lock order: `table`, then the master's `registry` or the broadcaster's peers, then one mailbox.
/// The registry may also be locked alone. No lock is held across an await or a user callback.
pub(crate) struct ClusterState {
    pub(crate) own: Member,
    pub(crate) handle: Handle,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) metrics: Arc<ClusterMetrics>,
    /// All members but this node. Held from a change until it has been published and every
    /// subscriber has been notified, so that all of them see all changes in one order. Readers use
    /// the published set instead.
    table: Mutex<MemberTable>,
    /// The table as everything else in the node reads it. Written with `table` locked.
    members: watch::Sender<Arc<MemberSet>>,
    /// The latest view. Written with `table` locked.
    standing: watch::Sender<Standing>,
    /// Notified when the master has announced a change: the next heartbeat brings its view.
    announced: Notify,
    subscriber: Arc<dyn MembershipSubscriber>,
    master: Option<MasterState>,
}

/// What only the master has.
pub(crate) struct MasterState {
    pub(crate) registry: Mutex<Registry>,
    pub(crate) broadcaster: MembershipBroadcaster,
    pub(crate) on_unregister: Option<OnMember>,
}

impl ClusterState {
    pub(crate) fn new(
        own: Member,
        handle: Handle,
        dialer: Arc<Dialer>,
        metrics: Arc<ClusterMetrics>,
        (members, standing): (watch::Sender<Arc<MemberSet>>, watch::Sender<Standing>),
        subscriber: Arc<dyn MembershipSubscriber>,
        master: Option<MasterState>,
    ) -> Self {
        Self {
            table: Mutex::new(MemberTable::new(own.address())),
            own,
            handle,
            dialer,
            metrics,
            members,
            standing,
            announced: Notify::new(),
            subscriber,
            master,
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.master.is_some()
    }

    /// Returns a receiver of the published member set.
    pub(crate) fn members(&self) -> watch::Receiver<Arc<MemberSet>> {
        self.members.subscribe()
    }

    /// Ends the deliveries of announcements.
    pub(crate) fn stop(&self) {
        if let Some(master) = &self.master {
            master.broadcaster.stop();
        }
    }

    /// Applies a join announced by the master.
    pub(crate) fn on_member_added(&self, member: Member) {
        self.change(|table| ((), table.join(member)));
        self.announced.notify_one();
    }

    /// Applies a leave announced by the master.
    pub(crate) fn on_member_removed(&self, address: &str, incarnation: u64) {
        self.change(|table| ((), table.leave(address, incarnation).into_iter().collect()));
        self.announced.notify_one();
    }

    /// Lets [`announced`](Self::announced) return.
    pub(crate) fn ask_for_view(&self) {
        self.announced.notify_one();
    }

    /// Waits until the master has announced a change.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }

    /// Notes the view of a master of this incarnation. The node is in it if it has its table.
    pub(crate) fn heard_of_view(&self, view: ViewStamp, master: u64) {
        let table = self.table.lock();
        let is_in = view.number != 0 && table.digest() == view.digest;
        self.standing.send_if_modified(|standing| {
            let known = standing.view.as_ref().map_or(0, |view| view.number);
            let enters = is_in && known != view.number;
            if enters {
                standing.view = Some(NumberedView {
                    number: view.number,
                    master,
                    members: Arc::new(MemberSet::new(table.list())),
                });
            }
            let hears = standing.heard < view.number;
            standing.heard = standing.heard.max(view.number);
            let other = std::mem::replace(&mut standing.master, master) != master;
            enters || hears || other || std::mem::take(&mut standing.go_master)
        });
    }

    /// Notes that the master is one of Go nano, which numbers no views.
    pub(crate) fn has_go_master(&self) {
        self.standing.send_if_modified(|standing| {
            standing.heard = 0;
            standing.master = 0;
            standing.view = None;
            !std::mem::replace(&mut standing.go_master, true)
        });
    }

    /// Changes the table, publishes it and notifies subscribers.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut MemberTable) -> (T, Vec<Change>)) -> T {
        let mut table = self.table.lock();
        let (result, changes) = act(&mut table);
        self.publish(&table, &changes);
        result
    }

    /// Publishes the table and notifies subscribers of the changes that led to it.
    fn publish(&self, table: &MemberTable, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let members = table.list();
        self.metrics.members.set(members.len() as f64);
        self.members.send_replace(Arc::new(MemberSet::new(members)));
        changes.iter().for_each(|change| self.notify(change));
    }

    fn notify(&self, change: &Change) {
        match change {
            Change::Joined(member) => {
                info!(member = member.address(), label = member.label(), services = ?member.services(), "member joined");
                self.metrics.joined.increment(1);
                self.subscriber.clone().on_member_added(member);
                self.handle.notify_member_joined(member);
            }
            Change::Left(member) => {
                info!(
                    member = member.address(),
                    label = member.label(),
                    "member left"
                );
                self.metrics.left.increment(1);
                self.subscriber.clone().on_member_removed(member);
                self.handle.notify_member_left(member);
            }
        }
    }
}

/// The master's part.
impl ClusterState {
    pub(crate) fn register(&self, member: Member) -> Result<Vec<Member>, Refusal> {
        self.admit(&member, |registry, delta| {
            registry.register(member.clone(), Instant::now(), delta)
        })
    }

    pub(crate) fn heartbeat(&self, member: Member, digest: u64) -> Result<HeartbeatReply, Refusal> {
        self.admit(&member, |registry, delta| {
            registry.heartbeat(member.clone(), digest, Instant::now(), delta)
        })
    }

    fn admit<T>(
        &self,
        member: &Member,
        call: impl FnOnce(&mut Registry, &mut MembershipDelta) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let result = self
            .with_registry(call)
            .unwrap_or(Err(Refusal::NotRegistered));
        if let Err(Refusal::Superseded) = &result {
            error!(
                address = member.address(),
                incarnation = member.incarnation(),
                "call refused: address claimed by a newer incarnation"
            );
        }
        result
    }

    /// Removes a member that leaves, after the unregister callback has run.
    pub(crate) async fn unregister(
        self: Arc<Self>,
        address: &str,
        incarnation: u64,
    ) -> Result<(), Refusal> {
        let removal = match &self.master {
            Some(master) => master.registry.lock().unregister(address, incarnation)?,
            None => None,
        };
        if let Some(removal) = removal {
            // In a task of its own: the removal must not end with a caller that does not wait.
            let done = tokio::spawn(self.remove(removal)).await;
            if let Err(problem) = done {
                error!(%problem, "removal of a member failed");
            }
        }
        Ok(())
    }

    /// Evicts members whose heartbeats stopped. Runs until it is dropped.
    pub(crate) async fn evict_silent_members(self: Arc<Self>) {
        let Some(master) = &self.master else {
            return;
        };
        let mut ticks = interval(master.registry.lock().tick_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.publish_own_view(master, &self.table.lock());
            let silent = master.registry.lock().tick(Instant::now());
            for removal in silent {
                warn!(
                    member = removal.member.address(),
                    label = removal.member.label(),
                    "member evicted: heartbeats stopped"
                );
                self.metrics.evicted.increment(1);
                tokio::spawn(self.clone().remove(removal));
            }
        }
    }

    async fn remove(self: Arc<Self>, removal: Removal) {
        let callback = self
            .master
            .as_ref()
            .and_then(|master| master.on_unregister.clone());
        if let Some(callback) = callback {
            self.call_on_unregister(callback, &removal.member).await;
        }
        self.with_registry(|registry, delta| registry.remove(&removal, Instant::now(), delta));
    }

    /// Runs the unregister callback on the node's scheduler and waits for it, at most
    /// [`CALLBACK_TIMEOUT`].
    async fn call_on_unregister(&self, callback: OnMember, member: &Member) {
        let (done, called) = oneshot::channel::<()>();
        // A scheduler that is shut down drops the sender, which ends the wait as well.
        self.handle
            .call_back("on_unregister", callback, member, done);
        if timeout(CALLBACK_TIMEOUT, called).await.is_err() {
            warn!(
                member = member.address(),
                "unregister callback timed out: the member is removed while it runs"
            );
        }
    }

    /// Calls the register, then announces, applies and publishes what it changed. The table stays
    /// locked throughout, so that members, subscribers and the register agree on the order;
    /// announcements are only queued meanwhile.
    ///
    /// Returns `None` on a node that is no master.
    fn with_registry<T>(
        &self,
        act: impl FnOnce(&mut Registry, &mut MembershipDelta) -> T,
    ) -> Option<T> {
        let master = self.master.as_ref()?;
        let mut table = self.table.lock();
        let mut delta = MembershipDelta::default();
        let result = act(&mut master.registry.lock(), &mut delta);
        if !delta.changes.is_empty() {
            master.broadcaster.broadcast(&delta);
            let mut changes = Vec::new();
            for change in delta.changes {
                match change {
                    Change::Joined(member) => changes.extend(table.join(member)),
                    Change::Left(member) => {
                        changes.extend(table.leave(member.address(), member.incarnation()));
                    }
                }
            }
            self.publish(&table, &changes);
            self.publish_own_view(master, &table);
        }
        Some(result)
    }

    /// Publishes the view that the master itself is in.
    fn publish_own_view(&self, master: &MasterState, table: &MemberTable) {
        let registry = master.registry.lock();
        let number = registry.view_for(self.own.address(), Instant::now()).number;
        drop(registry);
        self.standing.send_if_modified(|standing| {
            let is_new = number > standing.heard;
            if is_new {
                standing.heard = number;
                standing.view = Some(NumberedView {
                    number,
                    master: self.own.incarnation(),
                    members: Arc::new(MemberSet::new(table.list())),
                });
            }
            is_new
        });
    }
}
