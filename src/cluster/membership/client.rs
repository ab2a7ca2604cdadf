//! A member's calls to its master: register, heartbeat, unregister.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, error, info, warn};

use super::{
    heartbeat::{HeartbeatReply, ViewStamp},
    registration::{Call, RegistrationState, Reply},
    state::ClusterState,
};
use crate::{
    cluster::{
        channel::CALL_TIMEOUT,
        compat::reannounce::reannounce,
        proto::{self, HeartbeatRequest, MemberInfo, RegisterRequest, UnregisterRequest},
    },
    error::{Error, Result, code},
};

/// The addresses a master may have, tried in turn until one answers.
struct MasterSelector {
    addresses: Vec<String>,
    at: usize,
    channel: Option<Channel>,
}

impl MasterSelector {
    fn address(&self) -> &str {
        &self.addresses[self.at]
    }

    fn channel(&mut self, state: &ClusterState) -> Result<Channel, Status> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = state
            .dialer
            .channel(self.address())
            .map_err(|error| Status::invalid_argument(error.message().to_owned()))?;
        Ok(self.channel.insert(channel).clone())
    }

    /// Turns to the next address.
    fn select_next(&mut self) {
        self.at = (self.at + 1) % self.addresses.len();
        self.reconnect();
    }

    /// Makes the next call on a new connection: on the old one TCP retransmits at growing
    /// intervals, long after a partition has healed.
    fn reconnect(&mut self) {
        self.channel = None;
    }
}

/// Keeps a node registered with its master.
pub(crate) struct MembershipClient {
    state: Arc<ClusterState>,
    masters: MasterSelector,
    registration: RegistrationState,
    /// Told once how joining ended.
    joined: Option<oneshot::Sender<Result>>,
    /// Re-announcements to Go members that are under way.
    reannouncements: JoinSet<()>,
}

impl MembershipClient {
    /// Creates a client that sends `joined` the outcome of joining. `masters` must not be empty.
    pub(crate) fn new(
        state: Arc<ClusterState>,
        masters: Vec<String>,
        registration: RegistrationState,
        joined: oneshot::Sender<Result>,
    ) -> Self {
        Self {
            state,
            masters: MasterSelector {
                addresses: masters,
                at: 0,
                channel: None,
            },
            registration,
            joined: Some(joined),
            reannouncements: JoinSet::new(),
        }
    }

    /// Registers, then sends heartbeats until `leave` is cancelled; then unregisters, which takes
    /// at most [`CALL_TIMEOUT`].
    ///
    /// Ends early if the master rejects this node's token while it joins.
    pub(crate) async fn run(mut self, leave: CancellationToken) {
        let rejected = async { while self.call_when_due().await {} };
        // Leaving drops a call that is under way.
        if leave.run_until_cancelled(rejected).await.is_none() {
            self.unregister().await;
        }
    }

    /// Waits until a call is due. One is due early when the master has announced a change, because the
    /// reply brings the number of the view; at most ten times as often as usual.
    async fn wait_for_call(&mut self) {
        let due = self.registration.due();
        if !self.registration.joined() || self.registration.has_go_master() {
            return sleep_until(due).await;
        }
        let announced = async {
            self.state.announced().await;
            sleep_until(self.registration.early_due()).await;
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = announced => {}
        }
    }

    /// Makes one call when it is due. Returns `false` if joining has failed for good.
    async fn call_when_due(&mut self) -> bool {
        self.wait_for_call().await;
        let call = self
            .state
            .change(|table| (self.registration.begin_call(table), Vec::new()));
        let reregisters = call == Call::Register && self.registration.has_go_master();
        if reregisters {
            // Re-announcements under way must not mix with what the master is about to announce.
            self.reannouncements.shutdown().await;
        }
        let result = timeout(CALL_TIMEOUT, self.send(call)).await;
        let now = Instant::now();
        if reregisters {
            // After a failure too: the master may have announced this node to some members.
            self.reannouncements = reannounce(
                &self.state.dialer,
                &self.state.own,
                self.state.members(),
                self.masters.address(),
            );
        }
        match result.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
            Ok(reply) => self.on_reply(reply, now),
            Err(status) => return self.on_failure(&status, now),
        }
        true
    }

    async fn send(&mut self, call: Call) -> Result<Reply, Status> {
        let channel = self.masters.channel(&self.state)?;
        let mut master = self.state.dialer.master(channel);
        let member_info = Some(MemberInfo::from(&self.state.own));
        Ok(match call {
            Call::Register => {
                let reply = master
                    .register(RegisterRequest { member_info })
                    .await?
                    .into_inner();
                Reply::Registered(proto::members(reply.members))
            }
            Call::Heartbeat { digest } => {
                let reply = master
                    .heartbeat(HeartbeatRequest {
                        member_info,
                        digest,
                    })
                    .await?
                    .into_inner();
                Reply::Heartbeat {
                    master: reply.incarnation,
                    reply: HeartbeatReply {
                        table: proto::members(reply.members),
                        replace: reply.replace,
                        view: ViewStamp {
                            number: reply.view,
                            digest: reply.view_digest,
                        },
                    },
                }
            }
        })
    }

    fn on_reply(&mut self, reply: Reply, now: Instant) {
        let failures = self.registration.failures();
        let view = match &reply {
            Reply::Heartbeat { reply, master } => Some((reply.view, *master)),
            Reply::Registered(_) => None,
        };
        self.state
            .change(|table| ((), self.registration.replied(reply, table, now)));
        match view {
            _ if self.registration.has_go_master() => self.state.has_go_master(),
            Some((view, master)) => self.state.heard_of_view(view, master),
            None => self.state.ask_for_view(),
        }
        let master = self.masters.address();
        if failures > 0 {
            info!(master, failures, "master answers again");
        }
        if let Some(joined) = self.joined.take() {
            info!(
                master,
                address = self.state.own.address(),
                "joined the cluster"
            );
            // The receiver is gone if the start was given up.
            let _ = joined.send(Ok(()));
        }
    }

    /// Schedules the next call, to the next master. Returns `false` if joining has failed for good.
    fn on_failure(&mut self, status: &Status, now: Instant) -> bool {
        match status.code() {
            Code::AlreadyExists => self.registration.refused(now),
            _ => self.registration.failed(now),
        }
        self.state.metrics.heartbeats_failed.increment(1);
        self.log_failure(status);
        if status.code() == Code::Unauthenticated
            && let Some(joined) = self.joined.take()
        {
            let message = format!(
                "the master at {} refuses this node: {}",
                self.masters.address(),
                status.message()
            );
            let _ = joined.send(Err(Error::new(code::FORBIDDEN, message)));
            return false;
        }
        self.masters.select_next();
        true
    }

    /// Logs a failed call: loudly at first, then each time the number of failures has doubled, so
    /// that a master that is away for a night does not fill the log.
    fn log_failure(&self, status: &Status) {
        let master = self.masters.address();
        let (failures, error) = (self.registration.failures(), with_causes(status));
        match status.code() {
            Code::AlreadyExists => error!(
                master,
                address = self.state.own.address(),
                error,
                "evicted: address claimed by a newer incarnation"
            ),
            Code::Unauthenticated => error!(master, error, "master rejects the cluster token"),
            _ if !self.registration.joined() => {
                let retry_in = self.registration.due().duration_since(Instant::now());
                warn!(master, error, ?retry_in, "cannot join: master unreachable");
            }
            _ if failures.is_power_of_two() => warn!(
                master,
                error, failures, "master unreachable: membership is frozen, traffic goes on"
            ),
            _ => debug!(master, error, failures, "master unreachable"),
        }
    }

    /// Unregisters from the master called last. One attempt: if it is lost, the master evicts this
    /// node.
    async fn unregister(mut self) {
        self.reannouncements.abort_all();
        self.masters.reconnect();
        let (service_addr, incarnation) = (
            self.state.own.address().to_owned(),
            self.state.own.incarnation(),
        );
        let call = async {
            let channel = self.masters.channel(&self.state)?;
            self.state
                .dialer
                .master(channel)
                .unregister(UnregisterRequest {
                    service_addr,
                    incarnation,
                })
                .await
        };
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(_)) => info!(address = self.state.own.address(), "left the cluster"),
            Ok(Err(status)) => {
                warn!(error = %status, "unregister failed: the master will evict this node");
            }
            Err(_) => warn!("unregister timed out: the master will evict this node"),
        }
    }
}

/// Formats a status with its causes: "transport error" alone does not help.
fn with_causes(status: &Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.fold(
        format!("{:?}: {}", status.code(), status.message()),
        |text, cause| format!("{text}: {cause}"),
    )
}
