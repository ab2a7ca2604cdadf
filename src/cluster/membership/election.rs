//! Which of several masters leads. No I/O.
//!
//! Three or five masters agree on one thing: that at most one of them announces changes, under
//! numbers of views that never go back. There is no log and no disk: everything else is rebuilt from
//! members' heartbeats, as after the restart of a single master.
//!
//! # Protocol
//!
//! A master that has not heard of a leader for the length of a *lease* asks the others for their votes
//! in a new *term*, after it has asked whether it would get them. With the votes of a majority, its own
//! included, it asks for a lease, and renews it four times in its length. It leads while a majority has
//! granted it one. A master grants one lease at a time, so at most one master leads.
//!
//! - *Clocks* need not agree. The leader counts its lease from when it asked, the others from when
//!   they granted, and the leader relies on four fifths only: clocks may differ in speed by a fifth.
//! - *No disk.* A master that has started grants nothing for the length of a lease: what its earlier
//!   run granted has run out by then.
//! - *Suspended machines* do not count the time, so a leader may come back that believes in a lease
//!   that has run out. Therefore every announcement and reply carries its term, and members refuse
//!   what has a lower term than they have seen.
//!
//! # Numbers
//!
//! A term is the number of the first view its leader states; the views that follow count up from
//! there. A leader uses only numbers that a majority has noted as reserved, and a vote is granted only
//! for a term above all noted numbers: so two leaders never use one number, and later leaders use
//! higher ones. A term is also at least the time in microseconds, for the case that all masters
//! restarted and have noted nothing. If their clocks were set back meanwhile, members help: they send
//! the highest number they have seen, and a leader that learns of a higher one than its own begins a
//! new term, above all that the leader of that number may have reserved. A term that has ended never
//! goes on. Its last digit, in base 8, is the place of its master, so that two masters never ask for one
//! term. Where the clock is behind, a term is above what is known by up to a second's worth of numbers, at
//! random: so two runs of one master that know the same do not ask for one term either, but for one time in
//! 131,072.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use self::{
    acceptor::{Acceptor, MAX_NUMBER},
    config::LeaseConfig,
    leader::{AHEAD, Candidate, Lead, Role},
    message::{LeaseReply, LeaseRequest, MasterId, Purpose},
};

pub(crate) mod acceptor;
pub(crate) mod config;
mod leader;
pub(crate) mod message;
#[cfg(test)]
mod tests;

/// The most masters of a cluster.
pub(crate) const MAX_MASTERS: usize = 7;

/// The terms of one master differ by multiples of this.
const PLACES: u64 = 8;

/// A master's part in choosing the leader.
#[derive(Debug)]
pub(crate) struct Election {
    own: MasterId,
    /// All masters, sorted.
    masters: Vec<String>,
    config: LeaseConfig,
    acceptor: Acceptor,
    role: Role,
    /// The highest number that a member has seen.
    seen: u64,
    /// When to call [`tick`](Self::tick).
    due: Instant,
    /// Delays attempts at random.
    random: StdRng,
}

/// The right to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) term: u64,
    pub(crate) until: Instant,
    /// The last number that a view may have.
    pub(crate) reserved: u64,
}

impl Election {
    /// Creates the part of the master `own`. `masters` are the addresses of all, its own among them,
    /// at most [`MAX_MASTERS`].
    pub(crate) fn new(
        own: MasterId,
        mut masters: Vec<String>,
        config: LeaseConfig,
        seed: u64,
        now: Instant,
    ) -> Self {
        masters.sort();
        masters.dedup();
        Self {
            own,
            masters,
            acceptor: Acceptor::new(config.lease, now),
            config,
            role: Role::Follower,
            seen: 0,
            due: now,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Returns when to call [`tick`](Self::tick).
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Does what is due. Returns a request for all other masters.
    ///
    /// `clock` is the time in microseconds since 1970; `view` is the number of the latest view of this
    /// master while it leads.
    pub(crate) fn tick(&mut self, clock: u64, view: u64, now: Instant) -> Option<LeaseRequest> {
        if now < self.due {
            return None;
        }
        let lease = self.lease();
        let length = self.config.lease;
        match &mut self.role {
            Role::Retired => {
                self.due = now + self.config.lease;
                None
            }
            Role::Follower => self.follow(clock, now),
            Role::Leader(lead)
                if now < lease.map_or(lead.gives_up(length), |lease| lease.until) =>
            {
                let latest = view.max(lead.term);
                lead.asked = lead.asked.max(latest.saturating_add(AHEAD));
                let (term, asked) = (lead.term, lead.asked);
                self.ask(self.request(Purpose::Renew, term, asked), now)
            }
            Role::Candidate(candidate) if !candidate.has_asked => self.campaign(now),
            Role::Candidate(_) | Role::Leader(_) => {
                self.step_down(now);
                None
            }
        }
    }

    /// Answers another master.
    pub(crate) fn on_request(&mut self, request: &LeaseRequest, now: Instant) -> LeaseReply {
        self.expire(now);
        let reply = self.acceptor.on_request(request, now);
        if !reply.granted || request.purpose == Purpose::Probe {
            return reply;
        }
        let term = match &self.role {
            Role::Candidate(candidate) => candidate.term,
            Role::Leader(lead) => lead.term,
            Role::Follower | Role::Retired => u64::MAX,
        };
        if term < request.term {
            self.role = Role::Follower;
        }
        if let Role::Follower = self.role {
            let leader = self.acceptor.leader(now);
            let due = match request.purpose {
                Purpose::Probe | Purpose::Vote => now + self.config.renewal(),
                Purpose::Renew => leader.map_or(now, |(_, until)| until),
                Purpose::Resign => now,
            };
            self.due = due + self.delay();
        }
        reply
    }

    /// Takes the answer of another master to a request sent at `sent`.
    pub(crate) fn on_reply(
        &mut self,
        from: &str,
        request: &LeaseRequest,
        sent: Instant,
        reply: LeaseReply,
        now: Instant,
    ) {
        self.expire(now);
        self.acceptor.raise_floor(reply.floor);
        let floor = self.acceptor.floor();
        let is_superseded = |lead: &Lead| lead.asked < floor || lead.term < reply.promised;
        if matches!(&self.role, Role::Leader(lead) if is_superseded(lead)) {
            self.step_down(now);
        }
        if !reply.granted || !self.masters.iter().any(|it| it == from) {
            return;
        }
        let majority = self.majority();
        match (&mut self.role, request.purpose) {
            (Role::Candidate(candidate), purpose)
                if (candidate.term, candidate.asks_for) == (request.term, purpose) =>
            {
                candidate.granted.insert(from.to_owned());
                if candidate.granted.len() >= majority {
                    self.role = match purpose {
                        Purpose::Probe => {
                            Role::Candidate(Candidate::new(request.term, Purpose::Vote))
                        }
                        _ => Role::Leader(Lead::new(request.term, now)),
                    };
                    self.due = now;
                }
            }
            (Role::Leader(lead), Purpose::Renew) if lead.term == request.term => {
                lead.granted(from, sent, request.reserved);
            }
            _ => {}
        }
    }

    /// Notes the number of a view, or a term, that a member or a master has seen. `view` is the number of
    /// the latest view of this master while it leads. A leader that did not state the number is
    /// superseded: it begins a new term above it.
    pub(crate) fn observe(&mut self, number: u64, view: u64, now: Instant) {
        self.expire(now);
        if number <= MAX_NUMBER {
            self.seen = self.seen.max(number);
        }
        if matches!(&self.role, Role::Leader(lead) if lead.term.max(view) < self.seen) {
            self.step_down(now);
        }
    }

    /// Leads no more and asks for nothing from now on, because this node is about to stop. Returns a
    /// request for all other masters if it led.
    pub(crate) fn retire(&mut self) -> Option<LeaseRequest> {
        self.acceptor.release(&self.own);
        match std::mem::replace(&mut self.role, Role::Retired) {
            Role::Leader(lead) => Some(self.request(Purpose::Resign, lead.term, lead.term)),
            _ => None,
        }
    }

    /// Returns this master's lease; `None` unless it leads.
    pub(crate) fn leads(&self, now: Instant) -> Option<Lease> {
        self.lease().filter(|lease| now < lease.until)
    }

    /// Returns the master that leads, as far as this one has heard.
    pub(crate) fn leader(&self, now: Instant) -> Option<&MasterId> {
        match self.leads(now) {
            Some(_) => Some(&self.own),
            None => {
                let (leader, _) = self.acceptor.leader(now)?;
                Some(leader).filter(|leader| **leader != self.own)
            }
        }
    }

    /// Returns all masters, sorted.
    pub(crate) fn masters(&self) -> &[String] {
        &self.masters
    }

    fn lease(&self) -> Option<Lease> {
        let Role::Leader(lead) = &self.role else {
            return None;
        };
        let (until, reserved) = lead.lease(self.majority(), self.config.reliance())?;
        Some(Lease {
            term: lead.term,
            until,
            reserved,
        })
    }

    fn majority(&self) -> usize {
        self.masters.len() / 2 + 1
    }

    /// Becomes a candidate, unless another master has a lease.
    fn follow(&mut self, clock: u64, now: Instant) -> Option<LeaseRequest> {
        let leader = self.acceptor.leader(now).map(|(_, until)| until);
        let mute = self.acceptor.is_mute(now);
        let mute = mute.then(|| self.acceptor.mute_until());
        if let Some(until) = leader.or(mute) {
            self.due = until + self.delay();
            return None;
        }
        let term = self.next_term(clock);
        self.role = Role::Candidate(Candidate::new(term, Purpose::Probe));
        self.campaign(now)
    }

    /// Asks for what a candidate wants, of itself first.
    fn campaign(&mut self, now: Instant) -> Option<LeaseRequest> {
        let Role::Candidate(candidate) = &mut self.role else {
            return None;
        };
        candidate.has_asked = true;
        candidate.granted.insert(self.own.address.clone());
        let (term, purpose) = (candidate.term, candidate.asks_for);
        self.ask(self.request(purpose, term, term + AHEAD), now)
    }

    /// Grants a request of its own, and returns it for the others.
    fn ask(&mut self, request: LeaseRequest, now: Instant) -> Option<LeaseRequest> {
        if !self.acceptor.on_request(&request, now).granted {
            self.step_down(now);
            return None;
        }
        if let Role::Leader(lead) = &mut self.role {
            lead.granted(&self.own.address, now, request.reserved);
        }
        self.due = now + self.config.renewal();
        Some(request)
    }

    fn request(&self, purpose: Purpose, term: u64, reserved: u64) -> LeaseRequest {
        LeaseRequest {
            purpose,
            from: self.own.clone(),
            term,
            reserved,
        }
    }

    /// Leads no more if its lease has run out. A grant that arrives later does not count: the term has
    /// been seen to end, and another one needs numbers of its own.
    fn expire(&mut self, now: Instant) {
        if self.lease().is_some_and(|lease| lease.until <= now) {
            self.step_down(now);
        }
    }

    fn step_down(&mut self, now: Instant) {
        self.role = Role::Follower;
        self.acceptor.release(&self.own);
        self.due = now + self.delay();
    }

    /// Returns a number that may be a term of this master.
    fn next_term(&mut self, clock: u64) -> u64 {
        let place = self.masters.iter().position(|it| *it == self.own.address);
        let place = place.map_or(PLACES - 1, |place| place as u64);
        // The leader that stated what a member has seen may have used more numbers.
        let seen = if self.seen > 0 { self.seen + AHEAD } else { 0 };
        let above = self.acceptor.floor().max(seen) + 1;
        let least = if clock >= above {
            clock
        } else {
            // A former run of this master may have begun a term above the same number, which no master
            // remembers and no member has told yet: at random, this one begins another.
            above + self.random.random_range(0..AHEAD)
        };
        least + (PLACES + place - least % PLACES) % PLACES
    }

    fn delay(&mut self) -> std::time::Duration {
        self.config.spread().mul_f64(self.random.random())
    }
}
