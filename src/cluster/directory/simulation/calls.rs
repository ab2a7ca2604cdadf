//! What arrives at a node.

use tokio::time::Instant;

use super::{
    network::{Event, Message, Node, Sent},
    node::Process,
    world::{CALL_TIMEOUT, World},
};
use crate::{
    cluster::{
        directory::message::{GateReply, GateRequest, Holding, Notice, OwnerRequest},
        membership::{
            registration::{Call, Reply},
            registry::{MembershipDelta, Refusal},
        },
    },
    member::Member,
};

impl World {
    pub(super) fn heartbeat(&mut self, node: Node, process: u64) {
        let now = self.network.now;
        let running = self.nodes[node].as_mut();
        let Some(running) = running.filter(|it| it.process() == process && !it.leaving) else {
            return;
        };
        if node == 0 {
            return;
        }
        let call = running.registration.begin_call(&mut running.table);
        running.heartbeat_sent = Some(now);
        let member = running.member.clone();
        let reply = Message::FromMaster {
            process,
            sent: Sent(now),
            reply: None,
        };
        let timed_out = Event::TimedOut {
            node,
            process,
            reply,
        };
        self.network.after(CALL_TIMEOUT, timed_out);
        let message = Message::ToMaster {
            process,
            sent: Sent(now),
            member,
            call,
        };
        self.network.send(node, 0, message);
    }

    pub(super) fn on_message(&mut self, from: Node, to: Node, mut message: Message) {
        let now = self.network.now;
        self.note_named(to, &message);
        self.distort(to, &mut message);
        let forgotten = match &message {
            Message::Notice { notice, .. } if self.has(super::defects::Defect::ReleasesAll) => {
                self.released_too(to, notice)
            }
            _ => Vec::new(),
        };
        let Some(running) = self.nodes[to].as_mut() else {
            return self.network.fail(from, to, message);
        };
        match message {
            Message::ToMaster {
                process,
                sent,
                member,
                call,
            } => {
                let reply = on_master_call(running, &member, call, now);
                self.changed |= running.follow_registry(now);
                let reply = reply.ok();
                let answer = Message::FromMaster {
                    process,
                    sent,
                    reply,
                };
                self.network.send(to, from, answer);
            }
            Message::FromMaster {
                process,
                sent,
                reply,
            } => {
                self.on_master_reply(to, process, sent, reply);
            }
            Message::OwnerCall {
                from,
                to: id,
                call,
                request,
            } if id == running.id => {
                let caller = running.expect(from.clone(), call);
                if let OwnerRequest::Claim { user, session, .. } = &request {
                    running.claims.insert(caller, (user.clone(), *session));
                }
                running.owner.on_call(&from, caller, request, now);
                self.changed = true;
            }
            Message::OwnerReply {
                to: id,
                call,
                reply,
            } if id == running.id => {
                self.changed |= reply.is_some();
                running.gate.on_reply(call, reply, now);
            }
            Message::GateCall {
                from,
                to: id,
                call,
                request,
            } if id == running.id => {
                let caller = running.expect(from.clone(), call);
                running.gate.on_call(&from, caller, request, now);
                self.changed = true;
            }
            Message::GateReply {
                to: id,
                call,
                reply,
            } if id == running.id => {
                self.changed |= reply.is_some();
                running.owner.on_reply(call, reply, now);
            }
            Message::Notice {
                from,
                to: id,
                notice,
            } if id == running.id => {
                running.owner.on_notice(&from, notice, now);
                for (gate, notice) in forgotten {
                    running.owner.on_notice(&gate, notice, now);
                }
                self.changed = true;
            }
            // For a former run, which is gone with its sessions.
            Message::GateCall {
                from: owner,
                call,
                request,
                ..
            } => {
                let ends = matches!(request, GateRequest::StepDown { .. });
                let (claimant, late) = (None, true);
                let reply = ends.then_some(GateReply::SteppedDown { claimant, late });
                let message = Message::GateReply {
                    to: owner,
                    call,
                    reply,
                };
                self.network.send(to, from, message);
            }
            _ => {}
        }
        self.flush(to);
    }

    /// Notes the sessions that a gate names to an owner when it leaves.
    fn note_named(&mut self, owner: Node, message: &Message) {
        if let Message::Notice { from, to, notice } = message
            && let Notice::Leaving(holdings) = notice
            && let Some(running) = self.nodes[owner].as_ref().filter(|it| it.id == *to)
        {
            for Holding { user, session, .. } in holdings {
                let key = (from.incarnation, *session);
                self.oracle.named(running.process(), user, key);
            }
        }
    }

    fn on_master_reply(&mut self, node: Node, process: u64, sent: Sent, reply: Option<Reply>) {
        let now = self.network.now;
        let running = self.nodes[node].as_mut();
        let Some(running) = running.filter(|it| it.process() == process && !it.leaving) else {
            return;
        };
        // Only the first of the reply and its timeout counts.
        if running
            .heartbeat_sent
            .take_if(|expected| *expected == sent.0)
            .is_none()
        {
            return;
        }
        match reply {
            None => running.registration.failed(now),
            Some(reply) => {
                let stamp = match &reply {
                    Reply::Heartbeat { reply, master } => Some((reply.view, *master)),
                    Reply::Registered(_) => None,
                };
                running.registration.replied(reply, &mut running.table, now);
                let members = running.table.list();
                running.master = stamp.map_or(running.master, |(_, master)| master);
                self.changed |= running.set_view(0, &members, running.master, now);
                if let Some((stamp, master)) = stamp {
                    if !running.has_lease(now) {
                        // It may begin anew.
                        running.confirmed.clear();
                        self.oracle.lapsed(process);
                        self.changed = true;
                    }
                    running.lease.renew(sent.0, now, stamp.number != 0);
                    running.gate.on_heartbeat(stamp.number);
                    if stamp.number != 0 && running.table.digest() == stamp.digest {
                        self.changed |= running.set_view(stamp.number, &members, master, now);
                    }
                }
            }
        }
        let due = running.registration.due();
        self.network
            .at(due.max(now), Event::HeartbeatDue { node, process });
    }
}

fn on_master_call(
    master: &mut Process,
    member: &Member,
    call: Call,
    now: Instant,
) -> Result<Reply, Refusal> {
    let incarnation = master.process();
    let registry = master.registry.as_mut().ok_or(Refusal::NotRegistered)?;
    let mut delta = MembershipDelta::default();
    match call {
        Call::Register => registry
            .register(member.clone(), now, &mut delta)
            .map(Reply::Registered),
        Call::Heartbeat { digest } => registry
            .heartbeat(member.clone(), digest, now, &mut delta)
            .map(|reply| Reply::Heartbeat {
                reply,
                master: incarnation,
            }),
    }
}
