//! Sessions that move from one node to another, as their gates do it.

use std::time::Duration;

use rand::RngExt;

use super::{
    nodes::{Event, Member, MovePacket, Packet, Waits},
    world::{NODES, World},
};
use crate::{
    channel::Position,
    cluster::channels::{gate::GateEffect, message::Name},
};

/// When a message of a move is taken for lost.
const DUE: u64 = 1_000;

/// How long before the end no more sessions begin to move.
const LAST: Duration = Duration::from_millis(1_500);

/// A session on its way.
#[derive(Clone)]
pub(super) struct Transfer {
    from: usize,
    to: usize,
    incarnations: (u64, u64),
    /// The number of the last attempt. An answer to one before comes too late.
    attempt: u64,
    /// Up to where it has everything, once it is held.
    positions: Option<Vec<(Name, Position)>>,
}

impl World {
    /// When all is calm, sessions go on to move.
    pub(super) fn shift(&mut self) {
        if self.now + LAST < self.over_at() {
            if self.is_settled() {
                self.move_one();
            }
            self.later(100, Event::Shift);
        }
    }

    pub(super) fn move_one(&mut self) {
        let Some(member) = self.pick() else { return };
        let to = self.random.random_range(0..NODES);
        let seen = &self.oracle.sessions[&member];
        let (from, channel) = (seen.node, Name::from(&*seen.channel));
        if !seen.joined || from == to || !self.nodes[to].alive {
            return;
        }
        let incarnations = [from, to].map(|node| self.nodes[node].incarnation);
        let transfer = Transfer {
            from,
            to,
            incarnations: incarnations.into(),
            attempt: 0,
            positions: None,
        };
        self.moves.insert(member, transfer);
        self.send_move(from, to, member, MovePacket::Expect(channel));
        self.later(DUE, Event::MoveDue(member));
    }

    fn send_move(&mut self, from: usize, to: usize, member: Member, packet: MovePacket) {
        let to = self.nodes[to].address.clone();
        self.send(from, &to, Packet::Move(member, packet));
    }

    fn send_arrive(&mut self, member: Member, positions: Vec<(Name, Position)>) {
        self.attempts += 1;
        let attempt = self.attempts;
        if let Some(transfer) = self.moves.get_mut(&member) {
            transfer.attempt = attempt;
            let (from, to) = (transfer.from, transfer.to);
            self.send_move(from, to, member, MovePacket::Arrive(attempt, positions));
        }
    }

    /// An answer is late: the session stays, unless the next node may have it.
    pub(super) fn move_due(&mut self, member: Member) {
        let Some(transfer) = self.moves.get(&member).cloned() else {
            return;
        };
        let Transfer {
            from,
            to,
            incarnations,
            positions,
            ..
        } = transfer;
        let is_there = |node: usize, incarnation| {
            self.nodes[node].alive && self.nodes[node].incarnation == incarnation
        };
        let (former, next) = (is_there(from, incarnations.0), is_there(to, incarnations.1));
        let paused = self.nodes[from].paused > self.now;
        match positions {
            _ if !former => drop(self.moves.remove(&member)),
            _ if paused => self.later(DUE, Event::MoveDue(member)),
            None => drop(self.moves.remove(&member)),
            Some(positions) if next => {
                self.send_arrive(member, positions);
                self.later(DUE, Event::MoveDue(member));
            }
            Some(_) => self.end_move(member, !self.oracle.sessions.contains_key(&member)),
        }
    }

    /// The former node learns whether another one has the session.
    fn end_move(&mut self, member: Member, moved: bool) {
        let Some(Transfer { from, .. }) = self.moves.remove(&member) else {
            return;
        };
        let (event, mut effects) = match moved {
            true => ("session moved", Vec::new()),
            false => ("session stayed", Vec::new()),
        };
        self.oracle.count(event);
        let gate = &mut self.nodes[from].gate;
        match moved {
            true => gate.close(&member, &mut effects),
            false => gate.release(member as i64, self.now, &mut effects),
        }
        self.gate_effects(from, effects);
    }

    pub(super) fn moving(&mut self, from: usize, at: usize, member: Member, packet: MovePacket) {
        let (now, mut effects) = (self.now, Vec::new());
        let transfer = self.moves.get(&member);
        let is_former = transfer.is_some_and(|transfer| (transfer.from, transfer.to) == (at, from));
        let last = transfer.map_or(0, |transfer| transfer.attempt);
        let is_held = transfer.is_some_and(|transfer| transfer.positions.is_some());
        match packet {
            MovePacket::Expect(channel) => {
                let call = Waits::Expected { member, from };
                let gate = &mut self.nodes[at].gate;
                gate.expect(&channel, member as i64, call, now, &mut effects);
            }
            MovePacket::Expected(entered) if is_former && !is_held => {
                let seen = self.oracle.sessions.get(&member);
                match seen.map(|seen| Name::from(&*seen.channel)) {
                    Some(channel) if entered => {
                        let gate = &mut self.nodes[at].gate;
                        gate.locate(&channel, Waits::Located(member), now, &mut effects);
                    }
                    _ => drop(self.moves.remove(&member)),
                }
            }
            MovePacket::Arrive(attempt, positions) => {
                let seen = self.oracle.sessions.get(&member);
                let arrived = match seen.map(|seen| seen.node) {
                    // The message was repeated.
                    Some(node) if node == at => true,
                    // It has too many sessions, or stops.
                    Some(_) if self.random.random_bool(0.2) => false,
                    Some(_) => {
                        let gate = &mut self.nodes[at].gate;
                        let arrived =
                            gate.arrive(member as i64, &member, &positions, now, &mut effects);
                        if let (true, Some(seen)) =
                            (arrived.is_ok(), self.oracle.sessions.get_mut(&member))
                        {
                            seen.node = at;
                        }
                        arrived.is_ok()
                    }
                    None => false,
                };
                self.send_move(at, from, member, MovePacket::Arrived(attempt, arrived));
            }
            MovePacket::Arrived(attempt, arrived) if is_former && attempt == last => {
                self.end_move(member, arrived);
            }
            MovePacket::Expected(_) | MovePacket::Arrived(..) => {}
        }
        self.gate_effects(at, effects);
    }

    /// A node that is to have a session has entered its channel, or has not.
    pub(super) fn expected(&mut self, node: usize, from: usize, member: Member, entered: bool) {
        self.send_move(node, from, member, MovePacket::Expected(entered));
    }

    /// The former node has everything that is before the position at which the next one begins.
    pub(super) fn located(&mut self, node: usize, member: Member, located: bool) {
        let Some(transfer) = self.moves.get(&member).cloned() else {
            return;
        };
        let seen = self.oracle.sessions.get(&member);
        let channel = seen.map(|seen| Name::from(&*seen.channel));
        let (Some(channel), true) = (channel, located && transfer.positions.is_none()) else {
            return;
        };
        let gate = &mut self.nodes[node].gate;
        let Ok(positions) = gate.hold(member as i64, &member, &[channel]) else {
            self.moves.remove(&member);
            return;
        };
        if let Some(transfer) = self.moves.get_mut(&member) {
            transfer.positions = Some(positions.clone());
        }
        self.send_arrive(member, positions);
    }

    pub(super) fn missed(&self, effect: &GateEffect<Member, Waits>) {
        panic!("seed {}: {effect:?}", self.seed);
    }
}
