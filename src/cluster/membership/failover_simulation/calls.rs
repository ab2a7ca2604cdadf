//! Calls of members and what masters answer and announce, as the tasks and services do it.

use tokio::time::Instant;

use super::{
    defects::Defect,
    event::{Event, Node},
    oracle::{Entry, entries},
    process::{self, Process, address, heartbeat},
    world::{Outcome, World},
};
use crate::cluster::{
    grpc_channel::CALL_TIMEOUT,
    membership::{
        heartbeat::ViewStamp,
        registration::{Call, Reply},
        registry::MembershipDelta,
        table::Change,
        updates::Announcement,
    },
};

impl World {
    /// Calls a master if a call is due.
    pub(super) fn call_master(&mut self, node: Node, local: Instant) {
        let (now, id) = (self.now, self.process(node).id);
        let says_seen = self.defect != Some(Defect::SaysNothing);
        let call_id = self.last_id + 1;
        let process = self.process(node);
        let (member, seen) = (
            process.own.clone(),
            if says_seen { process.seen() } else { 0 },
        );
        let client = process.client.as_mut();
        let Some(client) = client.filter(|it| it.call == 0 && it.registration.due() <= local)
        else {
            return;
        };
        let call = client.registration.begin_call(&mut process.table);
        let to = process::node(client.masters.address());
        client.call = call_id;
        self.last_id = call_id;
        let timeout = Event::Reply {
            id: call_id,
            reply: None,
        };
        self.at(now + CALL_TIMEOUT, node, id, timeout);
        let event = Event::Call {
            from: node,
            process: id,
            id: call_id,
            member,
            call,
            seen,
            passed_on: false,
        };
        self.send(node, to, 0, event);
    }

    /// The master looks for silent members.
    pub(super) fn tick(&mut self, node: Node, local: Instant) -> Outcome {
        let (now, id) = (self.now, self.process(node).id);
        self.at(now + heartbeat().tick_interval(), node, id, Event::Tick);
        let Some(registry) = self.process(node).leading(now) else {
            return Ok(());
        };
        let (term, mut delta) = (registry.term(), MembershipDelta::default());
        for removal in registry.tick(local) {
            registry.remove(&removal, local, &mut delta);
        }
        let unheard: Vec<_> = registry.unheard(local).into_iter().cloned().collect();
        self.none_lost(&delta.changes)?;
        self.broadcast(node, term, delta.changes);
        if self.defect != Some(Defect::LeadsInSilence) {
            let lead = Announcement::Lead(self.process(node).own.clone());
            unheard.iter().for_each(|member| {
                let to = process::node(member.address());
                self.announce_to(node, to, term, lead.clone());
            });
        }
        Ok(())
    }

    /// A master takes a call, or passes it on.
    pub(super) fn on_call(&mut self, node: Node, event: Event, local: Instant) -> Outcome {
        let Event::Call {
            from,
            process: caller,
            id,
            member,
            call,
            seen,
            passed_on,
        } = event
        else {
            return Ok(());
        };
        let now = self.now;
        let process = self.process(node);
        let Some(master) = &mut process.master else {
            return Ok(());
        };
        master.election.observe(seen, master.latest_view(), local);
        let other = master.election.leader(local).cloned();
        let other = other.filter(|it| it.address != address(node) && !passed_on);
        let (own, caller_info) = (process.own.clone(), member.clone());
        let mut delta = MembershipDelta::default();
        let reply = process.leading(now).map(|registry| {
            let reply = match call {
                Call::Register => registry
                    .register(member, local, &mut delta)
                    .map(Reply::Registered),
                Call::Heartbeat { digest } => registry
                    .heartbeat(member, digest, local, &mut delta)
                    .map(|reply| Reply::Heartbeat {
                        reply,
                        master: own.incarnation(),
                    }),
            };
            let table = match registry.stated_view(local) {
                0 => Vec::new(),
                _ => entries(registry, &own),
            };
            (reply.ok(), registry.term(), table)
        });
        match (reply, other) {
            (Some((Some(reply), term, table)), _) => {
                self.broadcast(node, term, delta.changes);
                let reply = Some((reply, term, table));
                self.send(node, from, caller, Event::Reply { id, reply });
            }
            (None, Some(other)) => {
                let event = Event::Call {
                    from,
                    process: caller,
                    id,
                    member: caller_info,
                    call,
                    seen,
                    passed_on: true,
                };
                self.send(node, process::node(&other.address), 0, event);
            }
            _ => self.send(node, from, caller, Event::Reply { id, reply: None }),
        }
        Ok(())
    }

    fn broadcast(&mut self, node: Node, term: u64, changes: Vec<Change>) {
        for change in changes {
            let table = &mut self.process(node).table;
            let announcement = match change {
                Change::Joined(member) => {
                    table.join(member.clone());
                    Announcement::Join(member)
                }
                Change::Left(member) => {
                    table.leave(member.address(), member.incarnation());
                    Announcement::Leave {
                        address: member.address().to_owned(),
                        incarnation: member.incarnation(),
                        evicted: false,
                    }
                }
            };
            self.announce(node, term, &announcement);
        }
    }

    pub(super) fn announce(&mut self, node: Node, term: u64, announcement: &Announcement) {
        for to in (0..self.processes.len()).filter(|to| *to != node) {
            self.announce_to(node, to, term, announcement.clone());
        }
    }

    fn announce_to(&mut self, node: Node, to: Node, term: u64, announcement: Announcement) {
        self.send(node, to, 0, Event::Announced { term, announcement });
    }

    pub(super) fn on_announcement(
        &mut self,
        node: Node,
        term: u64,
        announcement: Announcement,
        local: Instant,
    ) -> Outcome {
        let is_fenced = self.defect != Some(Defect::NoFence);
        let process = self.process(node);
        if let Some(master) = &mut process.master {
            master.election.observe(term, master.latest_view(), local);
        }
        if !process.table.accepts(term) && is_fenced {
            return Ok(());
        }
        let changes = match announcement {
            Announcement::Join(member) => process.table.join(member),
            Announcement::Lead(member) => {
                if let Some(client) = &mut process.client {
                    client.led_by(member.address(), local);
                }
                process.table.join(member)
            }
            Announcement::Leave {
                address,
                incarnation,
                ..
            } => {
                let left = process.table.leave(&address, incarnation);
                left.into_iter().collect()
            }
        };
        self.none_lost(&changes)
    }

    pub(super) fn on_reply(
        &mut self,
        node: Node,
        id: u64,
        reply: Option<(Reply, u64, Vec<Entry>)>,
        local: Instant,
    ) -> Outcome {
        let is_fenced = self.defect != Some(Defect::NoFence);
        let seen = self.processes.iter().flatten().map(Process::seen);
        self.oracle.forget_above(seen.max().unwrap_or_default());
        let process = self.processes[node].as_mut().unwrap();
        let Some(client) = process.client.as_mut().filter(|it| it.call == id) else {
            return Ok(());
        };
        client.call = 0;
        let mut accepts = |term| process.table.accepts(term) || !is_fenced;
        let Some((reply, term, table)) = reply.filter(|(_, term, _)| accepts(*term)) else {
            client.registration.failed(local);
            if client.masters.select_next() {
                client.registration.call_now(local);
            }
            return Ok(());
        };
        let view = match &reply {
            Reply::Heartbeat { reply, master } => {
                let number = reply.view.number;
                self.oracle.accepted(term, *master, number, table)?;
                reply.view
            }
            Reply::Registered(_) => ViewStamp::default(),
        };
        let changes = client
            .registration
            .replied(reply, &mut process.table, local);
        let leader = client.registration.master();
        process.table.lead_by(leader);
        client.masters.answered(process.table.address_of(leader));
        if view.number != 0 {
            if view.number < process.heard {
                return Err(format!(
                    "node {node} has heard of view {} and accepts {}",
                    process.heard, view.number
                ));
            }
            process.heard = view.number;
            if view.digest == process.table.digest() {
                process.view = view.number;
            }
        }
        self.none_lost(&changes)
    }
}
