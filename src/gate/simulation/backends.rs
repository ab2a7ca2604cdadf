//! Backends that serve sessions, and what happens at random.

use bytes::{BufMut, BytesMut};
use rand::RngExt;

use super::{
    clients::Said,
    event::Event,
    world::{BACKENDS, GATES, World},
};
use crate::session::Session;

impl World {
    /// A message has arrived at a handler of a backend.
    pub(super) fn deliver(&mut self, at: usize, session: Session, request: u64, body: &[u8]) {
        let said = Said::decode(body);
        let holds = self.oracle.delivered(at, &session, said.to_backend);
        self.expect(holds);
        let pause = self.random.random_range(
            0..if said.number.is_multiple_of(8) {
                3_000
            } else {
                200
            },
        );
        self.later(
            pause,
            Event::Handled {
                at,
                session,
                request,
            },
        );
    }

    /// A handler is done, and answers.
    pub(super) fn handled(&mut self, at: usize, session: &Session, request: u64) {
        if request != 0 {
            // An error: the session has ended, or its request was failed at the gate.
            let _ = self.mesh.respond(at, session, request);
        }
        self.mesh.finished(at, session);
    }

    /// A backend pushes to a session that it serves.
    fn push_one(&mut self) {
        let at = GATES + self.random.random_range(0..BACKENDS);
        let served: Vec<_> = self.mesh.served(at).cloned().collect();
        if served.is_empty() {
            return;
        }
        let session = &served[self.random.random_range(0..served.len())];
        let instance = self.oracle.instance(session);
        let number = self.oracle.instances[instance].sent + 1;
        let mut body = BytesMut::new();
        body.put_u64(instance as u64);
        body.put_u64(number);
        if self.mesh.push(at, session, body.freeze()).is_ok() {
            self.oracle.instances[instance].sent = number;
        }
    }

    fn close_one(&mut self) {
        let at = GATES + self.random.random_range(0..BACKENDS);
        let served: Vec<_> = self.mesh.served(at).cloned().collect();
        if !served.is_empty() {
            let session = &served[self.random.random_range(0..served.len())];
            let _ = self.mesh.close(at, session);
        }
    }

    /// Something at random.
    pub(super) fn act(&mut self) {
        let quiet = self.oracle.quiet;
        let client = self.random.random_range(0..self.clients.len());
        if self.is_over() {
            return;
        }
        match self.random.random_range(0..1_000) {
            0..350 => self.say(client),
            350..700 => self.push_one(),
            700..760 => self.beat(client),
            _ if self.is_calm() => {}
            760..810 => {
                if let Some(conn) = self.clients[client].conn {
                    self.break_connection(conn);
                }
            }
            810..840 => {
                let gate = self.random.random_range(0..GATES);
                self.drain(gate);
            }
            860..880 if !quiet => {
                let nodes = GATES + BACKENDS;
                let (a, b) = (
                    self.random.random_range(0..nodes),
                    self.random.random_range(0..nodes),
                );
                if a != b {
                    self.oracle.count("link broken");
                    self.mesh.cut(a, b);
                }
            }
            880..884 if !quiet => {
                let gate = self.random.random_range(0..GATES);
                self.crash_one(gate);
            }
            // At a moment at which something moves, mostly.
            884..886 => self.close_one(),
            886..890 => {
                let moving = self.gates.iter().enumerate().find_map(|(gate, it)| {
                    let mut sessions = it.sessions.iter();
                    let departing = sessions.find(|(_, entry)| entry.departing.is_some());
                    let departing = departing.map(|(id, _)| *id);
                    let id = it.moved.keys().next().copied().or(departing)?;
                    Some((gate, id))
                });
                if let Some((gate, id)) = moving {
                    self.kick(gate, id);
                }
            }
            890..930 if !quiet => self.disturb_move(),
            _ => {}
        }
    }

    /// Ends a gate without notice, unless it is the last one.
    fn crash_one(&mut self, gate: usize) {
        let alive = (0..GATES).filter(|gate| self.mesh.is_alive(*gate)).count();
        if self.mesh.is_alive(gate) && alive > 1 {
            self.oracle.count("crash");
            self.crash(gate);
        }
    }

    /// A session is under way to another gate: its answer is lost, it moves the session on, or crashes.
    fn disturb_move(&mut self) {
        let Some((gate, next, id)) = self.on_the_way().first().copied() else {
            return;
        };
        let has_moved_on = self.gates[next].registry.moved_to(id).is_some();
        match self.random.random_range(0..8) {
            0..4 if has_moved_on => self.crash_one(next),
            0..4 => self.mesh.cut(gate, next),
            4..7 => self.drain(next),
            _ => self.crash_one(next),
        }
    }

    /// A gate begins to drain, while another one takes sessions.
    fn drain(&mut self, gate: usize) {
        let others = (0..GATES).filter(|it| *it != gate && self.mesh.is_alive(*it));
        let ready = others.filter(|it| !self.gates[*it].draining).count();
        if ready > 0 && self.mesh.is_alive(gate) {
            self.gates[gate].draining = true;
            self.mesh.cordon(gate);
        }
    }
}
