//! The master's register of members: calls and the time go in, replies and announcements come out.
//! No I/O.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    heartbeat::{HeartbeatConfig, HeartbeatReply, ViewStamp},
    table::{Change, digest},
    updates::{Announcement, PeerView},
};
use crate::{cluster::proto, member::Member};

/// The most members, and the most former members that are remembered. Far above the clusters this
/// protocol is made for; it bounds what rubbish from the network can cost.
const MAX_MEMBERS: usize = 4096;

/// The most bytes of all members in a reply. gRPC takes messages of 4 MiB, and the master is in the
/// reply too.
const MAX_TABLE: usize = (4 * 1024 - 128) * 1024;

/// Why the master refuses a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A newer incarnation has the address, or the master itself.
    Superseded,
    /// No member has the address.
    NotRegistered,
    /// The register holds [`MAX_MEMBERS`], or [`MAX_TABLE`] bytes.
    Full,
    /// This node is no master, or another master leads.
    NotLeading,
}

/// Returns the text of [`Refusal::NotRegistered`], by which basic members know it.
pub(crate) fn not_registered(address: &str) -> String {
    format!("address {address} has not registered")
}

/// What a call to the register changed.
#[derive(Debug, Default)]
pub(crate) struct MembershipDelta {
    /// The changes in the order they were made.
    pub(crate) changes: Vec<Change>,
    /// Whether the heartbeats of those that left had stopped.
    pub(crate) evicted: bool,
    /// A basic member that came back with a heartbeat, and what it may have missed. It was evicted
    /// or outlived its master, so its table is unknown.
    pub(crate) returned: Option<(String, Vec<Announcement>)>,
}

impl MembershipDelta {
    /// Returns what the master may assume about the table of a member that joined with this delta.
    pub(crate) fn view_of(&self, member: &Member) -> PeerView {
        let returned = self
            .returned
            .as_ref()
            .is_some_and(|(address, _)| address == member.address());
        match (member.is_basic(), returned) {
            (false, _) => PeerView::Idempotent,
            (true, false) => PeerView::Exact,
            (true, true) => PeerView::Unknown,
        }
    }
}

/// A member whose removal has begun; [`Registry::remove`] completes it.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub(crate) member: Member,
    registration: u64,
    unregistered: bool,
}

impl Removal {
    /// Whether the member's heartbeats stopped.
    pub(crate) fn is_eviction(&self) -> bool {
        !self.unregistered
    }
}

/// The master's register of members.
#[derive(Debug)]
pub(crate) struct Registry {
    own: Member,
    heartbeat: HeartbeatConfig,
    started: Instant,
    /// The term in which its master leads; 0 for the only master.
    term: u64,
    /// The number of the table's present state. Begins at the master's incarnation, so that it does
    /// not go back when the master restarts; with several masters at the term, for the same reason.
    view: u64,
    /// The last number that may be stated.
    reserved: u64,
    ticked: Instant,
    /// In the order of registration.
    entries: Vec<Entry>,
    registrations: u64,
    /// Former members by address, forgotten after [`HeartbeatConfig::retention`]. Sorted, so that
    /// the announcements made from it have the same order in every run of a simulation.
    departed: BTreeMap<String, Departed>,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    /// Its bytes in a reply.
    size: usize,
    /// Tells apart two registrations of one address, those of basic members too.
    registration: u64,
    /// When the last call arrived.
    seen: Instant,
    /// Whether the removal has begun.
    removing: bool,
}

#[derive(Debug)]
struct Departed {
    incarnation: u64,
    since: Instant,
    /// Whether it unregistered. A heartbeat that was under way must not bring it back.
    unregistered: bool,
}

impl Registry {
    pub(crate) fn new(own: Member, heartbeat: HeartbeatConfig, now: Instant) -> Self {
        Self {
            term: 0,
            view: own.incarnation(),
            reserved: u64::MAX,
            own,
            heartbeat,
            started: now,
            ticked: now,
            entries: Vec::new(),
            registrations: 0,
            departed: BTreeMap::new(),
        }
    }

    /// Creates the register of a master that leads from now on, in place of another one.
    ///
    /// It begins with `table`, what this node had as a member. These members have the eviction timeout
    /// and `grace` to find their new leader; until then it states no view, because members that joined
    /// just before may be missing.
    pub(crate) fn take_over(
        own: Member,
        heartbeat: HeartbeatConfig,
        term: u64,
        table: Vec<Member>,
        grace: Duration,
        now: Instant,
    ) -> Self {
        let mut registry = Self {
            term,
            view: term,
            reserved: term,
            // No number of another term: a removal that was begun there must not end here.
            registrations: term,
            started: now + grace,
            ticked: now,
            ..Self::new(own, heartbeat, now)
        };
        for member in table {
            let size = proto::size(&member);
            registry.push(member, size, now + grace);
        }
        registry
    }

    /// Lets views have numbers up to `number`.
    pub(crate) fn reserve(&mut self, number: u64) {
        self.reserved = number;
    }

    /// Returns the term in which its master leads; 0 for the only master.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Returns the number of the table's present state.
    pub(crate) fn view(&self) -> u64 {
        self.view
    }

    /// Returns every member, what the master may assume about its table, and what a new leader sends
    /// it first: that it leads, or, to a basic member, all that it may have missed.
    pub(crate) fn inherited(&self) -> Vec<(Member, PeerView, Vec<Announcement>)> {
        let members = self.entries.iter().map(|entry| entry.member.clone());
        let inherited = members.map(|member| match member.is_basic() {
            false => {
                let lead = Announcement::Lead(self.own.clone());
                (member, PeerView::Idempotent, vec![lead])
            }
            true => {
                let missed = self.catch_up(member.address());
                (member, PeerView::Unknown, missed)
            }
        });
        inherited.collect()
    }

    /// Registers a member and returns all others. Does not wait for the state of any other member.
    pub(crate) fn register(
        &mut self,
        member: Member,
        now: Instant,
        delta: &mut MembershipDelta,
    ) -> Result<Vec<Member>, Refusal> {
        let address = member.address().to_owned();
        match self.entry(&address) {
            // A repeated registration: the reply to the first one was lost.
            Some(entry) if !member.is_basic() && entry.member == member => entry.seen = now,
            Some(entry)
                if !member.is_basic() && entry.member.incarnation() > member.incarnation() =>
            {
                return Err(Refusal::Superseded);
            }
            _ => self.admit(member, now, delta)?,
        }
        Ok(self.others(&address))
    }

    /// Takes a sign of life. An unknown member joins by it: it was evicted, or the master is new.
    pub(crate) fn heartbeat(
        &mut self,
        member: Member,
        digest: u64,
        now: Instant,
        delta: &mut MembershipDelta,
    ) -> Result<HeartbeatReply, Refusal> {
        let (address, is_basic) = (member.address().to_owned(), member.is_basic());
        if self.departed.get(&address).is_some_and(|departed| {
            departed.unregistered && !is_basic && departed.incarnation >= member.incarnation()
        }) {
            return Err(Refusal::Superseded);
        }
        let departed = self.departed.get(&address);
        let mut reply = HeartbeatReply {
            eviction: self.heartbeat.eviction_timeout(&member),
            returns: departed.is_some_and(|departed| {
                !departed.unregistered && departed.incarnation == member.incarnation()
            }),
            ..HeartbeatReply::default()
        };
        match self.entry(&address) {
            // A removal that has begun goes on all the same.
            Some(entry) if entry.member.announces_same(&member) => entry.seen = now,
            // The heartbeat may have been under way for long. Between a basic member and a node of
            // this crate at one address only registrations decide which is later.
            Some(entry)
                if entry.member.is_basic() != is_basic
                    || entry.member.incarnation() > member.incarnation() =>
            {
                return Err(Refusal::Superseded);
            }
            _ => {
                self.admit(member, now, delta)?;
                delta.returned = is_basic.then(|| (address.clone(), self.catch_up(&address)));
            }
        }
        reply.view = self.view_for(&address, now);
        if !is_basic && digest != self.digest_for(&address) {
            reply.table = self.others(&address);
            reply.replace = now.duration_since(self.started) > self.heartbeat.startup_grace();
        }
        Ok(reply)
    }

    /// Begins the removal of a member that leaves. Returns `None` if a later incarnation has its
    /// address.
    pub(crate) fn unregister(
        &mut self,
        address: &str,
        incarnation: u64,
    ) -> Result<Option<Removal>, Refusal> {
        let entry = self
            .entry(address)
            .filter(|entry| !entry.removing)
            .ok_or(Refusal::NotRegistered)?;
        let known = entry.member.incarnation();
        if known != incarnation && !(1..incarnation).contains(&known) {
            return Ok(None);
        }
        Ok(Some(entry.begin_removal(true)))
    }

    /// Begins the removal of members that have been silent for their eviction timeout. Call it
    /// every [`HeartbeatConfig::tick_interval`].
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Removal> {
        let config = self.heartbeat;
        let since_last = now.duration_since(std::mem::replace(&mut self.ticked, now));
        if since_last > config.interval {
            // This node was suspended: heartbeats may still wait in its sockets.
            let entries = self.entries.iter_mut();
            entries.for_each(|entry| entry.seen = now.max(entry.seen));
        }
        self.departed
            .retain(|_, departed| now.duration_since(departed.since) < config.retention());
        let silent = |entry: &&mut Entry| {
            !entry.removing
                && now.duration_since(entry.seen) > config.eviction_timeout(&entry.member)
        };
        self.entries
            .iter_mut()
            .filter(silent)
            .map(|entry| entry.begin_removal(false))
            .collect()
    }

    /// Returns the members of this crate that have been silent for half of their eviction timeout.
    ///
    /// One of several masters tells them again that it leads: they may be calling masters that are
    /// away. So a member is evicted only if it neither calls nor can be called.
    pub(crate) fn unheard(&self, now: Instant) -> Vec<&Member> {
        let unheard = |entry: &&Entry| {
            let timeout = self.heartbeat.eviction_timeout(&entry.member);
            !entry.member.is_basic()
                && !entry.removing
                && now.saturating_duration_since(entry.seen) > timeout / 2
        };
        let entries = self.entries.iter().filter(unheard);
        entries.map(|entry| &entry.member).collect()
    }

    /// Completes a removal. No call between its beginning and its end can stop it, but a newer
    /// registration of the same address stays.
    pub(crate) fn remove(&mut self, removal: &Removal, now: Instant, delta: &mut MembershipDelta) {
        let Some(at) = self
            .entries
            .iter()
            .position(|entry| entry.registration == removal.registration)
        else {
            return;
        };
        let member = self.entries.remove(at).member;
        if self.departed.len() < MAX_MEMBERS {
            let departed = Departed {
                incarnation: member.incarnation(),
                since: now,
                unregistered: removal.unregistered,
            };
            self.departed.insert(member.address().to_owned(), departed);
        }
        self.view += 1;
        delta.changes.push(Change::Left(member));
        delta.evicted = removal.is_eviction();
    }

    #[cfg(test)]
    pub(crate) fn own(&self) -> &Member {
        &self.own
    }

    /// Returns all members but the master itself, in the order they joined.
    #[cfg(test)]
    pub(crate) fn members(&self) -> Vec<Member> {
        self.entries
            .iter()
            .map(|entry| entry.member.clone())
            .collect()
    }

    /// Returns the number of the table's present state, and the digest that it has at the member with
    /// this address, or with the master's own.
    ///
    /// 0 while the master has just started: members that it has not heard of may be alive.
    pub(crate) fn view_for(&self, address: &str, now: Instant) -> ViewStamp {
        match self.stated_view(now) {
            0 => ViewStamp::default(),
            number => ViewStamp {
                number,
                digest: self.digest_for(address),
            },
        }
    }

    /// Returns the number of the table's present state as it is stated to members; 0 for none.
    pub(crate) fn stated_view(&self, now: Instant) -> u64 {
        let complete = self.heartbeat.eviction_timeout(&self.own);
        let is_complete = now.duration_since(self.started) > complete;
        match is_complete && self.view <= self.reserved {
            true => self.view,
            false => 0,
        }
    }

    fn entry(&mut self, address: &str) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.member.address() == address)
    }

    fn admit(
        &mut self,
        member: Member,
        now: Instant,
        delta: &mut MembershipDelta,
    ) -> Result<(), Refusal> {
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
        let size = proto::size(&member);
        let others = self.entries.iter().enumerate();
        let others = others.filter(|(at, _)| Some(*at) != before);
        if size + others.map(|(_, entry)| entry.size).sum::<usize>() > MAX_TABLE {
            return Err(Refusal::Full);
        }
        delta
            .changes
            .extend(before.map(|at| Change::Left(self.entries.remove(at).member)));
        self.departed.remove(member.address());
        self.view += 1;
        self.push(member.clone(), size, now);
        delta.changes.push(Change::Joined(member));
        Ok(())
    }

    fn push(&mut self, member: Member, size: usize, seen: Instant) {
        self.registrations += 1;
        self.entries.push(Entry {
            member,
            size,
            registration: self.registrations,
            seen,
            removing: false,
        });
    }

    /// Returns everything that the basic member at `address` may have missed: its protocol has no
    /// way to ask what it knows.
    fn catch_up(&self, address: &str) -> Vec<Announcement> {
        let departed = self
            .departed
            .iter()
            .map(|(address, departed)| Announcement::Leave {
                address: address.clone(),
                incarnation: departed.incarnation,
                // Basic members cannot tell.
                evicted: false,
            });
        departed
            .chain(self.others(address).into_iter().map(Announcement::Join))
            .collect()
    }

    /// Returns the master, then all members but `address` in the order they joined.
    fn others(&self, address: &str) -> Vec<Member> {
        self.iter_others(address).cloned().collect()
    }

    fn digest_for(&self, address: &str) -> u64 {
        digest(self.iter_others(address))
    }

    fn iter_others(&self, address: &str) -> impl Iterator<Item = &Member> {
        let others = self
            .entries
            .iter()
            .map(|entry| &entry.member)
            .filter(move |member| member.address() != address);
        [&self.own].into_iter().chain(others)
    }
}

impl Entry {
    fn begin_removal(&mut self, unregistered: bool) -> Removal {
        self.removing = true;
        Removal {
            member: self.member.clone(),
            registration: self.registration,
            unregistered,
        }
    }
}
