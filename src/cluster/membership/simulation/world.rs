//! A master and its members on one network.

use std::time::Duration;

use rand::RngExt;

use super::{
    event::{Event, MemberCall, Party, Process, address, member},
    fault::Fault,
    master::Master,
    network::Network,
    nodes::{Basic, Node, RETRY, Rust},
};
use crate::{
    cluster::{
        grpc_channel::CALL_TIMEOUT,
        membership::{registration::Reply, registry::Refusal, updates::Announcement},
    },
    member::Member,
};

pub(super) struct World {
    pub(super) network: Network,
    pub(super) master: Option<Master>,
    /// `None` for a node that is down.
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) master_restarted: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut network = Network::new(seed);
        let nodes = network.random.random_range(2..8);
        let mut world = Self {
            master: Some(Master::start(&mut network)),
            network,
            nodes: (0..nodes).map(|_| None).collect(),
            master_restarted: false,
        };
        (0..nodes).for_each(|node| world.start_node(node));
        world.network.after(Duration::from_secs(1), Event::Fault);
        world
    }

    pub(super) fn run(&mut self) {
        while let Some(event) = self.network.next() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault => self.inject_fault(),
            Event::CallDue { node, process } => self.call(node, process),
            Event::CallArrived {
                from,
                process,
                call,
                member,
                what,
            } => self.on_call(from, process, call, member, what),
            Event::ReplyArrived {
                node,
                process,
                call,
                reply,
            } => self.on_reply(node, process, call, Some(reply)),
            Event::CallTimedOut {
                node,
                process,
                call,
            } => self.on_reply(node, process, call, None),
            Event::AnnouncementArrived {
                node,
                process,
                peer,
                sent,
                announcement,
            } => {
                let delivered = Event::Delivered { peer, sent };
                self.on_announcement(node, process, &announcement, delivered);
            }
            event => self.handle_at_master(event),
        }
    }

    fn handle_at_master(&mut self, event: Event) {
        let Some(master) = &mut self.master else {
            return;
        };
        let (network, nodes) = (&mut self.network, &self.nodes);
        match event {
            Event::Tick { process } if process == master.process => master.tick(network, nodes),
            Event::DeliveryDue { peer } => master.deliver(peer, network, nodes),
            Event::Delivered { peer, sent } => {
                master.on_delivery(peer, sent, true, network, nodes);
            }
            Event::DeliveryTimedOut { peer, sent } => {
                master.on_delivery(peer, sent, false, network, nodes);
            }
            _ => {}
        }
    }

    pub(super) fn start_master(&mut self) {
        self.master = Some(Master::start(&mut self.network));
        self.master_restarted = true;
    }

    pub(super) fn start_node(&mut self, node: usize) {
        let process = self.network.new_id();
        self.network.restarted(Party::Node(node));
        let address = address(node);
        self.nodes[node] = Some(match self.network.random.random_ratio(1, 3) {
            true => Node::Basic(Basic::new(member(&address, 0), process)),
            false => Node::Rust(Rust::new(
                member(&address, process),
                process,
                self.network.now,
            )),
        });
        let due = Event::CallDue { node, process };
        self.network.after(Duration::ZERO, due);
    }

    /// A member calls the master.
    fn call(&mut self, node: usize, process: Process) {
        let Some(caller) = self.nodes[node]
            .as_mut()
            .filter(|node| node.process() == process)
        else {
            return;
        };
        let (what, member) = (caller.begin_call(), caller.member().clone());
        let call = self.network.new_id();
        caller.expect(call);
        let timed_out = Event::CallTimedOut {
            node,
            process,
            call,
        };
        self.network.after(CALL_TIMEOUT, timed_out);
        let arrived = Event::CallArrived {
            from: node,
            process,
            call,
            member,
            what: MemberCall::Call(what),
        };
        self.network.send(node, arrived);
    }

    /// A member's call has reached the master.
    fn on_call(
        &mut self,
        node: usize,
        process: Process,
        call: u64,
        member: Member,
        what: MemberCall,
    ) {
        // A call of a process that is gone may still arrive. Its incarnation gives it away, but a
        // basic member has none, so calls of its former processes are left out.
        if matches!(&self.nodes[node], Some(Node::Basic(_)))
            && self.nodes[node].as_ref().map(Node::process) != Some(process)
        {
            return;
        }
        // Without a master the caller waits until its timeout.
        let Some(master) = &mut self.master else {
            return;
        };
        if let Some(reply) = master.on_call(member, what, &mut self.network, &self.nodes) {
            let arrived = Event::ReplyArrived {
                node,
                process,
                call,
                reply,
            };
            self.network.send(node, arrived);
        }
    }

    /// A reply has reached the member, or `None` after its timeout.
    fn on_reply(
        &mut self,
        node: usize,
        process: Process,
        call: u64,
        reply: Option<Result<Reply, Refusal>>,
    ) {
        let Some(caller) = self.nodes[node]
            .as_mut()
            .filter(|node| node.process() == process && node.expects(call))
        else {
            return;
        };
        if reply.is_none() {
            self.network.faults.count(Fault::Timeout, 1);
        }
        caller.expect(0);
        if let (Node::Basic(basic), None | Some(Err(_))) = (&mut *caller, &reply)
            && !basic.joined
        {
            // A basic member would try again with the table it has by then, and append members a
            // second time that were announced meanwhile. The simulation restarts it instead.
            let process = self.network.new_id();
            *basic = Basic::new(basic.own.clone(), process);
            let due = Event::CallDue { node, process };
            return self.network.after(RETRY, due);
        }
        let due = caller.on_reply(reply, self.network.now);
        self.network.at(due, Event::CallDue { node, process });
    }

    /// An announcement has reached the member, which acknowledges it.
    fn on_announcement(
        &mut self,
        node: usize,
        process: Process,
        announcement: &Announcement,
        delivered: Event,
    ) {
        let Some(member) = self.nodes[node]
            .as_mut()
            .filter(|node| node.process() == process)
        else {
            return;
        };
        member.on_announcement(announcement);
        self.network.send(node, delivered);
    }
}
