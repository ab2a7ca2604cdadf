//! Nodes, clients and faults on one network.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    defects::Defect,
    injection::KINDS,
    links::Links,
    network::{Event, Network, Node},
    node::{Process, Views, heartbeat},
    oracle::Oracle,
    shape::Shape,
};
use crate::{
    cluster::{
        directory::{message::Policy, slots::slot_of},
        membership::registry::MembershipDelta,
    },
    session::UserId,
};

/// How often the directory looks at the clock while it waits for something.
const TICK: Duration = Duration::from_millis(100);
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) faults: [usize; KINDS],
    pub(super) nodes: Vec<Option<Process>>,
    views: Views,
    /// All users, with their slots.
    pub(super) users: Vec<(UserId, u16)>,
    pub(super) policy: Policy,
    /// How many sessions there have been.
    pub(super) sessions: i64,
    /// What is wrong with all nodes on purpose.
    pub(super) defect: Option<Defect>,
    /// Whether something has changed that [`check`](Self::check) looks at.
    pub(super) changed: bool,
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape::of(seed, &mut random);
        let policy = match random.random_ratio(1, 4) {
            true => Policy::Reject,
            false => Policy::Replace,
        };
        let users = shape.users.iter().cloned();
        let mut world = Self {
            network: Network::new(random, &shape),
            oracle: Oracle::default(),
            faults: [0; KINDS],
            nodes: (0..shape.nodes).map(|_| None).collect(),
            views: Views::new(shape.slots),
            users: users.map(|user| (user.clone(), slot_of(&user))).collect(),
            policy,
            sessions: 0,
            defect,
            changed: false,
            shape,
        };
        (0..world.nodes.len()).for_each(|node| world.start(node));
        let faults = world.shape.faults.start;
        world.network.after(faults, Event::Fault);
        world.network.after(Duration::from_secs(1), Event::Client);
        world
    }

    /// As [`new`](Self::new), with messages of the directory on real links.
    pub(super) fn over_links(seed: u64, defect: Option<Defect>) -> Self {
        let mut world = Self::new(seed, defect);
        let mut links = Links::new(seed, world.nodes.len(), world.network.now);
        for (node, running) in world.nodes.iter().enumerate() {
            if let Some(running) = running {
                links.start(node, running.process());
            }
        }
        world.network.links = Some(links);
        world
    }

    /// Plays the schedule. Returns what does not hold.
    pub(super) fn run(&mut self) -> Option<String> {
        while let Some(event) = self.network.next() {
            self.handle(event);
            self.check();
            if let Some(problem) = self.oracle.problem.take() {
                return Some(problem);
            }
        }
        self.diverged()
    }

    pub(super) fn start(&mut self, node: Node) {
        let incarnation = self.network.new_incarnation();
        let now = self.network.now;
        let started = Process::new(node, incarnation, &self.views, self.defect, now);
        let process = started.process();
        self.nodes[node] = Some(started);
        self.network
            .change_links(|links| links.start(node, process));
        match node {
            0 => {
                let evict = Event::Evict { node, process };
                self.network.after(heartbeat().tick_interval(), evict);
            }
            _ => {
                let due = Event::HeartbeatDue { node, process };
                self.network.after(Duration::ZERO, due);
            }
        }
    }

    pub(super) fn stop(&mut self, node: Node) {
        if let Some(process) = self.nodes[node].take() {
            self.oracle.stopped(process.process(), self.network.now);
        }
        self.network.suspended.remove(&node);
        self.network.change_links(|links| links.stop(node));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault => self.inject_fault(),
            Event::Client => self.act(),
            Event::Tick { node, process } if self.runs(node, process) => self.tick(node),
            Event::Evict { node, process } if self.runs(node, process) => {
                self.evict(node, process);
            }
            Event::HeartbeatDue { node, process } => self.heartbeat(node, process),
            Event::Arrived { from, to, message } => self.on_message(from, to, message),
            Event::TimedOut {
                node,
                process,
                reply,
            } if self.runs(node, process) => {
                self.on_message(node, node, reply);
            }
            Event::CallbacksDone {
                node,
                process,
                session,
            } if self.runs(node, process) => {
                self.oracle.finished((process, session));
                self.callbacks_ran(node, session);
                self.flush(node);
            }
            Event::Exit { node, process } if self.runs(node, process) => {
                self.stop(node);
                self.start(node);
            }
            Event::Tick { .. }
            | Event::Evict { .. }
            | Event::TimedOut { .. }
            | Event::CallbacksDone { .. }
            | Event::Exit { .. } => {}
        }
    }

    fn runs(&self, node: Node, process: u64) -> bool {
        let running = self.nodes[node].as_ref();
        running.is_some_and(|running| running.process() == process)
    }

    fn tick(&mut self, node: Node) {
        let now = self.network.now;
        if let Some(running) = &mut self.nodes[node] {
            running.ticks = false;
            running.gate.tick(now);
            running.owner.tick(now);
        }
        self.flush(node);
    }

    /// Has the directory of a node look at the clock, if it needs that.
    pub(super) fn schedule_tick(&mut self, node: Node) {
        if let Some(running) = &mut self.nodes[node]
            && !running.ticks
            && running.is_busy()
        {
            running.ticks = true;
            let process = running.process();
            self.network.after(TICK, Event::Tick { node, process });
        }
    }

    /// The master looks for silent members.
    fn evict(&mut self, node: Node, process: u64) {
        let now = self.network.now;
        if let Some(running) = &mut self.nodes[node]
            && let Some(registry) = &mut running.registry
        {
            for removal in registry.tick(now) {
                registry.remove(&removal, now, &mut MembershipDelta::default());
            }
            self.changed |= running.follow_registry(now);
        }
        self.flush(node);
        let evict = Event::Evict { node, process };
        self.network.after(heartbeat().tick_interval(), evict);
    }
}
