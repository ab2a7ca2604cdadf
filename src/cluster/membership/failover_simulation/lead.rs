//! What the tasks of a master do when another master leads.

use super::{
    defects::Defect,
    event::Node,
    process::{Client, heartbeat},
    world::World,
};
use crate::cluster::{
    grpc_channel::CALL_TIMEOUT,
    membership::{election::message::MasterId, registry::Registry, updates::Announcement},
};

impl World {
    /// Leads, or follows the master that does.
    pub(super) fn follow_leader(&mut self, node: Node) {
        let (now, masters, defect) = (self.now, self.masters, self.defect);
        let process = self.process(node);
        let local = process.clock.local(now);
        let leads = process.leads(now);
        let Some(master) = &mut process.master else {
            return;
        };
        if let Some(term) = leads {
            let is_new = master.registry.as_ref().is_none_or(|it| it.term() != term);
            if is_new {
                let grace = masters as u32 / 2 * CALL_TIMEOUT;
                let own = process.own.clone();
                let table = match defect {
                    Some(Defect::ForgetsTable) => Vec::new(),
                    _ => process.table.list(),
                };
                process.table.accepts(term);
                let registry = Registry::take_over(own, heartbeat(), term, table, grace, local);
                master.registry = Some(registry);
                master.follows = None;
                process.client = None;
                let lead = Announcement::Lead(process.own.clone());
                if defect != Some(Defect::LeadsInSilence) {
                    self.announce(node, term, &lead);
                }
            }
            self.oracle.leads(term);
            return;
        }
        master.registry = None;
        let leader = master.election.leader(local).cloned();
        if leader != master.follows {
            let client = |it: &MasterId| Client::new(vec![it.address.clone()], local);
            process.client = leader.as_ref().map(client);
            master.follows = leader;
        }
    }
}
