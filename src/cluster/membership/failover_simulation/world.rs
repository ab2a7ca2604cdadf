//! Masters and members on one network, and what each does with an event.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    clock::Clock,
    defects::Defect,
    event::{Delivery, Event, Node},
    faults::{KINDS, LOSS},
    oracle::Oracle,
    process::{Process, address, lease_config},
};
use crate::cluster::membership::election::message::{LeaseRequest, Purpose};

const FAULTY: Duration = Duration::from_secs(30);
/// Two thirds of it are enough: a new leader states no view for six to eight seconds.
const QUIET: Duration = Duration::from_secs(20);

pub(super) type Outcome = Result<(), String>;

pub(super) struct World {
    pub(super) random: StdRng,
    pub(super) now: Instant,
    pub(super) faults_end: Instant,
    pub(super) faults: [usize; KINDS],
    pub(super) oracle: Oracle,
    pub(super) trace: Option<Vec<String>>,
    /// What is wrong with all nodes on purpose.
    pub(super) defect: Option<Defect>,
    /// Whether only masters fail, and only messages between them are lost.
    pub(super) calm: bool,
    pub(super) masters: usize,
    /// One message of so many is slow.
    slow: u32,
    /// Masters first; `None` for a node that is down.
    pub(super) processes: Vec<Option<Process>>,
    /// Until when a node is stopped.
    pub(super) stopped: Vec<Instant>,
    /// Until when two nodes do not reach each other.
    pub(super) partitions: BTreeMap<(Node, Node), Instant>,
    start: Instant,
    wakes: Vec<Option<Instant>>,
    /// Boxed: the tree moves what it holds.
    events: BTreeMap<(Instant, u64), Box<Delivery>>,
    pub(super) last_id: u64,
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let masters = if random.random() { 3 } else { 5 };
        let nodes = masters + random.random_range(1..4);
        let (calm, congested) = (random.random_ratio(1, 3), random.random_ratio(1, 4));
        let now = Instant::now();
        let mut world = Self {
            calm,
            random,
            now,
            faults_end: now + FAULTY,
            faults: [0; KINDS],
            oracle: Oracle::default(),
            trace: None,
            defect,
            masters,
            slow: if congested { 2 } else { 10 },
            processes: (0..nodes).map(|_| None).collect(),
            stopped: vec![now; nodes],
            partitions: BTreeMap::new(),
            start: now,
            wakes: vec![None; nodes],
            events: BTreeMap::new(),
            last_id: 0,
        };
        (0..nodes).for_each(|node| world.start(node));
        let first = world.now + Duration::from_secs(4);
        world.at(first, 0, 0, Event::Fault);
        world.at(world.faults_end, 0, 0, Event::Fault);
        world
    }

    /// # Errors
    /// Describes what does not hold.
    pub(super) fn run(&mut self) -> Outcome {
        while let Some(((at, _), delivery)) = self.events.pop_first() {
            if at > self.faults_end + QUIET {
                return self.converged();
            }
            self.now = at;
            let Delivery { to, process, event } = *delivery;
            let is_fault = matches!(event, Event::Fault);
            if !is_fault && self.stopped[to] > at {
                self.at(self.stopped[to], to, process, event);
                continue;
            }
            let runs = self.processes[to].as_ref().map(|it| it.id);
            if !is_fault && (runs.is_none() || process != 0 && runs != Some(process)) {
                continue;
            }
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:?} {to} {}", at - self.start, event.describe()));
            }
            match event {
                Event::Fault => self.inject_fault(),
                event => {
                    self.handle(to, event)?;
                    self.follow_leader(to);
                    self.schedule_wake(to);
                }
            }
            if to < self.masters {
                self.one_leads()?;
            }
        }
        self.converged()
    }

    pub(super) fn at(&mut self, at: Instant, to: Node, process: u64, event: Event) {
        self.last_id += 1;
        let delivery = Box::new(Delivery { to, process, event });
        self.events.insert((at, self.last_id), delivery);
    }

    pub(super) fn start(&mut self, node: Node) {
        self.last_id += 1;
        let speed = self.random.random_range(900..=1100);
        // Most show the right time, some are an hour behind.
        let behind = self.random.random_ratio(1, 4);
        let wall = 10_000_000_000 - if behind { 3_600_000_000 } else { 0 };
        let clock = Clock::new(self.now, speed, wall + self.elapsed());
        let (id, seed) = (self.last_id, self.random.random());
        let started = match self.defect {
            Some(Defect::GrantsAtOnce) => self.now - lease_config().lease,
            _ => self.now,
        };
        let electors = match self.defect {
            Some(Defect::LeadsAlone) => vec![address(node)],
            _ => (0..self.masters).map(address).collect(),
        };
        let process = Process::new(node, id, self.masters, electors, seed, clock, started);
        self.processes[node] = Some(process);
        self.stopped[node] = self.now;
        self.wakes[node] = None;
        self.schedule_wake(node);
        if node < self.masters {
            self.at(self.now, node, id, Event::Tick);
        }
    }

    fn elapsed(&self) -> u64 {
        (self.now - self.start).as_micros() as u64
    }

    /// Sends a message, which is lost, late, or in time.
    pub(super) fn send(&mut self, from: Node, to: Node, process: u64, event: Event) {
        let between_masters = from < self.masters && to < self.masters;
        let faulty = self.now < self.faults_end && (!self.calm || between_masters);
        let cut = self.partitions.get(&(from.min(to), from.max(to)));
        if cut.is_some_and(|until| *until > self.now) || faulty && self.random.random_ratio(1, 20) {
            self.count(LOSS);
            return;
        }
        let slow = faulty && self.random.random_ratio(1, self.slow);
        let delay = self
            .random
            .random_range(if slow { 100..3_000 } else { 1..40 });
        self.at(self.now + Duration::from_millis(delay), to, process, event);
    }

    /// The master asks the others for what it wants.
    fn elect(&mut self, node: Node, local: Instant) {
        let now = self.now;
        let process = self.process(node);
        let (id, wall) = (process.id, process.clock.wall(now));
        let request = process.master.as_mut().and_then(|master| {
            let view = master.latest_view();
            master.election.tick(wall, view, local)
        });
        if let Some(request) = request {
            self.ask(node, id, &request, local);
        }
    }

    pub(super) fn ask(&mut self, from: Node, process: u64, request: &LeaseRequest, sent: Instant) {
        for to in (0..self.masters).filter(|to| *to != from) {
            let request = request.clone();
            let event = Event::Ask {
                from,
                process,
                request,
                sent,
            };
            self.send(from, to, 0, event);
        }
    }

    fn schedule_wake(&mut self, node: Node) {
        let Some(process) = &self.processes[node] else {
            return;
        };
        let client = process.client.as_ref().filter(|it| it.call == 0);
        let call = client.map(|it| it.registration.due());
        let election = process.master.as_ref().map(|it| it.election.due());
        let Some(due) = call.into_iter().chain(election).min() else {
            return;
        };
        let due = process.clock.global(due).max(self.now);
        if self.wakes[node].is_none_or(|wake| due < wake || wake < self.now) {
            self.wakes[node] = Some(due);
            let id = process.id;
            self.at(due, node, id, Event::Wake);
        }
    }

    pub(super) fn process(&mut self, node: Node) -> &mut Process {
        self.processes[node].as_mut().unwrap()
    }

    fn handle(&mut self, node: Node, event: Event) -> Outcome {
        let now = self.now;
        let local = self.process(node).clock.local(now);
        match event {
            Event::Fault => {}
            Event::Wake => {
                self.wakes[node].take_if(|wake| *wake <= now);
                self.elect(node, local);
                self.call_master(node, local);
            }
            Event::Tick => return self.tick(node, local),
            Event::Ask {
                from,
                process,
                request,
                sent,
            } => {
                let at = self.time_of(&request, local);
                let grants_all = self.defect == Some(Defect::GrantsAll);
                if let Some(master) = &mut self.process(node).master {
                    let mut reply = master.election.on_request(&request, at);
                    reply.granted |= grants_all && request.purpose == Purpose::Renew;
                    let answer = Event::Answer {
                        from: node,
                        request,
                        sent,
                        reply,
                    };
                    self.send(node, from, process, answer);
                }
            }
            Event::Answer {
                from,
                request,
                sent,
                reply,
            } => {
                let sent = self.sent(sent, local);
                if let Some(master) = &mut self.process(node).master {
                    let from = address(from);
                    master
                        .election
                        .on_reply(&from, &request, sent, reply, local);
                }
            }
            Event::Call { .. } => return self.on_call(node, event, local),
            Event::Reply { id, reply } => return self.on_reply(node, id, reply, local),
            Event::Announced { term, announcement } => {
                return self.on_announcement(node, term, announcement, local);
            }
        }
        Ok(())
    }
}
