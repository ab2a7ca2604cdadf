//! One thread: connects its clients, plays its part, and waits for what is on its way.

use std::{
    io,
    sync::{Arc, Barrier},
    time::Duration,
};

use nano::packet::Kind;

use super::{
    conn::Scratch,
    due,
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
        if self.net.speaks_due(slot) {
            while let Some(response) = due::take_response(&mut stream)? {
                self.flow.message(&mut self.net, slot, &response, now);
                if !self.net.is_open(slot) {
                    return Ok(());
                }
            }
            self.net.keep(slot, stream);
            return Ok(());
        }
        while let Some((kind, body)) = take_packet(&mut stream)? {
            match kind {
                Kind::Data => {
                    self.net.count(slot);
                    let message = Incoming::decode(body)?;
                    self.flow.message(&mut self.net, slot, &message, now);
                }
                Kind::Heartbeat => self.net.answer_heartbeat(slot, now),
                _ => {}
            }
            // What follows was for the connection that has just been replaced.
            if !self.net.is_open(slot) {
                return Ok(());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        thread,
    };

    use clap::Parser;

    use super::*;
    use crate::load::{self, wire::packet_header};

    #[derive(Default)]
    struct Seen {
        connections: AtomicUsize,
        heartbeats: AtomicUsize,
        /// Connections that began with something else than a handshake.
        strays: AtomicUsize,
    }

    /// Answers one client: its greeting with several heartbeats, and every heartbeat with another one,
    /// as pomelo does. A heartbeat follows each response too.
    fn serve(mut socket: TcpStream, seen: &Seen) -> io::Result<()> {
        const GOOD: &[u8] = br#"{"code":200}"#;
        let packet = |kind, body: &[u8]| [&packet_header(kind, body.len())[..], body].concat();
        let mut first = true;
        loop {
            let mut header = [0; 4];
            socket.read_exact(&mut header)?;
            let size = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            let mut body = vec![0; size];
            socket.read_exact(&mut body)?;
            let kind = Kind::try_from(header[0]).unwrap();
            if std::mem::take(&mut first) && kind != Kind::Handshake {
                seen.strays.fetch_add(1, Relaxed);
            }
            let answer = match kind {
                Kind::Handshake => packet(Kind::Handshake, GOOD),
                Kind::Data => {
                    // A request with a short id: its flag, its id, the length of its route, its route.
                    let content = &body[3 + usize::from(body[2])..];
                    let response = [&[4, body[1]], content].concat();
                    [packet(Kind::Data, &response), packet(Kind::Heartbeat, &[])].concat()
                }
                Kind::Heartbeat => {
                    seen.heartbeats.fetch_add(1, Relaxed);
                    packet(Kind::Heartbeat, &[])
                }
                _ => packet(Kind::Heartbeat, &[]).repeat(5),
            };
            socket.write_all(&answer)?;
        }
    }

    #[test]
    fn a_heartbeat_is_answered_once_and_on_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("tcp://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let server = seen.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, seen) = (socket.unwrap(), server.clone());
                seen.connections.fetch_add(1, Relaxed);
                thread::spawn(move || {
                    // It ends when the client leaves.
                    serve(socket, &seen).unwrap_or_default();
                });
            }
        });

        let flags = "load --scenario storm --connections 2 --warm-up 0 --duration 0.3 --connect";
        let flags = flags.split(' ').chain([&*target]);
        let report = load::run(&load::Options::parse_from(flags)).unwrap();

        assert!(report.per_second > 0.0, "{report}");
        assert_eq!((report.corrupted, report.closed), (0, 0), "{report}");
        assert_eq!(seen.strays.load(Relaxed), 0);
        let (answers, connections) = (
            seen.heartbeats.load(Relaxed),
            seen.connections.load(Relaxed),
        );
        assert!(answers <= connections, "{answers} of {connections}");
    }
}
