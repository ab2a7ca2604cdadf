//! Workaround for duplicate entries on Go members after a re-registration.
//!
//! A Go master announces every registration, also that of a member it has already, and Go members
//! append what is announced. The duplicate would outlive the member, because a leave removes one
//! entry only. After a re-registration with a Go master, each Go member is therefore sent two
//! leaves, which empty its table of this node, and one join.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Status;
use tracing::debug;

use crate::{
    cluster::{
        backoff::Backoff,
        grpc_channel::{CALL_TIMEOUT, Dialer},
        proto::{DelMemberRequest, MemberInfo, NewMemberRequest},
    },
    error::Result,
    member::{Member, MemberSet},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Re-announces this node to every Go member but the master, each in a task that repeats it until
/// it has arrived or the member has left. Dropping the set ends them.
///
/// The master is left out: its member list is its own.
pub(in crate::cluster) fn reannounce(
    dialer: &Arc<Dialer>,
    own: &Member,
    members: watch::Receiver<Arc<MemberSet>>,
    master: &str,
) -> JoinSet<()> {
    let current = members.borrow().clone();
    current
        .iter()
        .filter(|member| member.is_basic() && member.address() != master)
        .map(|member| {
            repeat_until_delivered(dialer.clone(), own.clone(), member.clone(), members.clone())
        })
        .collect()
}

async fn repeat_until_delivered(
    dialer: Arc<Dialer>,
    own: Member,
    to: Member,
    members: watch::Receiver<Arc<MemberSet>>,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while let Err(status) = announce(&dialer, &own, &to).await {
        debug!(member = to.address(), error = %status, "re-announcement failed");
        sleep(backoff.next_pause()).await;
        if !members.borrow().contains(&to) {
            return;
        }
    }
}

async fn announce(dialer: &Dialer, own: &Member, to: &Member) -> Result<(), Status> {
    let channel = dialer
        .channel(to.address())
        .map_err(|error| Status::invalid_argument(error.message().to_owned()))?;
    let mut client = dialer.member(channel);
    let calls = async {
        // One for the entry it had before, one for the entry the master has just announced.
        for _ in 0..2 {
            client
                .del_member(DelMemberRequest {
                    service_addr: own.address().to_owned(),
                    incarnation: 0,
                    term: 0,
                    evicted: false,
                })
                .await?;
        }
        client
            .new_member(NewMemberRequest {
                member_info: Some(MemberInfo::from(own)),
                term: 0,
                leads: false,
            })
            .await
    };
    timeout(CALL_TIMEOUT, calls)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
        .map(drop)
}
