//! Sessions that leave a gate, as `migration_out` drives them.

use std::{collections::BTreeSet, mem, time::Duration};

use bytes::Bytes;
use prost::Message;
use rand::RngExt;

use super::{
    defects::Defect,
    event::{At, Call, Event},
    gates::{Moved, WINDOW},
    world::{GATES, World},
};
use crate::{
    cluster::{
        SessionAdopt, SessionHold, SessionRelease,
        mesh::{address, node_at},
    },
    error::{Error, Result, code},
    gate::{
        client_state::ClientState,
        departure::{Departure, Next, Outcome, REPEAT, Stay, is_repeated, stays},
        migration_message::{ADOPT, HOLD, Leaving, RELEASE, write},
        moved_close::{Follow, MovedClose},
        resume::registry::Secrets,
    },
};

const RETRY: Duration = Duration::from_secs(1);
pub(super) const HOLD_TIMEOUT: u64 = 2_000;
const ADOPT_TIMEOUT: u64 = 5_000;

/// A session on its way to another gate.
pub(super) struct Departing {
    departure: Departure,
    pub(super) to: usize,
    incarnation: u64,
    /// The nodes that are asked to hold it, and what they have answered.
    asked: BTreeSet<usize>,
    held: Vec<(String, Result)>,
    taken: Option<Taken>,
    /// How often the next gate was called.
    calls: u32,
    /// The nodes that are asked to release it.
    releasing: BTreeSet<usize>,
}

/// What was taken for the next gate.
struct Taken {
    client: ClientState,
    served: Vec<(String, Vec<u64>)>,
    secrets: Secrets,
}

impl World {
    /// Lets sessions of a gate that drains move.
    pub(super) fn migrate(&mut self, gate: usize) {
        let mut ids = self.gates[gate].registry.to_migrate(self.now);
        ids.sort_unstable();
        for id in ids {
            let Some(entry) = self.gates[gate].sessions.get(&id) else {
                continue;
            };
            let elsewhere = self.served(gate, id).into_iter().flat_map(|(_, it)| it);
            let elsewhere: Vec<_> = elsewhere.collect();
            let is_movable = entry.handle.0.lock().check_movable(&elsewhere).is_ok();
            if !is_movable || self.next_gates(gate).is_empty() {
                continue;
            }
            let this = &mut self.gates[gate];
            let Ok(permit) = this.migrations.leaving.clone().try_acquire_owned() else {
                return;
            };
            this.registry.migrate(id, permit);
            self.settle(gate, id);
        }
    }

    /// The members that may take a session, as a gate knows.
    fn next_gates(&self, gate: usize) -> Vec<(usize, u64)> {
        let others = (0..GATES).filter(|other| *other != gate);
        // One that does not answer is not among them.
        let ready =
            others.filter(|other| !self.gates[*other].draining && self.answers(gate, *other));
        ready
            .filter_map(|other| Some((other, self.mesh.member(gate, other)?)))
            .collect()
    }

    fn served(&self, gate: usize, id: i64) -> Vec<(String, Vec<u64>)> {
        let served = self.mesh.serving(gate, id).into_iter();
        served.map(|(node, it)| (address(node), it)).collect()
    }

    /// A session is to move whose client is away.
    pub(super) fn begin_departure(&mut self, gate: usize, id: i64) {
        let ready = self.next_gates(gate);
        if ready.is_empty() {
            let at = self.now + RETRY;
            self.gates[gate].registry.stay(id, |_| at);
            return self.settle(gate, id);
        }
        let (to, incarnation) = ready[self.random.random_range(0..ready.len())];
        let departing = Departing {
            departure: Departure::new(WINDOW),
            to,
            incarnation,
            asked: BTreeSet::new(),
            held: Vec::new(),
            taken: None,
            calls: 0,
            releasing: BTreeSet::new(),
        };
        self.entry(gate, id).departing = Some(departing);
        self.go_on(self.at_gate(gate, id), Next::Hold);
    }

    fn entry(&mut self, gate: usize, id: i64) -> &mut super::gates::Entry {
        self.gates[gate].sessions.get_mut(&id).unwrap()
    }

    fn departing(&mut self, at: At) -> Option<&mut Departing> {
        let entry = self.gates[at.gate].sessions.get_mut(&at.id)?;
        entry.departing.as_mut()
    }

    /// Does what a departure asks for.
    fn go_on(&mut self, at: At, mut next: Next) {
        loop {
            self.note(|| format!("{at:?} {next:?}"));
            next = match next {
                Next::Hold => match self.hold(at) {
                    Some(next) => next,
                    None => return,
                },
                Next::Leave => {
                    let pause = self.random.random_range(0..60);
                    return self.later(pause, Event::Left(at));
                }
                Next::Take => self.take(at),
                Next::Adopt(pause) => {
                    let pause = pause.as_millis() as u64;
                    return self.later(pause, Event::Adopt(at));
                }
                Next::Forget(outcome) => return self.forget(at, outcome),
                Next::Stay(stay) => return self.stay(at, stay),
            };
        }
    }

    /// Asks the nodes that serve the session to hold it. Returns what follows at once.
    fn hold(&mut self, at: At) -> Option<Next> {
        let mut served = self.mesh.serving(at.gate, at.id);
        if self.has_defect(Defect::HoldsNothing) {
            served.clear();
        }
        let to = address(self.departing(at)?.to);
        for (node, _) in served {
            let request = SessionHold {
                session: at.id,
                to: to.clone(),
            };
            let call = self
                .mesh
                .call((at.gate, node), HOLD, request.encode_to_vec());
            let failed = call.map(|call| {
                self.wait(call, Call::Hold { at, node }, HOLD_TIMEOUT);
            });
            let departing = self.departing(at)?;
            match failed {
                Ok(()) => drop(departing.asked.insert(node)),
                Err(error) => departing.held.push((address(node), Err(error))),
            }
        }
        self.all_held(at)
    }

    /// What follows when all nodes have answered.
    fn all_held(&mut self, at: At) -> Option<Next> {
        let departing = self.departing(at)?;
        if !departing.asked.is_empty() {
            return None;
        }
        let held = mem::take(&mut departing.held);
        Some(departing.departure.held(Ok(held)))
    }

    pub(super) fn left(&mut self, at: At) {
        let fails = self.random.random_bool(0.05);
        if let Some(departing) = self.departing(at) {
            let left = match fails {
                true => Err(stays("the channels change")),
                false => Ok(()),
            };
            let next = departing.departure.left(left);
            self.go_on(at, next);
        }
    }

    /// Takes the client's state.
    fn take(&mut self, at: At) -> Next {
        let (now, served) = (self.now, self.served(at.gate, at.id));
        let is_available = self.is_available(at);
        let secrets = self.gates[at.gate].registry.secrets(at.id);
        let entry = self.entry(at.gate, at.id);
        let elsewhere: Vec<_> = served.iter().flat_map(|(_, it)| it.clone()).collect();
        let taken = entry.handle.0.lock().take_moving(&elsewhere);
        let taken = taken.zip(secrets).map(|(client, secrets)| Taken {
            client,
            served,
            secrets,
        });
        let departing = entry.departing.as_mut().unwrap();
        departing.taken = taken;
        let taken = departing.taken.as_ref().map(|_| ());
        let taken = taken.ok_or_else(|| stays("this node has to answer it"));
        departing.departure.taken(taken, is_available, now)
    }

    /// Calls the next gate.
    pub(super) fn send_adopt(&mut self, at: At) {
        let (now, forgets) = (self.now, self.has_defect(Defect::DropsRequests));
        let Some(entry) = self.gates[at.gate].sessions.get_mut(&at.id) else {
            return;
        };
        let (session, Some(departing)) = (&entry.session, &mut entry.departing) else {
            return;
        };
        let Some(taken) = &departing.taken else {
            return;
        };
        let leaving = Leaving {
            session,
            claim: 0,
            served: taken.served.clone(),
            channels: Vec::new(),
            secrets: taken.secrets.clone(),
            login_by: None,
            incarnation: departing.incarnation,
            repeat: WINDOW,
        };
        let mut message: SessionAdopt = write(&leaving, &taken.client, now);
        if forgets {
            message.requests.clear();
        }
        departing.calls += 1;
        let (to, repeated) = (departing.to, departing.calls == 2);
        if repeated {
            self.oracle.count("adopt repeated");
        }
        let call = self
            .mesh
            .call((at.gate, to), ADOPT, message.encode_to_vec());
        match call {
            Ok(call) => self.wait(call, Call::Adopt { at }, ADOPT_TIMEOUT),
            Err(error) => self.adopted(at, Err(error)),
        }
    }

    fn adopted(&mut self, at: At, mut adopted: Result) {
        if self.has_defect(Defect::SilenceIsRefusal)
            && let Err(error) = &adopted
        {
            adopted = Err(Error::bad_request(error.to_string()));
        }
        let (now, is_member) = (self.now, self.is_member(at));
        let takes_back = self.has_defect(Defect::TakesBack) && !is_member;
        if takes_back && adopted.is_err() {
            adopted = Err(stays("the next gate has left"));
        }
        if let Some(departing) = self.departing(at) {
            let departure = &mut departing.departure;
            let next = departure.adopted(adopted, (is_member, false), now);
            self.go_on(at, next);
        }
    }

    fn is_available(&mut self, at: At) -> bool {
        let to = self.departing(at).map(|it| it.to);
        self.is_member(at) && to.is_some_and(|to| self.mesh.is_available(at.gate, to))
    }

    /// Whether the next gate of a session is a member still.
    fn is_member(&mut self, at: At) -> bool {
        let next = self.departing(at).map(|it| (it.to, it.incarnation));
        next.is_some_and(|(to, of)| self.mesh.member(at.gate, to) == Some(of))
    }

    /// The next gate has the session, or may have had it.
    fn forget(&mut self, at: At, outcome: Outcome) {
        let At { gate, id, .. } = at;
        let departing = self.entry(gate, id).departing.take().unwrap();
        let is_elsewhere = (0..GATES).any(|it| it != gate && self.gates[it].has(id));
        self.oracle.count(match (outcome, is_elsewhere) {
            (Outcome::Moved, _) => "moved",
            (Outcome::Unanswered, true) => "moved on by a gate that died",
            (Outcome::Unanswered, false) => "lost with the next gate",
        });
        let has_crashed = self.mesh.incarnation(departing.to) != departing.incarnation
            || !self.mesh.is_alive(departing.to);
        if has_crashed && !is_elsewhere {
            self.oracle.may_be_lost.insert(id);
        }
        let ends = !self.has_defect(Defect::LeavesHeld);
        self.mesh.moved(gate, id, ends);
        if self.has_defect(Defect::AnswersOn) {
            let entry = self.entry(gate, id);
            entry
                .handle
                .0
                .lock()
                .put_back(departing.taken.unwrap().client);
            let never = self.now + WINDOW * 100;
            return self.gates[gate].registry.stay(id, |_| never);
        }
        let this = &mut self.gates[gate];
        match self.defect {
            Some(Defect::ForgetsWhere) => this.registry.remove(id, crate::resume::Lost::Unknown),
            _ => this.registry.moved(id, address(departing.to).into()),
        }
        let handle = this.sessions.remove(&id).unwrap().handle;
        let to = departing.to;
        let mut closes = MovedClose::default();
        let next = match self.defect {
            Some(Defect::LooksOnce) => closes.noted(handle.0.lock().end_moved()),
            _ => Follow::End,
        };
        this.moved.insert(id, Moved { handle, to, closes });
        if next != Follow::End {
            self.follow(at, next);
        }
        let pause = self.random.random_range(0..20);
        self.later(pause, Event::EndMoved(at));
    }

    /// Takes everything back.
    fn stay(&mut self, at: At, stay: Stay) {
        self.oracle.count("stayed");
        let served = self.served(at.gate, at.id);
        let elsewhere: Vec<_> = served.into_iter().flat_map(|(_, it)| it).collect();
        let departing = self.departing(at).unwrap();
        let taken = departing.taken.take();
        let releasing: BTreeSet<_> = stay.held.iter().map(|node| node_at(node)).collect();
        departing.releasing = releasing.clone();
        if let Some(taken) = taken {
            let handle = self.entry(at.gate, at.id).handle.clone();
            handle.0.lock().put_back(taken.client);
            let unserved = handle.0.lock().unserved(&elsewhere);
            for request in unserved {
                self.respond(at.gate, at.id, request);
            }
        }
        for node in releasing {
            self.release(at, node, 0);
        }
        self.stayed(at);
    }

    /// Goes on with a session that is released everywhere.
    fn stayed(&mut self, at: At) {
        let departing = self.departing(at);
        if departing.is_some_and(|departing| departing.releasing.is_empty()) {
            self.entry(at.gate, at.id).departing = None;
            let again = self.now + RETRY;
            self.gates[at.gate].registry.stay(at.id, |_| again);
            self.settle(at.gate, at.id);
        }
    }

    pub(super) fn release(&mut self, at: At, node: usize, times: usize) {
        let request = SessionRelease { session: at.id };
        let call = self
            .mesh
            .call((at.gate, node), RELEASE, request.encode_to_vec());
        let times = times + 1;
        match call {
            Ok(call) => self.wait(call, Call::Release { at, node, times }, HOLD_TIMEOUT),
            Err(error) => self.released(at, node, times, &Err(error)),
        }
    }

    fn released(&mut self, at: At, node: usize, times: usize, released: &Result) {
        if self.departing(at).is_none() {
            return;
        }
        if is_repeated(times, released) {
            let pause = REPEAT.as_millis() as u64;
            return self.later(pause, Event::Release { at, node, times });
        }
        if released.is_err() {
            let session = self.entry(at.gate, at.id).session.clone();
            self.mesh.attached((at.gate, node), &session, false);
        }
        if let Some(departing) = self.departing(at) {
            departing.releasing.remove(&node);
        }
        self.stayed(at);
    }

    /// Waits for the answer to a call, at most so long.
    pub(super) fn wait(&mut self, call: u64, waits: Call, millis: u64) {
        self.calls.insert(call, waits);
        self.later(millis, Event::CallDue(call));
    }

    pub(super) fn call_due(&mut self, call: u64) {
        if let Some(waits) = self.calls.remove(&call) {
            self.mesh.forget_call(call);
            let late = Error::new(code::TIMEOUT, "timed out");
            self.answered(waits, Err(late));
        }
    }

    /// A call has ended.
    pub(super) fn answered(&mut self, waits: Call, answer: Result) {
        match waits {
            Call::Hold { at, node } => {
                if let Some(departing) = self.departing(at) {
                    departing.asked.remove(&node);
                    departing.held.push((address(node), answer));
                    if let Some(next) = self.all_held(at) {
                        self.go_on(at, next);
                    }
                }
            }
            Call::Release { at, node, times } => self.released(at, node, times, &answer),
            Call::Adopt { at } => self.adopted(at, answer),
            Call::Attach { at, node } => self.attached(at, node, &answer),
            Call::PassedOn { at, to, call } => {
                let answer = answer.map(|()| Bytes::new());
                self.mesh.reply((at.gate, to), call, answer);
            }
            Call::Close { at, to, times } => self.close_answered(at, to, times, &answer),
        }
    }

    /// Forgets what a node that has crashed has waited for.
    pub(super) fn forget_calls(&mut self, gate: usize) {
        self.calls.retain(|_, waits| match waits {
            Call::Hold { at, .. }
            | Call::Release { at, .. }
            | Call::Adopt { at }
            | Call::Attach { at, .. }
            | Call::PassedOn { at, .. }
            | Call::Close { at, .. } => at.gate != gate,
        });
    }

    /// The sessions that have been taken for another gate: the former gate, the next one, and the id.
    pub(super) fn on_the_way(&self) -> Vec<(usize, usize, i64)> {
        let gates = self.gates.iter().enumerate();
        let sessions = gates.flat_map(|(gate, it)| it.sessions.iter().map(move |it| (gate, it)));
        let moving = sessions.filter_map(|(gate, (id, entry))| {
            let departing = entry.departing.as_ref().filter(|it| it.taken.is_some())?;
            Some((gate, departing.to, *id))
        });
        moving.collect()
    }
}
