//! Clients that only stay connected, and clients that come and go.

use super::{
    body::Stamp,
    flow::{Flow, Outgoing},
    net::Net,
    tally::Tally,
    wire::Incoming,
};

/// Connects and stays.
pub(crate) struct Idle {
    tally: Tally,
}

impl Idle {
    pub(crate) fn new(tally: Tally) -> Self {
        Self { tally }
    }
}

impl Flow for Idle {
    fn opened(&mut self, _: &mut Net, _: usize, _: u64) {}

    fn start(&mut self, _: &mut Net, _: u64) {}

    fn message(&mut self, _: &mut Net, _: usize, _: &Incoming<'_>, _: u64) {}

    fn closed(&mut self, _: &mut Net, _: usize, _: u64) {}

    fn wake(&mut self, _: &mut Net, _: u64) -> u64 {
        u64::MAX
    }

    fn stop(&mut self) {}

    fn is_done(&self) -> bool {
        true
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// Connects, shakes hands, asks one thing, leaves, and comes again. The latency is that of all of
/// it.
pub(crate) struct Storm {
    ask: Outgoing,
    first: u32,
    /// When each client began to connect; 0 while it does not.
    since: Vec<u64>,
    running: bool,
    tally: Tally,
}

impl Storm {
    pub(crate) fn new(ask: Outgoing, first: u32, clients: usize, tally: Tally) -> Self {
        Self {
            ask,
            first,
            since: vec![0; clients],
            running: false,
            tally,
        }
    }

    fn come(&mut self, net: &mut Net, slot: usize, now: u64) {
        net.close(slot);
        self.since[slot] = 0;
        if !self.running {
            return;
        }
        self.tally.sent += 1;
        match net.open(slot) {
            Ok(()) => self.since[slot] = now,
            Err(_) => self.tally.dropped += 1,
        }
    }
}

impl Flow for Storm {
    fn opened(&mut self, net: &mut Net, slot: usize, _: u64) {
        if self.since[slot] > 0 {
            self.ask.send(
                net,
                slot,
                Stamp {
                    from: self.first + slot as u32,
                    seq: 1,
                },
            );
        }
    }

    fn start(&mut self, net: &mut Net, now: u64) {
        self.running = true;
        (0..self.since.len()).for_each(|slot| self.come(net, slot, now));
    }

    fn message(&mut self, net: &mut Net, slot: usize, message: &Incoming<'_>, now: u64) {
        let Incoming::Response {
            id: 1,
            error: false,
            body,
        } = message
        else {
            self.tally.corrupted += 1;
            return;
        };
        if self.ask.body.verify(body)
            != Some(Stamp {
                from: self.first + slot as u32,
                seq: 1,
            })
        {
            self.tally.corrupted += 1;
        }
        self.tally.answer(self.since[slot], now);
        self.come(net, slot, now);
    }

    fn closed(&mut self, net: &mut Net, slot: usize, now: u64) {
        if self.since[slot] > 0 {
            self.tally.dropped += 1;
            self.come(net, slot, now);
        }
    }

    fn wake(&mut self, _: &mut Net, _: u64) -> u64 {
        u64::MAX
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn is_done(&self) -> bool {
        self.since.iter().all(|since| *since == 0)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
