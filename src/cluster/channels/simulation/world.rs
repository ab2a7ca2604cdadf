//! The world: nodes, links, publishers and sessions in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    nodes::{Call, Event, Member, Node, Packet, Publisher},
    oracle::{Oracle, Seen},
};
use crate::{
    channel::Position,
    cluster::channels::{
        gate::GateEffect,
        history::Keep,
        message::Name,
        owner::{OwnerEffect, Publish, Request},
        view::Address,
    },
};

pub(super) const NODES: usize = 4;
const CHANNELS: usize = 3;
const PUBLISHERS: usize = 6;

/// How long faults happen, how long the world then settles, and how long it goes on.
const TROUBLE: Duration = Duration::from_secs(8);
const SETTLE: Duration = Duration::from_secs(8);
const CALM: Duration = Duration::from_secs(3);

pub(super) struct World {
    seed: u64,
    /// Whether what happens is recorded.
    pub(super) traced: bool,
    pub(super) random: StdRng,
    begun: Instant,
    pub(super) now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    count: u64,
    pub(super) nodes: Vec<Node>,
    publishers: Vec<Publisher>,
    pub(super) oracle: Oracle,
    last_member: Member,
    /// The number of each link, which changes when it breaks, and when its last packet arrives.
    pub(super) links: BTreeMap<(usize, usize), (u64, Instant)>,
    pub(super) views: u64,
    /// What was published when all was calm, by channel.
    settled: BTreeMap<usize, BTreeSet<(u64, u64)>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut random = StdRng::seed_from_u64(seed);
        let publisher = |random: &mut StdRng, index: usize| Publisher {
            node: random.random_range(0..NODES),
            channel: index % CHANNELS,
            number: 0,
            attempt: 0,
            kept: index % CHANNELS != 2,
        };
        let publishers = (0..PUBLISHERS)
            .map(|at| publisher(&mut random, at))
            .collect();
        let mut world = Self {
            seed,
            traced: false,
            random,
            begun: now,
            now,
            queue: BTreeMap::new(),
            count: 0,
            nodes: (0..NODES).map(|index| Node::new(index, 1, now)).collect(),
            publishers,
            oracle: Oracle::default(),
            last_member: 0,
            links: BTreeMap::new(),
            views: 0,
            settled: BTreeMap::new(),
        };
        world.later(0, Event::Membership);
        world.later(50, Event::Act);
        for publisher in 0..PUBLISHERS {
            world.later(
                100,
                Event::Attempt {
                    publisher,
                    attempt: 0,
                },
            );
        }
        world
    }

    pub(super) fn events(self) -> BTreeMap<&'static str, u64> {
        self.oracle.events
    }

    pub(super) fn trace(&self) -> u64 {
        self.oracle.trace
    }

    pub(super) fn is_calm(&self) -> bool {
        self.now > self.begun + TROUBLE
    }

    fn is_settled(&self) -> bool {
        self.now > self.begun + TROUBLE + SETTLE
    }

    pub(super) fn later(&mut self, millis: u64, event: Event) {
        self.at(self.now + Duration::from_millis(millis), event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.queue.insert((at, self.count), event);
    }

    pub(super) fn run(&mut self) {
        let replay = Replay(self.seed);
        let end = self.begun + TROUBLE + SETTLE + CALM;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end + Duration::from_secs(1) {
                break;
            }
            self.now = at;
            if self.traced {
                let text = format!("{:?} {event:?}", at - self.begun);
                self.oracle.note(&text);
            }
            self.handle(event, at > end);
        }
        self.check_settled();
        std::mem::forget(replay);
    }

    fn handle(&mut self, event: Event, over: bool) {
        match event {
            Event::Act => {
                if !self.is_calm() {
                    self.act();
                    let pause = self.random.random_range(0..40);
                    self.later(pause, Event::Act);
                }
            }
            Event::Membership => self.announce(),
            Event::View {
                node,
                incarnation,
                number,
                ref view,
            } => {
                if !self.is_there(node, incarnation) || self.defer(node, &event) {
                    return;
                }
                if self.nodes[node].view_number < number {
                    self.nodes[node].view_number = number;
                    self.nodes[node].view = view.clone();
                    self.set_view(node);
                }
            }
            Event::Packet {
                from,
                to,
                link,
                ref packet,
            } => {
                let current = self.links.get(&(from, to)).map(|(number, _)| *number);
                if current != Some(link) || !self.nodes[to].alive || self.defer(to, &event) {
                    return;
                }
                self.arrived(from, to, packet.clone());
            }
            Event::Tick { node } => {
                if self.nodes[node].alive && !self.defer(node, &event) {
                    self.tick(node);
                }
            }
            Event::Attempt { publisher, attempt } => {
                if !over && self.publishers[publisher].attempt == attempt {
                    self.publish(publisher);
                }
            }
            Event::GiveUp(call) => {
                if self.publishers[call.publisher].attempt == call.attempt {
                    self.oracle.count("given up");
                    self.next_publication(call.publisher);
                }
            }
            Event::Restart { node } => self.restart(node),
        }
    }

    fn is_there(&self, node: usize, incarnation: u64) -> bool {
        self.nodes[node].alive && self.nodes[node].incarnation == incarnation
    }

    /// Puts an event off for as long as the node is paused.
    fn defer(&mut self, node: usize, event: &Event) -> bool {
        let paused = self.nodes[node].paused;
        let defer = paused > self.now;
        if defer {
            self.at(paused, event.clone());
        }
        defer
    }

    pub(super) fn send(&mut self, from: usize, to: &Address, packet: Packet) {
        let to = self
            .nodes
            .iter()
            .position(|node| node.address == *to)
            .unwrap();
        let delay = Duration::from_millis(if from == to {
            0
        } else {
            self.random.random_range(1..30)
        });
        let now = self.now;
        let (link, last) = self.links.entry((from, to)).or_insert((1, now));
        *last = (*last).max(now + delay);
        let (link, at) = (*link, *last);
        self.at(
            at,
            Event::Packet {
                from,
                to,
                link,
                packet,
            },
        );
    }

    fn arrived(&mut self, from: usize, to: usize, packet: Packet) {
        let (now, address) = (self.now, self.nodes[from].address.clone());
        match packet {
            Packet::ToGate(message) => {
                let mut effects = Vec::new();
                self.nodes[to]
                    .gate
                    .receive(&address, message, now, &mut effects);
                self.gate_effects(to, effects);
            }
            Packet::ToOwner(message) => {
                self.request(
                    to,
                    Request::Gate {
                        from: address,
                        message,
                    },
                );
            }
            Packet::Publish(call, publish) => {
                self.request(to, Request::Publish { call, publish });
            }
            Packet::Published(call, published) => self.published(call, published.is_some()),
        }
    }

    fn request(&mut self, node: usize, request: Request<Call>) {
        let mut effects = Vec::new();
        let now = self.now;
        self.nodes[node].owner.request(request, now, &mut effects);
        self.owner_effects(node, effects);
    }

    fn owner_effects(&mut self, node: usize, effects: Vec<OwnerEffect<Call>>) {
        for effect in effects {
            match effect {
                OwnerEffect::Send { to, message } => self.send(node, &to, Packet::ToGate(message)),
                OwnerEffect::Published { call, .. } => self.answer(node, call, Some(())),
                OwnerEffect::Fail { call, .. } => self.answer(node, call, None),
                OwnerEffect::Gates { .. } => {}
            }
        }
        self.plan_tick(node);
    }

    fn answer(&mut self, node: usize, call: Call, published: Option<()>) {
        let to = self.nodes[self.publishers[call.publisher].node]
            .address
            .clone();
        self.send(node, &to, Packet::Published(call, published));
    }

    pub(super) fn gate_effects(&mut self, node: usize, effects: Vec<GateEffect<Member, Member>>) {
        for effect in effects {
            match effect {
                GateEffect::Send { to, message } => self.send(node, &to, Packet::ToOwner(message)),
                GateEffect::Push {
                    members,
                    publication,
                } => {
                    self.oracle.received(&members, &publication);
                }
                GateEffect::Joined {
                    call,
                    result: Ok((position, recovered)),
                } => {
                    self.oracle.joined(call, position, recovered);
                }
                GateEffect::Joined {
                    call,
                    result: Err(_),
                } => {
                    self.oracle.count("join failed");
                    self.oracle.sessions.remove(&call);
                }
                GateEffect::Left(_) => {}
            }
        }
        self.plan_tick(node);
    }

    fn plan_tick(&mut self, node: usize) {
        let at = &self.nodes[node];
        let next = [at.owner.next_deadline(), at.gate.next_deadline()];
        if let Some(next) = next.into_iter().flatten().min() {
            self.at(next.max(self.now), Event::Tick { node });
        }
    }

    fn tick(&mut self, node: usize) {
        let now = self.now;
        let (mut owner, mut gate) = (Vec::new(), Vec::new());
        let next = [
            self.nodes[node].owner.next_deadline(),
            self.nodes[node].gate.next_deadline(),
        ];
        if next
            .into_iter()
            .flatten()
            .min()
            .is_none_or(|next| next > now)
        {
            return;
        }
        self.nodes[node].owner.tick(now, &mut owner);
        self.nodes[node].gate.tick(now, &mut gate);
        self.owner_effects(node, owner);
        self.gate_effects(node, gate);
    }

    fn set_view(&mut self, node: usize) {
        let (now, view) = (self.now, self.nodes[node].view.clone());
        let (mut owner, mut gate) = (Vec::new(), Vec::new());
        self.nodes[node]
            .owner
            .set_view(view.clone(), now, &mut owner);
        self.nodes[node].gate.set_view(view, now, &mut gate);
        self.owner_effects(node, owner);
        self.gate_effects(node, gate);
    }

    fn publish(&mut self, publisher: usize) {
        let Publisher {
            node,
            channel,
            number,
            attempt,
            kept,
        } = self.publishers[publisher];
        let call = Call { publisher, attempt };
        let name = channel_name(channel);
        let owner = self.nodes[node].view.owner(&name).cloned();
        let (true, Some(owner)) = (self.nodes[node].alive, owner) else {
            return self.next_publication(publisher);
        };
        let mut body = (publisher as u64).to_le_bytes().to_vec();
        body.extend(number.to_le_bytes());
        let keep = (kept && self.random.random_bool(0.95)).then_some(Keep {
            count: 20,
            ttl: Duration::from_secs(5),
        });
        let publish = Publish {
            channel: name,
            route: "on".into(),
            body: Bytes::from(body),
            keep,
        };
        if self.is_settled() {
            let payload = (publisher as u64, number);
            self.settled.entry(channel).or_default().insert(payload);
        }
        self.send(node, &owner, Packet::Publish(call, publish));
        self.later(3_000, Event::GiveUp(call));
    }

    fn published(&mut self, call: Call, published: bool) {
        if self.publishers[call.publisher].attempt != call.attempt {
            return;
        }
        if published {
            return self.next_publication(call.publisher);
        }
        self.oracle.count("moved");
        let publisher = &mut self.publishers[call.publisher];
        publisher.attempt += 1;
        let again = Event::Attempt {
            publisher: call.publisher,
            attempt: publisher.attempt,
        };
        self.later(20, again);
    }

    fn next_publication(&mut self, publisher: usize) {
        let at = &mut self.publishers[publisher];
        at.number += 1;
        at.attempt += 1;
        let next = Event::Attempt {
            publisher,
            attempt: at.attempt,
        };
        let pause = self.random.random_range(0..200);
        self.later(pause, next);
    }

    /// A session joins a channel: a new one, or one that returns to where it left off.
    pub(super) fn join(&mut self, since: Option<(usize, Position)>) {
        let node = self.random.random_range(0..NODES);
        let channel = since.map_or_else(|| self.random.random_range(0..CHANNELS), |(at, _)| at);
        if !self.nodes[node].alive || self.nodes[node].paused > self.now {
            return;
        }
        let since = since.map(|(_, position)| position);
        self.last_member += 1;
        let (member, name) = (self.last_member, channel_name(channel));
        let seen = Seen {
            channel: name.to_string(),
            node,
            since,
            joined: false,
            received: Vec::new(),
            publishers: BTreeMap::new(),
        };
        self.oracle.sessions.insert(member, seen);
        let (now, mut effects) = (self.now, Vec::new());
        let gate = &mut self.nodes[node].gate;
        gate.join(&name, member, since, member, now, &mut effects);
        self.gate_effects(node, effects);
    }

    /// Checks that all members got what was published when all was calm.
    fn check_settled(&mut self) {
        let dropped: u64 = self.nodes.iter().map(|node| node.gate.dropped()).sum();
        if dropped > 0 {
            self.oracle.count("dropped by a gate");
        }
        for (channel, published) in &self.settled {
            let name = channel_name(*channel);
            for (member, seen) in &self.oracle.sessions {
                if *seen.channel == *name && seen.joined {
                    let got: BTreeSet<_> = seen.received.iter().map(|(_, it)| *it).collect();
                    let lost: Vec<_> = published.difference(&got).collect();
                    assert!(lost.is_empty(), "session {member} never got {lost:?}");
                }
            }
            assert!(published.len() > 20, "too little was published");
        }
    }
}

pub(super) fn channel_name(channel: usize) -> Name {
    Name::from(format!("channel {channel}"))
}

pub(super) fn channel_index(name: &str) -> usize {
    name.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Says how to replay a seed that panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        let seed = self.0;
        eprintln!("replay it with NANO_SEED={seed} cargo test --lib channels::simulation");
    }
}
