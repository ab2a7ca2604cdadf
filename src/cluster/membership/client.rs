//! A member's calls to its master: register, heartbeat, unregister.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, error, info, warn};

use super::{
    heartbeat::{HeartbeatReply, ViewStamp},
    registration::{Call, RegistrationState, Reply},
    selector::MasterSelector,
    state::ClusterState,
};
use crate::{
    cluster::{
        compat::reannounce::reannounce,
        grpc_channel::{Authorized, CALL_TIMEOUT},
        proto::{
            self, HeartbeatRequest, MemberInfo, RegisterRequest, UnregisterRequest,
            master_client::MasterClient,
        },
    },
    error::{Error, Result, code},
};

/// Keeps a node registered with its master.
pub(crate) struct MembershipClient {
    state: Arc<ClusterState>,
    masters: MasterSelector,
    /// The channel to the master with this address. A call that failed ends it: on the old connection
    /// TCP retransmits at growing intervals, long after a partition has healed.
    channel: Option<(String, Channel)>,
    /// The master that announced last that it leads.
    new_leader: watch::Receiver<Option<Arc<str>>>,
    registration: RegistrationState,
    /// Told once how joining ended.
    joined: Option<mpsc::Sender<Result>>,
    /// Re-announcements to basic members that are under way.
    reannouncements: JoinSet<()>,
}

impl MembershipClient {
    /// Creates a client that sends `joined` the outcome of joining. `masters` must not be empty.
    pub(crate) fn new(
        state: Arc<ClusterState>,
        masters: Vec<String>,
        registration: RegistrationState,
        joined: mpsc::Sender<Result>,
    ) -> Self {
        Self {
            new_leader: state.new_leaders(),
            state,
            masters: MasterSelector::new(masters),
            channel: None,
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
            self.leave().await;
        }
    }

    /// Waits until a call is due. One is due at once when another master leads, and early when the
    /// master has announced a change, because the reply brings the number of the view: at most ten
    /// times as often as usual.
    async fn wait_for_call(&mut self) {
        let due = self.registration.due();
        let takes_views = self.registration.joined() && !self.registration.has_basic_master();
        let announced = async {
            self.state.announced().await;
            sleep_until(self.registration.early_due()).await;
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = announced, if takes_views => {}
            () = leader_to_call(&mut self.new_leader, &mut self.masters) => {}
        }
    }

    /// Makes one call when it is due. Returns `false` if joining has failed for good.
    async fn call_when_due(&mut self) -> bool {
        self.wait_for_call().await;
        let call = self
            .state
            .change(|table| (self.registration.begin_call(table), Vec::new()));
        let reregisters = call == Call::Register && self.registration.has_basic_master();
        if reregisters {
            // Re-announcements under way must not mix with what the master is about to announce.
            self.reannouncements.shutdown().await;
        }
        let master = self.master();
        let sent = async { send(&self.state, master?, call).await };
        let result = tokio::select! {
            result = timeout(CALL_TIMEOUT, sent) => result,
            () = leader_to_call(&mut self.new_leader, &mut self.masters) => {
                self.registration.call_now(Instant::now());
                return true;
            }
        };
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
            Ok((reply, term)) if self.state.accepts(term) => self.on_reply(reply, now),
            Ok(_) => {
                let status = Status::failed_precondition("the reply of a master that led before");
                return self.on_failure(&status, now);
            }
            Err(status) => return self.on_failure(&status, now),
        }
        true
    }

    /// Returns the master to call.
    fn master(&mut self) -> Result<MasterClient<Authorized>, Status> {
        let address = self.masters.address();
        let channel = match self.channel.take() {
            Some((to, channel)) if to == address => channel,
            _ => dial(&self.state, address)?,
        };
        self.channel = Some((address.to_owned(), channel.clone()));
        Ok(self.state.dialer.master(channel))
    }

    fn on_reply(&mut self, reply: Reply, now: Instant) {
        let failures = self.registration.failures();
        let view = match &reply {
            Reply::Heartbeat { reply, master } => Some((reply.view, *master)),
            Reply::Registered(_) => None,
        };
        let eviction = match &reply {
            Reply::Heartbeat { reply, .. } => reply.eviction,
            Reply::Registered(_) => Duration::ZERO,
        };
        self.state
            .change(|table| ((), self.registration.replied(reply, table, now)));
        match view {
            _ if self.registration.has_basic_master() => self.state.has_basic_master(),
            Some((view, master)) => self.state.heard_of_view(view, master),
            None => self.state.ask_for_view(),
        }
        let leader = self.state.lead_by(self.registration.master());
        self.masters.answered(leader.as_deref());
        let master = self.masters.address();
        self.state.reports_to(master);
        if let Some(interval) = self.registration.check_interval(eviction) {
            warn!(
                master,
                ?interval,
                eviction_timeout = ?eviction,
                "heartbeats too slow for the master, which may evict this node between two of them: set \
                 cluster.heartbeat to the same on every node"
            );
        }
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
            let _ = joined.try_send(Ok(()));
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
            let _ = joined.try_send(Err(Error::new(code::FORBIDDEN, message)));
            return false;
        }
        self.channel = None;
        if self.masters.select_next() {
            self.registration.call_now(now);
        }
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

    /// Unregisters, from the master called last; if it does not answer, from the next. If all attempts
    /// are lost, the master evicts this node.
    async fn leave(mut self) {
        self.reannouncements.abort_all();
        let attempts = async {
            loop {
                let unregistered = match self.master() {
                    Ok(master) => unregister(&self.state, master).await,
                    Err(status) => Err(status),
                };
                let Err(status) = unregistered else {
                    return Ok(());
                };
                self.channel = None;
                if !self.masters.select_next() {
                    return Err(status);
                }
            }
        };
        match timeout(CALL_TIMEOUT, attempts).await {
            Ok(Ok(())) => info!(address = self.state.own.address(), "left the cluster"),
            Ok(Err(status)) => {
                warn!(error = %status, "unregister failed: the master will evict this node");
            }
            Err(_) => warn!("unregister timed out: the master will evict this node"),
        }
    }
}

/// Waits until a master announces that it leads, and turns to it if that is another one of these than
/// the one to call, or that one did not answer.
async fn leader_to_call(
    new_leader: &mut watch::Receiver<Option<Arc<str>>>,
    masters: &mut MasterSelector,
) {
    loop {
        if new_leader.changed().await.is_err() {
            return pending().await;
        }
        let leader = new_leader.borrow_and_update().clone();
        if leader.is_some_and(|leader| masters.lead_by(&leader)) {
            return;
        }
    }
}

/// Makes a call. Returns the master's reply and its term.
async fn send(
    state: &ClusterState,
    mut master: MasterClient<Authorized>,
    call: Call,
) -> Result<(Reply, u64), Status> {
    let member_info = Some(MemberInfo::from(&state.own));
    let seen = state.seen();
    Ok(match call {
        Call::Register => {
            let reply = master
                .register(RegisterRequest { member_info, seen })
                .await?
                .into_inner();
            (Reply::Registered(proto::members(reply.members)), reply.term)
        }
        Call::Heartbeat { digest } => {
            let reply = master
                .heartbeat(HeartbeatRequest {
                    member_info,
                    digest,
                    seen,
                })
                .await?
                .into_inner();
            let heartbeat = Reply::Heartbeat {
                master: reply.incarnation,
                reply: HeartbeatReply {
                    table: proto::members(reply.members),
                    replace: reply.replace,
                    view: ViewStamp {
                        number: reply.view,
                        digest: reply.view_digest,
                    },
                    eviction: Duration::from_millis(reply.eviction_ms),
                    returns: false,
                },
            };
            (heartbeat, reply.term)
        }
    })
}

/// Creates a connection to the master at an address.
pub(super) fn dial(state: &ClusterState, master: &str) -> Result<Channel, Status> {
    let channel = state.dialer.channel(master);
    channel.map_err(|error| Status::invalid_argument(error.message().to_owned()))
}

/// Unregisters a node from a master.
pub(super) async fn unregister(
    state: &ClusterState,
    mut master: MasterClient<Authorized>,
) -> Result<(), Status> {
    let request = UnregisterRequest {
        service_addr: state.own.address().to_owned(),
        incarnation: state.own.incarnation(),
    };
    master.unregister(request).await.map(drop)
}

/// Formats a status with its causes: "transport error" alone does not help.
fn with_causes(status: &Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.fold(
        format!("{:?}: {}", status.code(), status.message()),
        |text, cause| format!("{text}: {cause}"),
    )
}
