//! What gates send to clients, as `ConnectionHandle` does it.

use super::{gates::data, oracle::Accepted, world::World};
use crate::{
    error::{Error, Result},
    gate::{client_state::ClientState, live_limits::LiveLimits},
};

impl World {
    pub(super) fn push(&mut self, gate: usize, id: i64, body: &[u8]) {
        let number = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
        let (instance, number) = (number(0), number(8));
        let holds = self.oracle.pushed(id, instance as usize, number);
        self.expect(holds);
        let packet = data(0, &[instance, number]);
        let accepted = Accepted::Push {
            instance: instance as usize,
            number,
        };
        let queued = self.queue(gate, id, |client, limits| {
            client.admit(packet.len(), true, limits)?;
            client.messages().packet(&packet);
            Ok(())
        });
        if queued.is_ok() {
            self.oracle.accepted(id, accepted);
        } else if self.oracle.quiet && !self.oracle.may_end(id) {
            self.expect(Err(format!(
                "session {id}: gate {gate} refuses {accepted:?}"
            )));
        }
    }

    pub(super) fn respond(&mut self, gate: usize, id: i64, request: u64) {
        let packet = data(1, &[request]);
        let queued = self.queue(gate, id, |client, limits| {
            client.check_output()?;
            if client.in_flight.take(request).is_none() {
                return Err(Error::bad_request("not in flight"));
            }
            client.admit(packet.len(), false, limits)?;
            client.messages().packet(&packet);
            Ok(())
        });
        if queued.is_ok() {
            let entry = &self.gates[gate].sessions[&id];
            if entry.adopted {
                self.oracle.count("answered after a move");
            }
            self.oracle.accepted(id, Accepted::Response(request));
        }
    }

    fn queue(
        &mut self,
        gate: usize,
        id: i64,
        queue: impl FnOnce(&mut ClientState, &LiveLimits) -> Result,
    ) -> Result {
        let entry = self.gates[gate].sessions.get(&id);
        let entry = entry.ok_or_else(|| Error::bad_request("no such session"))?;
        let result = queue(&mut entry.handle.0.lock(), &self.limits);
        self.flush_later(gate, id);
        result
    }
}
