//! The streams between the two nodes: they come up, carry batches, break, and end with a restart.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use rand::RngExt;

use super::{
    event::Event,
    network::Pipe,
    node::{Handle, Node, new_links},
    world::World,
};
use crate::cluster::link::{
    config::STREAMS, effect::Effect, frame::is_traffic, proto::Kind, state::LinkState,
};

impl World {
    /// Opens an outbound stream if one is needed and none is on its way.
    fn open(&mut self, node: usize, index: usize) {
        let end = (node, index);
        if self.pipes.contains_key(&end) || self.opening.contains(&end) {
            return;
        }
        let opener = Waker::noop();
        if self.nodes[node].links[index].poll_open(opener).is_ready() {
            self.opening.insert(end);
            self.note(|| format!("opens {end:?}"));
            let peer = self.known[node];
            self.soon(Event::Connect { node, index, peer });
        }
    }

    /// Forgets the attempts of a node to open streams, and its probes.
    fn forget_attempts(&mut self, node: usize) {
        self.opening.retain(|(opener, _)| *opener != node);
        self.quiet.retain(|(of, _), _| *of != node);
    }

    pub(super) fn connect(&mut self, node: usize, index: usize, peer: u64) {
        let other = 1 - node;
        if self.known[node] != peer || !self.opening.contains(&(node, index)) {
            return;
        }
        if self.reopened.contains(&(node, index)) {
            self.trouble("opened again");
        }
        self.nodes[node].last_stream += 1;
        let number = self.nodes[node].last_stream;
        self.input(node, index, |link, _| link.connecting(number));
        // An attempt fails while the other node is another incarnation, or does not know this one.
        let meets = self.nodes[other].incarnation == peer
            && self.known[other] == self.nodes[node].incarnation;
        let accepted_by = self.nodes[other].epoch;
        self.pipes
            .insert((node, index), Pipe::new(number, accepted_by));
        self.opening.remove(&(node, index));
        let (epoch, now) = (self.nodes[node].epoch, self.now);
        let mut accepted = false;
        if meets {
            self.input(other, index, |link, effects| {
                accepted = link.accept(number, epoch, now, effects).is_ok();
            });
        }
        if accepted && (self.is_calm() || self.random.random_bool(0.9)) {
            self.soon(Event::Accepted {
                node,
                index,
                number,
            });
        } else {
            self.break_pipe(node, index);
        }
    }

    pub(super) fn accepted(&mut self, node: usize, index: usize, number: u64) {
        let pipe = self.pipes.get_mut(&(node, index));
        if let Some(pipe) = pipe.filter(|pipe| pipe.number == number && !pipe.dead) {
            pipe.up = true;
            let epoch = pipe.accepted_by;
            self.input(node, index, |link, effects| {
                link.outbound_up(number, epoch, effects);
            });
        }
    }

    /// What is under way is lost. Both ends learn of it, each in its own time.
    pub(super) fn break_pipe(&mut self, node: usize, index: usize) {
        let Some(pipe) = self.pipes.get_mut(&(node, index)) else {
            return;
        };
        pipe.dead = true;
        self.lossy.insert((node, index));
        let number = pipe.number;
        self.soon(Event::OutboundBroken {
            node,
            index,
            number,
        });
        self.soon(Event::InboundBroken {
            node: 1 - node,
            index,
            number,
        });
    }

    pub(super) fn outbound_broken(&mut self, node: usize, index: usize, number: u64) {
        if self
            .pipes
            .get(&(node, index))
            .is_none_or(|pipe| pipe.number != number)
        {
            return;
        }
        self.pipes.remove(&(node, index));
        let now = self.now;
        if self.nodes[node].links[index].is_retiring() {
            self.trouble("broken while it closes");
        }
        self.input(node, index, |link, effects| {
            link.outbound_down(now, effects)
        });
    }

    /// The other node has confirmed that it has received everything.
    fn closed_in_order(&mut self, node: usize, index: usize) {
        self.trouble("closed idle");
        self.pipes.remove(&(node, index));
        self.reopened.insert((node, index));
        if self.pipes.contains_key(&(1 - node, index)) {
            self.trouble("closed one way");
        }
        self.open(node, index);
    }

    /// Feeds an input, does what follows, and sends what is queued.
    pub(super) fn input(
        &mut self,
        node: usize,
        index: usize,
        input: impl FnOnce(&mut LinkState<Handle>, &mut Vec<Effect<Handle>>),
    ) {
        let mut effects = Vec::new();
        input(&mut self.nodes[node].links[index], &mut effects);
        self.apply(node, index, effects);
        self.flush(node, index);
        self.open(node, index);
    }

    fn flush(&mut self, node: usize, index: usize) {
        let (other, now) = (1 - node, self.now);
        let link = &mut self.nodes[node].links[index];
        let mut ended = false;
        if let Some(pipe) = self.pipes.get_mut(&(node, index))
            && pipe.up
        {
            let mut readers = Vec::new();
            while let Poll::Ready(batch) = link.poll_batch(pipe.number, Waker::noop(), &mut readers)
            {
                self.quiet.remove(&(node, index));
                let Some(batch) = batch else {
                    ended = !pipe.dead && !link.is_retiring();
                    break;
                };
                if !pipe.dead {
                    let delay = Duration::from_millis(self.random.random_range(0..60));
                    let arrival = pipe.forward.send(now + delay, batch.frames);
                    let event = Event::Batch {
                        from: node,
                        index,
                        number: pipe.number,
                    };
                    self.count += 1;
                    self.events.insert((arrival, self.count), event);
                }
            }
        }
        if let Some(pipe) = self.pipes.get_mut(&(other, index)) {
            while let Poll::Ready(Some(batch)) = link.poll_answers(pipe.number, Waker::noop()) {
                if !pipe.dead {
                    let delay = Duration::from_millis(self.random.random_range(0..60));
                    let arrival = pipe.answers.send(now + delay, batch.frames);
                    let event = Event::Answers {
                        from: other,
                        index,
                        number: pipe.number,
                    };
                    self.count += 1;
                    self.events.insert((arrival, self.count), event);
                }
            }
        }
        if ended {
            self.break_pipe(node, index);
        }
    }

    pub(super) fn batch(&mut self, from: usize, index: usize, number: u64) {
        let (node, now) = (1 - from, self.now);
        let pipe = self.pipes.get_mut(&(from, index));
        let Some(frames) = pipe
            .filter(|pipe| pipe.number == number && !pipe.dead)
            .and_then(|pipe| pipe.forward.receive(now))
        else {
            return;
        };
        self.quiet.remove(&(node, index));
        let (mut heard, traffic) = (false, is_traffic(&frames));
        self.input(node, index, |link, effects| {
            heard = link.hear(number, traffic, effects);
        });
        if !heard {
            return self.break_pipe(from, index);
        }
        for frame in frames {
            self.note(|| format!("{node} {:?} {}", frame.kind(), frame.session));
            let Node { links, served, .. } = &mut self.nodes[node];
            let mut effects = Vec::new();
            let current =
                links[index].receive(number, frame, || now, false, &mut effects, &mut |new| {
                    Node::open(served, &new)
                });
            assert!(current, "the stream ended within a batch");
            self.apply(node, index, effects);
        }
        self.input(node, index, |link, _| {
            link.acknowledge_user_pushes();
        });
    }

    pub(super) fn answers(&mut self, from: usize, index: usize, number: u64) {
        let now = self.now;
        let pipe = self.pipes.get_mut(&(from, index));
        let frames = pipe
            .filter(|pipe| pipe.number == number && !pipe.dead)
            .and_then(|pipe| pipe.answers.receive(now));
        for frame in frames.into_iter().flatten() {
            if frame.kind() == Kind::SessionUnknown {
                self.trouble("session unknown");
            }
            self.input(from, index, |link, effects| {
                link.answer(&frame, effects).unwrap();
            });
            if frame.kind() == Kind::Idle {
                self.closed_in_order(from, index);
            }
        }
    }

    pub(super) fn restart(&mut self, node: usize, incarnation: u64) {
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        self.trouble("restart");
        self.may_lose_all();
        let other = 1 - node;
        let next = incarnation + 1;
        self.nodes[node] = Node::new(next, self.times);
        self.forget_attempts(node);
        self.pipes.retain(|(opener, _), _| *opener != node);
        for index in 0..STREAMS {
            self.break_pipe(other, index);
        }
        self.known[node] = self.nodes[other].incarnation;
        self.soon(Event::PeerRestarted {
            node: other,
            incarnation: next,
        });
    }

    /// A node closes its links, and begins anew with the same incarnation of the other one: the
    /// master announced that it left, and that it is back.
    pub(super) fn begin_anew(&mut self, node: usize) {
        if self.nodes[node].stopping {
            return;
        }
        self.trouble("begun anew");
        self.may_lose_all();
        for index in 0..STREAMS {
            self.input(node, index, |link, effects| link.close(effects));
            self.break_pipe(node, index);
            self.pipes.remove(&(node, index));
            // The other node's stream looks up to it for a while.
            let other = 1 - node;
            if let Some(pipe) = self.pipes.get_mut(&(other, index))
                && !pipe.dead
            {
                pipe.dead = true;
                let (number, noticed) = (pipe.number, self.random.random_range(0..5_000));
                self.later(
                    noticed,
                    Event::OutboundBroken {
                        node: other,
                        index,
                        number,
                    },
                );
            }
        }
        assert!(
            self.nodes[node].served.is_empty(),
            "sessions of a closed link"
        );
        self.nodes[node].links = new_links(self.times);
        self.forget_attempts(node);
        self.nodes[node].epoch += 1;
    }

    /// Closes the links to the incarnation that is gone, and begins with the new one.
    pub(super) fn peer_restarted(&mut self, node: usize, incarnation: u64) {
        // A node that was started again meanwhile has links to the new incarnation already.
        if self.nodes[1 - node].incarnation != incarnation || self.known[node] == incarnation {
            return;
        }
        self.may_lose_all();
        for index in 0..STREAMS {
            self.input(node, index, |link, effects| link.close(effects));
            self.pipes.remove(&(node, index));
        }
        assert!(
            self.nodes[node].served.is_empty(),
            "sessions of a gate that is gone"
        );
        self.nodes[node].links = new_links(self.times);
        self.forget_attempts(node);
        self.nodes[node].epoch += 1;
        self.known[node] = incarnation;
    }
}
