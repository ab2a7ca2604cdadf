//! One process: the real state machines of membership, owner and gate.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::{
        directory::{
            holdings::Holdings,
            lease::Lease,
            owner::Owner,
            view::{NodeId, View},
        },
        membership::{
            heartbeat::HeartbeatConfig, registration::RegistrationState, registry::Registry,
            table::MemberTable,
        },
    },
    member::{Info, Member},
};

pub(super) const RETRY: Duration = Duration::from_millis(500);

pub(super) struct Process {
    pub(super) id: NodeId,
    pub(super) member: Member,
    /// Only the master has it.
    pub(super) registry: Option<Registry>,
    pub(super) registration: RegistrationState,
    pub(super) table: MemberTable,
    pub(super) owner: Owner,
    pub(super) gate: Holdings,
    /// Who waits for an answer: node, and the number of its call.
    pub(super) callers: BTreeMap<u64, (NodeId, u64)>,
    pub(super) last_caller: u64,
    pub(super) next_session: i64,
    pub(super) leaving: bool,
    /// When the heartbeat was sent whose reply is awaited.
    pub(super) heartbeat_sent: Option<Instant>,
}

pub(super) fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig::new(Duration::from_secs(1))
}

impl Process {
    pub(super) fn new(node: usize, incarnation: u64, now: Instant) -> Self {
        let address = format!("n:{node}");
        let member = Member::new(Info {
            address: address.clone(),
            incarnation,
            link: true,
            ..Info::default()
        });
        let id = NodeId {
            address: Arc::from(&*address),
            incarnation,
        };
        let lease = match node {
            0 => Lease::endless(),
            _ => Lease::new(heartbeat().eviction_timeout(&member)),
        };
        Self {
            registry: (node == 0).then(|| Registry::new(member.clone(), heartbeat(), now)),
            registration: RegistrationState::new(heartbeat(), RETRY, now),
            table: MemberTable::new(address),
            owner: Owner::new(id.clone()),
            gate: Holdings::new(lease, now),
            callers: BTreeMap::new(),
            last_caller: 0,
            next_session: 1,
            leaving: false,
            heartbeat_sent: None,
            member,
            id,
        }
    }

    pub(super) fn process(&self) -> u64 {
        self.id.incarnation
    }

    pub(super) fn expect(&mut self, from: NodeId, call: u64) -> u64 {
        self.last_caller += 1;
        self.callers.insert(self.last_caller, (from, call));
        self.last_caller
    }

    /// Goes on to the view of a table, unless it is there already.
    pub(super) fn set_view(&mut self, number: u64, others: &[Member], now: Instant) {
        if number <= self.owner.view().number() {
            return;
        }
        let members = others.iter().chain([&self.member]);
        let nodes = members.map(|member| NodeId {
            address: member.address().into(),
            incarnation: member.incarnation(),
        });
        let view = View::new(number, nodes.collect());
        self.gate.set_view(view.clone());
        self.owner.set_view(view, now);
    }

    /// The master's own view.
    pub(super) fn follow_registry(&mut self, now: Instant) {
        let Some(registry) = &self.registry else {
            return;
        };
        let number = registry.view_for(self.member.address(), now).number;
        if number != 0 {
            let members = registry.members();
            self.set_view(number, &members, now);
        }
    }
}
