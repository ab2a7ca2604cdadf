//! What happens to the nodes: they crash, start, stand still, and do not reach each other.

use rand::RngExt;
use tokio::time::Instant;

use super::{Mesh, streams::Event};

impl Mesh {
    /// Ends a node without notice. The others learn of it later.
    pub(crate) fn crash(&mut self, node: usize) {
        self.stop(node);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let evicted = self.random.random_range(300..2_000);
            let incarnation = self.nodes[node].incarnation;
            self.later(
                evicted,
                Event::Leave {
                    at: other,
                    peer: node,
                    incarnation,
                },
            );
        }
    }

    /// Ends a node. It stays a member of the others.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.nodes[node].suspended = self.now;
        self.links.retain(|(at, _), _| *at != node);
        self.opening.retain(|(at, _)| *at != node);
        self.calls.retain(|_, (at, _)| *at != node);
        self.served.retain(|served| served.at != node);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.break_pipe((other, node));
            self.break_pipe((node, other));
            self.pipes.remove(&(node, other));
        }
    }

    /// Starts a node again that has crashed, with nothing.
    pub(crate) fn restart(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation + 1;
        self.start(node, incarnation);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if self.nodes[other].alive {
                self.join(node, other, self.nodes[other].incarnation);
                let delay = self.random.random_range(0..300);
                let (at, peer) = (other, node);
                self.later(
                    delay,
                    Event::Join {
                        at,
                        peer,
                        incarnation,
                    },
                );
            }
        }
    }

    /// Starts a node that knows no members.
    pub(crate) fn start(&mut self, node: usize, incarnation: u64) {
        self.nodes[node].incarnation = incarnation;
        self.nodes[node].alive = true;
    }

    /// Nothing happens at a node for a while; never shorter than was said before.
    pub(crate) fn suspend(&mut self, node: usize, until: Instant) {
        let suspended = &mut self.nodes[node].suspended;
        *suspended = until.max(*suspended);
    }

    /// Two nodes do not reach each other for a while.
    pub(crate) fn cut_off(&mut self, a: usize, b: usize, until: Instant) {
        self.nodes[a].cut_off.insert(b, until);
        self.nodes[b].cut_off.insert(a, until);
    }

    pub(super) fn is_cut_off(&self, a: usize, b: usize) -> bool {
        let until = self.nodes[a].cut_off.get(&b);
        until.is_some_and(|until| *until > self.now)
    }

    /// Loses what is under way between two nodes.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        match self.random.random_range(0..3) {
            0 => self.break_pipe((a, b)),
            1 => self.break_pipe((b, a)),
            _ => {
                self.break_pipe((a, b));
                self.break_pipe((b, a));
            }
        }
    }
}
