//! What sessions do, and what goes wrong: the choices that follow from the seed.

use std::time::Duration;

use rand::RngExt;

use super::{
    nodes::{Event, Node},
    world::{NODES, World, channel_index},
};
use crate::cluster::channels::view::View;

impl World {
    pub(super) fn act(&mut self) {
        let node = self.random.random_range(0..NODES);
        match self.random.random_range(0..1000) {
            0..300 => self.join(None),
            300..500 => self.close_one(),
            500..510 => self.crash(node),
            510..540 => self.break_link(node),
            540..550 => {
                self.oracle.count("pause");
                let millis = self.random.random_range(10..1_500);
                self.nodes[node].paused = self.now + Duration::from_millis(millis);
            }
            _ => {}
        }
    }

    /// A session ends; half of them return as another one, now or later.
    fn close_one(&mut self) {
        let count = self.oracle.sessions.len();
        if count == 0 {
            return;
        }
        let at = self.random.random_range(0..count);
        let (&member, seen) = self.oracle.sessions.iter().nth(at).unwrap();
        let node = seen.node;
        if self.nodes[node].paused > self.now {
            return;
        }
        let last = seen.received.last().map(|(position, _)| *position);
        let since = last.map(|position| (channel_index(&seen.channel), position));
        self.oracle.sessions.remove(&member);
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
        self.nodes[node].alive = false;
        self.oracle.sessions.retain(|_, seen| seen.node != node);
        for other in 0..NODES {
            self.cut(node, other);
        }
        let (noticed, back) = (
            self.random.random_range(0..2_000),
            self.random.random_range(100..3_000),
        );
        self.later(noticed, Event::Membership);
        self.later(back, Event::Restart { node });
    }

    pub(super) fn restart(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation + 1;
        self.nodes[node] = Node::new(node, incarnation, self.now);
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

    /// What is under way between two nodes is lost.
    fn cut(&mut self, a: usize, b: usize) {
        let now = self.now;
        for pair in [(a, b), (b, a)] {
            self.links.entry(pair).or_insert((1, now)).0 += 1;
        }
    }

    /// The master announces who is there, which reaches the nodes at different times.
    pub(super) fn announce(&mut self) {
        self.views += 1;
        let alive = self.nodes.iter().filter(|node| node.alive);
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
