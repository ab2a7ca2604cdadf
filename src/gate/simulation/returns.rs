//! Clients that return: the gate of the connection finds the one that has the session, as
//! `resume_handshake` and `tunnel` have it.

use rand::RngExt;
use tokio::sync::oneshot;

use super::{
    defects::Defect,
    event::{Down, Event, Token},
    world::{GATES, World},
};
use crate::{
    cluster::mesh::node_at,
    gate::{
        opening::Opening,
        resume::{
            disconnected::Disconnected,
            registry::{Arrival, NotHere},
            token,
        },
    },
    resume::Lost,
};

/// The most gates to which a session is followed.
const MAX_MOVES: u32 = 4;

/// A client's return, on its way to the gate that has the session.
#[derive(Debug)]
pub(super) struct Return {
    conn: u64,
    token: Token,
    received: u64,
    /// How many gates were asked to go on with the client.
    moves: u32,
    /// Whether all gates were asked for the session.
    searched: bool,
}

impl World {
    /// A client has returned to a gate.
    pub(super) fn come_to(&mut self, conn: u64, via: usize, (token, received): (Token, u64)) {
        let found = self.look(via, &token, received);
        let back = Return {
            conn,
            token,
            received,
            moves: 0,
            searched: false,
        };
        match found {
            Err(NotHere::Lost(Lost::Unknown)) => {}
            other => return self.found(via, other, back),
        }
        let named = token::node(&back.token.0).unwrap_or_default();
        let (gate, incarnation) = ((named & 0xff) as usize, named >> 8);
        if gate == via && incarnation == self.mesh.incarnation(via) {
            self.send_down(conn, Down::Lost(Lost::Unknown.as_str()));
        } else if self.mesh.member(via, gate) == Some(incarnation) {
            self.ask(gate, back);
        } else {
            self.search(via, back);
        }
    }

    /// A gate is asked for the session of a client that has returned to another one.
    pub(super) fn asked(&mut self, gate: usize, back: Return) {
        let via = self.connections.get(&back.conn).filter(|it| !it.dead);
        let Some(via) = via.map(|connection| connection.via) else {
            return;
        };
        let member = self.mesh.member(via, gate);
        if gate == via || member.is_some() && !self.answers(via, gate) {
            // It has come meanwhile, or the client is to try again.
            return self.end_connection(back.conn, false);
        }
        let found = match member {
            Some(_) => self.look(gate, &back.token, back.received),
            None => Err(Lost::Unknown.into()),
        };
        let number = member.map(|incarnation| incarnation << 8 | gate as u64);
        let named = token::node(&back.token.0);
        match found {
            Err(NotHere::Lost(Lost::Unknown)) if !back.searched && number != named => {
                self.search(via, back);
            }
            found => {
                if found.is_ok() {
                    self.oracle.count("tunnelled");
                }
                self.found(gate, found, back);
            }
        }
    }

    /// What a gate knows of the session of a token.
    fn look(&self, gate: usize, token: &Token, received: u64) -> Result<i64, NotHere> {
        match self.gates[gate].registry.find(&token.0, Some(received)) {
            Err(NotHere::Moving) if self.has_defect(Defect::AdmitsWhileMoving) => {
                Ok(i64::from_str_radix(token.0.split('-').next().unwrap(), 16).unwrap())
            }
            found => found,
        }
    }

    fn found(&mut self, gate: usize, found: Result<i64, NotHere>, back: Return) {
        match found {
            Ok(id) => self.arrive(back.conn, gate, id, back.received),
            Err(NotHere::Moving) => {
                self.oracle.count("returned while it moves");
                self.end_connection(back.conn, false);
            }
            Err(NotHere::Moved(to)) => self.ask(node_at(&to), back),
            Err(NotHere::Lost(lost)) => self.send_down(back.conn, Down::Lost(lost.as_str())),
        }
    }

    fn ask(&mut self, gate: usize, mut back: Return) {
        back.moves += 1;
        if back.moves > MAX_MOVES {
            return self.end_connection(back.conn, false);
        }
        let pause = self.random.random_range(0..30);
        self.later(pause, Event::Find { gate, back });
    }

    /// Asks all gates which of them has the session.
    fn search(&mut self, via: usize, mut back: Return) {
        back.searched = true;
        let members = (0..GATES).filter(|it| *it != via && self.mesh.member(via, *it).is_some());
        let (answer, silent): (Vec<_>, Vec<_>) = members.partition(|it| self.answers(via, *it));
        let has_it = |gate: &usize| self.gates[*gate].registry.has(&back.token.0);
        match answer.into_iter().find(has_it) {
            Some(gate) => {
                self.oracle.count("searched");
                self.ask(gate, back);
            }
            None if !silent.is_empty() => self.end_connection(back.conn, false),
            None => self.send_down(back.conn, Down::Lost(Lost::Unknown.as_str())),
        }
    }

    /// Whether a member, as a gate knows it, answers.
    pub(super) fn answers(&self, via: usize, gate: usize) -> bool {
        let incarnation = self.mesh.incarnation(gate);
        self.mesh.is_alive(gate) && self.mesh.member(via, gate) == Some(incarnation)
    }

    fn arrive(&mut self, conn: u64, gate: usize, id: i64, received: u64) {
        let (open, _) = oneshot::channel();
        let arrival = Arrival {
            transport: Box::new(Disconnected),
            opening: Opening::new(1 << 16),
            remote: None,
            received,
            open,
        };
        let this = &mut self.gates[gate];
        let Some(entry) = this.sessions.get_mut(&id) else {
            return;
        };
        let before = entry.arrived.replace(conn);
        this.registry.deliver(id, arrival);
        if let Some(before) = before {
            self.end_connection(before, false);
        }
        self.settle(gate, id);
    }
}
