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
    heartbeat::{HeartbeatConfig, HeartbeatReply, ViewStamp},
    leadership::Leadership,
    registry::{MembershipDelta, Refusal, Registry, Removal},
    subscriber::MembershipSubscriber,
    table::{Change, MemberTable},
    updates::Announcement,
    view_status::ViewStatus,
};
use crate::{
    cluster::grpc_channel::Dialer,
    handle::Handle,
    member::{Member, MemberSet, OnMember},
    metrics::{CLUSTER_REPORTS_TO, ClusterMetrics},
};

/// How long the unregister callback may delay a removal.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the tasks and services of the control plane share.
///
/// Lock order: `table`, then the master's `registry` or the broadcaster's peers, then one mailbox.
/// The registry may also be locked alone; the election, or the list of lost members, is locked last. No
/// lock is held across an await or a user callback.
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
    view_status: watch::Sender<ViewStatus>,
    /// Notified when the master has announced a change: the next heartbeat brings its view.
    announced: Notify,
    /// The master that announced last that it leads. Written with `table` locked.
    new_leader: watch::Sender<Option<Arc<str>>>,
    subscriber: Arc<dyn MembershipSubscriber>,
    master: Option<MasterState>,
}

/// What only a master has.
pub(crate) struct MasterState {
    /// `None` while another master leads.
    pub(crate) registry: Mutex<Option<Registry>>,
    pub(crate) broadcaster: MembershipBroadcaster,
    pub(crate) on_unregister: Option<OnMember>,
    /// `None` for the only master, which always leads.
    pub(crate) leadership: Option<Arc<Leadership>>,
}

impl MasterState {
    /// Returns the register if this master leads now.
    fn leading<'a>(&self, registry: &'a mut Option<Registry>) -> Option<&'a mut Registry> {
        let registry = registry.as_mut()?;
        if let Some(leadership) = &self.leadership {
            let lease = leadership.lease()?;
            if lease.term != registry.term() {
                return None;
            }
            registry.reserve(lease.reserved);
        }
        Some(registry)
    }
}

impl ClusterState {
    pub(crate) fn new(
        own: Member,
        handle: Handle,
        dialer: Arc<Dialer>,
        metrics: Arc<ClusterMetrics>,
        (members, view_status): (watch::Sender<Arc<MemberSet>>, watch::Sender<ViewStatus>),
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
            view_status,
            announced: Notify::new(),
            new_leader: watch::Sender::default(),
            subscriber,
            master,
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.master.is_some()
    }

    /// Returns this node's part in choosing the master that leads; `None` unless it is one of several.
    pub(crate) fn leadership(&self) -> Option<&Arc<Leadership>> {
        self.master.as_ref()?.leadership.as_ref()
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

    /// Applies a join announced by the master. `leads` says that the member is itself that master,
    /// and leads since a moment ago. Returns `false` if a later master leads than in `term`.
    pub(crate) fn on_member_added(&self, member: Member, term: u64, leads: bool) -> bool {
        let leader = leads.then(|| Arc::from(member.address()));
        self.on_announcement(term, false, |table| {
            if leader.is_some() {
                self.new_leader.send_replace(leader);
            }
            table.join(member)
        })
    }

    /// Returns the address of the master that announced last that it leads, and those that follow.
    pub(crate) fn new_leaders(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.new_leader.subscribe()
    }

    /// Applies a leave announced by the master, which may be an eviction. Returns `false` if a later
    /// master leads than in `term`.
    pub(crate) fn on_member_removed(
        &self,
        address: &str,
        (incarnation, evicted): (u64, bool),
        term: u64,
    ) -> bool {
        self.on_announcement(term, evicted, |table| {
            table.leave(address, incarnation).into_iter().collect()
        })
    }

    fn on_announcement(
        &self,
        term: u64,
        evicted: bool,
        apply: impl FnOnce(&mut MemberTable) -> Vec<Change>,
    ) -> bool {
        if let Some(leadership) = self.leadership().filter(|_| term > 0) {
            leadership.observe(term, self.latest_view());
        }
        let mut table = self.table.lock();
        let is_accepted = table.accepts(term);
        if is_accepted {
            let changes = apply(&mut table);
            self.publish(&table, &changes, evicted);
        }
        drop(table);
        self.announced.notify_one();
        is_accepted
    }

    /// Whether the reply of a master in this term counts: not if a later one leads.
    pub(crate) fn accepts(&self, term: u64) -> bool {
        self.table.lock().accepts(term)
    }

    /// Returns the highest number of a view or term that was heard of.
    pub(crate) fn seen(&self) -> u64 {
        let term = self.table.lock().term();
        term.max(self.view_status.borrow().heard)
    }

    /// Notes the address of the master that this node reports to; of a master that leads, its own.
    pub(crate) fn reports_to(&self, master: &str) {
        let former = self.handle.master();
        if former.as_deref() == Some(master) {
            return;
        }
        self.handle.membership().set_master(master);
        let gauge = |master: &str| {
            let labels = [("master", master)];
            self.metrics.handles.gauge_with(CLUSTER_REPORTS_TO, &labels)
        };
        gauge(master).set(1.0);
        if let Some(former) = former {
            info!(master, former, "reports to another master");
            gauge(&former).set(0.0);
        }
    }

    /// Puts the master of this incarnation first in the table, and returns its address.
    pub(crate) fn lead_by(&self, master: u64) -> Option<String> {
        let mut table = self.table.lock();
        if table.lead_by(master) {
            self.members
                .send_replace(Arc::new(MemberSet::new(table.list())));
        }
        table.address_of(master).map(str::to_owned)
    }

    /// Lets [`announced`](Self::announced) return.
    pub(crate) fn ask_for_view(&self) {
        self.announced.notify_one();
    }

    /// Waits until the master has announced a change.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }

    /// Notes the view that a master of this incarnation states.
    pub(crate) fn heard_of_view(&self, view: ViewStamp, master: u64) {
        let table = self.table.lock();
        self.view_status
            .send_if_modified(|view_status| view_status.hear(view, master, &table));
    }

    /// Notes that the master is basic.
    pub(crate) fn has_basic_master(&self) {
        self.view_status
            .send_if_modified(ViewStatus::hear_basic_master);
    }

    /// Changes the table, publishes it and notifies subscribers.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut MemberTable) -> (T, Vec<Change>)) -> T {
        let mut table = self.table.lock();
        let (result, changes) = act(&mut table);
        self.publish(&table, &changes, false);
        result
    }

    /// Publishes the table and notifies subscribers of the changes that led to it.
    fn publish(&self, table: &MemberTable, changes: &[Change], evicted: bool) {
        if changes.is_empty() {
            return;
        }
        let members = table.list();
        self.metrics.members.set(members.len() as f64);
        self.members.send_replace(Arc::new(MemberSet::new(members)));
        changes
            .iter()
            .for_each(|change| self.notify(change, evicted));
    }

    fn notify(&self, change: &Change, evicted: bool) {
        match change {
            Change::Joined(member) => {
                info!(member = member.address(), label = member.label(), services = ?member.services(), "member joined");
                self.metrics.joined.increment(1);
                self.subscriber.clone().on_member_added(member);
                self.handle.notify_member_joined(member);
            }
            Change::Left(member) => {
                let (address, label) = (member.address(), member.label());
                if evicted {
                    let master = self.handle.master();
                    warn!(
                        member = address,
                        label, master, "member evicted: heartbeats stopped"
                    );
                } else {
                    info!(member = address, label, "member left");
                }
                self.metrics.left.increment(1);
                self.subscriber.clone().on_member_removed(member);
                self.handle.notify_member_left(member);
            }
        }
    }
}

/// The master's part.
impl ClusterState {
    /// Returns the reply and the term of this master; 0 for the only one.
    pub(crate) fn register(&self, member: Member) -> Result<(Vec<Member>, u64), Refusal> {
        self.admit(&member, |registry, delta| {
            let table = registry.register(member.clone(), Instant::now(), delta)?;
            Ok((table, registry.term()))
        })
    }

    /// Returns the reply and the term of this master; 0 for the only one.
    pub(crate) fn heartbeat(
        &self,
        member: Member,
        digest: u64,
    ) -> Result<(HeartbeatReply, u64), Refusal> {
        self.admit(&member, |registry, delta| {
            let reply = registry.heartbeat(member.clone(), digest, Instant::now(), delta)?;
            Ok((reply, registry.term()))
        })
    }

    fn admit<T>(
        &self,
        member: &Member,
        call: impl FnOnce(&mut Registry, &mut MembershipDelta) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let result = self.with_registry(call).unwrap_or(Err(Refusal::NotLeading));
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
            Some(master) => master
                .leading(&mut master.registry.lock())
                .ok_or(Refusal::NotLeading)?
                .unregister(address, incarnation)?,
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

    /// Leads in a term, in place of another master: from now on members register here. `grace` is how
    /// long members may take to find this master.
    pub(crate) fn take_over(&self, term: u64, heartbeat: HeartbeatConfig, grace: Duration) {
        let Some(master) = &self.master else {
            return;
        };
        let mut table = self.table.lock();
        table.accepts(term);
        let (own, members, now) = (self.own.clone(), table.list(), Instant::now());
        let registry = Registry::take_over(own, heartbeat, term, members, grace, now);
        master.broadcaster.take_over(term, registry.inherited());
        *master.registry.lock() = Some(registry);
        let leader = self.own.incarnation();
        self.view_status
            .send_if_modified(|view_status| view_status.lead(leader));
    }

    /// Waits until members at these addresses have everything that this master has announced.
    pub(crate) async fn announcements_delivered(&self, to: impl Iterator<Item = &str>) {
        if let Some(master) = &self.master {
            master.broadcaster.delivered(to).await;
        }
    }

    /// Leads no more.
    pub(crate) fn step_down(&self) {
        if let Some(master) = &self.master {
            let _table = self.table.lock();
            *master.registry.lock() = None;
            master.broadcaster.stop();
        }
    }

    /// Returns the number of the latest view of this master; 0 while it does not lead.
    pub(crate) fn latest_view(&self) -> u64 {
        let registry = self.master.as_ref().map(|master| master.registry.lock());
        registry.map_or(0, |it| it.as_ref().map_or(0, Registry::view))
    }

    /// Evicts members whose heartbeats stopped. Runs until it is dropped.
    pub(crate) async fn evict_silent_members(self: Arc<Self>, heartbeat: HeartbeatConfig) {
        let mut ticks = interval(heartbeat.tick_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (silent, unheard) = self.silent_members();
            if let Some(master) = &self.master {
                let lead = Announcement::Lead(self.own.clone());
                master.broadcaster.send(&unheard, &lead);
            }
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

    /// Returns the members to evict, and of one of several masters the addresses of those to call.
    fn silent_members(&self) -> (Vec<Removal>, Vec<String>) {
        let silent = self.with_registry(|registry, _| {
            let now = Instant::now();
            let silent = registry.tick(now);
            let unheard = match registry.term() {
                0 => Vec::new(),
                _ => registry.unheard(now),
            };
            let addresses = unheard.iter().map(|member| member.address().to_owned());
            (silent, addresses.collect())
        });
        silent.unwrap_or_default()
    }

    async fn remove(self: Arc<Self>, removal: Removal) {
        let callback = self
            .master
            .as_ref()
            .and_then(|master| master.on_unregister.clone());
        if let Some(callback) = callback {
            self.call_on_unregister(callback, &removal.member).await;
        }
        self.with_registry(|registry, delta| {
            registry.remove(&removal, Instant::now(), delta);
            // With the table locked: a join at the address comes later, and clears it.
            if removal.is_eviction() && !delta.changes.is_empty() {
                self.handle.membership().lost.evicted(&removal.member);
            }
        });
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
    /// Returns `None` on a node that is no master, or does not lead.
    fn with_registry<T>(
        &self,
        act: impl FnOnce(&mut Registry, &mut MembershipDelta) -> T,
    ) -> Option<T> {
        let master = self.master.as_ref()?;
        let mut table = self.table.lock();
        let mut delta = MembershipDelta::default();
        let mut guard = master.registry.lock();
        let registry = master.leading(&mut guard)?;
        let result = act(registry, &mut delta);
        let (term, view) = (registry.term(), registry.stated_view(Instant::now()));
        drop(guard);
        if !delta.changes.is_empty() {
            master.broadcaster.broadcast(&delta, term);
            let mut changes = Vec::new();
            for change in delta.changes {
                match change {
                    Change::Joined(member) => changes.extend(table.join(member)),
                    Change::Left(member) => {
                        changes.extend(table.leave(member.address(), member.incarnation()));
                    }
                }
            }
            // An eviction was logged when it began.
            self.publish(&table, &changes, false);
        }
        self.view_status.send_if_modified(|view_status| {
            view_status.state(view, self.own.incarnation(), &table)
        });
        Some(result)
    }
}
