//! Sessions that arrive at a gate, as `migration_in` has it; and what backends are asked meanwhile.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use rand::RngExt;
use tokio::time::Instant;

use super::{
    defects::Defect,
    event::{At, Call, Event},
    gates::{Entry, Handle, WINDOW},
    world::{GATES, World},
};
use crate::{
    cluster::{
        SessionAdopt, SessionAttach, SessionHold, SessionRelease,
        mesh::{address, node_at},
    },
    error::{Error, Result, code},
    gate::{
        client_state::ClientState,
        migration_message::{ADOPT, ATTACH, Arrived, CLOSE, HOLD, RELEASE, read},
        migration_state::{Arriving, Migrations},
        resume::replay::Replay,
    },
    session::Session,
};

const ATTACH_TIMEOUT: u64 = 3_000;

/// A session that arrives at a gate.
pub(super) struct Adopting {
    _arriving: Option<Arriving>,
    from: usize,
    /// The call of the former gate.
    call: u64,
    /// Until it is open.
    arrived: Option<Arrived>,
    /// When the gate begins to open it, so that a close finds it.
    pub(super) listed_at: Instant,
    pub(super) closed: bool,
    session: Option<Session>,
    /// The nodes that are asked to attach it.
    attaching: BTreeSet<usize>,
}

impl World {
    /// Another node calls a service of this one.
    pub(super) fn called(
        &mut self,
        (at, from): (usize, usize),
        call: u64,
        method: &str,
        body: Bytes,
    ) {
        let answer = match method {
            ADOPT => match self.adopt((at, from), call, body) {
                Ok(true) => Ok(()),
                Ok(false) => return,
                Err(error) => Err(error),
            },
            HOLD => {
                self.oracle.count("held for a move");
                let request = SessionHold::decode(body).unwrap();
                self.mesh.hold((at, from), request.session, &request.to)
            }
            RELEASE => {
                let request = SessionRelease::decode(body).unwrap();
                self.mesh.release((at, from), request.session)
            }
            ATTACH => {
                let request = SessionAttach::decode(body).unwrap();
                let ends = (at, from, node_at(&request.gate));
                let keeps = !self.has_defect(Defect::DropsHeld);
                self.mesh
                    .attach(ends, request.session, request.number, keeps)
            }
            CLOSE => match self.close_for((at, from), call, body) {
                Ok(true) => Ok(()),
                Ok(false) => return,
                Err(error) => Err(error),
            },
            other => panic!("{other}"),
        };
        let answer = answer.map(|()| Bytes::new());
        self.mesh.reply((at, from), call, answer);
    }

    /// A gate brings a session. Returns whether this one has it, or has had it; false if that is not
    /// decided yet.
    fn adopt(&mut self, (gate, from): (usize, usize), call: u64, body: Bytes) -> Result<bool> {
        let message = SessionAdopt::decode(body).unwrap();
        let id = message.session;
        let own = self.mesh.incarnation(gate);
        if self.has_defect(Defect::RefusesForAnother) && message.incarnation != own {
            return Err(Error::new(code::CONFLICT, "not here"));
        }
        let mut arrived = read(message, own, &self.limits, self.now)?;
        self.spoil(&mut arrived);
        let secret = &arrived.secrets.current;
        let revives = self.has_defect(Defect::Revives);
        let this = &self.gates[gate];
        // Nothing is remembered.
        let forgetful = Arc::<Migrations>::default();
        let migrations = match revives {
            true => &forgetful,
            false => &this.migrations,
        };
        let Some(arriving) = migrations.admit(id, secret, &this.registry)? else {
            return Ok(true);
        };
        if this.draining || self.random.random_bool(0.05) {
            return Err(Error::new(code::CONFLICT, "the gate takes no new sessions"));
        }
        let listed = self.random.random_range(0..10);
        let adopting = Adopting {
            _arriving: Some(arriving),
            from,
            call,
            arrived: Some(arrived),
            listed_at: self.now + Duration::from_millis(listed),
            closed: false,
            session: None,
            attaching: BTreeSet::new(),
        };
        self.gates[gate].adopting.insert(id, adopting);
        // Mostly quick: its channels are entered.
        let slow = self.random.random_bool(0.1);
        let pause = self.random.random_range(0..if slow { 7_000 } else { 60 });
        self.later(pause, Event::Entered(self.at_gate(gate, id)));
        Ok(false)
    }

    /// Breaks what was read, with a defect.
    fn spoil(&self, arrived: &mut Arrived) {
        let client: &mut ClientState = &mut arrived.client;
        let Some(replay) = &mut client.replay else {
            return;
        };
        match self.defect {
            Some(Defect::CountsOneMore) => replay.receive(1, 1),
            Some(Defect::ReplaysFromTooLate) => {
                let mut snapshot = replay.snapshot();
                if !snapshot.packets.is_empty() {
                    let first = snapshot.packets.remove(0);
                    let len = crate::packet::packet_len(&first).unwrap();
                    snapshot.packets.insert(0, first.slice(len..));
                    snapshot.packets.retain(|packet| !packet.is_empty());
                    snapshot.first += 1;
                }
                let adopted = Replay::adopted(&self.limits, snapshot);
                client.replay = adopted.map(Box::new);
            }
            _ => {}
        }
    }

    /// A session has arrived: this gate goes on with it, and so do the nodes that serve it.
    pub(super) fn entered(&mut self, at: At) {
        let At { gate, id, .. } = at;
        let this = &mut self.gates[gate];
        let Some(adopting) = this.adopting.get_mut(&id) else {
            return;
        };
        let Some(arrived) = adopting.arrived.take() else {
            return self.expect(Err(format!("session {id}: enters {gate} twice")));
        };
        let (from, closed) = (adopting.from, adopting.closed);
        let remember = arrived.remember;
        let session = self.mesh.session(id);
        adopting.session = Some(session.clone());
        let handle = Arc::new(Handle(Mutex::new(arrived.client)));
        let secrets = arrived.secrets;
        let current = secrets.current;
        assert!(this.registry.adopt(id, handle.clone(), secrets, usize::MAX));
        this.migrations.arrived(id, current, remember, self.now);
        let mut entry = Entry::new(session.clone(), handle, true);
        entry.by = Some(self.now + WINDOW);
        let before = this.sessions.insert(id, entry);
        if before.is_some() {
            self.expect(Err(format!("session {id}: arrives twice at {gate}")));
        }
        for (node, requests) in arrived.served {
            let node = node_at(&node);
            let number = self.mesh.adopted((gate, node), &session, requests);
            let call = number.and_then(|number| {
                let request = SessionAttach {
                    session: id,
                    gate: address(from),
                    number,
                };
                let body = request.encode_to_vec();
                self.mesh.call((gate, node), ATTACH, body)
            });
            match call {
                Ok(call) => {
                    let adopting = self.gates[gate].adopting.get_mut(&id).unwrap();
                    adopting.attaching.insert(node);
                    self.wait(call, Call::Attach { at, node }, ATTACH_TIMEOUT);
                }
                Err(_) => self.mesh.attached((gate, node), &session, false),
            }
        }
        if closed {
            self.close_here(gate, id);
        }
        self.all_attached(at);
    }

    pub(super) fn attached(&mut self, at: At, node: usize, answer: &Result) {
        let Some(adopting) = self.gates[at.gate].adopting.get_mut(&at.id) else {
            return;
        };
        adopting.attaching.remove(&node);
        let session = adopting.session.clone().unwrap();
        if answer.is_err() {
            self.oracle.count("not attached");
        }
        if answer.is_err() && self.oracle.quiet && !self.oracle.may_end(at.id) {
            let problem = format!("session {}: not attached at {node}, {answer:?}", at.id);
            self.expect(Err(problem));
        }
        self.mesh
            .attached((at.gate, node), &session, answer.is_ok());
        self.all_attached(at);
    }

    /// Answers the former gate when all nodes have answered.
    fn all_attached(&mut self, at: At) {
        let adopting = &mut self.gates[at.gate].adopting;
        let is_done = adopting
            .get(&at.id)
            .is_some_and(|it| it.attaching.is_empty());
        if is_done && let Some(adopting) = adopting.remove(&at.id) {
            let to = (at.gate, adopting.from);
            self.mesh.reply(to, adopting.call, Ok(Bytes::new()));
            self.settle(at.gate, at.id);
        }
    }

    /// Ends a gate without notice.
    pub(super) fn crash(&mut self, gate: usize) {
        self.note(|| format!("CRASH {gate}"));
        for id in self.gates[gate].moved.keys() {
            self.oracle.forget_kick(*id);
        }
        let ids: Vec<_> = self.gates[gate].sessions.keys().copied().collect();
        for id in ids {
            let entry = &self.gates[gate].sessions[&id];
            if entry.departing.is_some() {
                self.oracle.forget_kick(id);
            }
            let departing = entry.departing.as_ref();
            // One that has been taken over goes on at the next gate.
            let there = departing.map(|it| it.to);
            // A client that asks before it has entered there learns that it is lost.
            if !there.is_some_and(|to| self.gates[to].sessions.contains_key(&id)) {
                self.oracle.may_be_lost.insert(id);
            }
        }
        for conn in self.connections_of(gate) {
            self.break_connection(conn);
        }
        self.forget_calls(gate);
        self.gates[gate] = super::gates::Gate::default();
        self.mesh.crash(gate);
        let pause = self.random.random_range(500..4_000);
        self.later(pause, Event::Restart(gate));
    }

    /// Lets a gate that drains and has no sessions end, and start again. It ends in order: the others know
    /// that it drains, and what they had sent before is answered.
    pub(super) fn stop_drained(&mut self, gate: usize) {
        let this = &self.gates[gate];
        let is_empty =
            this.sessions.is_empty() && this.adopting.is_empty() && this.moved.is_empty();
        if !this.draining || !is_empty {
            return;
        }
        let is_asked = self.on_the_way().iter().any(|(_, to, _)| *to == gate);
        if is_asked || (0..GATES).any(|it| self.mesh.is_available(it, gate)) {
            return self.mesh.cordon(gate);
        }
        self.crash(gate);
    }
}
