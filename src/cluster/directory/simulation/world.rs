//! Nodes, clients and faults on one network.

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;

use super::{
    network::{Event, Message, Network, Node, Sent},
    node::{Process, Views},
    oracle::Oracle,
};
use crate::{
    cluster::{
        directory::{
            message::{Place, Policy},
            owner::Owner,
            slots::slot_of,
        },
        membership::{
            registration::{Call, Reply},
            registry::{MembershipDelta, Refusal},
        },
    },
    session::UserId,
};

const USERS: i64 = 5;
const TICK: Duration = Duration::from_millis(100);
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct World {
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) faults: [usize; 6],
    pub(super) nodes: Vec<Option<Process>>,
    views: Views,
    /// All users, with their slots.
    users: Vec<(UserId, u16)>,
    policy: Policy,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut network = Network::new(seed);
        let nodes = network.random.random_range(3..7);
        let policy = match network.random.random_ratio(1, 4) {
            true => Policy::Reject,
            false => Policy::Replace,
        };
        let mut world = Self {
            network,
            oracle: Oracle::default(),
            faults: [0; 6],
            nodes: (0..nodes).map(|_| None).collect(),
            views: Views::default(),
            users: (1..=USERS)
                .map(UserId::from)
                .map(|user| (user.clone(), slot_of(&user)))
                .collect(),
            policy,
        };
        (0..nodes).for_each(|node| world.start(node));
        world.network.after(Duration::from_secs(5), Event::Fault);
        world.network.after(Duration::from_secs(1), Event::Client);
        world
    }

    pub(super) fn run(&mut self) {
        while let Some(event) = self.network.next() {
            let is_tick = matches!(event, Event::Tick { .. });
            self.handle(event);
            if is_tick {
                continue;
            }
            self.confirm();
            let running = self.nodes.iter().flatten().filter(|it| !it.leaving);
            let confirmed = running.flat_map(|process| {
                let granted = process.gate.granted();
                let confirmed = granted
                    .into_iter()
                    .filter(|(_, session)| process.confirmed.contains(session));
                confirmed.map(|(user, session)| (user, (process.process(), session)))
            });
            self.oracle.check(confirmed);
            if self.oracle.problem.is_some() {
                return;
            }
        }
    }

    /// Finds the sessions whose claims are confirmed, or no longer.
    ///
    /// A claim is confirmed from its grant until the lease of its gate runs out, and again when an
    /// owner that has asked the gate has no other session of the user; not if its owner has granted
    /// the user to another session, because the gate did not answer.
    fn confirm(&mut self) {
        let now = self.network.now;
        let owners = self.nodes.iter().flatten();
        let superseded: Vec<_> = owners
            .flat_map(|process| process.owner.superseded(&self.users))
            .collect();
        for node in 0..self.nodes.len() {
            let Some(process) = &mut self.nodes[node] else {
                continue;
            };
            if !process.has_lease(now) {
                process.confirmed.clear();
            }
            for place in superseded.iter().filter(|place| place.gate == process.id) {
                process.confirmed.remove(&place.session);
            }
            let Some(process) = self.nodes[node].as_ref().filter(|it| it.has_lease(now)) else {
                continue;
            };
            let granted = process.gate.granted();
            let mut again = Vec::new();
            for (user, session) in granted {
                let place = Place {
                    gate: process.id.clone(),
                    session,
                };
                let confirms = |owner: &Owner| {
                    owner.view().number() >= process.gate.earliest(&user)
                        && owner.view().contains(&place.gate)
                        && owner.locate(std::slice::from_ref(&user)) == [Some(vec![place.clone()])]
                };
                let mut others = self.nodes.iter().flatten();
                if !process.confirmed.contains(&session)
                    && others.any(|other| confirms(&other.owner))
                {
                    again.push((user, session));
                }
            }
            for (user, session) in again {
                if let Some(process) = &mut self.nodes[node] {
                    process.confirmed.insert(session);
                    self.oracle.confirmed(&user, (process.process(), session));
                }
            }
        }
    }

    /// Compares what the owners know with what the gates have.
    pub(super) fn diverged(&self) -> Option<String> {
        let (mut known, mut held) = (BTreeSet::new(), BTreeSet::new());
        for process in self.nodes.iter().flatten() {
            for (user, place) in process.owner.all() {
                known.insert((user, place.gate, place.session));
            }
            for holding in process.gate.all() {
                held.insert((holding.user, process.id.clone(), holding.session));
            }
        }
        let (missing, stale): (Vec<_>, Vec<_>) = (
            held.difference(&known).collect(),
            known.difference(&held).collect(),
        );
        if missing.len() + stale.len() > 0 {
            return Some(format!(
                "owners do not know {missing:?}, and have {stale:?} in excess"
            ));
        }
        let mut claimed = BTreeSet::new();
        let granted = self.nodes.iter().flatten();
        let mut granted = granted.flat_map(|process| process.gate.granted());
        let twice = granted.find(|(user, _)| !claimed.insert(user.clone()));
        twice.map(|(user, session)| format!("user {user} has {session} and another session"))
    }

    pub(super) fn start(&mut self, node: Node) {
        let incarnation = self.network.new_incarnation();
        let process = Process::new(node, incarnation, &self.views, self.network.now);
        let process_id = process.process();
        self.nodes[node] = Some(process);
        let tick = Event::Tick {
            node,
            process: process_id,
        };
        self.network.after(TICK, tick);
        let due = Event::HeartbeatDue {
            node,
            process: process_id,
        };
        self.network.after(Duration::ZERO, due);
    }

    pub(super) fn stop(&mut self, node: Node) {
        if let Some(process) = self.nodes[node].take() {
            self.oracle.gone(process.process());
        }
        self.network.suspended.remove(&node);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault => self.inject_fault(),
            Event::Client => self.act(),
            Event::Tick { node, process } => self.tick(node, process),
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
            Event::TimedOut { .. } | Event::CallbacksDone { .. } | Event::Exit { .. } => {}
        }
    }

    fn runs(&self, node: Node, process: u64) -> bool {
        let running = self.nodes[node].as_ref();
        running.is_some_and(|running| running.process() == process)
    }

    fn tick(&mut self, node: Node, process: u64) {
        let now = self.network.now;
        let Some(running) = self.nodes[node]
            .as_mut()
            .filter(|it| it.process() == process)
        else {
            return;
        };
        running.gate.tick(now);
        running.owner.tick(now);
        if let Some(registry) = &mut running.registry {
            for removal in registry.tick(now) {
                registry.remove(&removal, now, &mut MembershipDelta::default());
            }
            running.follow_registry(now);
        }
        self.flush(node);
        self.network.after(TICK, Event::Tick { node, process });
    }

    fn heartbeat(&mut self, node: Node, process: u64) {
        let now = self.network.now;
        let running = self.nodes[node].as_mut();
        let Some(running) = running.filter(|it| it.process() == process && !it.leaving) else {
            return;
        };
        if node == 0 {
            return;
        }
        let call = running.registration.begin_call(&mut running.table);
        running.heartbeat_sent = Some(now);
        let member = running.member.clone();
        let reply = Message::FromMaster {
            process,
            sent: Sent(now),
            reply: None,
        };
        let timed_out = Event::TimedOut {
            node,
            process,
            reply,
        };
        self.network.after(CALL_TIMEOUT, timed_out);
        let message = Message::ToMaster {
            process,
            sent: Sent(now),
            member,
            call,
        };
        self.network.send(node, 0, message);
    }

    fn on_message(&mut self, from: Node, to: Node, message: Message) {
        let now = self.network.now;
        let Some(running) = self.nodes[to].as_mut() else {
            return;
        };
        match message {
            Message::ToMaster {
                process,
                sent,
                member,
                call,
            } => {
                let reply = on_master_call(running, &member, call, now);
                running.follow_registry(now);
                let reply = reply.ok();
                self.network.send(
                    to,
                    from,
                    Message::FromMaster {
                        process,
                        sent,
                        reply,
                    },
                );
            }
            Message::FromMaster {
                process,
                sent,
                reply,
            } => {
                self.on_master_reply(to, process, sent, reply);
            }
            Message::OwnerCall {
                from,
                to: id,
                call,
                request,
            } if id == running.id => {
                let caller = running.expect(from.clone(), call);
                running.owner.on_call(&from, caller, request, now);
            }
            Message::OwnerReply {
                to: id,
                call,
                reply,
            } if id == running.id => {
                running.gate.on_reply(call, reply, now);
            }
            Message::GateCall {
                from,
                to: id,
                call,
                request,
            } if id == running.id => {
                let caller = running.expect(from.clone(), call);
                running.gate.on_call(&from, caller, request, now);
            }
            Message::GateReply {
                to: id,
                call,
                reply,
            } if id == running.id => {
                running.owner.on_reply(call, reply, now);
            }
            Message::Notice {
                from,
                to: id,
                notice,
            } if id == running.id => {
                running.owner.on_notice(&from, notice, now);
            }
            _ => {}
        }
        self.flush(to);
    }

    fn on_master_reply(&mut self, node: Node, process: u64, sent: Sent, reply: Option<Reply>) {
        let now = self.network.now;
        let running = self.nodes[node].as_mut();
        let Some(running) = running.filter(|it| it.process() == process && !it.leaving) else {
            return;
        };
        // Only the first of the reply and its timeout counts.
        if running
            .heartbeat_sent
            .take_if(|expected| *expected == sent.0)
            .is_none()
        {
            return;
        }
        match reply {
            None => running.registration.failed(now),
            Some(reply) => {
                let stamp = match &reply {
                    Reply::Heartbeat { reply, master } => Some((reply.view, *master)),
                    Reply::Registered(_) => None,
                };
                running.registration.replied(reply, &mut running.table, now);
                let members = running.table.list();
                running.master = stamp.map_or(running.master, |(_, master)| master);
                running.set_view(0, &members, running.master, now);
                if let Some((stamp, master)) = stamp {
                    running.lease.renew(sent.0, now, stamp.number != 0);
                    running.gate.on_heartbeat(stamp.number);
                    if stamp.number != 0 && running.table.digest() == stamp.digest {
                        running.set_view(stamp.number, &members, master, now);
                    }
                }
            }
        }
        let due = running.registration.due();
        self.network
            .at(due.max(now), Event::HeartbeatDue { node, process });
    }

    /// A client does something.
    fn act(&mut self) {
        // Slower in the end, so that no login waits for long behind others.
        let next = match self.network.calm_for().is_zero() {
            true => self.network.millis(20..200),
            false => self.network.millis(500..1000),
        };
        if self.network.calm_for() > Duration::from_secs(15) {
            return;
        }
        self.network.after(next, Event::Client);
        let node = self.network.random.random_range(0..self.nodes.len());
        let now = self.network.now;
        let action = self.network.random.random_range(0..10);
        let user = UserId::from(self.network.random.random_range(1..=USERS));
        if self
            .network
            .suspended
            .get(&node)
            .is_some_and(|until| *until > now)
        {
            return;
        }
        let Some(running) = self.nodes[node].as_mut().filter(|it| !it.leaving) else {
            return;
        };
        let process = running.process();
        if action < 6 {
            let session = running.next_session;
            running.next_session += 1;
            match action {
                0 => running.gate.bind(session, user, 0),
                _ => {
                    self.oracle.begins(&user, (process, session), now);
                    running.gate.login(session, user, self.policy, now);
                }
            }
            self.network.log(&(process, session, "begins"));
            return self.flush(node);
        }
        let sessions = running.gate.all();
        if sessions.is_empty() {
            return;
        }
        let session = sessions[self.network.random.random_range(0..sessions.len())].session;
        self.close(node, session);
    }

    pub(super) fn close(&mut self, node: Node, session: i64) {
        let now = self.network.now;
        let Some(running) = self.nodes[node].as_mut() else {
            return;
        };
        let process = running.process();
        running.gate.closed(session, now);
        self.oracle.ends((process, session), false, now);
        self.run_callbacks(node, process, session);
        self.flush(node);
    }
}

fn on_master_call(
    master: &mut Process,
    member: &crate::member::Member,
    call: Call,
    now: tokio::time::Instant,
) -> Result<Reply, Refusal> {
    let incarnation = master.process();
    let registry = master.registry.as_mut().ok_or(Refusal::NotRegistered)?;
    let mut delta = MembershipDelta::default();
    match call {
        Call::Register => registry
            .register(member.clone(), now, &mut delta)
            .map(Reply::Registered),
        Call::Heartbeat { digest } => registry
            .heartbeat(member.clone(), digest, now, &mut delta)
            .map(|reply| Reply::Heartbeat {
                reply,
                master: incarnation,
            }),
    }
}
