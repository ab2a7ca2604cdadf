//! A node of this crate that has registered with a master of Go nano again is announced again, and
//! a member of Go nano then has it twice, of which it would keep one when the node has left.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Status, transport::Channel};
use tracing::debug;

use crate::{
    cluster::{
        backoff::Backoff,
        channel::CALL_TIMEOUT,
        membership::state::ClusterState,
        proto::{DelMemberRequest, MemberInfo, NewMemberRequest},
    },
    error::Result,
    member::Member,
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tells each node of Go nano but the master that this node is gone, and is there: afterwards it
/// has it once. Ends when it is dropped.
///
/// Not the master, whose list of members nobody else may touch.
pub(in crate::cluster) fn introduce(core: &Arc<ClusterState>, master: &str) -> JoinSet<()> {
    let members = core.members.read().list();
    let others = members
        .into_iter()
        .filter(|member| member.is_go() && member.address() != master);
    let tell = |member: Member| {
        let core = core.clone();
        async move {
            let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
            while let Err(problem) = tell(&core, &member).await {
                debug!(member = member.address(), error = %problem, "not introduced");
                sleep(backoff.next_pause()).await;
                if !core.members.read().list().contains(&member) {
                    return;
                }
            }
        }
    };
    others.map(tell).collect()
}

async fn tell(core: &ClusterState, member: &Member) -> Result<(), Status> {
    let channel: Channel = core
        .dialer
        .channel(member.address())
        .map_err(|error| Status::invalid_argument(error.message().to_owned()))?;
    let mut client = core.dialer.member(channel);
    let news = async {
        // One for the entry that it may have had, one for what the master has just told it.
        for _ in 0..2 {
            client
                .del_member(DelMemberRequest {
                    service_addr: core.own.address().to_owned(),
                    incarnation: 0,
                })
                .await?;
        }
        client
            .new_member(NewMemberRequest {
                member_info: Some(MemberInfo::from(&core.own)),
            })
            .await
    };
    timeout(CALL_TIMEOUT, news)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
        .map(drop)
}
