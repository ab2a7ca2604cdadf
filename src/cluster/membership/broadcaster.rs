//! What the master tells each member, in order, until it has arrived: a queue and a task per
//! member, so that one that is dead or hung delays nobody.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tonic::Status;
use tracing::{debug, warn};

use super::{
    registry::News,
    table::Change,
    updates::{Announcement, Queue},
};
use crate::cluster::backoff::Backoff;
use crate::cluster::channel::{CALL_TIMEOUT, Dialer};
use crate::cluster::proto::{DelMemberRequest, MemberInfo, NewMemberRequest};
use crate::{member::Member, metrics::ClusterMetrics};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tells every member of every other's coming and going.
pub(in crate::cluster) struct Announcer {
    dialer: Arc<Dialer>,
    metrics: Arc<ClusterMetrics>,
    peers: Mutex<HashMap<String, Peer>>,
}

struct Peer {
    mailbox: Arc<Mailbox>,
    task: AbortHandle,
}

struct Mailbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

impl Announcer {
    pub(in crate::cluster) fn new(dialer: Arc<Dialer>, metrics: Arc<ClusterMetrics>) -> Self {
        Self {
            dialer,
            metrics,
            peers: Mutex::default(),
        }
    }

    /// Queues the news for everybody they concern. Who joins is told of what comes after; who left
    /// is told nothing more.
    pub(in crate::cluster) fn tell(&self, news: &News) {
        let mut peers = self.peers.lock();
        let mut former = None;
        for change in &news.changes {
            match change {
                Change::Joined(member) => {
                    peers
                        .values()
                        .for_each(|peer| peer.mailbox.put(Announcement::New(member.clone())));
                    peers.insert(
                        member.address().to_owned(),
                        self.peer(member, former.take(), news),
                    );
                }
                Change::Left(member) => {
                    former = peers
                        .remove(member.address())
                        .map(|peer| peer.mailbox.queue.lock().clone());
                    let gone = Announcement::Del {
                        address: member.address().to_owned(),
                        incarnation: member.incarnation(),
                    };
                    peers
                        .values()
                        .for_each(|peer| peer.mailbox.put(gone.clone()));
                }
            }
        }
        if let Some((address, missed)) = &news.returned
            && let Some(peer) = peers.get(address)
        {
            missed
                .iter()
                .for_each(|missed| peer.mailbox.put(missed.clone()));
        }
    }

    /// Ends all deliveries.
    pub(in crate::cluster) fn stop(&self) {
        self.peers.lock().clear();
    }

    /// `former` is the queue of who had the address until now.
    fn peer(&self, member: &Member, former: Option<Queue>, news: &News) -> Peer {
        let queue = Mutex::new(Queue::succeeding(former, news.knowledge(member)));
        let mailbox = Arc::new(Mailbox {
            queue,
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
            task: tokio::spawn(delivery).abort_handle(),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mailbox {
    fn put(&self, news: Announcement) {
        if !self.queue.lock().push(news) {
            warn!(
                "a member takes no announcements and has missed some: its next heartbeat brings it up to date"
            );
        }
        self.filled.notify_one();
    }

    async fn take(&self) -> Announcement {
        loop {
            if let Some(news) = self.queue.lock().take() {
                return news;
            }
            self.filled.notified().await;
        }
    }
}

async fn deliver(
    to: Member,
    mailbox: Arc<Mailbox>,
    dialer: Arc<Dialer>,
    metrics: Arc<ClusterMetrics>,
) {
    let mut channel = dialer.channel(to.address());
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let news = mailbox.take().await;
        let call = async {
            let channel = channel
                .as_ref()
                .map_err(|error| Status::invalid_argument(error.message().to_owned()))?;
            let mut client = dialer.member(channel.clone());
            match news {
                Announcement::New(member) => client
                    .new_member(NewMemberRequest {
                        member_info: Some(MemberInfo::from(&member)),
                    })
                    .await
                    .map(|_| ()),
                Announcement::Del {
                    address,
                    incarnation,
                } => client
                    .del_member(DelMemberRequest {
                        service_addr: address,
                        incarnation,
                    })
                    .await
                    .map(|_| ()),
            }
        };
        let problem = match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(())) => {
                mailbox.queue.lock().delivered();
                backoff.reset();
                continue;
            }
            Ok(Err(status)) => status,
            Err(_) => {
                // What a partition swallowed, TCP would repeat ever less often, also when the
                // partition is over.
                channel = dialer.channel(to.address());
                Status::deadline_exceeded("no answer")
            }
        };
        mailbox.queue.lock().failed();
        metrics.announcements_failed.increment(1);
        let pause = backoff.next_pause();
        debug!(member = to.address(), error = %problem, again_in = ?pause, "an announcement did not arrive");
        sleep(pause).await;
    }
}
