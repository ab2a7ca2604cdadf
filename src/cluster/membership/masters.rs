//! One of several masters: it takes part in choosing the one that leads, and either leads or is a
//! member of the one that does.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Status;
use tracing::{info, warn};

use super::{
    client::{MembershipClient, dial, unregister},
    election::config::LeaseConfig,
    heartbeat::HeartbeatConfig,
    leadership::{Leader, Leadership},
    other_master::OtherMaster,
    registration::RegistrationState,
    registry::not_registered,
    state::ClusterState,
};
use crate::{cluster::grpc_channel::CALL_TIMEOUT, error::Result};

/// How long a master that stops waits until the others have heard of it.
const RESIGNATION: Duration = Duration::from_millis(300);

/// How long a leader that stops waits until the other masters have what it has announced.
const LAST_ANNOUNCEMENTS: Duration = Duration::from_secs(1);

/// One of several masters.
pub(crate) struct Masters {
    state: Arc<ClusterState>,
    leadership: Arc<Leadership>,
    others: Arc<[OtherMaster]>,
    heartbeat: HeartbeatConfig,
    retry: Duration,
    /// Sent how joining ended.
    joined: mpsc::Sender<Result>,
}

impl Masters {
    /// Creates a master that sends `joined` a message as soon as it leads, or has joined the one that
    /// does.
    pub(crate) fn new(
        state: Arc<ClusterState>,
        leadership: Arc<Leadership>,
        heartbeat: HeartbeatConfig,
        retry: Duration,
        joined: mpsc::Sender<Result>,
    ) -> Self {
        let others = leadership.masters().into_iter();
        let others = others.filter(|it| it != state.own.address());
        let others = others.map(|it| OtherMaster::new(it, state.dialer.clone()));
        Self {
            others: others.collect(),
            state,
            leadership,
            heartbeat,
            retry,
            joined,
        }
    }

    /// Takes part until `leave` is cancelled, then leaves the cluster: that takes a few seconds at
    /// most.
    pub(crate) async fn run(self, leave: CancellationToken) {
        let election = AbortOnDropHandle::new(tokio::spawn(elect(
            self.state.clone(),
            self.leadership.clone(),
            self.others.clone(),
            LeaseConfig::new(self.heartbeat.interval),
        )));
        let mut leaders = self.leadership.leaders();
        while !leave.is_cancelled() {
            let leader = leaders.borrow_and_update().clone();
            tokio::select! {
                () = leave.cancelled() => {}
                _ = leaders.wait_for(|it| *it != leader) => {}
                () = self.serve_under(&leader) => {}
            }
            if leave.is_cancelled() {
                self.hand_over().await;
            }
            self.state.step_down();
            self.state.metrics.leads.set(0.0);
        }
        drop(election);
        self.resign().await;
        self.unregister().await;
    }

    /// Does what this master does while that one leads. Does not return.
    async fn serve_under(&self, leader: &Leader) {
        match leader {
            Leader::Unknown => self.warn_of_missing_majority().await,
            Leader::Own(term) => {
                info!(term, "this master leads");
                self.state.metrics.leads.set(1.0);
                let grace = self.others.len() as u32 / 2 * CALL_TIMEOUT;
                self.state.take_over(*term, self.heartbeat, grace);
                self.state.reports_to(self.state.own.address());
                // An error means that it has joined before.
                let _ = self.joined.try_send(Ok(()));
                let state = self.state.clone();
                state.evict_silent_members(self.heartbeat).await;
            }
            Leader::Other(leader) => {
                info!(leader = leader.address, "another master leads");
                let registration =
                    RegistrationState::new(self.heartbeat, self.retry, Instant::now());
                let masters = vec![leader.address.clone()];
                let client = MembershipClient::new(
                    self.state.clone(),
                    masters,
                    registration,
                    self.joined.clone(),
                );
                client.run(CancellationToken::new()).await;
            }
        }
        std::future::pending().await
    }

    /// Warns while no master leads, each time twice as long after the last time.
    async fn warn_of_missing_majority(&self) {
        // Masters that start together need one lease and a moment.
        let mut pause = 2 * LeaseConfig::new(self.heartbeat.interval).lease;
        loop {
            sleep(pause).await;
            pause *= 2;
            let silent = self.others.iter().filter(|it| !it.answers());
            let silent: Vec<_> = silent.map(OtherMaster::address).collect();
            warn!(
                masters = self.others.len() + 1,
                unanswered = silent.join(" "),
                "no master leads: no member joins or is evicted until a majority of the masters is here"
            );
        }
    }

    /// Waits until the other masters have what this one has announced: the next leader begins with what
    /// it has, and does not call members that joined a moment ago if they are not in it.
    async fn hand_over(&self) {
        let others = self.others.iter().map(OtherMaster::address);
        let delivered = self.state.announcements_delivered(others);
        if timeout(LAST_ANNOUNCEMENTS, delivered).await.is_err() {
            warn!("the other masters may not have the last changes: announcements not delivered");
        }
    }

    /// Lets the others choose another master now rather than when the lease has run out.
    async fn resign(&self) {
        let Some(request) = self.leadership.retire() else {
            return;
        };
        let sent = Instant::now();
        let calls = self
            .others
            .iter()
            .map(|other| other.ask(request.clone(), sent, RESIGNATION, &self.leadership));
        futures_util::future::join_all(calls).await;
    }

    /// Unregisters from the master that leads, as soon as there is one.
    async fn unregister(&self) {
        let attempts = async {
            let mut leaders = self.leadership.leaders();
            let is_other = |leader: &Leader| matches!(leader, Leader::Other(_));
            while let Ok(leader) = leaders.wait_for(is_other).await.map(|it| it.clone()) {
                if let Leader::Other(leader) = leader
                    && let Ok(channel) = dial(&self.state, &leader.address)
                    && let master = self.state.dialer.master(channel)
                    && is_unregistered(
                        &unregister(&self.state, master).await,
                        self.state.own.address(),
                    )
                {
                    break;
                }
                sleep(RESIGNATION).await;
            }
        };
        match timeout(2 * CALL_TIMEOUT, attempts).await {
            Ok(()) => info!(address = self.state.own.address(), "left the cluster"),
            Err(_) => warn!("unregister timed out: the master that leads will evict this node"),
        }
    }
}

/// Whether the node at this address is registered no more: the answer to an earlier attempt may be lost.
fn is_unregistered(result: &Result<(), Status>, address: &str) -> bool {
    match result {
        Ok(()) => true,
        // The code alone is also that of a connection that broke.
        Err(status) => status.message() == not_registered(address),
    }
}

/// Calls the election when something is due, and the other masters when it asks for them.
async fn elect(
    state: Arc<ClusterState>,
    leadership: Arc<Leadership>,
    others: Arc<[OtherMaster]>,
    config: LeaseConfig,
) {
    let mut calls = JoinSet::new();
    loop {
        let sent = Instant::now();
        let (due, request) = leadership.tick(clock(), state.latest_view());
        if let Some(request) = request {
            for other in 0..others.len() {
                let (others, leadership) = (others.clone(), leadership.clone());
                let (request, within) = (request.clone(), config.lease / 2);
                calls.spawn(async move {
                    others[other].ask(request, sent, within, &leadership).await;
                });
            }
        }
        tokio::select! {
            () = sleep_until(due) => {}
            () = leadership.changed() => {}
            Some(_) = calls.join_next() => {}
        }
    }
}

/// Returns the time in microseconds since 1970.
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_master_that_does_not_have_the_node_ends_its_attempts() {
        let address = "10.0.0.1:34567";
        assert!(is_unregistered(&Ok(()), address));
        let refused = Status::unknown(not_registered(address));
        assert!(is_unregistered(&Err(refused), address));
        for failed in [
            Status::unknown("transport error"),
            Status::unknown(not_registered("10.0.0.2:34567")),
            Status::unavailable("another master leads, or none"),
        ] {
            assert!(!is_unregistered(&Err(failed.clone()), address), "{failed}");
        }
    }
}
