//! The owner of channels: it gives each publication its place in the one order of its channel, and
//! sends it to the gates that have members. No I/O.
//!
//! An owner keeps soft state: the gates know their members. When the view has changed, the first use
//! of any channel makes the owner ask all nodes which channels they have members of; what arrives
//! meanwhile waits. A channel that gets another owner begins a larger epoch there, so that gates can
//! drop what a former owner sends late.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    history::{History, Keep},
    message::{JoinedAt, Name, Publication, ToGate, ToOwner},
    view::{Address, View, hash},
};
use crate::{
    channel::Position,
    error::{Error, Result, code},
};

/// How long an owner waits for nodes that do not say which channels they have members of.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before a node that did not answer is asked again.
const COLLECT_RETRY: Duration = Duration::from_secs(1);

/// Messages that wait until all nodes have answered, at most.
const MAX_WAITING: usize = 10_000;

/// The bytes of the histories of all channels, at most.
const MAX_HISTORY: usize = 64 * 1024 * 1024;

/// An epoch is a time in milliseconds above these bits, which tell incarnations apart. It
/// stays below 2^53,
/// which a JavaScript number holds exactly.
const TAG_BITS: u32 = 12;

/// The channels that one node owns. `T` names a call that waits for an answer.
pub(super) struct Owner<T> {
    own: Address,
    view: View,
    collection: Collection,
    channels: HashMap<Name, Owned>,
    waiting: VecDeque<Request<T>>,
    last_epoch: u64,
    history_bytes: usize,
    /// When histories are to be searched for what has expired.
    prune_at: Option<Instant>,
}

/// Which nodes have said which channels they have members of, in this view.
#[derive(Debug, Default)]
struct Collection {
    /// Nodes that have not; none before the first use of a channel.
    missing: BTreeSet<Address>,
    begun: bool,
    /// Until when messages wait for the missing.
    until: Option<Instant>,
    ask_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Owned {
    last: Position,
    gates: BTreeSet<Address>,
    history: History,
}

/// What an owner is asked.
pub(super) enum Request<T> {
    Gate {
        from: Address,
        message: ToOwner,
    },
    Publish {
        call: T,
        publish: Publish,
    },
    /// Which gates have members.
    Gates {
        call: T,
        channel: Name,
    },
}

/// A publication without its place.
#[derive(Clone, Debug)]
pub(super) struct Publish {
    pub(super) channel: Name,
    pub(super) route: ByteString,
    pub(super) body: Bytes,
    /// How much of the channel is kept; `None` for nothing.
    pub(super) keep: Option<Keep>,
}

/// What an owner asks its driver to do, in order.
#[derive(Debug)]
pub(super) enum OwnerEffect<T> {
    Send { to: Address, message: ToGate },
    Published { call: T, position: Position },
    Gates { call: T, gates: Vec<Address> },
    Fail { call: T, error: Error },
}

impl<T> Request<T> {
    fn channel(&self) -> Option<&Name> {
        match self {
            Self::Gate { message, .. } => match message {
                ToOwner::Join { channel, .. } | ToOwner::Part { channel } => Some(channel),
                ToOwner::Held { .. } => None,
            },
            Self::Publish { publish, .. } => Some(&publish.channel),
            Self::Gates { channel, .. } => Some(channel),
        }
    }
}

impl<T> Owner<T> {
    /// `started` is the time in milliseconds, larger for each incarnation.
    pub(super) fn new(own: Address, started: u64) -> Self {
        let tag = hash(&format!("{own} {started}")) & ((1 << TAG_BITS) - 1);
        Self {
            own,
            view: View::default(),
            collection: Collection::default(),
            channels: HashMap::new(),
            waiting: VecDeque::new(),
            last_epoch: (started << TAG_BITS) | tag,
            history_bytes: 0,
            prune_at: None,
        }
    }

    /// The members have changed. Channels that have another owner now are forgotten.
    pub(super) fn set_view(&mut self, view: View, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        if view.digest() == self.view.digest() {
            return;
        }
        let own = &self.own;
        self.channels
            .retain(|channel, _| view.owner(channel) == Some(own));
        for channel in self.channels.values_mut() {
            channel.gates.retain(|gate| view.has(gate));
        }
        self.history_bytes = self.channels.values().map(|it| it.history.bytes()).sum();
        self.view = view;
        self.collection = Collection::default();
        for request in std::mem::take(&mut self.waiting) {
            self.request(request, now, effects);
        }
    }

    /// Answers a request, now or when all nodes have said what members they have.
    pub(super) fn request(
        &mut self,
        request: Request<T>,
        now: Instant,
        effects: &mut Vec<OwnerEffect<T>>,
    ) {
        let Some(channel) = request.channel() else {
            return self.held(request, now, effects);
        };
        if self.view.owner(channel) != Some(&self.own) {
            return refuse(request, moved(), effects);
        }
        self.collect(now, effects);
        if self.collection.until.is_none() {
            return self.serve(request, now, effects);
        }
        if self.waiting.len() >= MAX_WAITING {
            let error = Error::new(code::TOO_MANY, "too many messages wait for the channel");
            return refuse(request, error, effects);
        }
        self.waiting.push_back(request);
    }

    /// The time of the next [`tick`](Owner::tick).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let Collection { until, ask_at, .. } = self.collection;
        [until, ask_at, self.prune_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        if self.collection.ask_at.is_some_and(|at| at <= now) {
            self.ask(now, effects);
        }
        if self.collection.until.is_some_and(|until| until <= now) {
            self.serve_waiting(now, effects);
        }
        if self.prune_at.is_some_and(|at| at <= now) {
            self.prune(now);
        }
    }

    /// Asks all nodes what members they have, once in each view.
    fn collect(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        if std::mem::replace(&mut self.collection.begun, true) {
            return;
        }
        self.collection.missing = self.view.nodes().iter().cloned().collect();
        self.collection.until = Some(now + COLLECT_TIMEOUT);
        self.ask(now, effects);
    }

    fn ask(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        let view = self.view.digest();
        let missing = self.collection.missing.iter();
        effects.extend(missing.map(|node| OwnerEffect::Send {
            to: node.clone(),
            message: ToGate::Collect { view },
        }));
        let again = !self.collection.missing.is_empty();
        self.collection.ask_at = again.then(|| now + COLLECT_RETRY);
    }

    /// A node has said what members it has. What it said of another view does not count.
    fn held(&mut self, request: Request<T>, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        let Request::Gate {
            from,
            message:
                ToOwner::Held {
                    view,
                    channels,
                    last,
                },
        } = request
        else {
            return;
        };
        if view != self.view.digest() || !self.collection.begun {
            return;
        }
        for (channel, seen) in channels {
            if self.view.owner(&channel) == Some(&self.own) {
                self.gate_of(&channel, from.clone(), seen);
            }
        }
        if last && self.collection.missing.remove(&from) && self.collection.missing.is_empty() {
            self.collection.ask_at = None;
            self.serve_waiting(now, effects);
        }
    }

    fn serve_waiting(&mut self, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        self.collection.until = None;
        for request in std::mem::take(&mut self.waiting) {
            self.serve(request, now, effects);
        }
    }

    fn serve(&mut self, request: Request<T>, now: Instant, effects: &mut Vec<OwnerEffect<T>>) {
        match request {
            Request::Gate { from, message } => match message {
                ToOwner::Join {
                    channel,
                    join,
                    since,
                    seen,
                } => {
                    let owned = self.gate_of(&channel, from.clone(), seen);
                    owned.history.expire(now);
                    let missed = since.and_then(|since| owned.history.after(since, owned.last));
                    let joined = Some(JoinedAt {
                        position: owned.last,
                        missed,
                    });
                    effects.push(OwnerEffect::Send {
                        to: from,
                        message: ToGate::Joined {
                            channel,
                            join,
                            joined,
                        },
                    });
                }
                ToOwner::Part { channel } => self.part(&channel, &from),
                ToOwner::Held { .. } => {}
            },
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

    /// Notes that a gate has members, which have seen a position. If that is not in the channel's
    /// past, a former owner has gone on meanwhile: a larger epoch begins.
    fn gate_of(&mut self, channel: &Name, gate: Address, seen: Position) -> &mut Owned {
        let known = self.channels.get(channel);
        if known.is_none_or(|owned| owned.last < seen) {
            let epoch = self.next_epoch(seen.epoch);
            let owned = self.channels.entry(channel.clone()).or_default();
            owned.last = Position { epoch, offset: 0 };
            self.history_bytes -= owned.history.bytes();
            owned.history.clear();
        }
        let owned = self.channels.entry(channel.clone()).or_default();
        owned.gates.insert(gate);
        owned
    }

    fn part(&mut self, channel: &Name, gate: &Address) {
        if let Some(owned) = self.channels.get_mut(channel) {
            owned.gates.remove(gate);
            if owned.gates.is_empty() && owned.history.is_empty() {
                self.channels.remove(channel);
            }
        }
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
        if !self.channels.contains_key(&channel) {
            let last = Position {
                epoch: self.next_epoch(0),
                offset: 0,
            };
            let owned = Owned {
                last,
                ..Owned::default()
            };
            self.channels.insert(channel.clone(), owned);
        }
        let Some(owned) = self.channels.get_mut(&channel) else {
            return;
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

        self.history_bytes -= owned.history.bytes();
        let fits = self.history_bytes + owned.history.bytes() + publication.weight() <= MAX_HISTORY;
        match keep.filter(|keep| fits && keep.count > 0) {
            Some(keep) => owned.history.push(publication, keep, now),
            // Nothing before a gap is of use.
            None => owned.history.clear(),
        }
        self.history_bytes += owned.history.bytes();
        match owned.history.expires() {
            Some(at) => self.prune_at = Some(self.prune_at.map_or(at, |prune| prune.min(at))),
            None if owned.gates.is_empty() => drop(self.channels.remove(&channel)),
            None => {}
        }
    }

    /// Forgets what has expired, and channels of which nothing is left.
    fn prune(&mut self, now: Instant) {
        for owned in self.channels.values_mut() {
            owned.history.expire(now);
        }
        self.channels
            .retain(|_, owned| !owned.gates.is_empty() || !owned.history.is_empty());
        let channels = self.channels.values();
        self.history_bytes = channels.clone().map(|it| it.history.bytes()).sum();
        self.prune_at = channels.filter_map(|it| it.history.expires()).min();
    }

    /// An epoch above all that this node has given, and above another one.
    fn next_epoch(&mut self, above: u64) -> u64 {
        let tag = self.last_epoch & ((1 << TAG_BITS) - 1);
        let next = (self.last_epoch.max(above) >> TAG_BITS) + 1;
        self.last_epoch = (next << TAG_BITS) | tag;
        self.last_epoch
    }
}

fn refuse<T>(request: Request<T>, error: Error, effects: &mut Vec<OwnerEffect<T>>) {
    match request {
        Request::Publish { call, .. } | Request::Gates { call, .. } => {
            effects.push(OwnerEffect::Fail { call, error });
        }
        Request::Gate {
            from,
            message: ToOwner::Join { channel, join, .. },
        } => effects.push(OwnerEffect::Send {
            to: from,
            message: ToGate::Joined {
                channel,
                join,
                joined: None,
            },
        }),
        Request::Gate { .. } => {}
    }
}

/// The error of a node that does not own a channel, in its view. Nothing was published.
pub(super) fn moved() -> Error {
    Error::new(MOVED, "the channel has another owner")
}

/// The code of [`moved`].
pub(super) const MOVED: &str = "CHANNEL-MOVED";

/// Whether a call failed with [`moved`].
pub(super) fn is_moved<R>(result: &Result<R>) -> bool {
    matches!(result, Err(error) if error.code() == MOVED)
}
