//! Virtual time, the queue of events, and a network that delays and loses messages.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    event::{Event, Party},
    fault::{Fault, FaultCounts},
};

/// How long faults happen.
const FAULTY: Duration = Duration::from_secs(90);

/// How long the tables may take to converge afterwards: until a basic member has been missed, and
/// notices it; see docs/cluster.md.
const CALM: Duration = Duration::from_secs(60);

/// All collections are ordered, so that the same seed gives the same run.
pub(super) struct Network {
    pub(super) random: StdRng,
    pub(super) now: Instant,
    pub(super) faults_end: Instant,
    pub(super) faults: FaultCounts,
    started: Instant,
    last_id: u64,
    /// By time, then in the order they were queued.
    events: BTreeMap<(Instant, u64), Event>,
    suspended: BTreeMap<Party, Instant>,
    partitioned: BTreeMap<usize, Instant>,
    /// When the last message arrives at a node whose messages keep their order.
    last_arrival: BTreeMap<usize, Instant>,
    trace: Option<Vec<String>>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            random: StdRng::seed_from_u64(seed),
            now,
            faults_end: now + FAULTY,
            faults: FaultCounts::default(),
            started: now,
            last_id: 0,
            events: BTreeMap::new(),
            suspended: BTreeMap::new(),
            partitioned: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            trace: None,
        }
    }

    /// Begins to record a trace of all events.
    pub(super) fn record(&mut self) {
        self.trace = Some(Vec::new());
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    /// Returns the next event and advances the time to it. `None` at the end of the simulation.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            let ((at, _), event) = self.events.pop_first()?;
            if at > self.faults_end + CALM {
                return None;
            }
            self.now = at;
            // A suspended party handles the event when it resumes, in the original order.
            if let Some(&until) = self.suspended.get(&event.party())
                && until > at
            {
                self.at(until, event);
                continue;
            }
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:?} {event:?}", at - self.started));
            }
            return Some(event);
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        let id = self.new_id();
        self.events.insert((at, id), event);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Sends a message between a node and the master: it is lost, late, or in time.
    pub(super) fn send(&mut self, node: usize, event: Event) {
        if let Some(arrival) = self.arrival(node) {
            self.at(arrival, event);
        }
    }

    /// Sends a message that does not overtake earlier ones, as on one TCP connection. basic members
    /// need it: they cannot tell old announcements from new ones.
    pub(super) fn send_in_order(&mut self, node: usize, event: Event) {
        if let Some(arrival) = self.arrival(node) {
            let last = self.last_arrival.entry(node).or_insert(arrival);
            *last = arrival.max(*last);
            let arrival = *last;
            self.at(arrival, event);
        }
    }

    /// Returns when a message arrives that is sent now, or `None` if it is lost.
    fn arrival(&mut self, node: usize) -> Option<Instant> {
        let calm = self.now >= self.faults_end;
        let partitioned = self
            .partitioned
            .get(&node)
            .is_some_and(|until| *until > self.now);
        if partitioned || (!calm && self.random.random_ratio(1, 20)) {
            self.faults.count(Fault::LostMessage, 1);
            return None;
        }
        let slow = !calm && self.random.random_ratio(1, 10);
        let delay = self
            .random
            .random_range(if slow { 100..4000 } else { 1..40 });
        Some(self.now + Duration::from_millis(delay))
    }

    pub(super) fn partition(&mut self, node: usize, duration: Duration) {
        self.faults.count(Fault::Partition, 1);
        self.partitioned.insert(node, self.now + duration);
    }

    /// Suspends a party. Never shortens a suspension: what waits for its end must stay in order.
    pub(super) fn suspend(&mut self, party: Party, duration: Duration) {
        self.faults.count(Fault::Suspension, 1);
        let until = self.suspended.entry(party).or_insert(self.now);
        *until = (self.now + duration).max(*until);
    }

    /// A new process of the party runs, and has new connections.
    pub(super) fn restarted(&mut self, party: Party) {
        self.suspended.remove(&party);
        if let Party::Node(node) = party {
            self.last_arrival.remove(&node);
        }
    }
}
