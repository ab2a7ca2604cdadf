//! One process: the real state machines of membership, owner and gate.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{defects::Defect, lease::Lease};
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
    session::UserId,
};

pub(super) const RETRY: Duration = Duration::from_millis(500);

/// The views of a simulation. To make one takes long, and every process of it makes the same.
#[derive(Clone)]
pub(super) struct Views {
    slots: u16,
    known: Rc<RefCell<HashMap<ViewKey, View>>>,
}

/// The number of a view, its nodes, and the incarnation of the master.
type ViewKey = (u64, Vec<NodeId>, u64);

impl Views {
    pub(super) fn new(slots: u16) -> Self {
        Self {
            slots,
            known: Rc::default(),
        }
    }

    fn get(&self, number: u64, mut nodes: Vec<NodeId>, master: u64) -> View {
        nodes.sort();
        let mut known = self.known.borrow_mut();
        let view = known.entry((number, nodes.clone(), master));
        view.or_insert_with(|| View::of_slots(self.slots, number, nodes, master))
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
    /// Which of them wait for the login of which session.
    pub(super) claims: BTreeMap<u64, (UserId, i64)>,
    pub(super) leaving: bool,
    /// Sessions whose close callbacks are waited for, and those whose callbacks have run before.
    pub(super) awaited: BTreeSet<i64>,
    pub(super) finished: BTreeSet<i64>,
    /// When the heartbeat was sent whose reply is awaited.
    pub(super) heartbeat_sent: Option<Instant>,
    /// Whether a tick of the directory is due.
    pub(super) ticks: bool,
    defect: Option<Defect>,
}

pub(super) fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig::new(Duration::from_secs(1))
}

impl Process {
    pub(super) fn new(
        node: usize,
        incarnation: u64,
        views: &Views,
        defect: Option<Defect>,
        now: Instant,
    ) -> Self {
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
        let mut eviction = heartbeat().eviction_timeout(&member);
        if defect == Some(Defect::LongLease) {
            eviction = eviction * 3 / 2;
        }
        // The master that is in a hurry has been silent for long enough when it starts.
        let started = match defect {
            Some(Defect::StatesViewsAtOnce) => now - 2 * eviction,
            _ => now,
        };
        let mut process = Self {
            views: views.clone(),
            registry: (node == 0).then(|| Registry::new(member.clone(), heartbeat(), started)),
            registration: RegistrationState::new(heartbeat(), RETRY, now),
            table: MemberTable::new(address),
            owner: Owner::new(id.clone()),
            gate: Holdings::new(),
            master: 0,
            lease: Lease::new((node != 0).then_some(eviction)),
            confirmed: BTreeSet::new(),
            callers: BTreeMap::new(),
            last_caller: 0,
            claims: BTreeMap::new(),
            leaving: false,
            awaited: BTreeSet::new(),
            finished: BTreeSet::new(),
            heartbeat_sent: None,
            ticks: false,
            defect,
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

    /// Goes on to the view of a table. Returns `false` if it is there already.
    pub(super) fn set_view(
        &mut self,
        number: u64,
        others: &[Member],
        master: u64,
        now: Instant,
    ) -> bool {
        let known = self.owner.view().number();
        if number < known || number == known && number != 0 {
            return false;
        }
        let members = others.iter().chain([&self.member]);
        let nodes = members.map(|member| NodeId {
            address: member.address().into(),
            incarnation: member.incarnation(),
        });
        let nodes: Vec<_> = nodes.collect();
        if self.defect == Some(Defect::KeepsSlotsOverViews) && number < known + 20 {
            // The views between, as if they had been this one.
            for between in known + 1..number {
                let view = self.views.get(between, nodes.clone(), master);
                self.owner.set_view(view, now);
            }
        }
        let view = self.views.get(number, nodes, master);
        let yields = self.owner.view().yields_to(&view);
        if yields {
            self.gate.set_view(view.clone());
            self.owner.set_view(view, now);
        }
        yields
    }

    /// The members that it knows: their nodes and processes.
    pub(super) fn members(&self) -> BTreeMap<usize, u64> {
        let registry = self.registry.as_ref();
        let members = registry.map_or_else(|| self.table.list(), Registry::members);
        let others = members
            .into_iter()
            .filter(|it| it.address() != self.member.address());
        others
            .map(|it| (number(it.address()), it.incarnation()))
            .collect()
    }

    /// Whether its state machines need the clock.
    pub(super) fn is_busy(&self) -> bool {
        !(self.owner.is_idle() && self.gate.is_idle())
    }

    /// Whether the master counts this process as alive, in a view.
    pub(super) fn has_lease(&self, now: Instant) -> bool {
        !self.leaving && self.lease.is_valid(now) && self.owner.view().number() != 0
    }

    /// Goes on to the master's own view. Returns `false` if it is there already.
    pub(super) fn follow_registry(&mut self, now: Instant) -> bool {
        let Some(registry) = &self.registry else {
            return false;
        };
        let number = registry.stated_view(now);
        if number != 0 && number == self.owner.view().number() {
            return false;
        }
        let members = registry.members();
        self.set_view(number, &members, self.process(), now)
    }
}

/// The number of the node with an address.
pub(super) fn number(address: &str) -> usize {
    address.trim_start_matches("n:").parse().unwrap()
}
