//! What the state machines of a node want done.

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;

use super::{
    defects::Defect,
    network::{Event, Message, Node},
    node::{Process, number},
    oracle::Key,
    world::{CALL_TIMEOUT, World},
};
use crate::{
    cluster::directory::{
        holdings::{self, Outcome},
        message::{GateReply, GateRequest, OwnerReply},
        owner,
    },
    session::UserId,
};

impl World {
    /// Does what the state machines of a node want done.
    pub(super) fn flush(&mut self, node: Node) {
        self.follow_members(node);
        loop {
            let Some(running) = self.nodes[node].as_mut() else {
                return;
            };
            let (owner, gate) = (running.owner.take_effects(), running.gate.take_effects());
            if owner.is_empty() && gate.is_empty() {
                return self.schedule_tick(node);
            }
            self.changed = true;
            for effect in owner {
                self.apply_owner(node, effect);
            }
            for effect in gate {
                self.apply_gate(node, effect);
            }
        }
    }

    /// The links of a node learn which members it knows.
    fn follow_members(&mut self, node: Node) {
        if self.network.links.is_some()
            && let Some(running) = &self.nodes[node]
        {
            let members = running.members();
            self.network
                .change_links(|links| links.set_members(node, &members));
        }
    }

    fn apply_owner(&mut self, node: Node, effect: owner::Effect) {
        let Some(running) = self.nodes[node].as_mut() else {
            return;
        };
        let from = running.id.clone();
        match effect {
            owner::Effect::Reply { caller, reply } => {
                let claim = running.claims.remove(&caller);
                if let Some((to, call)) = running.callers.remove(&caller) {
                    if let Some((user, session)) = claim
                        && matches!(reply, OwnerReply::Granted { late: false, .. })
                    {
                        let key = (to.incarnation, session);
                        let owner = from.incarnation;
                        self.oracle.grants(owner, &user, key, self.network.now);
                    }
                    let node_of_caller = number(&to.address);
                    let message = Message::OwnerReply {
                        to,
                        call,
                        reply: Some(reply),
                    };
                    self.network.send(node, node_of_caller, message);
                }
            }
            owner::Effect::Call {
                call, to, request, ..
            } => {
                let process = from.incarnation;
                let reply = Message::GateReply {
                    to: from.clone(),
                    call,
                    reply: None,
                };
                if self.has(Defect::ServesEarly) && matches!(request, GateRequest::Recover { .. }) {
                    let nothing = GateReply::Holdings {
                        held: Vec::new(),
                        replaced: Vec::new(),
                    };
                    let message = Message::GateReply {
                        to: from.clone(),
                        call,
                        reply: Some(nothing),
                    };
                    self.network.send(node, node, message);
                }
                // Close callbacks may take their time.
                let timed_out = Event::TimedOut {
                    node,
                    process,
                    reply,
                };
                self.network.after(7 * CALL_TIMEOUT, timed_out);
                let target = number(&to.address);
                let message = Message::GateCall {
                    from,
                    to,
                    call,
                    request,
                };
                self.network.send(node, target, message);
            }
        }
    }

    fn apply_gate(&mut self, node: Node, effect: holdings::Effect) {
        let Some(running) = self.nodes[node].as_mut() else {
            return;
        };
        let from = running.id.clone();
        let process = from.incarnation;
        match effect {
            holdings::Effect::Reply { caller, reply } => {
                if let Some((to, call)) = running.callers.remove(&caller) {
                    let target = number(&to.address);
                    let message = Message::GateReply {
                        to,
                        call,
                        reply: Some(reply),
                    };
                    self.network.send(node, target, message);
                }
            }
            holdings::Effect::Call {
                call, to, request, ..
            } => {
                let reply = Message::OwnerReply {
                    to: from.clone(),
                    call,
                    reply: None,
                };
                let timed_out = Event::TimedOut {
                    node,
                    process,
                    reply,
                };
                self.network.after(3 * CALL_TIMEOUT, timed_out);
                let target = number(&to.address);
                let message = Message::OwnerCall {
                    from,
                    to,
                    call,
                    request,
                };
                self.network.send(node, target, message);
            }
            holdings::Effect::Send { to, notice } => {
                let target = number(&to.address);
                self.network
                    .send(node, target, Message::Notice { from, to, notice });
            }
            holdings::Effect::End { session } => {
                running.awaited.insert(session);
                let is_bound = running.gate.all();
                let user = is_bound.into_iter().find(|it| it.session == session);
                if let Some(holding) = user {
                    self.oracle.replaced(&holding.user, (process, session));
                }
                if let Some(claimant) = running.gate.claimant(session) {
                    let login = (claimant.gate.incarnation, claimant.session);
                    // Of a gate that may have been evicted nothing is promised.
                    let in_view = running.has_lease(self.network.now);
                    self.oracle.made_way((process, session), login, in_view);
                }
                if self.defect == Some(Defect::SkipsCallbacks) {
                    running
                        .gate
                        .callbacks_done(session, false, self.network.now);
                }
                self.run_callbacks(node, process, session);
            }
            holdings::Effect::AwaitEnd { session } => {
                running.awaited.insert(session);
                if running.finished.contains(&session) {
                    running
                        .gate
                        .callbacks_done(session, false, self.network.now);
                }
            }
            holdings::Effect::LoggedIn {
                session, outcome, ..
            } => {
                self.network.log(&(process, session, outcome));
                self.logged_in(node, process, session, outcome);
            }
        }
    }

    fn logged_in(&mut self, node: Node, process: u64, session: i64, outcome: Outcome) {
        let now = self.network.now;
        let waitable = |(process, session): &Key| {
            let mut running = self.nodes.iter().flatten();
            running.any(|it| it.process() == *process && it.confirmed.contains(session))
        };
        self.oracle.pass(now);
        self.oracle.forget(|key| !waitable(key));
        let granted = matches!(outcome, Outcome::Granted { .. });
        self.oracle.ends((process, session), granted, now);
        let Some(running) = self.nodes[node].as_mut().filter(|it| !it.leaving) else {
            return;
        };
        match outcome {
            Outcome::Granted { replaced, late } => {
                if let Some(user) = running.gate.user_of(session) {
                    let claim = running.gate.claim_of(session).unwrap_or_default();
                    self.oracle.claims(user, (process, session), claim);
                    if replaced {
                        self.oracle.says_replaced(user, (process, session));
                    }
                }
                // Before it is in a view nothing is promised.
                if !running.has_lease(now) {
                    return;
                }
                if !late {
                    running.confirmed.insert(session);
                }
                let user = running.gate.user_of(session).cloned();
                if let Some(user) = user {
                    let key = (process, session);
                    self.disregard_silent(&user, key);
                    if !late {
                        // An owner cannot ask the others for what they have ended.
                        let running = || self.nodes.iter().flatten();
                        let is_seen = |it: &Process| {
                            running().all(|other| other.owner.view().contains(&it.id))
                        };
                        let in_view =
                            |process| running().any(|it| it.process() == process && is_seen(it));
                        self.oracle.says(&user, key, replaced, in_view);
                    }
                    self.oracle.granted(&user, key, (replaced, late));
                }
            }
            Outcome::TimedOut if self.network.calm_for() > Duration::from_secs(20) => {
                self.oracle.fail(format!(
                    "login of {session} at {process} timed out in a calm"
                ));
            }
            Outcome::Refused => {
                let resumed = self.network.resumed;
                self.oracle.refused((process, session), resumed);
            }
            Outcome::TimedOut | Outcome::Ended => {}
        }
    }

    /// Sessions at gates that an owner has waited for in vain are not confirmed.
    fn disregard_silent(&mut self, user: &UserId, granted: Key) {
        let owners = self.nodes.iter().flatten();
        let silent: BTreeSet<_> = owners
            .flat_map(|process| process.owner.unanswered(user))
            .collect();
        for process in self.nodes.iter_mut().flatten() {
            if !silent.contains(&process.id) {
                continue;
            }
            for (other, session) in process.gate.granted() {
                if other == user && (process.id.incarnation, session) != granted {
                    process.confirmed.remove(&session);
                }
            }
        }
    }

    /// The close callbacks of a session have run. Its gate has to wait for them to note it.
    pub(super) fn callbacks_ran(&mut self, node: Node, session: i64) {
        if let Some(running) = &mut self.nodes[node] {
            running.finished.insert(session);
            if running.awaited.contains(&session) {
                running
                    .gate
                    .callbacks_done(session, false, self.network.now);
            }
        }
    }

    pub(super) fn run_callbacks(&mut self, node: Node, process: u64, session: i64) {
        let slow = self.network.random.random_ratio(1, 10) && self.network.calm_for().is_zero();
        let range = if slow { 4000..8000 } else { 0..1000 };
        let took = self.network.millis(range);
        if !self.oracle.closing((process, session), self.network.now) {
            return;
        }
        self.network.after(
            took,
            Event::CallbacksDone {
                node,
                process,
                session,
            },
        );
    }
}
