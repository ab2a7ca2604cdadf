//! The two nodes in virtual time: the queue of events, and what must hold once they have settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    event::Event,
    network::Pipe,
    node::{Node, Times},
    user_pushes::UserPush,
};
use crate::cluster::link::{
    activity::OpenCalls,
    config::{CREDIT, PROBE_INTERVAL, stream_index},
    session::LinkedSession,
};

/// How long faults happen, and how long the world then takes to settle.
const TROUBLE: Duration = Duration::from_secs(8);
const CALM: Duration = Duration::from_secs(10);

/// Both ends of both streams: node and stream index.
const ENDS: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// How often each kind of trouble happened.
pub(super) type Troubles = BTreeMap<&'static str, u32>;

pub(super) const ALL_TROUBLES: [&str; 24] = [
    "begun anew",
    "broken while it closes",
    "cancelled call",
    "closed by the member",
    "closed idle",
    "closed one way",
    "dead peer",
    "detached",
    "draining",
    "failed push",
    "all clients left",
    "half-open",
    "late reply",
    "lost stream",
    "missed user",
    "opened again",
    "overtaken",
    "refused message",
    "request failed",
    "restart",
    "routed",
    "session unknown",
    "shared",
    "suspected",
];

pub(super) struct World {
    seed: u64,
    pub(super) random: StdRng,
    begun: Instant,
    pub(super) now: Instant,
    pub(super) times: Times,
    pub(super) events: BTreeMap<(Instant, u64), Event>,
    pub(super) count: u64,
    pub(super) nodes: [Node; 2],
    /// The incarnation of the other node that each node's links are for.
    pub(super) known: [u64; 2],
    pub(super) pipes: BTreeMap<(usize, usize), Pipe>,
    /// Outbound streams that are about to be opened.
    pub(super) opening: BTreeSet<(usize, usize)>,
    /// Outbound streams that have closed in order.
    pub(super) reopened: BTreeSet<(usize, usize)>,
    /// Links that are not probed before the time given, or before something happens to them.
    pub(super) quiet: BTreeMap<(usize, usize), Option<Instant>>,
    /// The number of the last one-way call that each end has sent, and of the last that arrived.
    pub(super) one_way_sent: BTreeMap<(usize, usize), u64>,
    pub(super) one_way_arrived: BTreeMap<(usize, usize), u64>,
    /// Ends of which something may have been lost since then.
    pub(super) lossy: BTreeSet<(usize, usize)>,
    pub(super) last_id: i64,
    pub(super) last_call: u64,
    pub(super) last_user_push: u64,
    pub(super) user_pushes: Vec<UserPush>,
    /// The last push to users that arrived at each end.
    pub(super) user_push_arrived: BTreeMap<(usize, usize), u64>,
    /// A hash of all that happened, if it is recorded.
    trace: Option<u64>,
    troubles: Troubles,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let grace = Duration::from_millis([0, 500, 5_000][random.random_range(0..3)]);
        let idle = [None, Some(100), Some(300), Some(1_000)][random.random_range(0..4)];
        let times = (grace, idle.map(Duration::from_millis));
        let mut world = Self {
            seed,
            random,
            begun: now,
            now,
            times,
            events: BTreeMap::new(),
            count: 0,
            nodes: [Node::new(1, times), Node::new(1, times)],
            known: [1, 1],
            pipes: BTreeMap::new(),
            opening: BTreeSet::new(),
            reopened: BTreeSet::new(),
            quiet: BTreeMap::new(),
            one_way_sent: BTreeMap::new(),
            one_way_arrived: BTreeMap::new(),
            lossy: BTreeSet::new(),
            last_id: 0,
            last_call: 0,
            last_user_push: 0,
            user_pushes: Vec::new(),
            user_push_arrived: BTreeMap::new(),
            trace: None,
            troubles: Troubles::new(),
        };
        world.later(0, Event::Act);
        world.later(100, Event::Probe);
        world
    }

    pub(super) fn troubles(self) -> Troubles {
        self.troubles
    }

    /// Records what happens from now on.
    pub(super) fn record(&mut self) {
        self.trace = Some(0xCBF2_9CE4_8422_2325);
    }

    pub(super) fn trace(&self) -> Option<u64> {
        self.trace
    }

    /// Runs until the world has settled, and checks what is left.
    pub(super) fn run(&mut self) {
        let seed = self.seed;
        let replay = Replay(seed);
        let end = self.begun + TROUBLE + CALM;
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > end {
                break;
            }
            self.now = at;
            let begun = self.begun;
            self.note(|| format!("{:?} {event:?}", at - begun));
            self.handle(event);
            self.check_user_pushes(false);
        }
        self.check_user_pushes(true);
        self.check_settled();
        std::mem::forget(replay);
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            *trace = text().bytes().fold(*trace, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
        }
    }

    pub(super) fn trouble(&mut self, what: &'static str) {
        *self.troubles.entry(what).or_default() += 1;
    }

    pub(super) fn is_calm(&self) -> bool {
        self.now > self.begun + TROUBLE
    }

    pub(super) fn later(&mut self, millis: u64, event: Event) {
        self.at(self.now + Duration::from_millis(millis), event);
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    pub(super) fn soon(&mut self, event: Event) {
        let millis = self.random.random_range(0..800);
        self.later(millis, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Act => {
                if !self.is_calm() {
                    let pause = match self.random.random_range(0..300) {
                        0 => self.leave_all(),
                        _ => {
                            self.act();
                            20
                        }
                    };
                    let pause = self.random.random_range(0..pause);
                    self.later(pause, Event::Act);
                } else {
                    self.cancel_all();
                    if self.random.random_bool(0.3) {
                        self.leave_all();
                    }
                }
            }
            Event::Probe => {
                let now = self.now;
                for (node, index) in ENDS {
                    self.probe(node, index);
                }
                self.at(now + PROBE_INTERVAL, Event::Probe);
            }
            Event::Connect { node, index, peer } => self.connect(node, index, peer),
            Event::Accepted {
                node,
                index,
                number,
            } => self.accepted(node, index, number),
            Event::OutboundBroken {
                node,
                index,
                number,
            } => self.outbound_broken(node, index, number),
            Event::InboundBroken {
                node,
                index,
                number,
            } => {
                let now = self.now;
                self.quiet.remove(&(node, index));
                self.input(node, index, |link, effects| {
                    link.inbound_down(number, now, effects);
                });
            }
            Event::Batch {
                from,
                index,
                number,
            } => self.batch(from, index, number),
            Event::Answers {
                from,
                index,
                number,
            } => self.answers(from, index, number),
            Event::Handled {
                node,
                incarnation,
                session,
                request,
            } if self.nodes[node].incarnation == incarnation => {
                self.handled(node, &session, request);
            }
            Event::Called {
                node,
                incarnation,
                call,
            } if self.nodes[node].incarnation == incarnation => self.called(node, call),
            Event::Handled { .. } | Event::Called { .. } => {}
            Event::Restart { node, incarnation } => self.restart(node, incarnation),
            Event::PeerRestarted { node, incarnation } => self.peer_restarted(node, incarnation),
        }
    }
}

impl World {
    /// Probes a link as the failure detector does: only if it has asked for that, or something has
    /// happened to it.
    fn probe(&mut self, node: usize, index: usize) {
        let (now, end) = (self.now, (node, index));
        if self.nodes[node].links[index].is_idle()
            || self
                .quiet
                .get(&end)
                .is_some_and(|at| at.is_none_or(|at| at > now))
        {
            return;
        }
        // Armed before the probe, so that what follows from it counts.
        self.quiet.insert(end, None);
        let calls = OpenCalls {
            sent: self.nodes[node].calls.values().any(|of| *of == index),
            served: self.nodes[node]
                .served_calls
                .values()
                .any(|of| *of == index),
        };
        let mut next = None;
        self.input(node, index, |link, effects| {
            next = link.probe(now, calls, effects);
        });
        if next.is_some_and(|at| at <= now + PROBE_INTERVAL) {
            self.quiet.remove(&end);
        } else if let Some(armed) = self.quiet.get_mut(&end) {
            *armed = next;
        }
    }

    /// All clients leave, and all callers give up: the links may close.
    fn leave_all(&mut self) -> u64 {
        self.trouble("all clients left");
        self.cancel_all();
        for node in 0..2 {
            for id in self.nodes[node].clients.keys().copied().collect::<Vec<_>>() {
                self.close(node, id);
            }
        }
        1_500
    }
}

impl World {
    /// Checks what must hold when nothing has gone wrong for a while.
    fn check_settled(&self) {
        self.check_calls_settled();
        for (node, index) in ENDS {
            let (gate, member) = (&self.nodes[node], &self.nodes[1 - node]);
            let link = &gate.links[index];
            let (end, sent) = ((node, index), &self.one_way_sent);
            assert!(
                self.lossy.contains(&end) || sent.get(&end) == self.one_way_arrived.get(&end),
                "{end:?}: a one-way call never arrives"
            );
            assert!(
                link.is_outbound_up() || link.has_retired(),
                "node {node}, stream {index}: not up"
            );
            assert!(
                !link.is_broken() && !link.receiver().is_suspect(),
                "node {node}, stream {index}: broken"
            );
            let is_free =
                link.sender().windows().count() == 0 && link.receiver().sessions.is_empty();
            assert!(
                !is_free || self.times.1.is_none() || link.is_idle(),
                "node {node}, stream {index}: still open"
            );
            assert_eq!(link.queued_bytes(), 0, "queued bytes");
            for window in link.sender().windows() {
                assert!(window.unfinished() < CREDIT, "credit is not restored");
                let served = &member.served.get(&window.session.id);
                let served = served.expect("a session that only the gate knows");
                let asked_for = served.route.get();
                if asked_for != 0 {
                    assert_eq!(
                        window.session.route.get(),
                        asked_for,
                        "route of {}",
                        served.id
                    );
                }
                let user = window.session.user();
                assert_eq!(served.user(), user, "user of {}", served.id);
                let (here, there) = (window.session.shared(), served.shared());
                assert_eq!(there.all(), here.all(), "shared values of {}", served.id);
            }
            let mine = |id: &&i64| stream_index(**id) == index;
            assert_eq!(
                link.sender().windows().count(),
                member.served.keys().filter(mine).count(),
                "a session that only the member knows"
            );
            assert_eq!(
                member.links[index].receiver().sessions().count(),
                member.served.keys().filter(mine).count(),
                "sessions of the link"
            );
        }
        for node in &self.nodes {
            for client in node.clients.values() {
                let open = &client.requests;
                assert!(
                    open.is_empty(),
                    "session {}: {open:?} never end",
                    client.session.id
                );
            }
        }
    }
}

/// Says how to replay a seed that panics.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        let seed = self.0;
        eprintln!("replay it with NANO_SEED={seed} cargo test --lib link::tests::pair");
    }
}
