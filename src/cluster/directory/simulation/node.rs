//! One process: the real state machines of membership, owner and gate.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::lease::Lease;
use crate::{
    cluster::{
        directory::{
            holdings::Holdings,
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

/// The views of a simulation. To make one takes long, and every process of it makes the same.
#[derive(Clone, Default)]
pub(super) struct Views(Rc<RefCell<HashMap<ViewKey, View>>>);

/// The number of a view, its nodes, and the incarnation of the master.
type ViewKey = (u64, Vec<NodeId>, u64);

impl Views {
    fn get(&self, number: u64, mut nodes: Vec<NodeId>, master: u64) -> View {
        nodes.sort();
        let mut views = self.0.borrow_mut();
        let view = views.entry((number, nodes.clone(), master));
        view.or_insert_with(|| View::new(number, nodes, master))
            .clone()
    }
}

pub(super) struct Process {
    views: Views,
    pub(super) id: NodeId,
    pub(super) member: Member,
    /// Only the master has it.
    pub(super) registry: Option<Registry>,
    pub(super) registration: RegistrationState,
    pub(super) table: MemberTable,
    pub(super) owner: Owner,
    pub(super) gate: Holdings,
    /// The incarnation of the master that answered last; 0 for none.
    pub(super) master: u64,
    pub(super) lease: Lease,
    /// The sessions with claims that are confirmed.
    pub(super) confirmed: BTreeSet<i64>,
    /// Who waits for an answer: node, and the number of its call.
    pub(super) callers: BTreeMap<u64, (NodeId, u64)>,
    pub(super) last_caller: u64,
    pub(super) next_session: i64,
    pub(super) leaving: bool,
    /// Sessions whose close callbacks are waited for, and those whose callbacks have run before.
    pub(super) awaited: BTreeSet<i64>,
    pub(super) finished: BTreeSet<i64>,
    /// When the heartbeat was sent whose reply is awaited.
    pub(super) heartbeat_sent: Option<Instant>,
}

pub(super) fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig::new(Duration::from_secs(1))
}

impl Process {
    pub(super) fn new(node: usize, incarnation: u64, views: &Views, now: Instant) -> Self {
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
        let eviction = heartbeat().eviction_timeout(&member);
        let mut process = Self {
            views: views.clone(),
            registry: (node == 0).then(|| Registry::new(member.clone(), heartbeat(), now)),
            registration: RegistrationState::new(heartbeat(), RETRY, now),
            table: MemberTable::new(address),
            owner: Owner::new(id.clone()),
            gate: Holdings::new(),
            master: 0,
            lease: Lease::new((node != 0).then_some(eviction)),
            confirmed: BTreeSet::new(),
            callers: BTreeMap::new(),
            last_caller: 0,
            next_session: 1,
            leaving: false,
            awaited: BTreeSet::new(),
            finished: BTreeSet::new(),
            heartbeat_sent: None,
            member,
            id,
        };
        if node == 0 {
            process.set_view(0, &[], incarnation, now);
        }
        process
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
    pub(super) fn set_view(&mut self, number: u64, others: &[Member], master: u64, now: Instant) {
        let known = self.owner.view().number();
        if number < known || number == known && number != 0 {
            return;
        }
        let members = others.iter().chain([&self.member]);
        let nodes = members.map(|member| NodeId {
            address: member.address().into(),
            incarnation: member.incarnation(),
        });
        let view = self.views.get(number, nodes.collect(), master);
        if self.owner.view().yields_to(&view) {
            self.gate.set_view(view.clone());
            self.owner.set_view(view, now);
        }
    }

    /// Whether the master counts this process as alive, in a view.
    pub(super) fn has_lease(&self, now: Instant) -> bool {
        !self.leaving && self.lease.is_valid(now) && self.owner.view().number() != 0
    }

    /// The master's own view.
    pub(super) fn follow_registry(&mut self, now: Instant) {
        let Some(registry) = &self.registry else {
            return;
        };
        let number = registry.view_for(self.member.address(), now).number;
        let members = registry.members();
        let own = self.process();
        self.set_view(number, &members, own, now);
    }
}
