//! Messages of the directory on real links.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::network::{Message, Node};
use crate::cluster::link::mesh::{Mesh, Out};

/// Whether a call is one of an owner, the process that has called, and its number of the call.
type Asked = (bool, u64, u64);

/// The links, and what is on its way on them.
pub(super) struct Links {
    pub(super) mesh: Mesh,
    /// The members that each node knows.
    members: BTreeMap<Node, BTreeMap<Node, u64>>,
    /// Messages by number, until they arrive. Those that are lost stay.
    carried: BTreeMap<u64, Message>,
    last: u64,
    /// The caller, and what it gets if the call fails.
    failures: BTreeMap<u64, (Node, Message)>,
    /// The number of each call that has arrived at a node, and has no reply.
    asked: BTreeMap<(Node, Asked), u64>,
    /// Those that failed at once.
    failed: Vec<(Node, Message)>,
}

impl Links {
    pub(super) fn new(seed: u64, nodes: usize, now: Instant) -> Self {
        Self {
            mesh: Mesh::without_members(seed, nodes, now),
            members: BTreeMap::new(),
            carried: BTreeMap::new(),
            last: 0,
            failures: BTreeMap::new(),
            asked: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, node: Node, process: u64) {
        self.mesh.start(node, process);
    }

    pub(super) fn stop(&mut self, node: Node) {
        self.mesh.stop(node);
        self.members.remove(&node);
        self.asked.retain(|(at, _), _| *at != node);
    }

    /// The members that a node knows.
    pub(super) fn set_members(&mut self, node: Node, members: &BTreeMap<Node, u64>) {
        let known = self.members.entry(node).or_default();
        if known == members {
            return;
        }
        let before = std::mem::replace(known, members.clone());
        for peer in before.keys().filter(|peer| !members.contains_key(peer)) {
            self.mesh.leave(node, *peer);
        }
        for (peer, process) in members {
            self.mesh.join(node, *peer, *process);
        }
    }

    pub(super) fn send(&mut self, from: Node, to: Node, message: Message) {
        self.last += 1;
        let (number, ends) = (self.last, (from, to));
        let body = number.to_be_bytes();
        let asked = match &message {
            Message::OwnerReply { to, call, .. } => Some((true, to.incarnation, *call)),
            Message::GateReply { to, call, .. } => Some((false, to.incarnation, *call)),
            _ => None,
        };
        let failure = message.failure(from, to);
        self.carried.insert(number, message);
        match (asked, failure) {
            (Some(asked), _) => {
                if let Some(call) = self.asked.remove(&(from, asked)) {
                    self.mesh.reply(ends, call, Ok(body.to_vec().into()));
                }
            }
            (None, None) => self.mesh.notify(ends, "Directory.Notice", body.to_vec()),
            (None, Some(failure)) => match self.mesh.call(ends, "Directory.Call", body.to_vec()) {
                Ok(call) => _ = self.failures.insert(call, failure),
                Err(_) => self.failed.push(failure),
            },
        }
    }

    /// What has arrived: sender, receiver, and the message.
    pub(super) fn take_arrived(&mut self) -> Option<(Node, Node, Message)> {
        if let Some((node, failure)) = self.failed.pop() {
            return Some((node, node, failure));
        }
        loop {
            let arrived = match self.mesh.take_out()? {
                Out::Call {
                    at,
                    from,
                    call,
                    body,
                    ..
                } => self.called(from, at, call, &body),
                Out::Reply { call, answer } => self.replied(call, answer.ok().as_deref()),
                _ => None,
            };
            if arrived.is_some() {
                return arrived;
            }
        }
    }

    fn called(
        &mut self,
        from: Node,
        to: Node,
        call: u64,
        body: &[u8],
    ) -> Option<(Node, Node, Message)> {
        let message = self.carried.remove(&number(body))?;
        let asked = match &message {
            Message::OwnerCall { from, call, .. } => Some((true, from.incarnation, *call)),
            Message::GateCall { from, call, .. } => Some((false, from.incarnation, *call)),
            _ => None,
        };
        if let Some(asked) = asked {
            self.asked.insert((to, asked), call);
        }
        Some((from, to, message))
    }

    fn replied(&mut self, call: u64, body: Option<&[u8]>) -> Option<(Node, Node, Message)> {
        let (node, failure) = self.failures.remove(&call)?;
        let reply = body.and_then(|body| self.carried.remove(&number(body)));
        Some((node, node, reply.unwrap_or(failure)))
    }
}

/// The number of a message, which is all that its body has.
fn number(body: &[u8]) -> u64 {
    u64::from_be_bytes(body.try_into().unwrap())
}
