//! A game: players in rooms, each telling its room where it is so many times a second, whatever the
//! server does. One more client hardly reads, and one does not read at all.

use super::{
    body::{Stamp, Template},
    flow::{Flow, Outgoing},
    net::Net,
    tally::{GIVE_UP, Tally},
    wire::Incoming,
};

/// Clients beside the players: the slow and the dead one.
pub(crate) const BYSTANDERS: usize = 2;
/// How often the slow one reads, in nanoseconds.
const SLOW: u64 = 200_000_000;
const SECOND: f64 = 1e9;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) players: usize,
    pub(crate) rooms: usize,
    /// Updates a second, of each player.
    pub(crate) rate: f64,
}

pub(crate) struct Game {
    size: Size,
    moves: Outgoing,
    joined: usize,
    /// For every player and every place in its room, how many moves it has heard of.
    heard: Vec<Vec<u32>>,
    begun: u64,
    /// How many moves have been due.
    due: u64,
    stopped: u64,
    slow_reads: u64,
    is_reading: bool,
    running: bool,
    tally: Tally,
}

impl Game {
    pub(crate) fn new(size: Size, body: Template, tally: Tally) -> Self {
        let places = size.players.div_ceil(size.rooms);
        Self {
            size,
            moves: Outgoing::notify("Room.Move", body),
            joined: 0,
            heard: vec![vec![0; places]; size.players],
            begun: 0,
            due: 0,
            stopped: 0,
            slow_reads: 0,
            is_reading: true,
            running: false,
            tally,
        }
    }

    fn room_of(&self, slot: usize) -> usize {
        slot % self.size.rooms
    }

    /// When a move, counted over all players, is due.
    fn time_of(&self, count: u64) -> u64 {
        self.begun + (count as f64 * SECOND / self.size.rate / self.size.players as f64) as u64
    }

    fn people_in(&self, room: usize) -> u64 {
        (self.size.players - room).div_ceil(self.size.rooms) as u64
    }

    /// The slow client reads for a moment, then looks away.
    fn attend(&mut self, net: &mut Net, now: u64) {
        if now >= self.slow_reads {
            self.is_reading = !self.is_reading;
            self.slow_reads = now + if self.is_reading { SLOW / 100 } else { SLOW };
            // If it has been disconnected there is nothing to read.
            net.listen(self.size.players, self.is_reading)
                .unwrap_or_default();
        }
    }
}

impl Flow for Game {
    fn opened(&mut self, net: &mut Net, slot: usize, _: u64) {
        let enter = Outgoing::request("Lobby.Enter", Template::raw(0));
        enter.send(
            net,
            slot,
            Stamp {
                from: self.room_of(slot) as u32,
                seq: 1,
            },
        );
    }

    fn ready(&self) -> bool {
        self.joined == self.size.players + BYSTANDERS
    }

    fn start(&mut self, net: &mut Net, now: u64) {
        (self.begun, self.slow_reads, self.running) = (now, now, true);
        let dead = self.size.players + 1;
        net.listen(dead, false).unwrap_or_default();
    }

    fn message(&mut self, _: &mut Net, slot: usize, message: &Incoming<'_>, now: u64) {
        let Incoming::Push { body, .. } = message else {
            self.joined += 1;
            return;
        };
        if slot >= self.size.players {
            return;
        }
        let Some(Stamp { from, seq }) = self.moves.body.verify(body) else {
            self.tally.corrupted += 1;
            return;
        };
        let (from, room) = (from as usize, self.room_of(slot));
        if from >= self.size.players || self.room_of(from) != room {
            self.tally.corrupted += 1;
            return;
        }
        let heard = &mut self.heard[slot][from / self.size.rooms];
        if seq < *heard {
            self.tally.corrupted += 1;
            return;
        }
        *heard = seq + 1;
        let due = self.time_of(u64::from(seq) * self.size.players as u64 + from as u64);
        self.tally.answer(due, now);
    }

    fn closed(&mut self, _: &mut Net, slot: usize, _: u64) {
        // The bystanders may be thrown out: that is what a server is expected to do.
        if slot >= self.size.players {
            self.tally.closed -= 1;
        }
    }

    fn wake(&mut self, net: &mut Net, now: u64) -> u64 {
        if self.begun == 0 {
            return u64::MAX;
        }
        while self.running && self.time_of(self.due) <= now {
            let (slot, seq) = (
                self.due as usize % self.size.players,
                self.due / self.size.players as u64,
            );
            self.moves.send(
                net,
                slot,
                Stamp {
                    from: slot as u32,
                    seq: seq as u32,
                },
            );
            self.tally.sent += self.people_in(self.room_of(slot));
            self.due += 1;
        }
        if !self.running && self.stopped == 0 {
            self.stopped = now;
        }
        self.attend(net, now);
        self.time_of(self.due).min(self.slow_reads)
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn is_done(&self) -> bool {
        self.tally.answered >= self.tally.sent
            || (self.stopped > 0 && self.stopped + GIVE_UP < self.slow_reads)
    }

    fn tally(&mut self) -> &mut Tally {
        self.tally.dropped = self.tally.sent.saturating_sub(self.tally.answered);
        &mut self.tally
    }
}
