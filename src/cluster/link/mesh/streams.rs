//! Streams between the nodes: they come up, carry batches, and break.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
    time::Duration,
};

use rand::RngExt;
use tokio::time::Instant;

use super::{Mesh, Place, Served};
use crate::cluster::link::{
    frame::is_traffic, proto::Frame, session::LinkedSession, whereabouts::Whereabouts,
};

/// What happens to the links.
pub(super) enum Event {
    Probe,
    Connect {
        end: (usize, usize),
        incarnation: u64,
    },
    Accepted {
        end: (usize, usize),
        number: u64,
    },
    Batch {
        end: (usize, usize),
        number: u64,
    },
    Answers {
        end: (usize, usize),
        number: u64,
    },
    OutboundBroken {
        end: (usize, usize),
        number: u64,
    },
    InboundBroken {
        end: (usize, usize),
        number: u64,
    },
    Leave {
        at: usize,
        peer: usize,
        incarnation: u64,
    },
    Join {
        at: usize,
        peer: usize,
        incarnation: u64,
    },
}

impl Event {
    /// The node that it happens at.
    pub(super) fn node(&self) -> Option<usize> {
        match self {
            Self::Probe => None,
            Self::Connect { end: (_, at), .. }
            | Self::Batch { end: (_, at), .. }
            | Self::Accepted { end: (at, _), .. }
            | Self::Answers { end: (at, _), .. }
            | Self::OutboundBroken { end: (at, _), .. }
            | Self::InboundBroken { end: (at, _), .. }
            | Self::Leave { at, .. }
            | Self::Join { at, .. } => Some(*at),
        }
    }
}

/// One stream, from the node that has opened it, with its answers.
pub(super) struct Pipe {
    number: u64,
    accepted_by: u64,
    up: bool,
    /// Whether what is sent vanishes.
    dead: bool,
    forward: Line,
    answers: Line,
}

/// One direction of a stream.
#[derive(Default)]
struct Line {
    batches: VecDeque<Vec<Frame>>,
    last: Option<Instant>,
}

impl Line {
    /// Sends a batch, which arrives at the time returned: not before one that was sent earlier.
    fn send(&mut self, arrival: Instant, frames: Vec<Frame>) -> Instant {
        let arrival = self.last.map_or(arrival, |last| last.max(arrival));
        self.last = Some(arrival);
        self.batches.push_back(frames);
        arrival
    }
}

impl Mesh {
    pub(super) fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Probe => self.probe(),
            Event::Connect { end, incarnation } => self.connect(end, incarnation),
            Event::Accepted { end, .. } | Event::Batch { end, .. } | Event::Answers { end, .. }
                if self.is_cut_off(end.0, end.1) =>
            {
                self.break_pipe(end);
            }
            Event::Accepted { end, number } => {
                let pipe = self.pipes.get_mut(&end);
                if let Some(pipe) = pipe.filter(|pipe| pipe.number == number && !pipe.dead) {
                    pipe.up = true;
                    self.streams += 1;
                    let epoch = pipe.accepted_by;
                    self.input(end, |state, effects| {
                        state.outbound_up(number, epoch, effects);
                    });
                }
            }
            Event::Batch { end, number } => self.batch(end, number),
            Event::Answers { end, number } => self.answers(end, number),
            Event::OutboundBroken { end, number } => {
                if self.pipes.get(&end).is_some_and(|it| it.number == number) {
                    self.pipes.remove(&end);
                    self.input(end, |state, effects| state.outbound_down(now, effects));
                }
            }
            Event::InboundBroken { end, number } => self.input(end, |state, effects| {
                state.inbound_down(number, now, effects);
            }),
            Event::Leave {
                at,
                peer,
                incarnation,
            } => {
                if self.member(at, peer) == Some(incarnation) {
                    self.leave(at, peer);
                }
            }
            Event::Join {
                at,
                peer,
                incarnation,
            } => {
                if self.nodes[peer].incarnation == incarnation {
                    self.join(at, peer, incarnation);
                }
            }
        }
    }

    /// Opens an outbound stream if one is needed and none is on its way.
    pub(super) fn open(&mut self, end: (usize, usize)) {
        let Some(link) = self.links.get_mut(&end) else {
            return;
        };
        if self.pipes.contains_key(&end) || self.opening.contains(&end) {
            return;
        }
        if link.state.poll_open(Waker::noop()).is_ready() {
            self.opening.insert(end);
            let incarnation = link.peer;
            let delay = self.random.random_range(0..200);
            self.later(delay, Event::Connect { end, incarnation });
        }
    }

    fn connect(&mut self, end: (usize, usize), incarnation: u64) {
        let (at, to) = end;
        if self.member(at, to) != Some(incarnation) || !self.opening.remove(&end) {
            return;
        }
        let number = self.number();
        let epoch = self.links[&end].epoch;
        let back = (to, at);
        let meets = self.nodes[to].alive
            && self.nodes[to].incarnation == incarnation
            && !self.is_cut_off(at, to);
        if meets {
            // As `LinkPeers::accept`: a stream may come before the announcement of its node.
            self.join(to, at, self.nodes[at].incarnation);
        }
        let pipe = Pipe {
            number,
            accepted_by: self.links.get(&back).map_or(0, |link| link.epoch),
            up: false,
            dead: false,
            forward: Line::default(),
            answers: Line::default(),
        };
        self.pipes.insert(end, pipe);
        self.input(end, |state, _| state.connecting(number));
        let (now, mut accepted) = (self.now, false);
        if meets {
            self.input(back, |state, effects| {
                accepted = state.accept(number, epoch, now, effects).is_ok();
            });
        }
        if accepted {
            let delay = self.random.random_range(0..30);
            self.later(delay, Event::Accepted { end, number });
        } else {
            self.break_pipe(end);
        }
    }

    /// What is under way is lost. Both ends learn of it, each in its own time.
    pub(super) fn break_pipe(&mut self, end: (usize, usize)) {
        let Some(pipe) = self.pipes.get_mut(&end).filter(|pipe| !pipe.dead) else {
            return;
        };
        pipe.dead = true;
        let number = pipe.number;
        let [out, inbound] = [(); 2].map(|()| self.random.random_range(0..400));
        self.later(out, Event::OutboundBroken { end, number });
        let end = (end.1, end.0);
        self.later(inbound, Event::InboundBroken { end, number });
    }

    pub(super) fn flush(&mut self, end: (usize, usize)) {
        let Some(link) = self.links.get_mut(&end) else {
            return;
        };
        let (mut sent, now, mut is_over) = (Vec::new(), self.now, false);
        if let Some(pipe) = self.pipes.get_mut(&end).filter(|pipe| pipe.up) {
            let mut readers = Vec::new();
            while let Poll::Ready(batch) =
                link.state
                    .poll_batch(pipe.number, Waker::noop(), &mut readers)
            {
                let Some(batch) = batch else {
                    // The state has given the stream up: the peer has begun anew.
                    is_over = true;
                    break;
                };
                if !pipe.dead {
                    let delay = Duration::from_millis(self.random.random_range(0..30));
                    let arrival = pipe.forward.send(now + delay, batch.frames);
                    let number = pipe.number;
                    sent.push((arrival, Event::Batch { end, number }));
                }
            }
        }
        let back = (end.1, end.0);
        if let Some(pipe) = self.pipes.get_mut(&back) {
            while let Poll::Ready(Some(batch)) = link.state.poll_answers(pipe.number, Waker::noop())
            {
                if !pipe.dead {
                    let delay = Duration::from_millis(self.random.random_range(0..30));
                    let arrival = pipe.answers.send(now + delay, batch.frames);
                    let number = pipe.number;
                    sent.push((arrival, Event::Answers { end: back, number }));
                }
            }
        }
        for (at, event) in sent {
            self.at(at, event);
        }
        if is_over {
            self.break_pipe(end);
        }
    }

    fn batch(&mut self, opener: (usize, usize), number: u64) {
        let pipe = self.pipes.get_mut(&opener);
        let pipe = pipe.filter(|pipe| pipe.number == number && !pipe.dead);
        let Some(frames) = pipe.and_then(|pipe| pipe.forward.batches.pop_front()) else {
            return;
        };
        let (at, from) = (opener.1, opener.0);
        let (mut heard, traffic, now) = (false, is_traffic(&frames), self.now);
        self.input((at, from), |state, effects| {
            heard = state.hear(number, traffic, effects);
        });
        if !heard {
            return self.break_pipe(opener);
        }
        let mut frames = VecDeque::from(frames);
        while let Some(frame) = frames.pop_front() {
            let (mut opened, sink) = (Vec::new(), self.sink.clone());
            self.input((at, from), |state, effects| {
                state.receive(number, frame, || now, false, effects, &mut |new| {
                    let session = crate::session::Session::new(new.id, sink.clone());
                    opened.push((session.clone(), new.key));
                    session
                });
            });
            for (session, key) in opened {
                self.served.push(Served {
                    at,
                    session: session.for_request(0),
                    first: Place { gate: from, key },
                    whereabouts: Whereabouts::default(),
                });
            }
            // What follows from a frame is done before the next one is handled.
            if !self.out.is_empty()
                && !frames.is_empty()
                && let Some(pipe) = self.pipes.get_mut(&opener)
            {
                pipe.forward.batches.push_front(frames.into());
                return self.at(
                    now,
                    Event::Batch {
                        end: opener,
                        number,
                    },
                );
            }
        }
    }

    fn answers(&mut self, opener: (usize, usize), number: u64) {
        let pipe = self.pipes.get_mut(&opener);
        let pipe = pipe.filter(|pipe| pipe.number == number && !pipe.dead);
        let frames = pipe.and_then(|pipe| pipe.answers.batches.pop_front());
        for frame in frames.into_iter().flatten() {
            self.input(opener, |state, effects| {
                state.answer(&frame, effects).unwrap();
            });
        }
    }
}
