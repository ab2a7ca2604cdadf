//! Messages that come back: requests with their answers, notifies with the push they cause, or both
//! in turn.

use std::collections::VecDeque;

use super::{
    body::{Stamp, Template},
    flow::{Flow, Outgoing},
    net::Net,
    tally::{GIVE_UP, Tally},
    wire::Incoming,
};

/// What one client may have on its way in an open loop; what is due beyond it counts as dropped.
const OPEN_LIMIT: usize = 4_096;
/// How often it is looked for what is to be given up, in nanoseconds.
const SWEEP: u64 = 250_000_000;

/// When messages are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many of each client are on their way at any time.
    Closed(usize),
    /// One every so many nanoseconds, from the clients in turn.
    Open { interval: f64 },
}

pub(crate) struct Echo {
    messages: Vec<Outgoing>,
    pace: Pace,
    /// What the first client of this thread is called in stamps.
    first: u32,
    clients: Vec<Client>,
    /// Of an open loop: when it began, and what has been due since.
    begun: u64,
    due: u64,
    swept: u64,
    running: bool,
    on_the_way: usize,
    tally: Tally,
}

#[derive(Default)]
struct Client {
    sent: u32,
    pending: VecDeque<Pending>,
    given_up: Vec<u32>,
}

struct Pending {
    seq: u32,
    due: u64,
}

impl Echo {
    pub(crate) fn new(
        messages: Vec<Outgoing>,
        pace: Pace,
        first: u32,
        clients: usize,
        tally: Tally,
    ) -> Self {
        let clients = (0..clients).map(|_| Client::default()).collect();
        Self {
            messages,
            pace,
            first,
            clients,
            begun: 0,
            due: 0,
            swept: 0,
            running: false,
            on_the_way: 0,
            tally,
        }
    }

    fn send(&mut self, net: &mut Net, slot: usize, due: u64) {
        let client = &mut self.clients[slot];
        client.sent += 1;
        let seq = client.sent;
        client.pending.push_back(Pending { seq, due });
        self.on_the_way += 1;
        self.tally.sent += 1;
        let stamp = Stamp {
            from: self.first + slot as u32,
            seq,
        };
        self.messages[seq as usize % self.messages.len()].send(net, slot, stamp);
    }

    /// Gives up what has not been answered, and lets the loop go on.
    fn sweep(&mut self, net: &mut Net, now: u64) {
        for slot in 0..self.clients.len() {
            while self.clients[slot]
                .pending
                .front()
                .is_some_and(|pending| pending.due + GIVE_UP <= now)
            {
                let Some(pending) = self.clients[slot].pending.pop_front() else {
                    break;
                };
                self.clients[slot].given_up.push(pending.seq);
                self.on_the_way -= 1;
                self.tally.dropped += 1;
                if self.running && matches!(self.pace, Pace::Closed(_)) && net.is_open(slot) {
                    self.send(net, slot, now);
                }
            }
        }
    }

    /// The number of the message of this client that was answered, if it was answered well.
    fn verify(&self, slot: usize, message: &Incoming<'_>) -> Option<u32> {
        let verify = |body: &[u8], template: &Template| {
            template
                .verify(body)
                .filter(|stamp| stamp.from == self.first + slot as u32)
        };
        match message {
            Incoming::Response { id, body, .. } => {
                let template = &self.messages[*id as usize % self.messages.len()].body;
                verify(body, template)
                    .filter(|stamp| u64::from(stamp.seq) == *id)
                    .map(|stamp| stamp.seq)
            }
            Incoming::Push { body, .. } => self
                .messages
                .iter()
                .find_map(|message| verify(body, &message.body))
                .map(|stamp| stamp.seq),
        }
    }
}

impl Flow for Echo {
    fn opened(&mut self, _: &mut Net, _: usize, _: u64) {}

    fn start(&mut self, net: &mut Net, now: u64) {
        self.running = true;
        self.begun = now;
        self.swept = now;
        if let Pace::Closed(depth) = self.pace {
            for slot in 0..self.clients.len() {
                (0..depth).for_each(|_| self.send(net, slot, now));
            }
        }
    }

    fn message(&mut self, net: &mut Net, slot: usize, message: &Incoming<'_>, now: u64) {
        if let Incoming::Response {
            id, error: true, ..
        } = message
        {
            let client = &mut self.clients[slot];
            if let Some(at) = client
                .pending
                .iter()
                .position(|pending| u64::from(pending.seq) == *id)
            {
                client.pending.remove(at);
                self.on_the_way -= 1;
            }
            self.tally.errors += 1;
            if self.running && matches!(self.pace, Pace::Closed(_)) {
                self.send(net, slot, now);
            }
            return;
        }
        let Some(seq) = self.verify(slot, message) else {
            self.tally.corrupted += 1;
            return;
        };
        let client = &mut self.clients[slot];
        let Some(at) = client.pending.iter().position(|pending| pending.seq == seq) else {
            match client.given_up.iter().position(|given_up| *given_up == seq) {
                Some(at) => {
                    client.given_up.swap_remove(at);
                    self.tally.late += 1;
                }
                None => self.tally.corrupted += 1,
            }
            return;
        };
        let Some(pending) = client.pending.remove(at) else {
            return;
        };
        self.on_the_way -= 1;
        self.tally.answer(pending.due, now);
        if self.running && matches!(self.pace, Pace::Closed(_)) {
            self.send(net, slot, now);
        }
    }

    fn closed(&mut self, _: &mut Net, slot: usize, _: u64) {
        let lost = self.clients[slot].pending.drain(..).count();
        self.on_the_way -= lost;
        self.tally.dropped += lost as u64;
    }

    fn wake(&mut self, net: &mut Net, now: u64) -> u64 {
        if self.begun == 0 {
            return u64::MAX;
        }
        if self.swept + SWEEP <= now {
            self.swept = now;
            self.sweep(net, now);
        }
        let Pace::Open { interval } = self.pace else {
            return self.swept + SWEEP;
        };
        let mut next = self.begun + (self.due as f64 * interval) as u64;
        while self.running && next <= now {
            let slot = self.due as usize % self.clients.len();
            if !net.is_open(slot) || self.clients[slot].pending.len() >= OPEN_LIMIT {
                self.tally.sent += 1;
                self.tally.dropped += 1;
            } else {
                self.send(net, slot, next);
            }
            self.due += 1;
            next = self.begun + (self.due as f64 * interval) as u64;
        }
        next.min(self.swept + SWEEP)
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn is_done(&self) -> bool {
        self.on_the_way == 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
