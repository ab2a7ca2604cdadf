//! The master's register of members. No I/O: calls and the time go in; answers, and what to tell
//! the others, come out.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    table::{Change, digest},
    updates::{Announcement, Knowledge},
};
use crate::member::Member;

/// After so many missed heartbeats a member is removed; Go nano's number.
const MISSED: u32 = 4;

/// How many heartbeats of Go nano it is remembered who was there.
const REMEMBERED: u32 = 20;

/// More than any cluster of this kind has; a register that is fed rubbish must not grow for ever.
const MAX_MEMBERS: usize = 4096;

/// How often members call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    /// Nodes of Go nano.
    pub(crate) heartbeat: Duration,
    /// Nodes of this crate: often, so that a dead one is noticed within seconds.
    pub(crate) pulse: Duration,
}

impl Rhythm {
    pub(crate) fn new(heartbeat: Duration) -> Self {
        Self {
            heartbeat,
            pulse: heartbeat.min(Duration::from_secs(1)),
        }
    }

    /// How long a member may be silent.
    fn patience(&self, member: &Member) -> Duration {
        if member.is_go() {
            self.patience_of_go()
        } else {
            MISSED * self.pulse
        }
    }

    /// How long a master of Go nano lets anybody be silent.
    pub(crate) fn patience_of_go(&self) -> Duration {
        MISSED * self.heartbeat
    }

    /// How long a new master may not have heard of members that live: for their next heartbeat, and
    /// for the attempt after a lost one.
    fn grace(&self) -> Duration {
        self.heartbeat + MISSED * self.pulse
    }
}

/// Why the master does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A newer run has the address, or the master itself.
    Superseded,
    /// Nobody with that address to remove.
    NotRegistered,
    /// The register is full.
    Full,
}

/// What the master answers to a heartbeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Everybody but the caller, if its table is another one.
    pub(crate) table: Vec<Member>,
    /// Whether who is not in the table is gone.
    pub(crate) replace: bool,
}

/// What a call to the register changed.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) changes: Vec<Change>,
    /// A node of Go nano that was taken for dead, or outlived its master: nobody knows what it
    /// knows, and what it has to be told.
    pub(crate) returned: Option<(String, Vec<Announcement>)>,
}

impl News {
    /// What can be known of what somebody knows who joined with these news.
    pub(crate) fn knowledge(&self, member: &Member) -> Knowledge {
        let returned = self
            .returned
            .as_ref()
            .is_some_and(|(address, _)| address == member.address());
        match (member.is_go(), returned) {
            (false, _) => Knowledge::Any,
            (true, false) => Knowledge::Told,
            (true, true) => Knowledge::Unknown,
        }
    }
}

/// A member about to be removed; see [`Registry::remove`].
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    pub(crate) member: Member,
    registration: u64,
    in_order: bool,
}

/// Everybody the master knows.
#[derive(Debug)]
pub(crate) struct Registry {
    own: Member,
    rhythm: Rhythm,
    started: Instant,
    ticked: Instant,
    entries: Vec<Entry>,
    registrations: u64,
    /// Who is gone, for a while.
    gone: HashMap<String, Gone>,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    /// Tells two registrations of one address apart, also those of Go nodes.
    registration: u64,
    seen: Instant,
    leaving: bool,
}

#[derive(Debug)]
struct Gone {
    incarnation: u64,
    since: Instant,
    /// It said goodbye: a heartbeat that was under way must not bring it back.
    in_order: bool,
}

impl Registry {
    pub(crate) fn new(own: Member, rhythm: Rhythm, now: Instant) -> Self {
        Self {
            own,
            rhythm,
            started: now,
            ticked: now,
            entries: Vec::new(),
            registrations: 0,
            gone: HashMap::new(),
        }
    }

    /// A member joins: the answer is everybody else, at once, whatever state the others are in.
    pub(crate) fn register(
        &mut self,
        member: Member,
        now: Instant,
        news: &mut News,
    ) -> Result<Vec<Member>, Refusal> {
        let address = member.address().to_owned();
        match self.known(&address) {
            // The answer to its first attempt was lost.
            Some(entry) if !member.is_go() && entry.member == member => entry.seen = now,
            Some(entry) if !member.is_go() && entry.member.incarnation() > member.incarnation() => {
                return Err(Refusal::Superseded);
            }
            _ => self.admit(member, now, news)?,
        }
        Ok(self.others(&address))
    }

    /// A member lives. One that nobody knows joins with that: it was taken for dead, or the master
    /// is new.
    pub(crate) fn heartbeat(
        &mut self,
        member: Member,
        digest: u64,
        now: Instant,
        news: &mut News,
    ) -> Result<Pulse, Refusal> {
        let (address, is_go) = (member.address().to_owned(), member.is_go());
        if self
            .gone
            .get(&address)
            .is_some_and(|gone| gone.in_order && !is_go && gone.incarnation >= member.incarnation())
        {
            return Err(Refusal::Superseded);
        }
        match self.known(&address) {
            // One that is leaving is refreshed in vain.
            Some(entry) if entry.member == member => entry.seen = now,
            // It may have been under way for long. Between a node of Go nano and one of ours only a
            // registration decides who came later.
            Some(entry)
                if entry.member.is_go() != is_go
                    || entry.member.incarnation() > member.incarnation() =>
            {
                return Err(Refusal::Superseded);
            }
            _ => {
                self.admit(member, now, news)?;
                news.returned = is_go.then(|| (address.clone(), self.catch_up(&address)));
            }
        }
        if is_go || digest == self.digest_for(&address) {
            return Ok(Pulse::default());
        }
        Ok(Pulse {
            table: self.others(&address),
            replace: now.duration_since(self.started) > self.rhythm.grace(),
        })
    }

    /// A member leaves. `None` if another run has its address already.
    pub(crate) fn unregister(
        &mut self,
        address: &str,
        incarnation: u64,
    ) -> Result<Option<Departure>, Refusal> {
        let entry = self
            .known(address)
            .filter(|entry| !entry.leaving)
            .ok_or(Refusal::NotRegistered)?;
        let known = entry.member.incarnation();
        if known != incarnation && !(1..incarnation).contains(&known) {
            return Ok(None);
        }
        Ok(Some(entry.depart(true)))
    }

    /// Who has been silent for too long. To be called every [`interval`](Registry::interval).
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Departure> {
        let rhythm = self.rhythm;
        let since_last = now.duration_since(std::mem::replace(&mut self.ticked, now));
        if since_last > rhythm.pulse {
            // It was this node that slept: their heartbeats may still be on the way.
            self.entries.iter_mut().for_each(|entry| entry.seen = now);
        }
        self.gone
            .retain(|_, gone| now.duration_since(gone.since) < REMEMBERED * rhythm.heartbeat);
        let silent = |entry: &&mut Entry| {
            !entry.leaving && now.duration_since(entry.seen) > rhythm.patience(&entry.member)
        };
        self.entries
            .iter_mut()
            .filter(silent)
            .map(|entry| entry.depart(false))
            .collect()
    }

    /// Removes who is leaving. What happens between the departure and this cannot save it, but its
    /// address may have a new owner by now, which stays.
    pub(crate) fn remove(&mut self, departure: &Departure, now: Instant, news: &mut News) {
        let Some(at) = self
            .entries
            .iter()
            .position(|entry| entry.registration == departure.registration)
        else {
            return;
        };
        let member = self.entries.remove(at).member;
        if self.gone.len() < MAX_MEMBERS {
            let gone = Gone {
                incarnation: member.incarnation(),
                since: now,
                in_order: departure.in_order,
            };
            self.gone.insert(member.address().to_owned(), gone);
        }
        news.changes.push(Change::Left(member));
    }

    #[cfg(test)]
    pub(crate) fn own(&self) -> &Member {
        &self.own
    }

    /// All members in the order they joined, without the master itself.
    #[cfg(test)]
    pub(crate) fn members(&self) -> Vec<Member> {
        self.entries
            .iter()
            .map(|entry| entry.member.clone())
            .collect()
    }

    /// How often [`tick`](Registry::tick) must look.
    pub(crate) fn interval(&self) -> Duration {
        (self.rhythm.pulse / 2).max(Duration::from_millis(1))
    }

    fn known(&mut self, address: &str) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.member.address() == address)
    }

    fn admit(&mut self, member: Member, now: Instant, news: &mut News) -> Result<(), Refusal> {
        if member.address() == self.own.address() {
            return Err(Refusal::Superseded);
        }
        let before = self
            .entries
            .iter()
            .position(|entry| entry.member.address() == member.address());
        if before.is_none() && self.entries.len() >= MAX_MEMBERS {
            return Err(Refusal::Full);
        }
        news.changes
            .extend(before.map(|at| Change::Left(self.entries.remove(at).member)));
        self.gone.remove(member.address());
        self.registrations += 1;
        self.entries.push(Entry {
            member: member.clone(),
            registration: self.registrations,
            seen: now,
            leaving: false,
        });
        news.changes.push(Change::Joined(member));
        Ok(())
    }

    /// Everything that somebody may have missed, who cannot be asked what it knows.
    fn catch_up(&self, address: &str) -> Vec<Announcement> {
        let gone = self.gone.iter().map(|(address, gone)| Announcement::Del {
            address: address.clone(),
            incarnation: gone.incarnation,
        });
        gone.chain(self.others(address).into_iter().map(Announcement::New))
            .collect()
    }

    /// The master first, then the others in the order they joined.
    fn others(&self, address: &str) -> Vec<Member> {
        let others = self
            .entries
            .iter()
            .map(|entry| &entry.member)
            .filter(|member| member.address() != address);
        [&self.own].into_iter().chain(others).cloned().collect()
    }

    fn digest_for(&self, address: &str) -> u64 {
        let others = self
            .entries
            .iter()
            .map(|entry| &entry.member)
            .filter(|member| member.address() != address);
        digest([&self.own].into_iter().chain(others))
    }
}

impl Entry {
    fn depart(&mut self, in_order: bool) -> Departure {
        self.leaving = true;
        Departure {
            member: self.member.clone(),
            registration: self.registration,
            in_order,
        }
    }
}
