//! The two nodes, the streams between them, and what happens to both.

use std::{
    collections::BTreeMap,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    CALM, TROUBLE,
    network::Pipe,
    node::{Client, Handle, Node, new_links},
};
use crate::{
    cluster::link::{
        config::{CREDIT, PROBE_INTERVAL, STREAMS, stream_index},
        effect::Effect,
        proto::{Frame, Kind},
        sender::Blocked,
        session::LinkedSession,
        state::LinkState,
    },
    session::CloseReason,
};

/// How often each kind of trouble happened.
pub(super) type Troubles = BTreeMap<&'static str, u32>;

pub(super) const ALL_TROUBLES: [&str; 12] = [
    "closed by the member",
    "dead peer",
    "detached",
    "draining",
    "half-open",
    "lost stream",
    "overtaken",
    "refused message",
    "request failed",
    "restart",
    "session unknown",
    "suspected",
];

#[derive(Debug)]
enum Event {
    Act,
    Probe,
    Connect {
        node: usize,
        index: usize,
        peer: u64,
    },
    /// The opener of a stream learns that it was accepted.
    Accepted {
        node: usize,
        index: usize,
        number: u64,
    },
    /// The opener of a stream learns that it broke.
    OutboundBroken {
        node: usize,
        index: usize,
        number: u64,
    },
    /// The other end learns it.
    InboundBroken {
        node: usize,
        index: usize,
        number: u64,
    },
    Batch {
        from: usize,
        index: usize,
        number: u64,
    },
    Answers {
        from: usize,
        index: usize,
        number: u64,
    },
    /// A handler is done with a message.
    Handled {
        node: usize,
        incarnation: u64,
        session: Handle,
        request: u64,
    },
    Restart {
        node: usize,
        incarnation: u64,
    },
    /// A node learns that the other one was started again.
    PeerRestarted {
        node: usize,
        incarnation: u64,
    },
}

pub(super) struct World {
    seed: u64,
    random: StdRng,
    begun: Instant,
    now: Instant,
    grace: Duration,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    nodes: [Node; 2],
    /// The incarnation of the other node that each node's links are for.
    known: [u64; 2],
    pipes: BTreeMap<(usize, usize), Pipe>,
    last_id: i64,
    /// A hash of all that happened, if it is recorded.
    trace: Option<u64>,
    troubles: Troubles,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (now, grace) = (
            Instant::now(),
            Duration::from_millis([0, 500, 5_000][random.random_range(0..3)]),
        );
        let mut world = Self {
            seed,
            random,
            begun: now,
            now,
            grace,
            events: BTreeMap::new(),
            count: 0,
            nodes: [Node::new(1, grace), Node::new(1, grace)],
            known: [1, 1],
            pipes: BTreeMap::new(),
            last_id: 0,
            trace: None,
            troubles: Troubles::new(),
        };
        world.connect_all(0);
        world.connect_all(1);
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
        }
        self.check_settled();
        std::mem::forget(replay);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            *trace = text().bytes().fold(*trace, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
        }
    }

    fn trouble(&mut self, what: &'static str) {
        *self.troubles.entry(what).or_default() += 1;
    }

    fn is_calm(&self) -> bool {
        self.now > self.begun + TROUBLE
    }

    fn later(&mut self, millis: u64, event: Event) {
        self.at(self.now + Duration::from_millis(millis), event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn soon(&mut self, event: Event) {
        let millis = self.random.random_range(0..800);
        self.later(millis, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Act => {
                if !self.is_calm() {
                    self.act();
                    let pause = self.random.random_range(0..20);
                    self.later(pause, Event::Act);
                }
            }
            Event::Probe => {
                let now = self.now;
                for (node, index) in ENDS {
                    self.input(node, index, |link, effects| link.probe(now, effects));
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
            Event::Handled { .. } => {}
            Event::Restart { node, incarnation } => self.restart(node, incarnation),
            Event::PeerRestarted { node, incarnation } => self.peer_restarted(node, incarnation),
        }
    }
}

const ENDS: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// Streams.
impl World {
    fn connect_all(&mut self, node: usize) {
        for index in 0..STREAMS {
            let peer = self.known[node];
            self.soon(Event::Connect { node, index, peer });
        }
    }

    fn connect(&mut self, node: usize, index: usize, peer: u64) {
        let other = 1 - node;
        if self.known[node] != peer || self.pipes.contains_key(&(node, index)) {
            return;
        }
        self.nodes[node].last_stream += 1;
        let number = self.nodes[node].last_stream;
        self.input(node, index, |link, _| link.connecting(number));
        // An attempt fails while the other node is another incarnation, or does not know this one.
        let meets = self.nodes[other].incarnation == peer
            && self.known[other] == self.nodes[node].incarnation;
        self.pipes.insert((node, index), Pipe::new(number));
        let mut accepted = false;
        if meets {
            self.input(other, index, |link, effects| {
                accepted = link.accept(number, effects).is_ok();
            });
        }
        if accepted && (self.is_calm() || self.random.random_bool(0.9)) {
            self.soon(Event::Accepted {
                node,
                index,
                number,
            });
        } else {
            self.break_pipe(node, index);
        }
    }

    fn accepted(&mut self, node: usize, index: usize, number: u64) {
        let pipe = self.pipes.get_mut(&(node, index));
        if let Some(pipe) = pipe.filter(|pipe| pipe.number == number && !pipe.dead) {
            pipe.up = true;
            self.input(node, index, |link, effects| {
                link.outbound_up(number, effects);
            });
        }
    }

    /// What is under way is lost. Both ends learn of it, each in its own time.
    fn break_pipe(&mut self, node: usize, index: usize) {
        let Some(pipe) = self.pipes.get_mut(&(node, index)) else {
            return;
        };
        pipe.dead = true;
        let number = pipe.number;
        self.soon(Event::OutboundBroken {
            node,
            index,
            number,
        });
        self.soon(Event::InboundBroken {
            node: 1 - node,
            index,
            number,
        });
    }

    fn outbound_broken(&mut self, node: usize, index: usize, number: u64) {
        if self
            .pipes
            .get(&(node, index))
            .is_none_or(|pipe| pipe.number != number)
        {
            return;
        }
        self.pipes.remove(&(node, index));
        let (now, peer) = (self.now, self.known[node]);
        self.input(node, index, |link, effects| {
            link.outbound_down(now, effects)
        });
        self.soon(Event::Connect { node, index, peer });
    }

    /// Feeds an input, does what follows, and sends what is queued.
    fn input(
        &mut self,
        node: usize,
        index: usize,
        input: impl FnOnce(&mut LinkState<Handle>, &mut Vec<Effect<Handle>>),
    ) {
        let mut effects = Vec::new();
        input(&mut self.nodes[node].links[index], &mut effects);
        self.apply(node, index, effects);
        self.flush(node, index);
    }

    fn flush(&mut self, node: usize, index: usize) {
        let (other, now) = (1 - node, self.now);
        let link = &mut self.nodes[node].links[index];
        if let Some(pipe) = self.pipes.get_mut(&(node, index))
            && pipe.up
        {
            let mut readers = Vec::new();
            while let Poll::Ready(Some(batch)) =
                link.poll_batch(pipe.number, Waker::noop(), &mut readers)
            {
                if !pipe.dead {
                    let delay = Duration::from_millis(self.random.random_range(0..60));
                    let arrival = pipe.forward.send(now + delay, batch.frames);
                    let event = Event::Batch {
                        from: node,
                        index,
                        number: pipe.number,
                    };
                    self.count += 1;
                    self.events.insert((arrival, self.count), event);
                }
            }
        }
        if let Some(pipe) = self.pipes.get_mut(&(other, index)) {
            while let Poll::Ready(Some(batch)) = link.poll_answers(pipe.number, Waker::noop()) {
                if !pipe.dead {
                    let delay = Duration::from_millis(self.random.random_range(0..60));
                    let arrival = pipe.answers.send(now + delay, batch.frames);
                    let event = Event::Answers {
                        from: other,
                        index,
                        number: pipe.number,
                    };
                    self.count += 1;
                    self.events.insert((arrival, self.count), event);
                }
            }
        }
    }

    fn batch(&mut self, from: usize, index: usize, number: u64) {
        let (node, now) = (1 - from, self.now);
        let pipe = self.pipes.get_mut(&(from, index));
        let Some(frames) = pipe
            .filter(|pipe| pipe.number == number && !pipe.dead)
            .and_then(|pipe| pipe.forward.receive(now))
        else {
            return;
        };
        if !self.nodes[node].links[index].hear(number) {
            return self.break_pipe(from, index);
        }
        for frame in frames {
            self.note(|| format!("{node} {:?} {}", frame.kind(), frame.session));
            let Node { links, served, .. } = &mut self.nodes[node];
            let mut effects = Vec::new();
            let current =
                links[index].receive(number, frame, || now, false, &mut effects, &mut |new| {
                    Node::open(served, &new)
                });
            assert!(current, "the stream ended within a batch");
            self.apply(node, index, effects);
        }
        self.flush(node, index);
    }

    fn answers(&mut self, from: usize, index: usize, number: u64) {
        let now = self.now;
        let pipe = self.pipes.get_mut(&(from, index));
        let frames = pipe
            .filter(|pipe| pipe.number == number && !pipe.dead)
            .and_then(|pipe| pipe.answers.receive(now));
        for frame in frames.into_iter().flatten() {
            if frame.kind() == Kind::SessionUnknown {
                self.trouble("session unknown");
            }
            self.input(from, index, |link, effects| {
                link.answer(&frame, effects).unwrap();
            });
        }
    }

    fn restart(&mut self, node: usize, incarnation: u64) {
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        self.trouble("restart");
        let other = 1 - node;
        let next = incarnation + 1;
        self.nodes[node] = Node::new(next, self.grace);
        self.pipes.retain(|(opener, _), _| *opener != node);
        for index in 0..STREAMS {
            self.break_pipe(other, index);
        }
        self.known[node] = self.nodes[other].incarnation;
        self.soon(Event::PeerRestarted {
            node: other,
            incarnation: next,
        });
        self.connect_all(node);
    }

    /// Closes the links to the incarnation that is gone, and begins with the new one.
    fn peer_restarted(&mut self, node: usize, incarnation: u64) {
        if self.nodes[1 - node].incarnation != incarnation {
            return;
        }
        for index in 0..STREAMS {
            self.input(node, index, |link, effects| link.close(effects));
            self.pipes.remove(&(node, index));
        }
        assert!(
            self.nodes[node].served.is_empty(),
            "sessions of a gate that is gone"
        );
        self.nodes[node].links = new_links(self.grace);
        self.known[node] = incarnation;
        self.connect_all(node);
    }
}

/// What clients, handlers and the network do.
impl World {
    fn act(&mut self) {
        let (node, index) = (
            self.random.random_range(0..2),
            self.random.random_range(0..2),
        );
        match self.random.random_range(0..1000) {
            0..700 => self.send(node),
            700..780 => self.push(node),
            780..800 => self.bind(node),
            800..815 => self.close_client(node),
            815..825 => self.close_served(node),
            825..830 => {
                self.trouble("lost stream");
                self.break_pipe(node, index);
            }
            830..832 => self.half_open(node, index),
            832..833 => {
                let incarnation = self.nodes[node].incarnation;
                self.restart(node, incarnation);
            }
            833..834 => self.drain(node),
            _ => {}
        }
    }

    fn client(&mut self, node: usize) -> i64 {
        let clients = &self.nodes[node].clients;
        if clients.len() < 6 && self.random.random_bool(0.2) || clients.is_empty() {
            self.last_id += 1;
            let client = Client {
                session: Handle::new(self.last_id, 0),
                sent: 0,
                pushed: 0,
                requests: Default::default(),
            };
            self.nodes[node].clients.insert(self.last_id, client);
            return self.last_id;
        }
        let at = self.random.random_range(0..clients.len());
        *clients.keys().nth(at).unwrap()
    }

    fn send(&mut self, node: usize) {
        let id = self.client(node);
        let client = self.nodes[node].clients.get_mut(&id).unwrap();
        client.sent += 1;
        let (session, number) = (client.session.clone(), client.sent);
        let request = if self.random.random_bool(0.5) {
            number
        } else {
            0
        };
        if request != 0 {
            client.requests.insert(request);
        }
        let mut refused = false;
        self.input(node, stream_index(id), |link, _| {
            let frame = |()| {
                let body = Bytes::copy_from_slice(&number.to_le_bytes());
                Frame::message(Kind::Message, id, request, "Room.Say".into(), body)
            };
            match link.message(&session, (), frame) {
                Ok(_) => {}
                Err(Blocked::Refused(_) | Blocked::Draining(()) | Blocked::Full(())) => {
                    refused = true;
                }
            }
        });
        if refused {
            self.trouble("refused message");
            if request != 0 {
                self.nodes[node].end_request(id, request);
            }
        }
    }

    fn served(&mut self, node: usize) -> Option<Handle> {
        let served = &self.nodes[node].served;
        if served.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..served.len());
        served.values().nth(at).cloned()
    }

    fn push(&mut self, node: usize) {
        let Some(session) = self.served(node) else {
            return;
        };
        let number = self.nodes[node].next_push(session.id);
        self.input(node, stream_index(session.id), |link, _| {
            let body = Bytes::copy_from_slice(&number.to_le_bytes());
            let frame = Frame::push(session.id, Vec::new(), "on", body);
            // A session that is closing takes nothing more.
            let _ = link.push(session.id, session.key, frame);
        });
    }

    /// A handler binds a session, or its gate does.
    fn bind(&mut self, node: usize) {
        let uid = self.random.random_range(1..1000);
        if self.random.random_bool(0.5) {
            if let Some(session) = self.served(node) {
                self.input(node, stream_index(session.id), |link, _| {
                    link.bind(&session, session.key, uid);
                });
            }
        } else {
            let id = self.client(node);
            let session = self.nodes[node].clients[&id].session.clone();
            session.rebind(uid);
            self.input(node, stream_index(id), |link, _| {
                link.session_bound(&session);
            });
        }
    }

    fn close_client(&mut self, node: usize) {
        let id = self.client(node);
        self.close(node, id);
    }

    fn close(&mut self, node: usize, id: i64) {
        // Its requests end with its connection.
        let Some(client) = self.nodes[node].clients.remove(&id) else {
            return;
        };
        client.session.close();
        self.input(node, stream_index(id), |link, _| {
            link.session_closed(&client.session, &CloseReason::Client, false);
        });
    }

    fn close_served(&mut self, node: usize) {
        if let Some(session) = self.served(node) {
            self.trouble("closed by the member");
            self.input(node, stream_index(session.id), |link, _| {
                let reason = CloseReason::Closed("enough".to_owned());
                link.close_session(session.id, session.key, reason);
            });
        }
    }

    /// One stream carries nothing any more, and its opener learns of it late.
    fn half_open(&mut self, node: usize, index: usize) {
        let Some(pipe) = self.pipes.get_mut(&(node, index)) else {
            return;
        };
        if pipe.up && !pipe.dead {
            pipe.dead = true;
            let number = pipe.number;
            self.trouble("half-open");
            let noticed = self.random.random_range(1_000..5_000);
            self.later(
                noticed,
                Event::OutboundBroken {
                    node,
                    index,
                    number,
                },
            );
        }
    }

    /// A node asks for no new messages, and stops a while later.
    fn drain(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].stopping, true) {
            return;
        }
        self.trouble("draining");
        for index in 0..STREAMS {
            self.input(node, index, |link, _| {
                link.goaway();
            });
        }
        let incarnation = self.nodes[node].incarnation;
        self.later(2_000, Event::Restart { node, incarnation });
    }

    fn handled(&mut self, node: usize, session: &Handle, request: u64) {
        self.input(node, stream_index(session.id), |link, _| {
            if request != 0 {
                // The session may have ended.
                let _ = link.respond(session.id, session.key, request, Ok(Bytes::new()));
            }
            link.finished(session.id, session.key);
        });
    }

    fn apply(&mut self, node: usize, index: usize, effects: Vec<Effect<Handle>>) {
        for effect in effects {
            match effect {
                Effect::Deliver {
                    session,
                    request,
                    body,
                    ..
                } => {
                    let drained = self.nodes[node].links[index].is_drained();
                    assert!(!drained, "a message behind DRAINED");
                    let number = u64::from_le_bytes(body[..].try_into().unwrap());
                    if request != 0 {
                        assert_eq!(request, number);
                    }
                    self.nodes[node].deliver(&session, number);
                    let incarnation = self.nodes[node].incarnation;
                    let takes = self.random.random_range(0..300);
                    self.later(
                        takes,
                        Event::Handled {
                            node,
                            incarnation,
                            session,
                            request,
                        },
                    );
                }
                Effect::Respond { session, .. } => {
                    self.nodes[node].end_request(session.id, session.request);
                }
                Effect::FailRequests { session, requests } => {
                    for request in requests {
                        self.trouble("request failed");
                        self.nodes[node].end_request(session.id, request);
                    }
                }
                Effect::EndSession { session, .. } => self.nodes[node].end(&session),
                Effect::Bind {
                    session: Some(session),
                    uid,
                    ..
                } => {
                    if let Some(uid) = uid {
                        session.rebind(uid);
                    }
                    self.nodes[node].links[index].session_bound(&session);
                }
                Effect::Gate {
                    session: Some(session),
                    frame,
                } => self.gate(node, &session, &frame),
                Effect::PeerSuspected => self.trouble("suspected"),
                Effect::InboundClosed => {
                    self.trouble("dead peer");
                    self.break_pipe(1 - node, index);
                }
                Effect::Detached { .. } => self.trouble("detached"),
                Effect::Refused(_) => self.trouble("overtaken"),
                Effect::DeliverCall { .. } | Effect::Reply(_) | Effect::Multicast { .. } => {
                    unreachable!("never sent")
                }
                Effect::Bind { .. }
                | Effect::Gate { .. }
                | Effect::Unbind(_)
                | Effect::FailCalls
                | Effect::PeerDraining
                | Effect::Wake(_) => {}
            }
        }
    }

    /// A frame of a member for a client.
    fn gate(&mut self, node: usize, session: &Handle, frame: &Frame) {
        if frame.kind() != Kind::Push {
            return self.close(node, session.id);
        }
        let number = u64::from_le_bytes(frame.body[..].try_into().unwrap());
        let client = self.nodes[node].clients.get_mut(&session.id).unwrap();
        // A member that was started again counts anew.
        assert!(
            client.pushed < number || number < 50 && self.known[node] > 1,
            "session {}: push {number} behind {}",
            session.id,
            client.pushed
        );
        client.pushed = number;
    }
}

impl World {
    /// Checks what must hold when nothing has gone wrong for a while.
    fn check_settled(&self) {
        for (node, index) in ENDS {
            let (gate, member) = (&self.nodes[node], &self.nodes[1 - node]);
            let link = &gate.links[index];
            assert!(link.is_outbound_up(), "node {node}, stream {index}: not up");
            assert_eq!(link.queued_bytes(), 0, "queued bytes");
            for window in link.sender().windows() {
                assert!(window.unfinished() < CREDIT, "credit is not restored");
                let served = &member.served.get(&window.session.id);
                let served = served.expect("a session that only the gate knows");
                assert_eq!(served.uid(), window.session.uid(), "uid of {}", served.id);
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
