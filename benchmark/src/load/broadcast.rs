//! One client speaks, every client hears it: so many broadcasts are on their way at any time.

use std::collections::VecDeque;

use super::{
    body::Stamp,
    flow::{Flow, Outgoing},
    net::Net,
    tally::{GIVE_UP, Tally},
    wire::Incoming,
};

const SPEAKER: usize = 0;

pub(crate) struct Broadcast {
    join: Outgoing,
    send: Outgoing,
    depth: usize,
    joined: usize,
    members: Vec<Member>,
    /// The last number sent.
    sent: u32,
    on_the_way: VecDeque<Sent>,
    running: bool,
    tally: Tally,
}

/// What a client joins with.
fn membership(slot: usize) -> Stamp {
    Stamp {
        from: slot as u32,
        seq: 1,
    }
}

#[derive(Clone)]
struct Member {
    /// The number it hears next.
    next: u32,
    /// Those it did not hear in their turn.
    missed: Vec<u32>,
    here: bool,
}

struct Sent {
    seq: u32,
    at: u64,
    missing: usize,
}

impl Broadcast {
    pub(crate) fn new(
        join: Outgoing,
        send: Outgoing,
        depth: usize,
        members: usize,
        tally: Tally,
    ) -> Self {
        Self {
            join,
            send,
            depth,
            joined: 0,
            members: vec![
                Member {
                    next: 1,
                    missed: Vec::new(),
                    here: true
                };
                members
            ],
            sent: 0,
            on_the_way: VecDeque::new(),
            running: false,
            tally,
        }
    }

    fn speak(&mut self, net: &mut Net, now: u64) {
        self.sent += 1;
        let missing = self.members.iter().filter(|member| member.here).count();
        self.on_the_way.push_back(Sent {
            seq: self.sent,
            at: now,
            missing,
        });
        self.tally.sent += missing as u64;
        self.send.send(
            net,
            SPEAKER,
            Stamp {
                from: SPEAKER as u32,
                seq: self.sent,
            },
        );
    }

    fn fill(&mut self, net: &mut Net, now: u64) {
        while self
            .on_the_way
            .front()
            .is_some_and(|sent| sent.missing == 0)
        {
            self.on_the_way.pop_front();
        }
        while self.running && self.on_the_way.len() < self.depth {
            self.speak(net, now);
        }
    }

    fn sent(&mut self, seq: u32) -> Option<&mut Sent> {
        let first = self.on_the_way.front()?.seq;
        self.on_the_way.get_mut(seq.checked_sub(first)? as usize)
    }

    /// A member will not hear what comes before `seq` any more.
    fn skip_to(&mut self, slot: usize, seq: u32) {
        for lost in self.members[slot].next..seq {
            if let Some(sent) = self.sent(lost) {
                sent.missing -= 1;
            }
            self.members[slot].missed.push(lost);
            self.tally.dropped += 1;
        }
        self.members[slot].next = seq;
    }
}

impl Flow for Broadcast {
    fn opened(&mut self, net: &mut Net, slot: usize, _: u64) {
        self.join.send(net, slot, membership(slot));
    }

    fn ready(&self) -> bool {
        self.joined == self.members.len()
    }

    fn start(&mut self, net: &mut Net, now: u64) {
        self.running = true;
        self.fill(net, now);
    }

    fn message(&mut self, net: &mut Net, slot: usize, message: &Incoming<'_>, now: u64) {
        let body = match message {
            Incoming::Push { body, .. } => body,
            Incoming::Response { error, body, .. } => {
                self.joined += 1;
                if *error {
                    self.tally.errors += 1;
                } else if self.join.body.verify(body) != Some(membership(slot)) {
                    self.tally.corrupted += 1;
                }
                return;
            }
        };
        let Some(Stamp { seq, .. }) = self.send.body.verify(body) else {
            self.tally.corrupted += 1;
            return;
        };
        if seq < self.members[slot].next {
            let missed = &mut self.members[slot].missed;
            match missed.iter().position(|missed| *missed == seq) {
                Some(at) => {
                    missed.swap_remove(at);
                    self.tally.late += 1;
                }
                None => self.tally.corrupted += 1,
            }
            return;
        }
        self.skip_to(slot, seq);
        self.members[slot].next = seq + 1;
        let Some(sent) = self.sent(seq) else {
            self.tally.corrupted += 1;
            return;
        };
        sent.missing -= 1;
        let at = sent.at;
        self.tally.answer(at, now);
        self.fill(net, now);
    }

    fn closed(&mut self, net: &mut Net, slot: usize, now: u64) {
        self.skip_to(slot, self.sent + 1);
        self.members[slot].here = false;
        self.fill(net, now);
    }

    fn wake(&mut self, net: &mut Net, now: u64) -> u64 {
        while let Some(seq) = self
            .on_the_way
            .front()
            .filter(|sent| sent.at + GIVE_UP <= now)
            .map(|sent| sent.seq)
        {
            for slot in 0..self.members.len() {
                if self.members[slot].here && self.members[slot].next <= seq {
                    self.skip_to(slot, seq + 1);
                }
            }
            self.fill(net, now);
        }
        self.on_the_way
            .front()
            .map_or(u64::MAX, |sent| sent.at + GIVE_UP)
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn is_done(&self) -> bool {
        self.on_the_way.is_empty()
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
