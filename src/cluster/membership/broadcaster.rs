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
    leadership::Leadership,
    registry::MembershipDelta,
    table::Change,
    updates::{Announcement, PeerView, UpdateQueue},
};
use crate::{
    cluster::{
        backoff::Backoff,
        grpc_channel::{Authorized, CALL_TIMEOUT, Dialer},
        proto::{DelMemberRequest, MemberInfo, NewMemberRequest, member_client::MemberClient},
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
    /// Of one of several masters: only the one that leads announces.
    leadership: Option<Arc<Leadership>>,
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
    /// Notified when an announcement has arrived.
    delivered: Notify,
}

impl MembershipBroadcaster {
    pub(crate) fn new(
        dialer: Arc<Dialer>,
        metrics: Arc<ClusterMetrics>,
        leadership: Option<Arc<Leadership>>,
    ) -> Self {
        Self {
            dialer,
            metrics,
            leadership,
            peers: Mutex::default(),
        }
    }

    /// Begins to announce in a term, to members that another master has announced to so far. Each is
    /// sent its announcements first.
    pub(crate) fn take_over(&self, term: u64, members: Vec<(Member, PeerView, Vec<Announcement>)>) {
        let mut peers = self.peers.lock();
        peers.clear();
        for (member, view, first) in members {
            let peer = self.peer(&member, UpdateQueue::inherit(None, view), term);
            first.into_iter().for_each(|it| peer.mailbox.push(it));
            peers.insert(member.address().to_owned(), peer);
        }
    }

    /// Queues the changes for all members they concern, as announcements of this term. Does not wait
    /// for any delivery.
    ///
    /// A member that joined is sent what follows its own join; one that left is sent nothing more.
    pub(crate) fn broadcast(&self, delta: &MembershipDelta, term: u64) {
        let mut peers = self.peers.lock();
        let mut former = None;
        for change in &delta.changes {
            match change {
                Change::Joined(member) => {
                    peers
                        .values()
                        .for_each(|peer| peer.mailbox.push(Announcement::Join(member.clone())));
                    let queue = UpdateQueue::inherit(former.take(), delta.view_of(member));
                    let peer = self.peer(member, queue, term);
                    peers.insert(member.address().to_owned(), peer);
                }
                Change::Left(member) => {
                    former = peers
                        .remove(member.address())
                        .map(|peer| peer.mailbox.queue.lock().clone());
                    let left = Announcement::Leave {
                        address: member.address().to_owned(),
                        incarnation: member.incarnation(),
                        evicted: delta.evicted,
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

    /// Queues an announcement for members at these addresses.
    pub(crate) fn send(&self, to: &[String], announcement: &Announcement) {
        let peers = self.peers.lock();
        to.iter()
            .filter_map(|address| peers.get(address))
            .for_each(|peer| peer.mailbox.push(announcement.clone()));
    }

    /// Waits until members at these addresses have all that waits for them now or meanwhile.
    pub(crate) async fn delivered(&self, to: impl Iterator<Item = &str>) {
        for address in to {
            let mailbox = self
                .peers
                .lock()
                .get(address)
                .map(|peer| peer.mailbox.clone());
            if let Some(mailbox) = mailbox {
                mailbox.emptied().await;
            }
        }
    }

    /// Ends all deliveries.
    pub(crate) fn stop(&self) {
        self.peers.lock().clear();
    }

    /// Begins to deliver to a member.
    fn peer(&self, member: &Member, queue: UpdateQueue, term: u64) -> Peer {
        let mailbox = Arc::new(Mailbox {
            queue: Mutex::new(queue),
            filled: Notify::new(),
            delivered: Notify::new(),
        });
        let delivery = Delivery {
            to: member.clone(),
            mailbox: mailbox.clone(),
            dialer: self.dialer.clone(),
            metrics: self.metrics.clone(),
            leadership: self.leadership.clone(),
            term,
        };
        Peer {
            mailbox,
            _delivery: AbortOnDropHandle::new(tokio::spawn(delivery.run())),
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

    /// Waits until nothing waits.
    async fn emptied(&self) {
        loop {
            let delivered = self.delivered.notified();
            if self.queue.lock().is_empty() {
                return;
            }
            delivered.await;
        }
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

/// The deliveries to one member.
struct Delivery {
    to: Member,
    mailbox: Arc<Mailbox>,
    dialer: Arc<Dialer>,
    metrics: Arc<ClusterMetrics>,
    leadership: Option<Arc<Leadership>>,
    term: u64,
}

impl Delivery {
    /// Delivers one announcement after the other, each until it has arrived. Runs until it is aborted,
    /// or another master leads.
    async fn run(self) {
        // Made when it is needed.
        let mut channel = None;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // The last failure, so that each is logged once.
        let mut known = None;
        loop {
            let announcement = match timeout(IDLE_TIMEOUT, self.mailbox.next()).await {
                Ok(announcement) => announcement,
                Err(_) => {
                    channel = None;
                    self.mailbox.next().await
                }
            };
            if !self.may_announce() {
                return;
            }
            let call = async {
                let channel = match &channel {
                    Some(channel) => Channel::clone(channel),
                    None => self
                        .dialer
                        .channel(self.to.address())
                        .map(|new| channel.insert(new).clone())
                        .map_err(|error| Status::invalid_argument(error.message().to_owned()))?,
                };
                self.announce(channel, announcement).await
            };
            let status = match timeout(CALL_TIMEOUT, call).await {
                Ok(Ok(())) => {
                    self.mailbox.queue.lock().delivered();
                    self.mailbox.delivered.notify_waiters();
                    backoff.reset();
                    known = None;
                    continue;
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            // A new connection: on the old one TCP retransmits at growing intervals, long after a
            // partition has healed; and a new channel shows the certificate of now.
            channel = None;
            self.mailbox.queue.lock().failed();
            self.metrics.announcements_failed.increment(1);
            if known.as_deref() != Some(status.message()) {
                info!(member = self.to.address(), error = %status, "announcement failed, repeating it");
                known = Some(status.message().to_owned());
            }
            sleep(backoff.next_pause()).await;
        }
    }

    /// Whether this master still leads. A process that was suspended may find that it does not.
    fn may_announce(&self) -> bool {
        let lease = |leadership: &Arc<Leadership>| {
            let lease = leadership.lease();
            lease.is_some_and(|lease| lease.term == self.term)
        };
        self.leadership.as_ref().is_none_or(lease)
    }

    async fn announce(&self, channel: Channel, announcement: Announcement) -> Result<(), Status> {
        let mut client = self.dialer.member(channel);
        match announcement {
            Announcement::Join(member) => self.new_member(&mut client, &member, false).await,
            Announcement::Lead(member) => self.new_member(&mut client, &member, true).await,
            Announcement::Leave {
                address,
                incarnation,
                evicted,
            } => client
                .del_member(DelMemberRequest {
                    service_addr: address,
                    incarnation,
                    term: self.term,
                    evicted,
                })
                .await
                .map(drop),
        }
    }

    async fn new_member(
        &self,
        to: &mut MemberClient<Authorized>,
        member: &Member,
        leads: bool,
    ) -> Result<(), Status> {
        let request = NewMemberRequest {
            member_info: Some(MemberInfo::from(member)),
            term: self.term,
            leads,
        };
        to.new_member(request).await.map(drop)
    }
}
