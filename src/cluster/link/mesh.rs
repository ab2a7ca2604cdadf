//! Links between several nodes in virtual time, for simulations of what uses them: real
//! [`LinkState`]s, streams that delay batches and break, nodes that crash and begin anew.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use self::streams::{Event, Pipe};
use super::{
    activity::OpenCalls,
    config::{PROBE_INTERVAL, STREAMS},
    effect::Effect,
    health::Health,
    proto::{Frame, Kind},
    state::LinkState,
    whereabouts::Whereabouts,
};
use crate::{
    error::{Error, Result, code},
    mock::{self, MockSink},
    session::Session,
};

mod nodes;
mod sessions;
mod streams;

/// Sessions whose ids are multiples of it use the stream index that is simulated.
pub(crate) const ID_STEP: i64 = STREAMS as i64;

/// How long two nodes may be cut off from each other before the sessions they share end.
const GRACE: Duration = Duration::from_secs(5);

/// Something for the user of the links.
#[derive(Debug)]
pub(crate) enum Out {
    /// A message of a session, for a handler.
    Deliver {
        at: usize,
        session: Session,
        request: u64,
        body: Bytes,
    },
    /// A session that is served has ended.
    Ended { at: usize, session: Session },
    /// A call of another node.
    Call {
        at: usize,
        from: usize,
        call: u64,
        method: String,
        body: Bytes,
    },
    /// The end of a call of this node.
    Reply { call: u64, answer: Result<Bytes> },
    Push {
        at: usize,
        session: i64,
        body: Bytes,
    },
    Respond {
        at: usize,
        session: i64,
        request: u64,
    },
    /// Requests end without an answer of the peer.
    Failed {
        at: usize,
        session: i64,
        requests: Vec<u64>,
    },
    /// A node that serves a session closes it.
    Close { at: usize, session: i64 },
}

pub(crate) struct Mesh {
    random: StdRng,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    nodes: Vec<Node>,
    /// By node and peer.
    links: BTreeMap<(usize, usize), Link>,
    /// By the node that has opened them, and the other one.
    pipes: BTreeMap<(usize, usize), Pipe>,
    opening: BTreeSet<(usize, usize)>,
    /// The last number of a stream, an epoch or a call.
    last: u64,
    /// The calls that are not answered, by caller and callee.
    calls: BTreeMap<u64, (usize, usize)>,
    served: Vec<Served>,
    sink: Arc<MockSink>,
    out: VecDeque<Out>,
    /// How many streams came up.
    streams: u64,
}

#[derive(Clone)]
struct Node {
    incarnation: u64,
    alive: bool,
    /// Until when nothing happens there.
    suspended: Instant,
    /// Other nodes that it does not reach, until then.
    cut_off: BTreeMap<usize, Instant>,
}

struct Link {
    /// The incarnation of the peer.
    peer: u64,
    epoch: u64,
    state: LinkState<Session>,
}

/// A session that a node serves.
struct Served {
    at: usize,
    session: Session,
    first: Place,
    whereabouts: Whereabouts<Place>,
}

/// A session at one gate.
#[derive(Clone, Copy)]
struct Place {
    gate: usize,
    key: u64,
}

/// The address of a node.
pub(crate) fn address(node: usize) -> String {
    format!("n{node}")
}

/// The node at an address.
pub(crate) fn node_at(address: &str) -> usize {
    address[1..].parse().unwrap()
}

impl Mesh {
    /// A cluster that knows of the end and the start of its nodes.
    pub(crate) fn new(seed: u64, nodes: usize, now: Instant) -> Self {
        let mut mesh = Self::without_members(seed, nodes, now);
        for at in 0..nodes {
            mesh.start(at, 1);
        }
        for at in 0..nodes {
            for peer in (0..nodes).filter(|peer| *peer != at) {
                mesh.join(at, peer, 1);
            }
        }
        mesh
    }

    /// Nodes that have not [started](Self::start), and members that others [decide](Self::join) on.
    pub(crate) fn without_members(seed: u64, nodes: usize, now: Instant) -> Self {
        let node = Node {
            incarnation: 0,
            alive: false,
            suspended: now,
            cut_off: BTreeMap::new(),
        };
        let mut mesh = Self {
            random: StdRng::seed_from_u64(seed),
            now,
            events: BTreeMap::new(),
            count: 0,
            nodes: vec![node; nodes],
            links: BTreeMap::new(),
            pipes: BTreeMap::new(),
            opening: BTreeSet::new(),
            last: 0,
            calls: BTreeMap::new(),
            served: Vec::new(),
            sink: mock::session().1,
            out: VecDeque::new(),
            streams: 0,
        };
        mesh.later(0, Event::Probe);
        mesh
    }

    /// When the next [`step`](Mesh::step) is due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn step(&mut self) {
        if let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            // What concerns a suspended node happens when it goes on, in the same order.
            let resumes = event.node().map_or(at, |node| self.nodes[node].suspended);
            if resumes > at {
                self.at(resumes, event);
            } else {
                self.handle(event);
            }
        }
    }

    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    pub(crate) fn take_out(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    /// How many streams came up so far.
    pub(crate) fn streams(&self) -> u64 {
        self.streams
    }

    pub(crate) fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].alive
    }

    pub(crate) fn incarnation(&self, node: usize) -> u64 {
        self.nodes[node].incarnation
    }

    /// The incarnation of a member, as a node knows it.
    pub(crate) fn member(&self, at: usize, peer: usize) -> Option<u64> {
        self.links.get(&(at, peer)).map(|link| link.peer)
    }

    /// Whether a member can be reached and does not drain, as a node knows.
    pub(crate) fn is_available(&self, at: usize, peer: usize) -> bool {
        let link = self.links.get(&(at, peer));
        link.is_some_and(|link| link.state.health() < Health::Cordoned)
    }

    /// A node drains: it announces that to all others.
    pub(crate) fn cordon(&mut self, node: usize) {
        for peer in 0..self.nodes.len() {
            self.input((node, peer), |state, _| drop(state.cordon(true)));
        }
    }

    /// A handle of a session, for a gate or a node that serves it.
    pub(crate) fn session(&self, id: i64) -> Session {
        Session::new(id, self.sink.clone())
    }

    /// Calls a service of another node.
    ///
    /// # Errors
    /// As `NodeCaller::call`, when it is not sent.
    pub(crate) fn call(
        &mut self,
        (at, to): (usize, usize),
        method: &str,
        body: Vec<u8>,
    ) -> Result<u64> {
        let call = self.number();
        let mut frame = Frame::message(Kind::NodeCall, 0, call, method.into(), body.into());
        frame.session = 0;
        let mut sent = Err(unavailable());
        self.input((at, to), |state, _| sent = state.call(frame).map(drop));
        sent?;
        self.calls.insert(call, (at, to));
        Ok(call)
    }

    /// Sends a service of another node a message without a reply. It may be lost.
    pub(crate) fn notify(&mut self, (at, to): (usize, usize), method: &str, body: Vec<u8>) {
        let frame = Frame::message(Kind::NodeCall, 0, 0, method.into(), body.into());
        self.input((at, to), |state, _| drop(state.call(frame)));
    }

    /// Waits no longer for the reply to a call.
    pub(crate) fn forget_call(&mut self, call: u64) {
        if let Some(ends) = self.calls.remove(&call) {
            self.input(ends, |state, _| drop(state.cancel(call)));
        }
    }

    pub(crate) fn reply(&mut self, (at, to): (usize, usize), call: u64, answer: Result<Bytes>) {
        self.input((at, to), |state, _| drop(state.reply(call, answer)));
    }

    /// A node learns of a member.
    pub(crate) fn join(&mut self, at: usize, peer: usize, incarnation: u64) {
        if !self.nodes[at].alive || self.member(at, peer) == Some(incarnation) {
            return;
        }
        self.leave(at, peer);
        let epoch = self.number();
        let link = Link {
            peer: incarnation,
            epoch,
            state: LinkState::new(0, GRACE, None),
        };
        self.links.insert((at, peer), link);
    }

    /// A node learns that a member has left.
    pub(crate) fn leave(&mut self, at: usize, peer: usize) {
        self.input((at, peer), |state, effects| state.close(effects));
        self.links.remove(&(at, peer));
        self.pipes.remove(&(at, peer));
        self.opening.remove(&(at, peer));
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn later(&mut self, millis: u64, event: Event) {
        self.at(self.now + Duration::from_millis(millis), event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// Feeds an input, does what follows, and sends what is queued.
    fn input(
        &mut self,
        end: (usize, usize),
        input: impl FnOnce(&mut LinkState<Session>, &mut Vec<Effect<Session>>),
    ) {
        let mut effects = Vec::new();
        let Some(link) = self.links.get_mut(&end) else {
            return;
        };
        input(&mut link.state, &mut effects);
        self.apply(end, effects);
        self.flush(end);
        self.open(end);
    }

    fn apply(&mut self, end: (usize, usize), effects: Vec<Effect<Session>>) {
        let (at, from) = end;
        for effect in effects {
            match effect {
                Effect::Deliver {
                    session,
                    request,
                    body,
                    ..
                } => self.out.push_back(Out::Deliver {
                    at,
                    session,
                    request,
                    body,
                }),
                Effect::EndSession { session, .. } => self.ended(at, session),
                Effect::NodeCall { method, frame } => self.out.push_back(Out::Call {
                    at,
                    from,
                    call: frame.request,
                    method: method.to_string(),
                    body: frame.body,
                }),
                Effect::Reply(frame) => {
                    let call = frame.request;
                    if self.calls.remove(&call).is_some() {
                        let answer = frame.into_answer();
                        self.out.push_back(Out::Reply { call, answer });
                    }
                }
                Effect::FailCalls => {
                    let lost = |_: &u64, ends: &mut (usize, usize)| *ends == end;
                    let lost: Vec<_> = self.calls.extract_if(.., lost).collect();
                    self.out.extend(lost.into_iter().map(|(call, _)| {
                        let answer = Err(unavailable());
                        Out::Reply { call, answer }
                    }));
                }
                Effect::Respond { session, .. } => self.out.push_back(Out::Respond {
                    at,
                    session: session.id(),
                    request: session.request_id(),
                }),
                Effect::FailRequests { session, requests } => self.out.push_back(Out::Failed {
                    at,
                    session: session.id(),
                    requests: requests.into(),
                }),
                Effect::Gate { frame, .. } => {
                    let session = frame.session;
                    self.out.push_back(match frame.kind() {
                        Kind::Push => Out::Push {
                            at,
                            session,
                            body: frame.body,
                        },
                        _ => Out::Close { at, session },
                    });
                }
                Effect::InboundClosed => self.break_pipe((from, at)),
                // The rest is about what is not simulated here.
                _ => {}
            }
        }
    }

    fn probe(&mut self) {
        let ends: Vec<_> = self.links.keys().copied().collect();
        for end in ends {
            if self.nodes[end.0].suspended > self.now {
                continue;
            }
            let sent = self.calls.values().any(|of| *of == end);
            let calls = OpenCalls {
                sent,
                served: false,
            };
            let now = self.now;
            self.input(end, |state, effects| {
                let _ = state.probe(now, calls, effects);
            });
        }
        self.at(self.now + PROBE_INTERVAL, Event::Probe);
    }
}

fn unavailable() -> Error {
    Error::new(code::UNAVAILABLE, "the member cannot be reached")
}
