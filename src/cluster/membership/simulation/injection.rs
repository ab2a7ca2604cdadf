//! Faults, drawn at random until the time for them is over.

use std::time::Duration;

use rand::RngExt;

use super::{
    event::{Event, MemberCall, Party},
    fault::Fault,
    world::World,
};

impl World {
    /// Injects a fault and schedules the next.
    pub(super) fn inject_fault(&mut self) {
        if self.network.now >= self.network.faults_end {
            // From now on nothing fails, and there is a master.
            if self.master.is_none() {
                self.start_master();
            }
            return;
        }
        let node = self.network.random.random_range(0..self.nodes.len());
        let duration = Duration::from_millis(self.network.random.random_range(100..30_000))
            .min(self.network.faults_end - self.network.now);
        match self.network.random.random_range(0..12) {
            0 | 1 if self.nodes[node].is_some() => {
                self.network.faults.count(Fault::Crash, 1);
                self.nodes[node] = None;
            }
            2 if self.nodes[node].is_some() => self.leave(node),
            0..=5 if self.nodes[node].is_none() => self.start_node(node),
            6 | 7 => self.network.suspend(Party::Node(node), duration),
            8 | 9 => self.network.partition(node, duration),
            10 if self.network.random.random_ratio(1, 3) => {
                self.network.suspend(Party::Master, duration);
            }
            11 if self.master.is_some() => self.master = None,
            11 => {
                self.network.faults.count(Fault::MasterRestart, 1);
                self.start_master();
            }
            _ => {}
        }
        let pause = self.network.random.random_range(100..4000);
        self.network
            .after(Duration::from_millis(pause), Event::Fault);
    }

    /// A member unregisters and ends.
    fn leave(&mut self, node: usize) {
        self.network.faults.count(Fault::Leave, 1);
        if let Some(gone) = self.nodes[node].take() {
            let arrived = Event::CallArrived {
                from: node,
                process: gone.process(),
                call: 0,
                member: gone.member().clone(),
                what: MemberCall::Unregister,
            };
            self.network.send(node, arrived);
        }
    }
}
