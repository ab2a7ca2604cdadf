//! The world: nodes, links, publishers and sessions in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    defects::Defect,
    moves::Transfer,
    nodes::{Call, Event, Member, Node, Packet, Publisher, Waits},
    oracle::{Oracle, Seen},
};
use crate::{
    channel::Position,
    cluster::channels::{
        gate::GateEffect,
        message::{Name, ToOwner},
        request::{OwnerEffect, Request},
        view::{Address, View},
    },
};

pub(super) const NODES: usize = 4;
pub(super) const CHANNELS: usize = 3;
const PUBLISHERS: usize = 6;

/// How long faults happen, how long the world then settles, and how long it goes on.
const TROUBLE: Duration = Duration::from_secs(8);
const SETTLE: Duration = Duration::from_secs(8);
const CALM: Duration = Duration::from_secs(3);

pub(super) struct World {
    pub(super) seed: u64,
    /// The rule that all nodes break, if they break one.
    pub(super) defect: Option<Defect>,
    /// Whether what happens is recorded.
    pub(super) traced: bool,
    pub(super) random: StdRng,
    pub(super) begun: Instant,
    pub(super) now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    count: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) publishers: Vec<Publisher>,
    pub(super) oracle: Oracle,
    last_member: Member,
    /// The sessions on their way from one node to another.
    pub(super) moves: BTreeMap<Member, Transfer>,
    /// The number of the last attempt to hand a session over.
    pub(super) attempts: u64,
    /// The number of each link, which changes when it breaks, and when its last packet arrives.
    pub(super) links: BTreeMap<(usize, usize), (u64, Instant)>,
    /// Until when nothing goes from one node to another.
    pub(super) unreachable: BTreeMap<(usize, usize), Instant>,
    pub(super) views: u64,
    /// What was published when all was calm, by channel.
    pub(super) settled: BTreeMap<usize, BTreeSet<(u64, u64)>>,
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> Self {
        let now = Instant::now();
        let mut random = StdRng::seed_from_u64(seed);
        let publisher = |random: &mut StdRng, index: usize| Publisher {
            node: random.random_range(0..NODES),
            channel: index % CHANNELS,
            number: 0,
            attempt: 0,
            kept: index % CHANNELS != 2,
            behind: Position::default(),
        };
        let publishers = (0..PUBLISHERS)
            .map(|at| publisher(&mut random, at))
            .collect();
        let mut world = Self {
            seed,
            defect,
            traced: false,
            random,
            begun: now,
            now,
            queue: BTreeMap::new(),
            count: 0,
            nodes: (0..NODES)
                .map(|index| Node::new(index, 1, now, Duration::ZERO))
                .collect(),
            publishers,
            oracle: Oracle::default(),
            last_member: 0,
            moves: BTreeMap::new(),
            attempts: 0,
            links: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            views: 0,
            settled: BTreeMap::new(),
        };
        world.later(0, Event::Membership);
        world.later(50, Event::Act);
        world.later(100, Event::Shift);
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

    pub(super) fn is_settled(&self) -> bool {
        self.now > self.begun + TROUBLE + SETTLE
    }

    /// When no message is published any more.
    pub(super) fn over_at(&self) -> Instant {
        self.begun + TROUBLE + SETTLE + CALM
    }

    pub(super) fn later(&mut self, millis: u64, event: Event) {
        self.at(self.now + Duration::from_millis(millis), event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.queue.insert((at, self.count), event);
    }

    pub(super) fn run(&mut self) {
        let replay = self.defect.is_none().then(|| Replay(self.seed));
        let end = self.over_at();
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
                let mut packet = packet.clone();
                self.distort(&mut packet);
                self.arrived(from, to, packet);
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
            Event::Shift => self.shift(),
            Event::MoveDue(member) => self.move_due(member),
            Event::Gone { node, incarnation } => {
                if self.is_there(node, incarnation) {
                    self.end(node);
                }
            }
            Event::Wake { node } => self.wake(node),
            Event::Cut(a, b) => {
                if a != b {
                    self.oracle.count("broken link");
                    self.cut(a, b);
                }
            }
        }
    }

    fn is_there(&self, node: usize, incarnation: u64) -> bool {
        self.nodes[node].alive && self.nodes[node].incarnation == incarnation
    }

    /// Puts an event off while the node is paused.
    fn defer(&mut self, node: usize, event: &Event) -> bool {
        let at = &mut self.nodes[node];
        let defer = at.paused > self.now;
        if defer {
            at.inbox.push_back(event.clone());
        }
        defer
    }

    /// A node goes on with what has arrived during its pause.
    fn wake(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        if at.paused > self.now {
            return;
        }
        for event in std::mem::take(&mut at.inbox) {
            self.handle(event, false);
        }
    }

    pub(super) fn send(&mut self, from: usize, to: &Address, packet: Packet) {
        let to = self
            .nodes
            .iter()
            .position(|node| node.address == *to)
            .unwrap();
        // A few messages are slow in bad times, and hold up those behind them.
        let slow = !self.is_calm() && self.random.random_bool(0.01);
        let delay = Duration::from_millis(match (from == to, slow) {
            (true, _) => 0,
            (false, false) => self.random.random_range(1..30),
            (false, true) => self.random.random_range(100..2_500),
        });
        let now = self.now;
        let unreachable = self.unreachable.get(&(from, to));
        if unreachable.is_some_and(|until| *until > now) {
            return;
        }
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
                let mut effects = Vec::new();
                self.nodes[to]
                    .owner
                    .receive(&address, message, now, &mut effects);
                self.owner_effects(to, effects);
            }
            Packet::Publish(call, publish) => {
                self.request(to, Request::Publish { call, publish });
            }
            Packet::Published(call, published) => self.published(call, published.is_some()),
            Packet::Move(member, packet) => self.moving(from, to, member, packet),
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
                OwnerEffect::HandOver { to, handover } => {
                    self.oracle.count("handed over");
                    self.send(node, &to, Packet::ToOwner(ToOwner::Handover(handover)));
                }
                OwnerEffect::Published { call, position } => {
                    let publisher = self.publishers[call.publisher];
                    // The number of an earlier attempt is not known any more.
                    if publisher.attempt == call.attempt {
                        let name = channel_name(publisher.channel);
                        let by = (node, self.nodes[node].incarnation);
                        let (behind, settled) = (publisher.behind, self.is_settled());
                        self.oracle.published(&name, by, position, behind, settled);
                    }
                    self.answer(node, call, Some(position));
                }
                OwnerEffect::Fail { call, .. } => self.answer(node, call, None),
                OwnerEffect::Gates { .. } => {}
            }
        }
        self.plan_tick(node);
    }

    fn answer(&mut self, node: usize, call: Call, published: Option<Position>) {
        let to = self.nodes[self.publishers[call.publisher].node]
            .address
            .clone();
        self.send(node, &to, Packet::Published(call, published));
    }

    pub(super) fn gate_effects(&mut self, node: usize, effects: Vec<GateEffect<Member, Waits>>) {
        for effect in effects {
            match effect {
                GateEffect::Send { to, message } => self.send(node, &to, Packet::ToOwner(message)),
                GateEffect::Push {
                    members,
                    publication,
                } => {
                    self.oracle.received(&members, &publication);
                }
                GateEffect::Joined { call, result } => match (call, result) {
                    (Waits::Join(member), Ok((position, recovered))) => {
                        self.oracle.joined(member, position, recovered);
                    }
                    (Waits::Join(member), Err(_)) => {
                        self.oracle.count("join failed");
                        if self.oracle.sessions.contains_key(&member) {
                            self.oracle.left(member);
                        }
                    }
                    (Waits::Expected { member, from }, result) => {
                        self.expected(node, from, member, result.is_ok());
                    }
                    (Waits::Located(member), result) => {
                        self.located(node, member, result.is_ok());
                    }
                },
                GateEffect::Missed(_) => self.missed(&effect),
                GateEffect::Left(_) => {}
                GateEffect::Dropped => self.oracle.count("dropped by a gate"),
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

    pub(super) fn set_view(&mut self, node: usize) {
        let (now, at) = (self.now, &self.nodes[node]);
        let mut view = at.view.clone();
        if at.leaving {
            let others = view.nodes().iter().filter(|other| **other != at.address);
            let others =
                others.filter_map(|other| self.nodes.iter().find(|it| it.address == *other));
            view = View::new(
                others
                    .map(|it| (it.address.clone(), it.incarnation))
                    .collect(),
            );
        }
        let by = (node, self.nodes[node].incarnation);
        for channel in (0..CHANNELS).map(channel_name) {
            if view.owner(&channel) != Some(&self.nodes[node].address) {
                self.oracle.last_of.remove(&(channel.to_string(), by));
            }
        }
        let (mut owner, mut gate) = (Vec::new(), Vec::new());
        self.nodes[node]
            .owner
            .set_view(view.clone(), now, &mut owner);
        self.nodes[node].gate.set_view(view, now, &mut gate);
        self.owner_effects(node, owner);
        self.gate_effects(node, gate);
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
        gate.join(&name, member, since, Waits::Join(member), now, &mut effects);
        self.gate_effects(node, effects);
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
