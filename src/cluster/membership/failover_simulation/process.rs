//! The simulated processes: the real state machines, without their tasks.

use std::time::Duration;

use tokio::time::Instant;

use super::{clock::Clock, event::Node};
use crate::{
    cluster::membership::{
        election::{Election, config::LeaseConfig, message::MasterId},
        heartbeat::HeartbeatConfig,
        registration::RegistrationState,
        registry::Registry,
        selector::MasterSelector,
        table::MemberTable,
    },
    member::{Info, Member},
};

/// The interval of basic members. It is also what a new master waits before it removes members that
/// others have, and it does not: short, so that runs are.
pub(super) fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig::new(Duration::from_secs(2))
}

pub(super) fn lease_config() -> LeaseConfig {
    LeaseConfig::new(heartbeat().interval)
}

pub(super) fn address(node: Node) -> String {
    format!("node-{node}:1")
}

/// Returns the node at an address.
pub(super) fn node(address: &str) -> Node {
    let number = address.strip_prefix("node-").unwrap();
    number.strip_suffix(":1").unwrap().parse().unwrap()
}

/// One run of a node.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: u64,
    pub(super) own: Member,
    pub(super) clock: Clock,
    pub(super) table: MemberTable,
    /// `None` for a master without a leader to call.
    pub(super) client: Option<Client>,
    /// The latest view it has heard of, and the latest it was in.
    pub(super) heard: u64,
    pub(super) view: u64,
    pub(super) master: Option<Master>,
}

/// Its calls to masters.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) registration: RegistrationState,
    /// The masters it calls in turn.
    pub(super) masters: MasterSelector,
    /// The call under way; 0 for none.
    pub(super) call: u64,
}

/// What only a master has.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) election: Election,
    pub(super) registry: Option<Registry>,
    /// The leader it is a member of.
    pub(super) follows: Option<MasterId>,
}

impl Master {
    /// The number of its latest view; 0 while it does not lead.
    pub(super) fn latest_view(&self) -> u64 {
        self.registry.as_ref().map_or(0, Registry::view)
    }
}

impl Client {
    pub(super) fn new(masters: Vec<String>, now: Instant) -> Self {
        Self {
            registration: RegistrationState::new(heartbeat(), Duration::from_secs(3), now),
            masters: MasterSelector::new(masters),
            call: 0,
        }
    }

    /// Another master announces that it leads.
    pub(super) fn led_by(&mut self, leader: &str, now: Instant) {
        if self.masters.lead_by(leader) {
            self.registration.call_now(now);
            self.call = 0;
        }
    }
}

impl Process {
    /// Creates a process whose clock begins now. A master takes part since `started`, among `electors`.
    pub(super) fn new(
        node: Node,
        id: u64,
        masters: usize,
        electors: Vec<String>,
        seed: u64,
        clock: Clock,
        started: Instant,
    ) -> Self {
        let own = Member::new(Info {
            address: address(node),
            incarnation: id,
            ..Info::default()
        });
        let now = clock.local(started);
        let master = (node < masters).then(|| Master {
            election: Election::new(
                MasterId {
                    address: address(node),
                    incarnation: id,
                },
                electors,
                lease_config(),
                seed,
                started,
            ),
            registry: None,
            follows: None,
        });
        let client = master.is_none().then(|| {
            let mut known: Vec<_> = (0..masters).map(address).collect();
            known.rotate_left(seed as usize % masters);
            Client::new(known, now)
        });
        Self {
            id,
            table: MemberTable::new(own.address()),
            client,
            own,
            clock,
            heard: 0,
            view: 0,
            master,
        }
    }

    /// Returns the highest number it has seen, as members send it.
    pub(super) fn seen(&self) -> u64 {
        self.table.term().max(self.heard)
    }

    /// Returns the term it leads in, by its own clock.
    pub(super) fn leads(&self, now: Instant) -> Option<u64> {
        let master = self.master.as_ref()?;
        let lease = master.election.leads(self.clock.local(now))?;
        Some(lease.term)
    }

    /// Returns its register if it leads now.
    pub(super) fn leading(&mut self, now: Instant) -> Option<&mut Registry> {
        let now = self.clock.local(now);
        let master = self.master.as_mut()?;
        let lease = master.election.leads(now)?;
        let registry = master.registry.as_mut()?;
        if registry.term() != lease.term {
            return None;
        }
        registry.reserve(lease.reserved);
        Some(registry)
    }
}
