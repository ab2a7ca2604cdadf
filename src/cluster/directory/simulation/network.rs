//! Virtual time, the queue of events, and a network that delays and loses messages.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::{RngExt, rngs::StdRng};
use tokio::time::Instant;

use super::{links::Links, shape::Shape};
use crate::cluster::{
    directory::{
        message::{GateReply, GateRequest, Notice, OwnerReply, OwnerRequest},
        view::NodeId,
    },
    membership::{registration::Call, registration::Reply},
};
use crate::member::Member;

/// A node, by number; node 0 is the master.
pub(super) type Node = usize;

#[derive(Debug)]
pub(super) enum Event {
    Fault,
    Client,
    /// The directory looks at the clock.
    Tick {
        node: Node,
        process: u64,
    },
    /// The master looks for silent members.
    Evict {
        node: Node,
        process: u64,
    },
    HeartbeatDue {
        node: Node,
        process: u64,
    },
    Arrived {
        from: Node,
        to: Node,
        message: Message,
    },
    /// A call of an owner or a gate has had no reply.
    TimedOut {
        node: Node,
        process: u64,
        reply: Message,
    },
    CallbacksDone {
        node: Node,
        process: u64,
        session: i64,
    },
    Exit {
        node: Node,
        process: u64,
    },
}

/// What nodes send. Replies go to the process that has called.
#[derive(Debug)]
pub(super) enum Message {
    ToMaster {
        process: u64,
        sent: Sent,
        member: Member,
        call: Call,
    },
    FromMaster {
        process: u64,
        sent: Sent,
        reply: Option<Reply>,
    },
    OwnerCall {
        from: NodeId,
        to: NodeId,
        call: u64,
        request: OwnerRequest,
    },
    OwnerReply {
        to: NodeId,
        call: u64,
        reply: Option<OwnerReply>,
    },
    GateCall {
        from: NodeId,
        to: NodeId,
        call: u64,
        request: GateRequest,
    },
    GateReply {
        to: NodeId,
        call: u64,
        reply: Option<GateReply>,
    },
    Notice {
        from: NodeId,
        to: NodeId,
        notice: Notice,
    },
}

/// When a call was sent. Not in traces, because it differs from run to run.
#[derive(Clone, Copy)]
pub(super) struct Sent(pub(super) Instant);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

pub(super) struct Network {
    pub(super) random: StdRng,
    pub(super) now: Instant,
    pub(super) faults_end: Instant,
    started: Instant,
    ends: Instant,
    last: u64,
    /// Boxed: the tree moves what it holds.
    events: BTreeMap<(Instant, u64), Box<Event>>,
    pub(super) suspended: BTreeMap<Node, Instant>,
    /// When the last suspended node has gone on, or will.
    pub(super) resumed: Instant,
    /// Links that carry nothing, by their two ends, the lower first.
    pub(super) cut: BTreeMap<(Node, Node), Instant>,
    /// When the last message arrives on a link: each keeps its order.
    arrivals: BTreeMap<(Node, Node), Instant>,
    /// `None` if messages of the directory find their way by themselves.
    pub(super) links: Option<Links>,
    trace: Option<Vec<String>>,
}

impl Network {
    pub(super) fn new(random: StdRng, shape: &Shape) -> Self {
        let now = Instant::now();
        let faults_end = now + shape.faults.end;
        Self {
            random,
            now,
            faults_end,
            started: now,
            ends: faults_end + shape.calm.1,
            last: 0,
            events: BTreeMap::new(),
            suspended: BTreeMap::new(),
            resumed: now,
            cut: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            links: None,
            trace: None,
        }
    }

    pub(super) fn record(&mut self) {
        self.trace = Some(Vec::new());
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    /// Returns the next event and advances the time to it. `None` at the end.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            self.play_links();
            let ((at, _), event) = self.events.pop_first()?;
            if at > self.ends {
                return None;
            }
            // What concerns a suspended node happens when it goes on, in the same order.
            let resumes = event.node().and_then(|node| self.suspended.get(&node));
            if let Some(resumes) = resumes.copied().filter(|resumes| *resumes > at) {
                self.put(resumes, event);
                continue;
            }
            self.now = at;
            self.log(&event);
            return Some(*event);
        }
    }

    pub(super) fn log(&mut self, what: &impl fmt::Debug) {
        let at = self.elapsed();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:?} {what:?}"));
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.duration_since(self.started)
    }

    /// How much of the calm is over.
    pub(super) fn calm_for(&self) -> Duration {
        self.now.saturating_duration_since(self.faults_end)
    }

    /// Returns a number that grows with time, as incarnations do.
    pub(super) fn new_incarnation(&mut self) -> u64 {
        self.last += 1;
        self.elapsed().as_micros() as u64 * 1000 + self.last % 1000 + 1
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        self.put(at, Box::new(event));
    }

    fn put(&mut self, at: Instant, event: Box<Event>) {
        self.last += 1;
        self.events.insert((at, self.last), event);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    pub(super) fn send(&mut self, from: Node, to: Node, message: Message) {
        if self.links.is_some() && from != to && message.is_of_directory() {
            let breaks = self.random.random_ratio(1, 200) && self.now < self.faults_end;
            return self.change_links(|links| {
                links.send(from, to, message);
                if breaks {
                    links.mesh.cut(from, to);
                }
            });
        }
        if self.is_cut(from, to) {
            self.log(&"lost");
            return self.fail(from, to, message);
        }
        let arrives = self.arrival(from, to);
        self.at(arrives, Event::Arrived { from, to, message });
    }

    /// Two nodes do not reach each other for a while.
    pub(super) fn cut_off(&mut self, a: Node, b: Node, until: Instant) {
        self.cut.insert((a.min(b), a.max(b)), until);
        self.change_links(|links| links.mesh.cut_off(a, b, until));
    }

    fn is_cut(&self, from: Node, to: Node) -> bool {
        let link = (from.min(to), from.max(to));
        from != to && self.cut.get(&link).is_some_and(|until| *until > self.now)
    }

    /// When what is sent now arrives: behind all that was sent before.
    fn arrival(&mut self, from: Node, to: Node) -> Instant {
        let delay = if from == to {
            Duration::from_micros(10)
        } else if self.random.random_ratio(1, 50) && self.now < self.faults_end {
            self.millis(100..1500)
        } else {
            self.millis(1..10)
        };
        let arrives = self.now + delay;
        let last = self.arrivals.entry((from, to)).or_insert(arrives);
        *last = arrives.max(*last);
        *last
    }

    /// Takes what has arrived over links.
    fn take_arrived(&mut self, now: Instant) {
        while let Some((from, to, message)) = self.links.as_mut().and_then(Links::take_arrived) {
            self.at(now, Event::Arrived { from, to, message });
        }
    }

    /// Plays the links up to the next event, which may become another.
    fn play_links(&mut self) {
        while let Some(links) = &mut self.links
            && let Some(at) = links.mesh.next_at()
            && self.events.keys().next().is_none_or(|(next, _)| at < *next)
            && at <= self.ends
        {
            links.mesh.step();
            self.take_arrived(at);
        }
    }

    /// Changes links at the current time.
    pub(super) fn change_links(&mut self, change: impl FnOnce(&mut Links)) {
        if let Some(links) = &mut self.links {
            links.mesh.set_now(self.now);
            change(links);
            self.take_arrived(self.now);
        }
    }

    /// A message is lost. The call that it belongs to fails at once, or when its time is over.
    pub(super) fn fail(&mut self, from: Node, to: Node, message: Message) {
        if self.random.random_ratio(1, 2)
            && let Some((node, failure)) = message.failure(from, to)
        {
            let delay = self.millis(1..10);
            let failed = Event::Arrived {
                from: node,
                to: node,
                message: failure,
            };
            self.after(delay, failed);
        }
    }
}

impl Message {
    /// The failure of the call that a message belongs to, and the node that has made the call.
    pub(super) fn failure(&self, sender: Node, receiver: Node) -> Option<(Node, Self)> {
        let of_owner = |to: &NodeId, call: &u64| Self::OwnerReply {
            to: to.clone(),
            call: *call,
            reply: None,
        };
        let of_gate = |to: &NodeId, call: &u64| Self::GateReply {
            to: to.clone(),
            call: *call,
            reply: None,
        };
        match self {
            Self::OwnerCall { from, call, .. } => Some((sender, of_owner(from, call))),
            Self::OwnerReply { to, call, .. } => Some((receiver, of_owner(to, call))),
            Self::GateCall { from, call, .. } => Some((sender, of_gate(from, call))),
            Self::GateReply { to, call, .. } => Some((receiver, of_gate(to, call))),
            Self::ToMaster { .. } | Self::FromMaster { .. } | Self::Notice { .. } => None,
        }
    }

    /// Whether it goes over links. Members call the master by themselves.
    fn is_of_directory(&self) -> bool {
        !matches!(self, Self::ToMaster { .. } | Self::FromMaster { .. })
    }
}

impl Event {
    /// The node that does it.
    fn node(&self) -> Option<Node> {
        match self {
            Self::Fault | Self::Client => None,
            Self::Tick { node, .. }
            | Self::Evict { node, .. }
            | Self::HeartbeatDue { node, .. }
            | Self::TimedOut { node, .. }
            | Self::CallbacksDone { node, .. }
            | Self::Exit { node, .. } => Some(*node),
            Self::Arrived { to, .. } => Some(*to),
        }
    }
}
