//! The owner of channels: it gives each publication its place in the one order of its channel, and
//! sends it to the gates that have members. No I/O.
//!
//! An owner keeps soft state: the gates know their members. When the view has changed, the first use
//! of any channel makes the owner ask all nodes which channels they have members of; what arrives
//! meanwhile waits. A node that loses a channel with a history to another one hands it over, and the
//! channel goes on in its epoch. Otherwise a larger epoch begins, so that gates can drop what a
//! former owner sends late, and members that return learn that they cannot have what they missed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use super::{
    collection::Collection,
    epochs::Epochs,
    handed::Handed,
    history::{History, Keep},
    message::{Handover, JoinAnswer, JoinedAt, Name, Publication, ToGate, ToOwner},
    request::{Join, OwnerEffect, Publish, Refusal, Request},
    view::{Address, View},
};
use crate::channel::Position;

/// Messages that wait until all nodes have answered, at most.
const MAX_WAITING: usize = 10_000;

/// The bytes of the histories of all channels, at most.
const MAX_HISTORY: usize = 64 * 1024 * 1024;

/// The bytes of histories that one change of the view hands over to one node, at most. Below what a
/// link queues for a node, so that publications are not refused for it.
const MAX_HANDED: usize = 8 * 1024 * 1024;

/// The channels that one node owns. `T` names a call that waits for an answer.
pub(super) struct Owner<T> {
    own: Address,
    view: View,
    collection: Collection,
    channels: HashMap<Name, Owned>,
    /// The most channels, apart from those that have members already when their owner changes. It may
    /// change; those beyond it stay.
    pub(super) max_channels: usize,
    waiting: VecDeque<Request<T>>,
    epochs: Epochs,
    history_bytes: usize,
    /// What former owners have handed over under a view that is not known here yet.
    handed: Handed,
    /// When histories are to be searched for what has expired.
    prune_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Owned {
    /// The last position; of epoch 0 before the first use.
    last: Position,
    /// The last position that a gate has seen.
    seen: Position,
    /// Whether a former owner's epoch goes on.
    handed: bool,
    gates: BTreeSet<Address>,
    history: History,
}

impl Owned {
    /// Whether nothing of the channel is left to keep.
    fn is_idle(&self) -> bool {
        self.gates.is_empty() && self.history.is_empty()
    }
}

impl<T> Owner<T> {
    /// `started` is the time in milliseconds at `now`.
    pub(super) fn new(own: Address, started: u64, max_channels: usize, now: Instant) -> Self {
        Self {
            epochs: Epochs::new(&own, started, now),
            own,
            view: View::default(),
            collection: Collection::default(),
            channels: HashMap::new(),
            max_channels,
            waiting: VecDeque::new(),
            history_bytes: 0,
            handed: Handed::default(),
            prune_at: None,
        }
    }

    /// The number of channels.
    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The gates of a channel.
    #[cfg(test)]
    pub(super) fn gates(&self, channel: &str) -> Option<&BTreeSet<Address>> {
        self.channels.get(channel).map(|owned| &owned.gates)
    }

    /// The members have changed. Channels that have another owner now are handed over, or forgotten.
    pub(super) fn set_view(&mut self, view: View, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        if view.digest() == self.view.digest() {
            return;
        }
        self.view = view;
        self.hand_over(now, effects);
        for channel in self.channels.values_mut() {
            channel.gates.retain(|gate| self.view.has(gate));
        }
        self.channels.retain(|_, owned| !owned.is_idle());
        self.collection = Collection::default();
        for handover in self.handed.take(self.view.digest()) {
            self.adopt(handover, now);
        }
        for request in std::mem::take(&mut self.waiting) {
            self.request(request, now, effects);
        }
    }

    /// Gives up the channels that have another owner now. Their histories go there, as far as the
    /// link takes them.
    fn hand_over(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        let (own, view) = (&self.own, &self.view);
        let mut budgets = BTreeMap::new();
        let moved = self
            .channels
            .extract_if(|channel, _| view.owner(channel) != Some(own));
        // In the order of names, so that a seed gives one trace.
        for (channel, mut owned) in moved.collect::<BTreeMap<_, _>>() {
            self.history_bytes -= owned.history.bytes();
            owned.history.expire(now);
            let (Some(to), false) = (view.owner(&channel), owned.history.is_empty()) else {
                continue;
            };
            let budget = budgets.entry(to.clone()).or_insert(MAX_HANDED);
            let Some(left) = budget.checked_sub(owned.history.bytes()) else {
                continue;
            };
            *budget = left;
            let handover = Handover {
                view: view.digest(),
                channel,
                last: owned.last,
                kept: owned.history.into_kept(now),
            };
            effects.push(OwnerEffect::HandOver {
                to: to.clone(),
                handover,
            });
        }
    }

    /// Goes on with the epoch of a former owner, if the channel has not been used here yet.
    fn adopt(&mut self, handover: Handover, now: Instant) {
        if self.view.owner(&handover.channel) != Some(&self.own) {
            return;
        }
        let Handover {
            channel,
            last,
            kept,
            ..
        } = handover;
        let history = History::of_kept(kept, last, now);
        let fits = self.history_bytes + history.bytes() <= MAX_HISTORY
            && (self.channels.len() < self.max_channels || self.channels.contains_key(&channel));
        if history.is_empty() || !fits || !Epochs::has_next(last.epoch) {
            return;
        }
        let owned = self.channels.entry(channel.clone()).or_default();
        if owned.last.epoch == 0 {
            (owned.last, owned.history, owned.handed) = (last, history, true);
            self.epochs.observe(last.epoch);
            self.history_bytes += owned.history.bytes();
            self.plan_prune(&channel);
        } else if owned.handed && owned.last.epoch != last.epoch {
            // Two former owners: it cannot be told which was the last one.
            owned.seen = owned.seen.max(owned.last).max(last);
            self.history_bytes -= owned.history.bytes();
            owned.history.clear();
            owned.last = Position::default();
        }
    }

    /// A message of a gate, or of a former owner.
    pub(super) fn receive(
        &mut self,
        from: &Address,
        message: ToOwner,
        now: Instant,
        effects: &mut Vec<OwnerEffect<T>>,
    ) {
        match message {
            ToOwner::Join {
                channel,
                join,
                since,
                seen,
            } => {
                let from = from.clone();
                let join = Join {
                    from,
                    channel,
                    join,
                    since,
                    seen,
                };
                self.request(Request::Join(join), now, effects);
            }
            // Neither waits for other nodes: a part that is noted behind a later answer of its gate
            // would put members out that have joined since.
            ToOwner::Part { channel } => self.part(&channel, from),
            ToOwner::Held {
                view,
                before,
                channels,
                last,
            } => {
                // What it says of another view does not count.
                if view == self.view.digest() && self.collection.has_begun() {
                    let named = (before, channels.len() as u64);
                    self.held(from, channels);
                    if self.collection.answered(from, named, last) {
                        self.serve_waiting(now, effects);
                    }
                }
            }
            ToOwner::Handover(handover) => {
                if handover.view == self.view.digest() {
                    self.adopt(handover, now);
                } else {
                    self.handed.put(handover);
                }
            }
        }
    }

    /// A gate has members of these channels, and has seen these positions.
    fn held(&mut self, from: &Address, channels: Vec<(Name, Position)>) {
        for (channel, seen) in channels {
            if self.view.owner(&channel) == Some(&self.own) {
                let owned = self.channels.entry(channel).or_default();
                owned.gates.insert(from.clone());
                if Epochs::has_next(seen.epoch) {
                    owned.seen = owned.seen.max(seen);
                }
            }
        }
    }

    /// Answers a request, now or when all nodes have said what members they have.
    pub(super) fn request(
        &mut self,
        request: Request<T>,
        now: Instant,
        effects: &mut Vec<OwnerEffect<T>>,
    ) {
        if self.view.owner(request.channel()) != Some(&self.own) {
            return Refusal::Moved.refuse(request, effects);
        }
        let missing = self.collection.begin(&self.view, now);
        self.ask(missing, effects);
        if !self.collection.is_waiting() {
            return self.serve(request, now, effects);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Refusal::Waiting.refuse(request, effects);
        }
        self.waiting.push_back(request);
    }

    /// The time of the next [`tick`](Owner::tick).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let collection = self.collection.next_deadline();
        collection.into_iter().chain(self.prune_at).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        let missing = self.collection.due(now);
        self.ask(missing, effects);
        if self.collection.is_over(now) {
            self.serve_waiting(now, effects);
        }
        if self.prune_at.is_some_and(|at| at <= now) {
            self.prune(now);
        }
    }

    /// Asks nodes what members they have.
    fn ask(&self, nodes: Vec<Address>, effects: &mut Vec<OwnerEffect<T>>) {
        let view = self.view.digest();
        effects.extend(nodes.into_iter().map(|to| OwnerEffect::Send {
            to,
            message: ToGate::Collect { view },
        }));
    }

    fn serve_waiting(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        for request in std::mem::take(&mut self.waiting) {
            self.serve(request, now, effects);
        }
    }

    fn serve(&mut self, request: Request<T>, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        let is_full = self.channels.len() >= self.max_channels;
        if is_full && request.makes_channel() && !self.channels.contains_key(request.channel()) {
            return Refusal::Full.refuse(request, effects);
        }
        match request {
            Request::Join(join) => self.join(join, now, effects),
            Request::Publish { call, publish } => self.publish(call, publish, now, effects),
            Request::Gates { call, channel } => {
                let owned = self.channels.get(&channel);
                let gates = owned.map(|owned| owned.gates.iter().cloned().collect());
                effects.push(OwnerEffect::Gates {
                    call,
                    gates: gates.unwrap_or_default(),
                });
            }
        }
    }

    fn join(&mut self, join: Join, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        let owned = match self.use_channel(&join.channel, join.seen, now) {
            Ok(owned) => owned,
            Err(refusal) => return refusal.refuse(Request::Join(join), effects),
        };
        let Join {
            from,
            channel,
            join,
            since,
            ..
        } = join;
        owned.gates.insert(from.clone());
        let missed = since.and_then(|since| owned.history.after(since, owned.last));
        let position = owned.last;
        effects.push(OwnerEffect::Send {
            to: from,
            message: ToGate::Joined {
                channel,
                join,
                answer: JoinAnswer::At(JoinedAt { position, missed }),
            },
        });
    }

    fn publish(
        &mut self,
        call: T,
        publish: Publish,
        now: Instant,
        effects: &mut Vec<OwnerEffect<T>>,
    ) {
        let Publish {
            channel,
            route,
            body,
            keep,
        } = publish;
        let owned = match self.use_channel(&channel, Position::default(), now) {
            Ok(owned) => owned,
            Err(refusal) => return effects.push(refusal.fail(call)),
        };
        owned.last.offset += 1;
        let publication = Publication {
            position: owned.last,
            route,
            body,
        };
        effects.extend(owned.gates.iter().map(|gate| OwnerEffect::Send {
            to: gate.clone(),
            message: ToGate::Deliver {
                channel: channel.clone(),
                publication: publication.clone(),
            },
        }));
        effects.push(OwnerEffect::Published {
            call,
            position: owned.last,
        });
        self.keep(&channel, publication, keep, now);
    }

    /// Adds a publication to the history of its channel, and drops a channel of which nothing is left.
    fn keep(&mut self, channel: &Name, publication: Publication, keep: Option<Keep>, now: Instant) {
        let Some(owned) = self.channels.get_mut(channel) else {
            return;
        };
        let others = self.history_bytes - owned.history.bytes();
        let fits = others + owned.history.bytes() + publication.weight() <= MAX_HISTORY;
        match keep.filter(|keep| fits && keep.count > 0) {
            Some(keep) => owned.history.push(publication, keep, now),
            // Nothing before a gap is of use.
            None => owned.history.clear(),
        }
        self.history_bytes = others + owned.history.bytes();
        if owned.is_idle() {
            self.channels.remove(channel);
        } else {
            self.plan_prune(channel);
        }
    }

    /// The channel, made if need be, with an epoch and without what has expired. If a gate has seen a
    /// position that is not in the channel's past, a former owner has gone on meanwhile: a larger
    /// epoch begins.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`]; nothing changes.
    fn use_channel(
        &mut self,
        channel: &Name,
        seen: Position,
        now: Instant,
    ) -> Result<&mut Owned, Refusal> {
        let known = self.channels.get(channel);
        let (last, before) = known.map_or_else(Default::default, |owned| (owned.last, owned.seen));
        let seen = before.max(seen);
        let begins = last.epoch == 0 || last < seen;
        let epoch = match begins {
            true => self.epochs.next(seen.epoch, now),
            false => Some(last.epoch),
        };
        let epoch = epoch.ok_or(Refusal::Exhausted)?;
        let owned = self.channels.entry(channel.clone()).or_default();
        let others = self.history_bytes - owned.history.bytes();
        owned.history.expire(now);
        owned.seen = seen;
        if begins {
            owned.last = Position { epoch, offset: 0 };
            owned.history.clear();
        }
        self.history_bytes = others + owned.history.bytes();
        Ok(owned)
    }

    fn part(&mut self, channel: &Name, gate: &Address) {
        if let Some(owned) = self.channels.get_mut(channel) {
            owned.gates.remove(gate);
            if owned.is_idle() {
                self.channels.remove(channel);
            }
        }
    }

    fn plan_prune(&mut self, channel: &Name) {
        let owned = self.channels.get(channel);
        let expires = owned.and_then(|owned| owned.history.expires());
        self.prune_at = self.prune_at.into_iter().chain(expires).min();
    }

    /// Forgets what has expired, and channels of which nothing is left.
    fn prune(&mut self, now: Instant) {
        for owned in self.channels.values_mut() {
            owned.history.expire(now);
        }
        self.channels.retain(|_, owned| !owned.is_idle());
        let channels = self.channels.values();
        self.history_bytes = channels.clone().map(|it| it.history.bytes()).sum();
        self.prune_at = channels.filter_map(|it| it.history.expires()).min();
    }
}
