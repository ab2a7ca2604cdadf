//! The election of one master, as its tasks and services share it.

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    election::{
        Election, Lease,
        config::LeaseConfig,
        message::{LeaseReply, LeaseRequest, MasterId},
    },
    heartbeat::HeartbeatConfig,
};
use crate::member::Member;

/// The master that leads, as one master has heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Leader {
    #[default]
    Unknown,
    /// This master, in a term.
    Own(u64),
    Other(MasterId),
}

/// One master's part in the election.
pub(crate) struct Leadership {
    /// Held for a moment, and last of all locks.
    election: Mutex<Election>,
    /// Written with `election` locked.
    leader: watch::Sender<Leader>,
    /// Notified when something else may be due.
    changed: Notify,
}

impl Leadership {
    /// Creates the part of the master `own`, which has these others. It may lead after a lease.
    pub(crate) fn new(own: &Member, others: &[String], heartbeat: HeartbeatConfig) -> Self {
        let id = MasterId {
            address: own.address().to_owned(),
            incarnation: own.incarnation(),
        };
        let masters = others.iter().chain([&id.address]).cloned().collect();
        let config = LeaseConfig::new(heartbeat.interval);
        let election = Election::new(id, masters, config, rand::random(), Instant::now());
        Self {
            election: Mutex::new(election),
            leader: watch::Sender::default(),
            changed: Notify::new(),
        }
    }

    /// Returns this master's lease, if it leads now.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.election.lock().leads(Instant::now())
    }

    /// Returns the master that leads, and those that lead later.
    pub(crate) fn leaders(&self) -> watch::Receiver<Leader> {
        self.leader.subscribe()
    }

    /// Returns the addresses of all masters, sorted.
    pub(crate) fn masters(&self) -> Vec<String> {
        self.election.lock().masters().to_vec()
    }

    /// Does what is due. Returns when to call this again, and a request for all other masters.
    pub(crate) fn tick(&self, clock: u64, view: u64) -> (Instant, Option<LeaseRequest>) {
        self.with(|election, now| {
            let request = election.tick(clock, view, now);
            (election.due(), request)
        })
    }

    pub(crate) fn on_request(&self, request: &LeaseRequest) -> LeaseReply {
        let reply = self.with(|election, now| election.on_request(request, now));
        self.changed.notify_one();
        reply
    }

    /// Takes a master's answer to a request sent at `sent`.
    pub(crate) fn on_reply(
        &self,
        from: &str,
        request: &LeaseRequest,
        sent: Instant,
        reply: LeaseReply,
    ) {
        self.with(|election, now| election.on_reply(from, request, sent, reply, now));
        self.changed.notify_one();
    }

    /// Notes the highest number of a view or term that another node has seen. `view` is the number of the
    /// latest view of this master while it leads.
    pub(crate) fn observe(&self, number: u64, view: u64) {
        self.with(|election, now| election.observe(number, view, now));
        self.changed.notify_one();
    }

    /// Leads no more. Returns a request for all other masters if it led.
    pub(crate) fn retire(&self) -> Option<LeaseRequest> {
        self.with(|election, _| election.retire())
    }

    /// Waits until something else may be due.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Calls the election, and publishes the leader that follows.
    fn with<T>(&self, act: impl FnOnce(&mut Election, Instant) -> T) -> T {
        let now = Instant::now();
        let mut election = self.election.lock();
        let result = act(&mut election, now);
        let leader = match (election.leads(now), election.leader(now)) {
            (Some(lease), _) => Leader::Own(lease.term),
            (None, Some(leader)) => Leader::Other(leader.clone()),
            (None, None) => Leader::Unknown,
        };
        self.leader.send_if_modified(|known| {
            let is_new = *known != leader;
            *known = leader;
            is_new
        });
        result
    }
}
