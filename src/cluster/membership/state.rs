//! What the tasks of a cluster share, and where changes of the table go.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{error, info, warn};

use super::{
    broadcaster::Announcer,
    registry::{Departure, News, Pulse, Refusal, Registry},
    service::DataPlane,
    table::{Change, Members},
};
use crate::cluster::channel::Dialer;
use crate::cluster::config::OnMember;
use crate::{handle::Handle, member::Member, metrics::ClusterMetrics};

/// How long the unregister callback may hold up a departure.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the tasks of a cluster share.
pub(in crate::cluster) struct ClusterState {
    pub(in crate::cluster) own: Member,
    pub(in crate::cluster) handle: Handle,
    pub(in crate::cluster) dialer: Arc<Dialer>,
    pub(in crate::cluster) metrics: Arc<ClusterMetrics>,
    /// Taken before the table's own lock and held until everybody has been told, so that all see
    /// changes in one order.
    pub(in crate::cluster) order: Mutex<()>,
    pub(in crate::cluster) members: RwLock<Members>,
    pub(in crate::cluster) registry: Option<Mutex<Registry>>,
    pub(in crate::cluster) announcer: Announcer,
    pub(in crate::cluster) data: RwLock<Option<Arc<dyn DataPlane>>>,
    pub(in crate::cluster) on_unregister: Option<OnMember>,
    /// The master that was called last.
    pub(in crate::cluster) master: Mutex<Option<String>>,
}

/// The master's side.
impl ClusterState {
    pub(in crate::cluster) fn register(&self, member: Member) -> Result<Vec<Member>, Refusal> {
        self.registered(&member, |registry, news| {
            registry.register(member.clone(), Instant::now(), news)
        })
    }

    pub(in crate::cluster) fn heartbeat(
        &self,
        member: Member,
        digest: u64,
    ) -> Result<Pulse, Refusal> {
        self.registered(&member, |registry, news| {
            registry.heartbeat(member.clone(), digest, Instant::now(), news)
        })
    }

    fn registered<T>(
        &self,
        member: &Member,
        call: impl FnOnce(&mut Registry, &mut News) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let result = self
            .with_registry(call)
            .unwrap_or(Err(Refusal::NotRegistered));
        if let Err(Refusal::Superseded) = &result {
            error!(
                address = member.address(),
                incarnation = member.incarnation(),
                "two nodes claim one address: the older one was refused"
            );
        }
        result
    }

    pub(in crate::cluster) async fn unregister(
        self: Arc<Self>,
        address: &str,
        incarnation: u64,
    ) -> Result<(), Refusal> {
        let departure = match &self.registry {
            Some(registry) => registry.lock().unregister(address, incarnation)?,
            None => None,
        };
        if let Some(departure) = departure {
            // In a task of its own: who leaves may not wait for the answer.
            let done = tokio::spawn(self.depart(departure)).await;
            if let Err(problem) = done {
                error!(%problem, "a departure failed");
            }
        }
        Ok(())
    }

    /// Removes who is silent.
    pub(in crate::cluster) async fn watch(self: Arc<Self>) {
        let Some(registry) = &self.registry else {
            return;
        };
        let mut ticks = interval(registry.lock().interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let silent = registry.lock().tick(Instant::now());
            for departure in silent {
                warn!(
                    member = departure.member.address(),
                    "a member is silent: it is removed"
                );
                self.metrics.evicted.increment(1);
                tokio::spawn(self.clone().depart(departure));
            }
        }
    }

    async fn depart(self: Arc<Self>, departure: Departure) {
        if let Some(callback) = self.on_unregister.clone() {
            let (done, called) = oneshot::channel();
            let member = departure.member.clone();
            let task = move || {
                callback(&member);
                // Nobody waits any more if it took too long.
                let _ = done.send(());
            };
            // A scheduler that is shut down, or a callback that panics, drops the sender, which
            // ends the wait as well.
            let pushed = self.handle.scheduler().push_always(Box::new(task)).is_ok();
            if pushed && timeout(CALLBACK_TIMEOUT, called).await.is_err() {
                warn!(
                    member = departure.member.address(),
                    "the unregister callback is still running: the member is removed without it"
                );
            }
        }
        self.with_registry(|registry, news| registry.remove(&departure, Instant::now(), news));
    }

    /// What the register does, the master's own table and everybody else learn, in the same order.
    fn with_registry<T>(&self, act: impl FnOnce(&mut Registry, &mut News) -> T) -> Option<T> {
        let registry = self.registry.as_ref()?;
        let _order = self.order.lock();
        let mut news = News::default();
        let result = act(&mut registry.lock(), &mut news);
        if !news.changes.is_empty() {
            self.announcer.tell(&news);
            self.apply(|members| {
                let each = |change| match change {
                    Change::Joined(member) => members.join(member),
                    Change::Left(member) => members
                        .leave(member.address(), member.incarnation())
                        .into_iter()
                        .collect(),
                };
                ((), news.changes.into_iter().flat_map(each).collect())
            });
        }
        Some(result)
    }
}

/// Every node's side.
impl ClusterState {
    pub(in crate::cluster) fn told_of(&self, member: Member) {
        self.change(|members| ((), members.join(member)));
    }

    pub(in crate::cluster) fn told_gone(&self, address: &str, incarnation: u64) {
        self.change(|members| {
            (
                (),
                members.leave(address, incarnation).into_iter().collect(),
            )
        });
    }

    /// Changes the table, and tells of it in order.
    pub(in crate::cluster) fn change<T>(
        &self,
        act: impl FnOnce(&mut Members) -> (T, Vec<Change>),
    ) -> T {
        let _order = self.order.lock();
        self.apply(act)
    }

    /// The order is held by the caller.
    fn apply<T>(&self, act: impl FnOnce(&mut Members) -> (T, Vec<Change>)) -> T {
        let (result, changes, list) = {
            let mut members = self.members.write();
            let (result, changes) = act(&mut members);
            (result, changes, members.list())
        };
        if changes.is_empty() {
            return result;
        }
        self.metrics.members.set(list.len() as f64);
        self.handle.know_members(list);
        for change in &changes {
            self.tell(change);
        }
        result
    }

    fn tell(&self, change: &Change) {
        let data = self.data.read().clone();
        match change {
            Change::Joined(member) => {
                info!(member = member.address(), label = member.label(), services = ?member.services(), "a member joined");
                self.metrics.joined.increment(1);
                if let Some(data) = data {
                    data.member_joined(member);
                }
                self.handle.member_joined(member);
            }
            Change::Left(member) => {
                info!(
                    member = member.address(),
                    label = member.label(),
                    "a member left"
                );
                self.metrics.left.increment(1);
                if let Some(data) = data {
                    data.member_left(member);
                }
                self.handle.member_left(member);
            }
        }
    }
}
