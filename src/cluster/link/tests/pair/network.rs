//! Streams between two nodes: batches that arrive later, in order, or not at all.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::cluster::link::proto::Frame;

/// One stream, from the node that opened it, with its answers.
pub(super) struct Pipe {
    pub(super) number: u64,
    /// The epoch of the node that accepted it.
    pub(super) accepted_by: u64,
    /// Whether the opener knows that it was accepted.
    pub(super) up: bool,
    /// Whether what is sent vanishes, in either direction.
    pub(super) dead: bool,
    pub(super) forward: Line,
    pub(super) answers: Line,
}

/// One direction of a stream.
#[derive(Default)]
pub(super) struct Line {
    batches: VecDeque<(Instant, Vec<Frame>)>,
    last: Option<Instant>,
}

impl Line {
    /// Sends a batch, which arrives at the time returned: not before one that was sent earlier.
    pub(super) fn send(&mut self, arrival: Instant, frames: Vec<Frame>) -> Instant {
        let arrival = self.last.map_or(arrival, |last| last.max(arrival));
        self.last = Some(arrival);
        self.batches.push_back((arrival, frames));
        arrival
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<Vec<Frame>> {
        let arrived = self.batches.front().is_some_and(|(at, _)| *at <= now);
        arrived.then(|| self.batches.pop_front().unwrap().1)
    }
}

impl Pipe {
    pub(super) fn new(number: u64, accepted_by: u64) -> Self {
        Self {
            number,
            accepted_by,
            up: false,
            dead: false,
            forward: Line::default(),
            answers: Line::default(),
        }
    }
}
