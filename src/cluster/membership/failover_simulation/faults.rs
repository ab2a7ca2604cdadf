//! Faults, drawn at random until the time for them is over.

use std::time::Duration;

use rand::RngExt;

use super::{
    event::{Event, Node},
    world::World,
};

/// Kinds of faults that are counted.
pub(super) const KINDS: usize = 10;

const CRASH: usize = 0;
const STOP: usize = 1;
const SUSPENSION: usize = 2;
const PARTITION: usize = 3;
const RESIGNATION: usize = 4;
const MEMBER_CRASH: usize = 5;
const MEMBER_SUSPENSION: usize = 6;
pub(super) const LOSS: usize = 7;
const RESTART: usize = 8;
const ISOLATION: usize = 9;

impl World {
    /// Injects a fault and schedules the next. In the end all masters are there.
    pub(super) fn inject_fault(&mut self) {
        if self.now >= self.faults_end {
            for node in 0..self.masters {
                if self.processes[node].is_none() {
                    self.start(node);
                }
            }
            return;
        }
        let next = Duration::from_millis(self.random.random_range(50..2_500));
        self.at(self.now + next, 0, 0, Event::Fault);
        let left = self.faults_end - self.now;
        let length = Duration::from_millis(self.random.random_range(50..8_000)).min(left);
        let master = self.random.random_range(0..self.masters);
        let member = self.random.random_range(self.masters..self.processes.len());
        match self.random.random_range(0..15) {
            0 | 1 if self.processes[master].is_some() => self.crash(master, CRASH),
            0..=2 if self.processes[master].is_none() => self.start(master),
            // The one that leads is the most interesting.
            3 => {
                if let Some(leader) = self.leader() {
                    self.crash(leader, CRASH);
                }
            }
            4 => self.stop(master, length, STOP),
            5 => {
                if let Some(leader) = self.leader() {
                    self.stop(leader, length, SUSPENSION);
                }
            }
            6 | 7 => {
                let other = match self.calm {
                    true => self.random.random_range(0..self.masters),
                    false => self.random.random_range(0..self.processes.len()),
                };
                self.cut_off(master, other, length, PARTITION);
            }
            8 => self.retire(),
            9 if self.processes[member].is_none() => self.start(member),
            9 if !self.calm => self.crash(member, MEMBER_CRASH),
            // A supervisor is quick.
            11 | 12 if self.processes[master].is_some() => {
                self.crash(master, RESTART);
                self.start(master);
            }
            // One master does not hear the leader, or none does: it asks to be elected.
            13 => {
                if let Some(leader) = self.leader() {
                    self.cut_off(leader, master, length, ISOLATION);
                }
            }
            14 => {
                if let Some(leader) = self.leader() {
                    let others = (0..self.masters).filter(|it| *it != leader);
                    others.for_each(|it| self.cut_off(leader, it, length, ISOLATION));
                }
            }
            10 if !self.calm => self.stop(member, length, MEMBER_SUSPENSION),
            _ => {}
        }
    }

    fn cut_off(&mut self, one: Node, other: Node, length: Duration, kind: usize) {
        self.count(kind);
        let until = self.now + length;
        self.partitions
            .insert((one.min(other), one.max(other)), until);
    }

    fn leader(&self) -> Option<Node> {
        (0..self.masters).find(|node| {
            let process = self.processes[*node].as_ref();
            process.is_some_and(|it| it.leads(self.now).is_some())
        })
    }

    fn crash(&mut self, node: Node, kind: usize) {
        self.count(kind);
        self.processes[node] = None;
    }

    fn stop(&mut self, node: Node, length: Duration, kind: usize) {
        let Some(process) = &mut self.processes[node] else {
            return;
        };
        if self.stopped[node] > self.now {
            return;
        }
        self.stopped[node] = self.now + length;
        if kind == SUSPENSION || kind == MEMBER_SUSPENSION {
            process.clock.suspended += length;
        }
        self.count(kind);
    }

    /// The master that leads stops in order.
    fn retire(&mut self) {
        let Some(leader) = self.leader().filter(|it| self.stopped[*it] <= self.now) else {
            return;
        };
        self.count(RESIGNATION);
        let process = self.processes[leader].take();
        let mut master = process.and_then(|it| it.master);
        if let Some(request) = master.as_mut().and_then(|it| it.election.retire()) {
            self.ask(leader, 0, &request, self.now);
        }
    }

    pub(super) fn count(&mut self, kind: usize) {
        self.faults[kind] += 1;
    }
}
