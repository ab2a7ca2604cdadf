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
use crate::{
    channel::Position,
    error::{Error, code},
};

mod answer;
mod effect;
mod hold;
mod joined;
mod refusal;

use self::{
    answer::held,
    joined::{Joined, Pending},
};
pub(super) use self::{
    effect::GateEffect,
    hold::{Hold, Waiting},
    joined::Subject,
    refusal::{not_expected, too_many},
};

/// How long a join waits for the owner.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before an owner that did not answer is asked again.
const JOIN_RETRY: Duration = Duration::from_millis(500);

/// More joins than 2^10 in each millisecond have the number of none of a later incarnation.
const JOINS_PER_MILLI: u32 = 10;

/// The pause before a join is sent again that another node refused.
const MOVED_RETRY: Duration = Duration::from_millis(20);

/// The members of channels at one node. `M` is a member, `T` names a join that waits.
pub(super) struct Gate<M, T> {
    pub(super) view: View,
    pub(super) channels: HashMap<Name, Joined<M, T>>,
    /// The channels of each member, of those that are about to move too.
    pub(super) by_member: HashMap<M, Vec<Name>>,
    /// The sessions that are about to move, from here or to here.
    pub(super) holds: BTreeMap<i64, Hold<M>>,
    /// The channels with joins that wait.
    pub(super) waiting: BTreeSet<Name>,
    /// Owners that asked for the members of a view that is not known here yet.
    asked: BTreeMap<Address, u64>,
    last_join: u64,
    /// The number of members of all channels.
    pub(super) memberships: usize,
    /// The most channels of one member. It may change; a member that is in more stays in them.
    pub(super) max_per_member: usize,
}

impl<M: Clone + Eq + Hash, T> Gate<M, T> {
    /// `started` is the time in milliseconds. The numbers of joins begin with it: an answer to a former
    /// incarnation of the node answers no join of this one.
    pub(super) fn new(max_per_member: usize, started: u64) -> Self {
        Self {
            view: View::default(),
            channels: HashMap::new(),
            by_member: HashMap::new(),
            holds: BTreeMap::new(),
            waiting: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_join: started << JOINS_PER_MILLI,
            memberships: 0,
            max_per_member,
        }
    }

    /// The number of members of all channels; a session counts once in each.
    pub(super) fn memberships(&self) -> usize {
        self.memberships
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
        let joined = self.channels.entry(channel.clone()).or_default();
        if since.is_none() && joined.is_entered() {
            if !is_member {
                self.memberships += 1;
                joined.add(member.clone(), joined.seen);
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
        self.ask_owner(
            channel,
            Subject::Member(member),
            since,
            Some(call),
            now,
            effects,
        );
    }

    /// Asks the owner of a channel, and waits for its answer.
    pub(super) fn ask_owner(
        &mut self,
        channel: &Name,
        subject: Subject<M>,
        since: Option<Position>,
        call: Option<T>,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        self.last_join += 1;
        self.waiting.insert(channel.clone());
        let joined = self.channels.entry(channel.clone()).or_default();
        joined.pending.push(Pending {
            join: self.last_join,
            subject,
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
        for pending in joined.pending.extract_if(
            ..,
            |it| matches!(&it.subject, Subject::Member(it) if it == member),
        ) {
            let error = Error::new(code::CLOSED, "the session has left");
            effects.extend(GateEffect::joined(pending.call, Err(error)));
        }
        let was_member = joined.remove(member).is_some();
        self.memberships -= usize::from(was_member);
        if let Some(channels) = self.by_member.get_mut(member) {
            channels.retain(|other| other != channel);
            if channels.is_empty() {
                self.by_member.remove(member);
                effects.push(GateEffect::Left(member.clone()));
            }
        }
        self.settle(channel, effects);
        was_member
    }

    /// A session has ended, or another gate has it: it leaves all channels.
    pub(super) fn close(&mut self, member: &M, effects: &mut Vec<GateEffect<M, T>>) {
        let mut channels = self.by_member.get(member).cloned().unwrap_or_default();
        channels.extend(self.waiting.iter().cloned());
        for channel in channels {
            self.leave(&channel, member, effects);
        }
        let mut holds = self.holds.iter();
        let held = holds.find(|(_, hold)| hold.member.as_ref() == Some(member));
        if let Some(session) = held.map(|(session, _)| *session) {
            self.drop_hold(session, effects);
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
            JoinAnswer::Full if pending[at].call.is_none() => {}
            JoinAnswer::Full => {
                let call = pending.remove(at).call;
                let error = Error::new(code::TOO_MANY, "the owner takes no more");
                effects.extend(GateEffect::joined(call, Err(error)));
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
        let Pending { subject, call, .. } = pending;
        let Some(joined) = self.channels.get_mut(channel) else {
            return;
        };
        let member = match subject {
            Subject::Member(member) => member,
            Subject::Expected(session) => {
                joined.seen = joined.seen.max(answer.position);
                let result = match self.holds.get_mut(&session) {
                    None => Err(not_expected()),
                    // Other channels that were asked for at the same time have been entered.
                    Some(hold) if !hold.has_room(channel, self.max_per_member) => Err(too_many()),
                    Some(hold) => {
                        joined.holds.insert(session);
                        hold.add(channel, joined.seen);
                        Ok((joined.seen, false))
                    }
                };
                return effects.extend(GateEffect::joined(call, result));
            }
            Subject::Position => {
                joined.seen = joined.seen.max(answer.position);
                let result = Ok((joined.seen, false));
                return effects.extend(GateEffect::joined(call, result));
            }
        };
        let channels = self.by_member.entry(member.clone()).or_default();
        let is_member = channels.contains(channel);
        // Other joins under way have been answered meanwhile.
        if !is_member && channels.len() >= self.max_per_member {
            let result = Err(too_many());
            return effects.extend(GateEffect::joined(call, result));
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
            joined.add(member, joined.seen);
        }
        let result = Ok((joined.seen, recovered));
        effects.extend(GateEffect::joined(call, result));
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
        if !joined.is_entered() {
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
        for session in &joined.holds {
            if let Some(hold) = self.holds.get_mut(session) {
                hold.deliver(&channel, &publication);
            }
        }
        let members = joined.receivers(publication.position);
        if !members.is_empty() {
            effects.push(GateEffect::Push {
                members,
                publication,
            });
        }
    }

    /// Names the channels with members here that the owner which asks has in its view. Members who
    /// join under an earlier view than that ask another owner, so the answer waits for the view.
    fn collect(&mut self, from: &Address, view: u64, effects: &mut Vec<GateEffect<M, T>>) {
        if view != self.view.digest() {
            self.asked.insert(from.clone(), view);
            return;
        }
        let channels = self.channels.iter().filter(|(channel, joined)| {
            joined.is_entered() && self.view.owner(channel) == Some(from)
        });
        let channels = channels.map(|(channel, joined)| (channel.clone(), joined.known()));
        effects.extend(
            held(view, channels.collect()).map(|message| GateEffect::Send {
                to: from.clone(),
                message,
            }),
        );
    }

    /// The time of the next [`tick`](Gate::tick).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let joined = self.waiting.iter().filter_map(|it| self.channels.get(it));
        let pending = joined.flat_map(|joined| &joined.pending);
        let pending = pending.map(Pending::due);
        let expected = self.holds.values().filter_map(|hold| hold.until);
        pending.chain(expected).min()
    }

    /// Sends joins that are due, and ends those that have waited too long.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<GateEffect<M, T>>) {
        let waiting: Vec<_> = self.waiting.iter().cloned().collect();
        for channel in waiting {
            self.retry(&channel, now, effects);
            self.settle(&channel, effects);
        }
        let holds = self.holds.iter();
        let over = holds.filter(|(_, hold)| hold.until.is_some_and(|until| until <= now));
        for session in over.map(|(session, _)| *session).collect::<Vec<_>>() {
            self.drop_hold(session, effects);
        }
    }

    fn retry(&mut self, channel: &Name, now: Instant, effects: &mut Vec<GateEffect<M, T>>) {
        let Some(joined) = self.channels.get_mut(channel) else {
            return;
        };
        let (known, is_ahead) = (joined.known(), joined.is_ahead());
        let over = |pending: &mut Pending<M, T>| pending.is_over(now, is_ahead);
        for late in joined.pending.extract_if(.., over) {
            let error = Error::new(code::TIMEOUT, "no answer of the channel's owner");
            effects.extend(GateEffect::joined(late.call, Err(error)));
        }
        for pending in joined.pending.iter_mut().filter(|it| it.retry_at <= now) {
            pending.retry_at = now + JOIN_RETRY;
            let message = ToOwner::Join {
                channel: channel.clone(),
                join: pending.join,
                since: pending.since,
                seen: known,
            };
            let owner = self.view.owner(channel).cloned();
            effects.extend(owner.map(|to| GateEffect::Send { to, message }));
        }
    }

    /// Forgets a channel that is not used any more.
    pub(super) fn settle(&mut self, channel: &Name, effects: &mut Vec<GateEffect<M, T>>) {
        let Some(joined) = self.channels.get(channel) else {
            return;
        };
        if joined.pending.is_empty() {
            self.waiting.remove(channel);
        }
        if joined.is_unused() {
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
