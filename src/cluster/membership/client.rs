//! A member's calls to its master: to join, and to stay.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, error, info, warn};

use super::{
    registration::{Answer, Call, Standing},
    registry::Pulse,
    state::ClusterState,
};
use crate::cluster::channel::CALL_TIMEOUT;
use crate::cluster::go::reannounce::introduce;
use crate::cluster::proto::{
    self, HeartbeatRequest, MemberInfo, RegisterRequest, UnregisterRequest,
};
use crate::error::{Error, Result, code};

/// One master after the other, until one answers.
pub(in crate::cluster) struct Masters {
    addresses: Vec<String>,
    at: usize,
    channel: Option<Channel>,
}

impl Masters {
    pub(in crate::cluster) fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            at: 0,
            channel: None,
        }
    }

    fn address(&self) -> &str {
        &self.addresses[self.at]
    }

    fn channel(&mut self, core: &ClusterState) -> Result<Channel, Status> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = core
            .dialer
            .channel(self.address())
            .map_err(|error| Status::invalid_argument(error.message().to_owned()))?;
        Ok(self.channel.insert(channel).clone())
    }

    /// Turns to the next one, over a new connection: what a partition swallowed, TCP would repeat
    /// ever less often, also when the partition is over.
    fn next(&mut self) {
        self.at = (self.at + 1) % self.addresses.len();
        self.channel = None;
    }
}

/// Joins, tells `joined` of it, and keeps calling until it is aborted.
pub(in crate::cluster) async fn run(
    core: Arc<ClusterState>,
    mut masters: Masters,
    mut standing: Standing,
    joined: oneshot::Sender<Result>,
) {
    let mut joined = Some(joined);
    let mut introductions = JoinSet::new();
    loop {
        sleep_until(standing.due()).await;
        let call = core.change(|members| (standing.call(members), Vec::new()));
        let again = call == Call::Register && standing.has_go_master();
        if again {
            // What is under way must not mix with what the master is about to tell.
            introductions.shutdown().await;
        }
        let result = timeout(CALL_TIMEOUT, say(&core, &mut masters, call)).await;
        let now = Instant::now();
        if again {
            // Also if it failed: some may have been told before it did.
            introductions = introduce(&core, masters.address());
        }
        match result.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
            Ok(answer) => {
                let failures = standing.failures();
                core.change(|members| ((), standing.answered(answer, members, now)));
                if failures > 0 {
                    info!(
                        master = masters.address(),
                        failures, "the master answers again"
                    );
                }
                if let Some(joined) = joined.take() {
                    info!(
                        master = masters.address(),
                        address = core.own.address(),
                        "joined the cluster"
                    );
                    // Nobody waits any more if the start was given up.
                    let _ = joined.send(Ok(()));
                }
            }
            Err(status) => {
                match status.code() {
                    Code::AlreadyExists => standing.refused(now),
                    _ => standing.failed(now),
                }
                core.metrics.heartbeats_failed.increment(1);
                complain(&core, &masters, &standing, &status);
                if status.code() == Code::Unauthenticated
                    && let Some(joined) = joined.take()
                {
                    let message = format!(
                        "the master at {} refuses this node: {}",
                        masters.address(),
                        status.message()
                    );
                    let _ = joined.send(Err(Error::new(code::FORBIDDEN, message)));
                    return;
                }
                masters.next();
            }
        }
        *core.master.lock() = Some(masters.address().to_owned());
    }
}

/// Once aloud, and again every so often: a master that is away for a night must not fill the log.
fn complain(core: &ClusterState, masters: &Masters, standing: &Standing, status: &Status) {
    let (master, address, failures, error) = (
        masters.address(),
        core.own.address(),
        standing.failures(),
        in_full(status),
    );
    let again_in = standing.due().duration_since(Instant::now());
    match status.code() {
        Code::AlreadyExists => error!(
            master,
            address, error, "this node was put out: two nodes claim one address"
        ),
        Code::Unauthenticated => error!(master, error, "the master refuses this node"),
        _ if !standing.joined() => warn!(
            master,
            error,
            ?again_in,
            "waiting for the master to join its cluster"
        ),
        _ if failures.is_power_of_two() => {
            warn!(
                master,
                error, failures, "the master does not answer; everything goes on but joins"
            )
        }
        _ => debug!(master, error, failures, "the master does not answer"),
    }
}

/// A status and what is behind it: "transport error" alone helps nobody.
fn in_full(status: &Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.fold(
        format!("{:?}: {}", status.code(), status.message()),
        |text, cause| format!("{text}: {cause}"),
    )
}

async fn say(core: &ClusterState, masters: &mut Masters, call: Call) -> Result<Answer, Status> {
    let mut master = core.dialer.master(masters.channel(core)?);
    let member_info = Some(MemberInfo::from(&core.own));
    Ok(match call {
        Call::Register => {
            let reply = master
                .register(RegisterRequest { member_info })
                .await?
                .into_inner();
            Answer::Registered(proto::members(reply.members))
        }
        Call::Heartbeat { digest } => {
            let reply = master
                .heartbeat(HeartbeatRequest {
                    member_info,
                    digest,
                })
                .await?
                .into_inner();
            let pulse = Pulse {
                table: proto::members(reply.members),
                replace: reply.replace,
            };
            Answer::Beaten {
                pulse,
                master: reply.incarnation,
            }
        }
    })
}

/// Says goodbye to the master, once: if that is lost, the master notices the silence.
pub(in crate::cluster) async fn leave(core: &ClusterState, master: String) {
    let mut masters = Masters::new(vec![master]);
    let goodbye = async {
        let mut master = core.dialer.master(masters.channel(core)?);
        let (service_addr, incarnation) = (core.own.address().to_owned(), core.own.incarnation());
        master
            .unregister(UnregisterRequest {
                service_addr,
                incarnation,
            })
            .await
    };
    match timeout(CALL_TIMEOUT, goodbye).await {
        Ok(Ok(_)) => info!(address = core.own.address(), "left the cluster"),
        Ok(Err(status)) => {
            warn!(error = %status, "could not leave the cluster in order: the master will notice")
        }
        Err(_) => warn!("the master does not answer: it will notice that this node has left"),
    }
}
