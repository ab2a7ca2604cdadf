//! Announces joins and leaves to all members, in order and until they have arrived.
//!
//! Each member has a queue and a delivery task of its own, so that a dead or hung member delays no
//! other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, transport::Channel};
use tracing::{info, warn};

use super::{
    registry::MembershipDelta,
    table::Change,
    updates::{Announcement, UpdateQueue},
};
use crate::{
    cluster::{
        backoff::Backoff,
        channel::{CALL_TIMEOUT, Dialer},
        proto::{DelMemberRequest, MemberInfo, NewMemberRequest},
    },
    member::Member,
    metrics::ClusterMetrics,
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection without announcements is closed after this time: it takes two descriptors, and nodes
/// join and leave rarely.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Announces the changes of the master's table to every member.
pub(crate) struct MembershipBroadcaster {
    dialer: Arc<Dialer>,
    metrics: Arc<ClusterMetrics>,
    /// The members that are sent announcements. Taken before a mailbox's queue.
    peers: Mutex<BTreeMap<String, Peer>>,
}

/// One member: its mailbox, and the task that empties it for as long as this exists.
struct Peer {
    mailbox: Arc<Mailbox>,
    _delivery: AbortOnDropHandle<()>,
}

struct Mailbox {
    queue: Mutex<UpdateQueue>,
    /// Notified after each push.
    filled: Notify,
}

impl MembershipBroadcaster {
    pub(crate) fn new(dialer: Arc<Dialer>, metrics: Arc<ClusterMetrics>) -> Self {
        Self {
            dialer,
            metrics,
            peers: Mutex::default(),
        }
    }

    /// Queues the changes for all members they concern. Does not wait for any delivery.
    ///
    /// A member that joined is sent what follows its own join; one that left is sent nothing more.
    pub(crate) fn broadcast(&self, delta: &MembershipDelta) {
        let mut peers = self.peers.lock();
        let mut former = None;
        for change in &delta.changes {
            match change {
                Change::Joined(member) => {
                    peers
                        .values()
                        .for_each(|peer| peer.mailbox.push(Announcement::Join(member.clone())));
                    peers.insert(
                        member.address().to_owned(),
                        self.peer(member, former.take(), delta),
                    );
                }
                Change::Left(member) => {
                    former = peers
                        .remove(member.address())
                        .map(|peer| peer.mailbox.queue.lock().clone());
                    let left = Announcement::Leave {
                        address: member.address().to_owned(),
                        incarnation: member.incarnation(),
                    };
                    peers
                        .values()
                        .for_each(|peer| peer.mailbox.push(left.clone()));
                }
            }
        }
        if let Some((address, missed)) = &delta.returned
            && let Some(peer) = peers.get(address)
        {
            missed
                .iter()
                .for_each(|missed| peer.mailbox.push(missed.clone()));
        }
    }

    /// Ends all deliveries.
    pub(crate) fn stop(&self) {
        self.peers.lock().clear();
    }

    /// Begins to deliver to a member. `former` is the queue of the member that had its address.
    fn peer(&self, member: &Member, former: Option<UpdateQueue>, delta: &MembershipDelta) -> Peer {
        let mailbox = Arc::new(Mailbox {
            queue: Mutex::new(UpdateQueue::inherit(former, delta.view_of(member))),
            filled: Notify::new(),
        });
        let delivery = deliver(
            member.clone(),
            mailbox.clone(),
            self.dialer.clone(),
            self.metrics.clone(),
        );
        Peer {
            mailbox,
            _delivery: AbortOnDropHandle::new(tokio::spawn(delivery)),
        }
    }
}

impl Mailbox {
    fn push(&self, announcement: Announcement) {
        if !self.queue.lock().push(announcement) {
            warn!("announcements dropped, a heartbeat will replace them: the member takes none");
        }
        self.filled.notify_one();
    }

    async fn next(&self) -> Announcement {
        loop {
            if let Some(announcement) = self.queue.lock().take() {
                return announcement;
            }
            self.filled.notified().await;
        }
    }
}

/// Delivers one announcement after the other, each until it has arrived. Runs until it is aborted.
async fn deliver(
    to: Member,
    mailbox: Arc<Mailbox>,
    dialer: Arc<Dialer>,
    metrics: Arc<ClusterMetrics>,
) {
    // Made when it is needed.
    let mut channel = None;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    // The last failure, so that each is logged once.
    let mut known = None;
    loop {
        let announcement = match timeout(IDLE_TIMEOUT, mailbox.next()).await {
            Ok(announcement) => announcement,
            Err(_) => {
                channel = None;
                mailbox.next().await
            }
        };
        let call = async {
            let channel = match &channel {
                Some(channel) => Channel::clone(channel),
                None => dialer
                    .channel(to.address())
                    .map(|new| channel.insert(new).clone())
                    .map_err(|error| Status::invalid_argument(error.message().to_owned()))?,
            };
            announce(&dialer, channel, announcement).await
        };
        let status = match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(())) => {
                mailbox.queue.lock().delivered();
                backoff.reset();
                known = None;
                continue;
            }
            Ok(Err(status)) => status,
            Err(_) => {
                // A new connection: on the old one TCP retransmits at growing intervals, long
                // after a partition has healed.
                channel = None;
                Status::deadline_exceeded("no answer")
            }
        };
        mailbox.queue.lock().failed();
        metrics.announcements_failed.increment(1);
        if known.as_deref() != Some(status.message()) {
            info!(member = to.address(), error = %status, "announcement failed, repeating it");
            known = Some(status.message().to_owned());
        }
        sleep(backoff.next_pause()).await;
    }
}

async fn announce(
    dialer: &Dialer,
    channel: Channel,
    announcement: Announcement,
) -> Result<(), Status> {
    let mut client = dialer.member(channel);
    match announcement {
        Announcement::Join(member) => client
            .new_member(NewMemberRequest {
                member_info: Some(MemberInfo::from(&member)),
            })
            .await
            .map(drop),
        Announcement::Leave {
            address,
            incarnation,
        } => client
            .del_member(DelMemberRequest {
                service_addr: address,
                incarnation,
            })
            .await
            .map(drop),
    }
}
