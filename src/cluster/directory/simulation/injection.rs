//! Crashes, suspensions, partitions, and nodes that leave in order.

use std::time::Duration;

use rand::RngExt;

use super::{
    network::{Event, Node},
    world::World,
};
use crate::cluster::membership::registry::MembershipDelta;

/// How many kinds of faults there are.
pub(super) const KINDS: usize = 6;

impl World {
    pub(super) fn inject_fault(&mut self) {
        if self.network.now >= self.network.faults_end {
            for node in 0..self.nodes.len() {
                if self.nodes[node].is_none() {
                    self.start(node);
                }
            }
            let now = self.network.now;
            for (a, b) in std::mem::take(&mut self.network.cut).into_keys() {
                self.network
                    .change_links(|links| links.mesh.cut_off(a, b, now));
            }
            return;
        }
        let next = self.network.millis(self.shape.fault_pause.clone());
        self.network.after(next, Event::Fault);
        let count = self.nodes.len();
        let (node, other) = (
            self.network.random.random_range(0..count),
            self.network.random.random_range(0..count),
        );
        let until = self.network.now + self.network.millis(self.shape.fault_length.clone());
        let until = until.min(self.network.faults_end);
        let kinds = &self.shape.kinds;
        let fault = kinds[self.network.random.random_range(0..kinds.len())];
        self.network.log(&(fault, node, other));
        if self.nodes[node].is_none() {
            return self.start(node);
        }
        self.faults[fault] += 1;
        match fault {
            0 => {
                self.stop(node);
                // At once: what was sent to its former run arrives.
                if self.network.random.random_ratio(1, 2) {
                    self.start(node);
                }
            }
            1 => {
                // Never shorter than before: what waits for it keeps its order.
                let known = self.network.suspended.entry(node).or_insert(until);
                *known = until.max(*known);
                self.network
                    .change_links(|links| links.mesh.suspend(node, until));
                self.network.resumed = self.network.resumed.max(until);
            }
            2 if node != other => {
                self.network.cut_off(node, other, until);
            }
            3 => {
                for other in (0..count).filter(|other| *other != node) {
                    self.network.cut_off(node, other, until);
                }
            }
            4 => {
                // Two sides, and the master is on one of them.
                for (a, b) in (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))) {
                    if (a + node) % 2 != (b + node) % 2 {
                        self.network.cut_off(a, b, until);
                    }
                }
            }
            5 if node != 0 => self.leave(node),
            _ => {}
        }
    }

    /// A node leaves in order, and comes back.
    fn leave(&mut self, node: Node) {
        let now = self.network.now;
        let Some(running) = self.nodes[node].as_mut().filter(|it| !it.leaving) else {
            return;
        };
        let (process, id) = (running.process(), running.id.clone());
        running.leaving = true;
        running.gate.leave(&id);
        let sessions: Vec<_> = running
            .gate
            .all()
            .into_iter()
            .map(|held| held.session)
            .collect();
        self.oracle.gone(process);
        self.flush(node);
        let cut = self
            .network
            .cut
            .get(&(0, node))
            .is_some_and(|until| *until > now);
        if let Some(registry) = self.nodes[0]
            .as_mut()
            .and_then(|master| master.registry.as_mut())
            && !cut
            && let Ok(Some(removal)) = registry.unregister(&id.address, id.incarnation)
        {
            registry.remove(&removal, now, &mut MembershipDelta::default());
            if let Some(master) = &mut self.nodes[0] {
                self.changed |= master.follow_registry(now);
            }
            self.flush(0);
        }
        for session in sessions {
            self.close(node, session);
        }
        self.network
            .after(Duration::from_secs(3), Event::Exit { node, process });
    }
}
