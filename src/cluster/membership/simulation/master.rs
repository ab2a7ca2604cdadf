//! The simulated master: the real register, queues and table, without their tasks.

use std::{collections::BTreeMap, time::Duration};

use super::{
    event::{Event, MemberCall, Party, Process, address, member},
    fault::Fault,
    network::Network,
    nodes::{HEARTBEAT, Node},
};
use crate::{
    cluster::{
        grpc_channel::CALL_TIMEOUT,
        membership::{
            heartbeat::HeartbeatConfig,
            registration::{Call, Reply},
            registry::{MembershipDelta, Refusal, Registry, Removal},
            table::{Change, MemberTable},
            updates::{Announcement, UpdateQueue},
        },
    },
    member::Member,
};

const MASTER: &str = "master:1";

/// How long the master waits before it repeats an announcement.
const REPEAT_AFTER: Duration = Duration::from_millis(500);

fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig::new(HEARTBEAT)
}

pub(super) struct Master {
    pub(super) process: Process,
    pub(super) registry: Registry,
    pub(super) members: MemberTable,
    /// By the number of the registration, as each has a queue of its own.
    peers: BTreeMap<u64, Peer>,
}

struct Peer {
    address: String,
    queue: UpdateQueue,
    /// The delivery under way.
    sent: Option<u64>,
}

impl Master {
    pub(super) fn start(network: &mut Network) -> Self {
        let process = network.new_id();
        let own = member(MASTER, process);
        let registry = Registry::new(own, heartbeat(), network.now);
        network.restarted(Party::Master);
        network.after(heartbeat().tick_interval(), Event::Tick { process });
        Self {
            process,
            registry,
            members: MemberTable::new(MASTER),
            peers: BTreeMap::new(),
        }
    }

    /// Evicts silent members.
    pub(super) fn tick(&mut self, network: &mut Network, nodes: &[Option<Node>]) {
        let silent = self.registry.tick(network.now);
        network.faults.count(Fault::Eviction, silent.len());
        for removal in &silent {
            self.remove(removal, network, nodes);
        }
        let process = self.process;
        network.after(heartbeat().tick_interval(), Event::Tick { process });
    }

    fn remove(&mut self, removal: &Removal, network: &mut Network, nodes: &[Option<Node>]) {
        let mut delta = MembershipDelta::default();
        self.registry.remove(removal, network.now, &mut delta);
        self.broadcast(&delta, network, nodes);
    }

    /// Handles a member's call. Returns `None` for a call without a reply.
    pub(super) fn on_call(
        &mut self,
        member: Member,
        what: MemberCall,
        network: &mut Network,
        nodes: &[Option<Node>],
    ) -> Option<Result<Reply, Refusal>> {
        let (registry, mut delta) = (&mut self.registry, MembershipDelta::default());
        let reply = match what {
            MemberCall::Call(Call::Register) => registry
                .register(member, network.now, &mut delta)
                .map(Reply::Registered),
            MemberCall::Call(Call::Heartbeat { digest }) => {
                let master = registry.own().incarnation();
                registry
                    .heartbeat(member, digest, network.now, &mut delta)
                    .map(|reply| Reply::Heartbeat { reply, master })
            }
            MemberCall::Unregister => {
                let removal = registry.unregister(member.address(), member.incarnation());
                if let Ok(Some(removal)) = removal {
                    self.remove(&removal, network, nodes);
                }
                return None;
            }
        };
        self.broadcast(&delta, network, nodes);
        Some(reply)
    }

    /// Queues the changes for all members, as the broadcaster does, and starts deliveries.
    fn broadcast(
        &mut self,
        delta: &MembershipDelta,
        network: &mut Network,
        nodes: &[Option<Node>],
    ) {
        let mut former = None;
        for change in &delta.changes {
            match change {
                Change::Joined(member) => {
                    self.members.join(member.clone());
                    self.push_to_all(&Announcement::Join(member.clone()));
                    let peer = Peer {
                        address: member.address().to_owned(),
                        queue: UpdateQueue::inherit(former.take(), delta.view_of(member)),
                        sent: None,
                    };
                    self.peers.insert(network.new_id(), peer);
                }
                Change::Left(member) => {
                    let (address, incarnation) =
                        (member.address().to_owned(), member.incarnation());
                    self.members.leave(&address, incarnation);
                    former = self
                        .peer_at(&address)
                        .and_then(|id| self.peers.remove(&id))
                        .map(|peer| peer.queue);
                    self.push_to_all(&Announcement::Leave {
                        address,
                        incarnation,
                        evicted: delta.evicted,
                    });
                }
            }
        }
        if let Some((address, missed)) = &delta.returned {
            let id = self.peer_at(address).unwrap();
            let peer = self.peers.get_mut(&id).unwrap();
            missed
                .iter()
                .for_each(|missed| assert!(peer.queue.push(missed.clone())));
        }
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.deliver(id, network, nodes);
        }
    }

    fn push_to_all(&mut self, announcement: &Announcement) {
        for peer in self.peers.values_mut() {
            assert!(peer.queue.push(announcement.clone()));
        }
    }

    fn peer_at(&self, address: &str) -> Option<u64> {
        self.peers
            .iter()
            .find(|(_, peer)| peer.address == address)
            .map(|(id, _)| *id)
    }

    /// Sends a member its next announcement, unless one is under way.
    pub(super) fn deliver(&mut self, id: u64, network: &mut Network, nodes: &[Option<Node>]) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.sent.is_none()) else {
            return;
        };
        let Some(announcement) = peer.queue.take() else {
            return;
        };
        let sent = network.new_id();
        peer.sent = Some(sent);
        network.after(CALL_TIMEOUT, Event::DeliveryTimedOut { peer: id, sent });
        let node = (0..nodes.len())
            .find(|node| peer.address == address(*node))
            .unwrap();
        let Some(receiver) = &nodes[node] else {
            return;
        };
        let Some(process) = receiver.listening_process() else {
            return;
        };
        let event = Event::AnnouncementArrived {
            node,
            process,
            peer: id,
            sent,
            announcement,
        };
        if receiver.is_basic() {
            network.send_in_order(node, event);
        } else {
            network.send(node, event);
        }
    }

    /// Takes the outcome of a delivery.
    pub(super) fn on_delivery(
        &mut self,
        id: u64,
        sent: u64,
        arrived: bool,
        network: &mut Network,
        nodes: &[Option<Node>],
    ) {
        let Some(peer) = self
            .peers
            .get_mut(&id)
            .filter(|peer| peer.sent == Some(sent))
        else {
            return;
        };
        peer.sent = None;
        if arrived {
            peer.queue.delivered();
            self.deliver(id, network, nodes);
        } else {
            peer.queue.failed();
            network.after(REPEAT_AFTER, Event::DeliveryDue { peer: id });
        }
    }
}
