//! The gate of channel members: it knows which of its sessions are members, and hands them what the
//! owners send, in the order of positions. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    message::{JoinAnswer, JoinedAt, Name, Publication, ToGate, ToOwner},
    view::{Address, View},
};
#[cfg(feature = "admin")]
use crate::channel::{ChannelPage, ChannelReport};
use crate::{
    channel::Position,
    error::{Error, code},
};

mod effect;

pub(super) use self::effect::GateEffect;

/// How long a join waits for the owner.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before an owner that did not answer is asked again.
const JOIN_RETRY: Duration = Duration::from_millis(500);

/// The pause before a join is sent again that another node refused.
const MOVED_RETRY: Duration = Duration::from_millis(20);

/// Channels in one [`ToOwner::Held`]. Few in tests, so that answers have several parts.
const HELD: usize = if cfg!(test) { 1 } else { 5_000 };

/// The members of channels at one node. `M` is a member, `T` names a join that waits.
pub(super) struct Gate<M, T> {
    view: View,
    channels: HashMap<Name, Joined<M, T>>,
    /// The channels of each member.
    by_member: HashMap<M, Vec<Name>>,
    /// The channels with joins that wait.
    waiting: BTreeSet<Name>,
    /// Owners that asked for the members of a view that is not known here yet.
    asked: BTreeMap<Address, u64>,
    last_join: u64,
    /// The number of members of all channels.
    memberships: usize,
    /// The most channels of one member.
    max_per_member: usize,
}

struct Joined<M, T> {
    /// Shared with deliveries under way.
    members: Arc<Vec<M>>,
    pending: Vec<Pending<M, T>>,
    seen: Position,
}

struct Pending<M, T> {
    join: u64,
    member: M,
    since: Option<Position>,
    call: T,
    retry_at: Instant,
    deadline: Instant,
}

impl<M: Clone + Eq + Hash, T> Gate<M, T> {
    pub(super) fn new(max_per_member: usize) -> Self {
        Self {
            view: View::default(),
            channels: HashMap::new(),
            by_member: HashMap::new(),
            waiting: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_join: 0,
            memberships: 0,
            max_per_member,
        }
    }

    /// The number of members of all channels; a session counts once in each.
    pub(super) fn memberships(&self) -> usize {
        self.memberships
    }

    /// The channels with members here whose names come after `after`, the lowest `limit` of them,
    /// sorted.
    #[cfg(feature = "admin")]
    pub(super) fn list(&self, after: &str, limit: usize) -> ChannelPage {
        let all = self.channels.iter();
        let mut found: Vec<_> = all.filter(|(name, _)| &***name > after).collect();
        if found.len() > limit && limit > 0 {
            found.select_nth_unstable_by_key(limit - 1, |(name, _)| *name);
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|(name, _)| *name);
        let channels = found.into_iter().map(|(name, joined)| ChannelReport {
            channel: name.clone(),
            members: joined.members.len(),
            owner: self.view.owner(name).cloned(),
            offset: joined.seen.offset,
        });
        ChannelPage {
            channels: channels.collect(),
            total: self.channels.len(),
        }
    }

    /// The members of a channel here.
    pub(super) fn members(&self, channel: &str) -> &[M] {
        let joined = self.channels.get(channel);
        joined.map_or(&[], |joined| &joined.members)
    }

    /// Whether a member is in a channel.
    pub(super) fn has(&self, member: &M) -> bool {
        self.by_member.contains_key(member)
    }

    /// The members have changed. Joins under way go to the owners of the new view.
    pub(super) fn set_view(
        &mut self,
        view: View,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        if view.digest() == self.view.digest() {
            return;
        }
        self.view = view;
        for (owner, view) in std::mem::take(&mut self.asked) {
            self.collect(&owner, view, effects);
        }
        for channel in &self.waiting {
            let joined = self.channels.get_mut(channel);
            for pending in joined.into_iter().flat_map(|it| &mut it.pending) {
                pending.retry_at = now;
            }
        }
        self.tick(now, effects);
    }

    /// A session joins. If the gate has members already, it is one of them at once; else the owner
    /// is asked, and so it is for what a returning member has missed.
    pub(super) fn join(
        &mut self,
        channel: &Name,
        member: M,
        since: Option<Position>,
        call: T,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let channels = self.by_member.get(&member).map_or(&[][..], Vec::as_slice);
        let is_member = channels.contains(channel);
        let refused = if is_member && since.is_some() {
            Some(Error::new(
                code::CONFLICT,
                "the session is a member already",
            ))
        } else if !is_member && channels.len() >= self.max_per_member {
            Some(too_many())
        } else {
            None
        };
        if let Some(error) = refused {
            let result = Err(error);
            return effects.push(GateEffect::Joined { call, result });
        }
        let joined = self
            .channels
            .entry(channel.clone())
            .or_insert_with(|| Joined {
                members: Arc::default(),
                pending: Vec::new(),
                seen: Position::default(),
            });
        if since.is_none() && !joined.members.is_empty() {
            if !is_member {
                self.memberships += 1;
                Arc::make_mut(&mut joined.members).push(member.clone());
                self.by_member
                    .entry(member)
                    .or_default()
                    .push(channel.clone());
            }
            effects.push(GateEffect::Joined {
                call,
                result: Ok((joined.seen, false)),
            });
            return;
        }
        self.last_join += 1;
        self.waiting.insert(channel.clone());
        joined.pending.push(Pending {
            join: self.last_join,
            member,
            since,
            call,
            retry_at: now,
            deadline: now + JOIN_TIMEOUT,
        });
        self.tick(now, effects);
    }

    /// A session leaves. Returns whether it was a member.
    pub(super) fn leave(
        &mut self,
        channel: &Name,
        member: &M,
        effects: &mut Vec<GateEffect<M, T>>,
    ) -> bool {
        let Some(joined) = self.channels.get_mut(channel) else {
            return false;
        };
        for pending in joined
            .pending
            .extract_if(.., |pending| pending.member == *member)
        {
            effects.push(GateEffect::Joined {
                call: pending.call,
                result: Err(Error::new(code::CLOSED, "the session has left")),
            });
        }
        let at = joined.members.iter().position(|other| other == member);
        if let Some(at) = at {
            self.memberships -= 1;
            Arc::make_mut(&mut joined.members).swap_remove(at);
        }
        if let Some(channels) = self.by_member.get_mut(member) {
            channels.retain(|other| other != channel);
            if channels.is_empty() {
                self.by_member.remove(member);
                effects.push(GateEffect::Left(member.clone()));
            }
        }
        self.settle(channel, effects);
        at.is_some()
    }

    /// A session has ended: it leaves all channels.
    pub(super) fn close(&mut self, member: &M, effects: &mut Vec<GateEffect<M, T>>) {
        let mut channels = self.by_member.get(member).cloned().unwrap_or_default();
        channels.extend(self.waiting.iter().cloned());
        for channel in channels {
            self.leave(&channel, member, effects);
        }
    }

    /// A message of an owner.
    pub(super) fn receive(
        &mut self,
        from: &Address,
        message: ToGate,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        match message {
            ToGate::Joined {
                channel,
                join,
                answer,
            } => {
                // A former owner does not count: it will hear of no change of the members.
                let is_owner = self.view.owner(&channel) == Some(from);
                let answer = if is_owner { answer } else { JoinAnswer::Moved };
                self.joined(&channel, join, answer, now, effects);
            }
            ToGate::Deliver {
                channel,
                publication,
            } => self.deliver(from, channel, publication, effects),
            ToGate::Collect { view } => self.collect(from, view, effects),
        }
    }

    fn joined(
        &mut self,
        channel: &Name,
        join: u64,
        answer: JoinAnswer,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let Some(joined) = self.channels.get_mut(channel) else {
            return;
        };
        let pending = &mut joined.pending;
        let Some(at) = pending.iter().position(|pending| pending.join == join) else {
            return;
        };
        match answer {
            // What a former owner says is of no use to a member that has missed something.
            JoinAnswer::At(JoinedAt { position, .. })
                if position < joined.seen && pending[at].since.is_some() =>
            {
                pending[at].retry_at = now + MOVED_RETRY;
            }
            JoinAnswer::Moved => pending[at].retry_at = now + MOVED_RETRY,
            JoinAnswer::At(answer) => {
                let pending = pending.remove(at);
                self.enter(channel, pending, answer, effects);
            }
            JoinAnswer::Full => {
                let call = pending.remove(at).call;
                let result = Err(Error::new(code::TOO_MANY, "the owner takes no more"));
                effects.push(GateEffect::Joined { call, result });
            }
        }
        self.settle(channel, effects);
    }

    /// Makes a session a member that the owner has answered.
    fn enter(
        &mut self,
        channel: &Name,
        pending: Pending<M, T>,
        answer: JoinedAt,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let Pending { member, call, .. } = pending;
        let Some(joined) = self.channels.get_mut(channel) else {
            return;
        };
        let channels = self.by_member.entry(member.clone()).or_default();
        let is_member = channels.contains(channel);
        // Other joins under way have been answered meanwhile.
        if !is_member && channels.len() >= self.max_per_member {
            let result = Err(too_many());
            return effects.push(GateEffect::Joined { call, result });
        }
        let JoinedAt { position, missed } = answer;
        joined.seen = joined.seen.max(position);
        let recovered = missed.is_some();
        let only = Arc::new(vec![member.clone()]);
        let missed = missed.into_iter().flatten();
        effects.extend(missed.map(|publication| GateEffect::Push {
            members: only.clone(),
            publication,
        }));
        if !is_member {
            self.memberships += 1;
            channels.push(channel.clone());
            Arc::make_mut(&mut joined.members).push(member);
        }
        let result = Ok((joined.seen, recovered));
        effects.push(GateEffect::Joined { call, result });
    }

    fn deliver(
        &mut self,
        from: &Address,
        channel: Name,
        publication: Publication,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let Some(joined) = self.channels.get_mut(&channel) else {
            // The owner has not heard that the last member left.
            return effects.push(GateEffect::Send {
                to: from.clone(),
                message: ToOwner::Part { channel },
            });
        };
        if joined.members.is_empty() {
            return;
        }
        // A former owner may end its epoch, and not begin one: the owner has received what the gate has
        // seen, and could stay behind for ever.
        let position = publication.position;
        let is_owner = self.view.owner(&channel) == Some(from);
        let is_late = position <= joined.seen;
        if is_late || (position.epoch != joined.seen.epoch && !is_owner) {
            return effects.push(GateEffect::Dropped);
        }
        joined.seen = publication.position;
        effects.push(GateEffect::Push {
            members: joined.members.clone(),
            publication,
        });
    }

    /// Names the channels with members here that the owner which asks has in its view. Members who
    /// join under an earlier view than that ask another owner, so the answer waits for the view.
    fn collect(&mut self, from: &Address, view: u64, effects: &mut Vec<GateEffect<M, T>>) {
        if view != self.view.digest() {
            self.asked.insert(from.clone(), view);
            return;
        }
        let channels = self.channels.iter().filter(|(channel, joined)| {
            !joined.members.is_empty() && self.view.owner(channel) == Some(from)
        });
        let mut channels: Vec<_> = channels
            .map(|(channel, joined)| (channel.clone(), joined.seen))
            .collect();
        channels.sort();
        let mut parts: Vec<_> = channels.chunks(HELD).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let (mut before, count) = (0, parts.len());
        for (at, channels) in parts.into_iter().enumerate() {
            let named = channels.len() as u64;
            effects.push(GateEffect::Send {
                to: from.clone(),
                message: ToOwner::Held {
                    view,
                    before,
                    channels,
                    last: at + 1 == count,
                },
            });
            before += named;
        }
    }

    /// The time of the next [`tick`](Gate::tick).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let joined = self.waiting.iter().filter_map(|it| self.channels.get(it));
        let pending = joined.flat_map(|joined| &joined.pending);
        pending
            .map(|pending| pending.retry_at.min(pending.deadline))
            .min()
    }

    /// Sends joins that are due, and ends those that have waited too long.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<GateEffect<M, T>>) {
        let waiting: Vec<_> = self.waiting.iter().cloned().collect();
        for channel in waiting {
            self.retry(&channel, now, effects);
            self.settle(&channel, effects);
        }
    }

    fn retry(&mut self, channel: &Name, now: Instant, effects: &mut Vec<GateEffect<M, T>>) {
        let Some(joined) = self.channels.get_mut(channel) else {
            return;
        };
        for late in joined
            .pending
            .extract_if(.., |pending| pending.deadline <= now)
        {
            effects.push(GateEffect::Joined {
                call: late.call,
                result: Err(Error::new(
                    code::TIMEOUT,
                    "no answer of the channel's owner",
                )),
            });
        }
        for pending in joined.pending.iter_mut().filter(|it| it.retry_at <= now) {
            pending.retry_at = now + JOIN_RETRY;
            let message = ToOwner::Join {
                channel: channel.clone(),
                join: pending.join,
                since: pending.since,
                seen: joined.seen,
            };
            let owner = self.view.owner(channel).cloned();
            effects.extend(owner.map(|to| GateEffect::Send { to, message }));
        }
    }

    /// Forgets a channel that is not used any more.
    fn settle(&mut self, channel: &Name, effects: &mut Vec<GateEffect<M, T>>) {
        let Some(joined) = self.channels.get(channel) else {
            return;
        };
        if joined.pending.is_empty() {
            self.waiting.remove(channel);
        }
        if joined.members.is_empty() && joined.pending.is_empty() {
            self.channels.remove(channel);
            let owner = self.view.owner(channel).cloned();
            effects.extend(owner.map(|to| GateEffect::Send {
                to,
                message: ToOwner::Part {
                    channel: channel.clone(),
                },
            }));
        }
    }
}

fn too_many() -> Error {
    Error::new(code::TOO_MANY, "the session is in too many channels")
}
