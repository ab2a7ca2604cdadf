//! The nodes and clients in virtual time: the queue of events, and what must hold.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    clients::Client,
    connections::Connection,
    defects::Defect,
    event::{At, Call, Event},
    gates::Gate,
    oracle::Oracle,
};
use crate::{
    cluster::mesh::{Mesh, Out},
    gate::{client_state::Phase, config::GateConfig, live_limits::LiveLimits, moved_close::Follow},
};

pub(super) const GATES: usize = 3;
pub(super) const BACKENDS: usize = 2;
const CLIENTS: usize = 3;

/// How long faults happen, and how long the world then takes to settle.
const TROUBLE: Duration = Duration::from_secs(8);
const CALM: Duration = Duration::from_secs(25);
const REST: Duration = Duration::from_secs(10);

/// The interval of deadlines.
const TICK: u64 = 100;

pub(super) struct World {
    pub(super) random: StdRng,
    begun: Instant,
    pub(super) now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    /// Gates first, then backends.
    pub(super) mesh: Mesh,
    pub(super) gates: Vec<Gate>,
    pub(super) clients: Vec<Client>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) limits: LiveLimits,
    lingers: bool,
    /// The last number of a session or a connection.
    last: u64,
    pub(super) oracle: Oracle,
    pub(super) defect: Option<Defect>,
    pub(super) trace: Option<Vec<String>>,
    problem: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> Self {
        let now = Instant::now();
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            begun: now,
            now,
            events: BTreeMap::new(),
            count: 0,
            mesh: Mesh::new(seed, GATES + BACKENDS, now),
            gates: (0..GATES).map(|_| Gate::default()).collect(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            connections: BTreeMap::new(),
            calls: BTreeMap::new(),
            limits: LiveLimits::new(&GateConfig::default()),
            lingers: seed.is_multiple_of(2),
            last: 0,
            oracle: Oracle::new(seed.is_multiple_of(3)),
            defect,
            trace: None,
            problem: None,
        };
        for client in 0..CLIENTS {
            world.later(0, Event::Return { client });
        }
        world.later(50, Event::Act);
        world.later(TICK, Event::Tick);
        world
    }

    /// Runs until the world has settled.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let end = self.begun + TROUBLE + CALM;
        loop {
            let own = self.events.keys().next().map(|(at, _)| *at);
            let mesh = self.mesh.next_at();
            let Some(at) = own.into_iter().chain(mesh).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = at;
            if mesh == Some(at) {
                self.mesh.step();
            } else if let Some((_, event)) = self.events.pop_first() {
                self.mesh.set_now(at);
                self.note(|| format!("{event:?}"));
                self.handle(event);
            }
            while let Some(out) = self.mesh.take_out() {
                self.note(|| brief(&out));
                self.out(out);
            }
            self.check_live();
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
        }
        self.check_settled()
    }

    pub(super) fn has_defect(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    pub(super) fn is_calm(&self) -> bool {
        self.now > self.begun + TROUBLE
    }

    /// Whether gates that drain go on without sessions: in half of the runs, from half of the faults on.
    /// It is as with a session that cannot move: what has moved must not wait for the end of its gate.
    pub(super) fn lingers(&self) -> bool {
        self.lingers && self.now > self.begun + TROUBLE / 2
    }

    /// Whether nothing more is to be sent, so that all can arrive.
    pub(super) fn is_over(&self) -> bool {
        self.now > self.begun + TROUBLE + CALM - REST
    }

    pub(super) fn later(&mut self, millis: u64, event: Event) {
        self.at(self.now + Duration::from_millis(millis), event);
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Notes what does not hold, unless something else did not before.
    pub(super) fn expect(&mut self, holds: Result<(), String>) {
        if let Err(problem) = holds {
            self.note(|| format!("PROBLEM {problem}"));
            self.problem.get_or_insert(problem);
        }
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.now - self.begun;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:6} {}", at.as_millis(), text()));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Act => {
                self.act();
                let pause = self.random.random_range(1..25);
                self.later(pause, Event::Act);
            }
            Event::Tick => {
                self.tick();
                self.later(TICK, Event::Tick);
            }
            Event::Up { conn, packet } => self.up(conn, packet),
            Event::Down { conn, packet } => self.down(conn, packet),
            Event::ClientLost(conn) => self.client_lost(conn),
            Event::GateLost(conn) => self.gate_lost(conn),
            Event::Return { client } => self.come_back(client),
            Event::ReplyDue(conn) => self.reply_due(conn),
            Event::Find { gate, back } => self.asked(gate, back),
            Event::Flush(at) if self.is_current(at) => self.flush(at.gate, at.id),
            Event::Left(at) if self.is_current(at) => self.left(at),
            Event::Adopt(at) if self.is_current(at) => self.send_adopt(at),
            Event::Release { at, node, times } if self.is_current(at) => {
                self.release(at, node, times);
            }
            Event::Close { at, to, times } if self.is_current(at) => {
                self.send_close(at, to, times);
            }
            Event::Entered(at) if self.is_current(at) => self.entered(at),
            Event::EndMoved(at) if self.is_current(at) => self.follow(at, Follow::Look),
            Event::Flush(_)
            | Event::Left(_)
            | Event::Adopt(_)
            | Event::Release { .. }
            | Event::Close { .. }
            | Event::Entered(_)
            | Event::EndMoved(_) => {}
            Event::CallDue(call) => self.call_due(call),
            Event::Handled {
                at,
                session,
                request,
            } => self.handled(at, &session, request),
            Event::Restart(gate) => {
                self.oracle.count("gate restarted");
                self.mesh.restart(gate);
            }
        }
    }

    fn out(&mut self, out: Out) {
        match out {
            Out::Deliver {
                at,
                session,
                request,
                body,
            } => self.deliver(at, session, request, &body),
            Out::Ended { at, session } => {
                let holds = self.oracle.ended_at(at, &session);
                self.expect(holds);
            }
            Out::Call {
                at,
                from,
                call,
                method,
                body,
            } => self.called((at, from), call, &method, body),
            Out::Reply { call, answer } => {
                if let Some(waits) = self.calls.remove(&call) {
                    self.answered(waits, answer.map(drop));
                }
            }
            Out::Push { at, session, body } => self.push(at, session, &body),
            Out::Respond {
                at,
                session,
                request,
            } => self.respond(at, session, request),
            Out::Failed {
                at,
                session,
                requests,
            } => {
                for request in requests {
                    self.oracle.count("request failed");
                    self.respond(at, session, request);
                }
            }
            Out::Close { at, session } => self.kick(at, session),
        }
    }

    fn is_current(&self, at: At) -> bool {
        self.mesh.is_alive(at.gate) && self.mesh.incarnation(at.gate) == at.incarnation
    }

    pub(super) fn at_gate(&self, gate: usize, id: i64) -> At {
        let incarnation = self.mesh.incarnation(gate);
        At {
            gate,
            incarnation,
            id,
        }
    }

    /// Checks that each session is live on one gate at most.
    fn check_live(&mut self) {
        let mut live = BTreeMap::new();
        for (number, gate) in self.gates.iter().enumerate() {
            for (id, entry) in &gate.sessions {
                let client = entry.handle.0.lock();
                let moves = matches!(client.phase, Phase::Moving(_));
                if !moves && let Some(other) = live.insert(*id, number) {
                    let problem = format!("session {id}: live on gates {other} and {number}");
                    drop(client);
                    return self.expect(Err(problem));
                }
            }
        }
    }

    /// Checks that everything has arrived, and that nothing is left over.
    fn check_settled(&self) -> Result<(), String> {
        for client in &self.clients {
            let Some(id) = client.session else {
                return Err("a client never got a session".to_owned());
            };
            let at = self.gates.iter().filter(|it| it.sessions.contains_key(&id));
            let at = at.count();
            if self.oracle.kicked.contains(&id) || client.over {
                // Only a gate that has crashed may have known of the kick.
                let is_forgotten = self.oracle.may_be_lost.contains(&id);
                if at != 0 && !is_forgotten || !client.over {
                    return Err(format!("session {id}: kicked or lost, and open"));
                }
                continue;
            }
            if at != 1 || !client.open {
                return Err(format!(
                    "session {id}: on {at} gates, open: {}",
                    client.open
                ));
            }
            if let Some(missing) = self.oracle.missing(id) {
                return Err(format!("session {id}: {missing:?} has not arrived"));
            }
            if !client.requests.is_empty() {
                return Err(format!("session {id}: no end of {:?}", client.requests));
            }
            let taken = self.oracle.taken(id);
            if taken != client.sent {
                return Err(format!("session {id}: {taken} of {} taken", client.sent));
            }
            for backend in 0..BACKENDS {
                let (sent, node) = (client.sent_to[backend], GATES + backend);
                let delivered = self.oracle.last_delivered(id, node);
                if self.oracle.quiet && delivered != sent {
                    return Err(format!("session {id}: {delivered} of {sent} at {node}"));
                }
            }
        }
        self.check_served()
    }

    /// Checks that a backend serves for each gate what that gate knows to be served there, and nothing
    /// else.
    fn check_served(&self) -> Result<(), String> {
        for node in GATES..GATES + BACKENDS {
            for gate in 0..GATES {
                for id in self.mesh.served_for(node, gate) {
                    let mut serving = self.mesh.serving(gate, id).into_iter();
                    let is_known = serving.any(|(at, _)| at == node);
                    if !is_known || !self.gates[gate].sessions.contains_key(&id) {
                        return Err(format!("session {id}: left over at {node} for {gate}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Without the bodies of calls, in which there are tokens.
fn brief(out: &Out) -> String {
    match out {
        Out::Call {
            at,
            from,
            call,
            method,
            ..
        } => format!("{method} {call} from {from} at {at}"),
        other => format!("{other:?}"),
    }
}
