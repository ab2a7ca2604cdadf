//! One thread: connects its clients, plays its part, and waits for what is on its way.

use std::{
    io,
    sync::{Arc, Barrier},
    time::Duration,
};

use nano::packet::Kind;

use super::{
    conn::Scratch,
    flow::Flow,
    net::{Net, Progress},
    tally::{Clock, Tally},
    wire::{Incoming, take_packet},
};

/// How many connections may be on their way at once.
const CONNECTING: usize = 128;
const CONNECT_LIMIT: u64 = 60_000_000_000;
const DRAIN_LIMIT: u64 = 4_000_000_000;
/// The longest wait for the system.
const STEP: u64 = 50_000_000;

/// Where the threads of a load wait for each other: connected, begun, ended.
pub(crate) struct Gates {
    pub(crate) connected: Barrier,
    pub(crate) begun: Barrier,
    pub(crate) ended: Barrier,
}

pub(crate) struct Worker<F> {
    net: Net,
    flow: F,
    clock: Arc<Clock>,
    scratch: Scratch,
    ready: Vec<(usize, bool)>,
    connecting: usize,
    connected: usize,
    failure: Option<io::Error>,
}

impl<F: Flow> Worker<F> {
    pub(crate) fn new(net: Net, flow: F, clock: Arc<Clock>) -> Self {
        Self {
            net,
            flow,
            clock,
            scratch: Scratch::new(),
            ready: Vec::new(),
            connecting: 0,
            connected: 0,
            failure: None,
        }
    }

    /// Plays it. Every thread passes every gate, whatever happens to it.
    pub(crate) fn run(mut self, connections: usize, gates: &Gates) -> io::Result<Tally> {
        let connected = self.connect(connections);
        gates.connected.wait();
        gates.begun.wait();
        let played = connected.and_then(|()| self.play());
        gates.ended.wait();
        played?;
        self.flow.stop();
        let limit = self.clock.now() + DRAIN_LIMIT;
        while !self.flow.is_done() && self.clock.now() < limit {
            self.step(limit)?;
        }
        let empty = Tally::new().map_err(io::Error::other)?;
        Ok(std::mem::replace(self.flow.tally(), empty))
    }

    fn connect(&mut self, connections: usize) -> io::Result<()> {
        let (mut next, limit) = (0, self.clock.now() + CONNECT_LIMIT);
        while self.connected < connections || !self.flow.ready() {
            while next < connections && self.connecting < CONNECTING {
                self.net.open(next)?;
                self.connecting += 1;
                next += 1;
            }
            self.step(limit)?;
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            if self.clock.now() >= limit {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} of {connections} clients are connected", self.connected),
                ));
            }
        }
        Ok(())
    }

    fn play(&mut self) -> io::Result<()> {
        let window = self.clock.window();
        self.flow.tally().measure(window.clone());
        self.flow.start(&mut self.net, self.clock.now());
        while self.clock.now() < window.end {
            self.step(window.end)?;
        }
        Ok(())
    }

    fn step(&mut self, until: u64) -> io::Result<()> {
        let now = self.clock.now();
        let wake = self.flow.wake(&mut self.net, now);
        self.flush(now);
        let limit = wake.min(until).saturating_sub(now).min(STEP);
        let mut ready = std::mem::take(&mut self.ready);
        self.net.wait(Duration::from_nanos(limit), &mut ready)?;
        for &(slot, writable) in &ready {
            let now = self.clock.now();
            match self.net.advance(slot, writable, &mut self.scratch) {
                Progress::Nothing => {}
                Progress::Opened => {
                    self.connecting = self.connecting.saturating_sub(1);
                    self.connected += 1;
                    self.flow.opened(&mut self.net, slot, now);
                }
                Progress::Received => {
                    if let Err(error) = self.deliver(slot, now) {
                        self.lose(slot, error, now);
                    }
                }
                Progress::Closed(error) => self.lose(slot, error, now),
            }
            // At once, so that the server works while the rest is read.
            self.flush(now);
        }
        self.ready = ready;
        Ok(())
    }

    fn deliver(&mut self, slot: usize, now: u64) -> io::Result<()> {
        let mut stream = &self.scratch.stream[..];
        while let Some((kind, body)) = take_packet(&mut stream)? {
            match kind {
                Kind::Data => self
                    .flow
                    .message(&mut self.net, slot, &Incoming::decode(body)?, now),
                Kind::Heartbeat => self.net.send(slot, Kind::Heartbeat, &[]),
                _ => {}
            }
        }
        self.net.keep(slot, stream);
        Ok(())
    }

    fn flush(&mut self, now: u64) {
        for (slot, error) in self.net.flush() {
            self.lose(slot, error, now);
        }
    }

    fn lose(&mut self, slot: usize, error: io::Error, now: u64) {
        if !self.net.is_open(slot) {
            self.connecting = self.connecting.saturating_sub(1);
            self.failure.get_or_insert(error);
        }
        self.net.close(slot);
        self.flow.tally().closed += 1;
        self.flow.closed(&mut self.net, slot, now);
    }
}
