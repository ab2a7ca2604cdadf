//! What sessions do, and what goes wrong: the choices that follow from the seed.

use std::time::Duration;

use rand::RngExt;

use super::{
    nodes::{Event, Member, Node},
    world::{NODES, World, channel_index},
};
use crate::cluster::channels::{message::Name, view::View};

impl World {
    pub(super) fn act(&mut self) {
        let node = self.random.random_range(0..NODES);
        match self.random.random_range(0..1000) {
            0..300 => self.join(None),
            300..450 => self.close_one(),
            450..500 => self.leave_one(),
            500..508 => self.crash(node),
            508..518 => self.leave(node),
            518..540 => self.break_link(node),
            540..548 => self.partition(node),
            548..558 => {
                self.oracle.count("pause");
                let millis = self.random.random_range(10..1_500);
                let until = self.now + Duration::from_millis(millis);
                let paused = &mut self.nodes[node].paused;
                *paused = until.max(*paused);
                self.later(millis, Event::Wake { node });
            }
            558..680 => self.move_one(),
            _ => {}
        }
    }

    /// A session whose node is not paused, and which does not move.
    pub(super) fn pick(&mut self) -> Option<Member> {
        let sessions = &self.oracle.sessions;
        if sessions.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..sessions.len());
        let (&member, seen) = sessions.iter().nth(at).unwrap();
        let moves = self.moves.contains_key(&member);
        (self.nodes[seen.node].paused <= self.now && !moves).then_some(member)
    }

    /// A session leaves its channel, and stays.
    fn leave_one(&mut self) {
        let Some(member) = self.pick() else { return };
        let seen = self.oracle.left(member);
        self.oracle.count("session left");
        let (name, mut effects) = (Name::from(&*seen.channel), Vec::new());
        let gate = &mut self.nodes[seen.node].gate;
        gate.leave(&name, &member, &mut effects);
        self.gate_effects(seen.node, effects);
    }

    /// A session ends; most of them return as another one.
    fn close_one(&mut self) {
        let Some(member) = self.pick() else { return };
        let seen = self.oracle.left(member);
        let node = seen.node;
        let last = seen.received.last().map(|(position, _)| *position);
        let since = last.map(|position| (channel_index(&seen.channel), position));
        self.oracle.count("session closed");
        let mut effects = Vec::new();
        self.nodes[node].gate.close(&member, &mut effects);
        self.gate_effects(node, effects);
        if self.random.random_bool(0.7) && since.is_some() {
            self.join(since);
        }
    }

    fn crash(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        self.oracle.count("crash");
        self.end(node);
        let (noticed, back) = (
            self.random.random_range(0..2_000),
            self.random.random_range(100..3_000),
        );
        self.later(noticed, Event::Membership);
        self.later(back, Event::Restart { node });
    }

    /// A node stops in order: it owns no channel any more, tells the master, and is gone when its
    /// sessions have ended.
    fn leave(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        if !at.alive || at.leaving || at.paused > self.now {
            return;
        }
        self.oracle.count("leave");
        at.leaving = true;
        let incarnation = at.incarnation;
        self.set_view(node);
        let told = self.random.random_range(0..60);
        self.later(told, Event::Membership);
        let gone = self.random.random_range(50..1_000);
        self.later(gone, Event::Gone { node, incarnation });
        let back = gone + self.random.random_range(10..1_000);
        self.later(back, Event::Restart { node });
    }

    /// A node is there no more, with all its sessions.
    pub(super) fn end(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.oracle.sessions.retain(|_, seen| seen.node != node);
        for other in 0..NODES {
            self.cut(node, other);
        }
    }

    pub(super) fn restart(&mut self, node: usize) {
        let at = &self.nodes[node];
        if at.alive {
            return;
        }
        let (now, since) = (self.now, self.now - self.begun);
        self.nodes[node] = Node::new(node, at.incarnation + 1, now, since);
        let noticed = self.random.random_range(0..500);
        self.later(noticed, Event::Membership);
    }

    fn break_link(&mut self, node: usize) {
        let other = self.random.random_range(0..NODES);
        if node != other {
            self.oracle.count("broken link");
            self.cut(node, other);
        }
    }

    /// For a while nothing goes from one node to another; the other direction may work.
    fn partition(&mut self, node: usize) {
        let other = self.random.random_range(0..NODES);
        if node == other {
            return;
        }
        self.oracle.count("partition");
        self.cut(node, other);
        let until = self.now + Duration::from_millis(self.random.random_range(100..4_000));
        self.unreachable.insert((node, other), until);
        if self.random.random_bool(0.5) {
            self.unreachable.insert((other, node), until);
        }
    }

    /// What is under way between two nodes is lost.
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        let now = self.now;
        for pair in [(a, b), (b, a)] {
            self.links.entry(pair).or_insert((1, now)).0 += 1;
        }
    }

    /// The master announces who is there, which reaches the nodes at different times. Links often
    /// break meanwhile.
    pub(super) fn announce(&mut self) {
        self.views += 1;
        for _ in 0..self.random.random_range(0..30) {
            if !self.is_calm() {
                let pair = [(); 2].map(|()| self.random.random_range(0..NODES));
                let at = self.random.random_range(0..1_000);
                self.later(at, Event::Cut(pair[0], pair[1]));
            }
        }
        let nodes = self.nodes.iter();
        let alive = nodes.filter(|node| node.alive && !node.leaving);
        let view = View::new(
            alive
                .map(|it| (it.address.clone(), it.incarnation))
                .collect(),
        );
        for node in 0..NODES {
            if self.nodes[node].alive {
                let delay = self.random.random_range(0..500);
                let (incarnation, number) = (self.nodes[node].incarnation, self.views);
                let view = view.clone();
                self.later(
                    delay,
                    Event::View {
                        node,
                        incarnation,
                        number,
                        view,
                    },
                );
            }
        }
    }
}
