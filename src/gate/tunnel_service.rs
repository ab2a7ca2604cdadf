//! The gate that has a session, towards the gates to which its client has returned.

use std::sync::{Arc, Weak};

use prost::Message as _;
use tokio::sync::oneshot;

use super::{
    opening::Opening,
    resume::registry::{Arrival, NotHere},
    shared::Shared,
    tunnel::{
        inboxes::Inboxes,
        outgoing::Outgoing,
        transport::Tunnelled,
        wire::{Chunk, Find, Found, Open, Opened},
    },
};
use crate::{
    cluster::{NodeCall, NodeCaller, NodeService},
    error::{Error, Result, code},
    member::Member,
};

/// Answers the gates to which clients of this gate's sessions have returned.
pub(super) struct TunnelService {
    gate: Weak<Shared>,
    caller: NodeCaller,
    inboxes: Arc<Inboxes>,
}

impl TunnelService {
    pub(super) fn new(gate: &Arc<Shared>, caller: NodeCaller, inboxes: Arc<Inboxes>) -> Self {
        Self {
            gate: Arc::downgrade(gate),
            caller,
            inboxes,
        }
    }

    fn has(&self, token: &str) -> bool {
        let gate = self.gate.upgrade();
        gate.is_some_and(|gate| gate.resumable.has(token))
    }

    fn open(&self, open: Open, from: &str) -> Result<Opened> {
        let gate = self.gate.upgrade();
        let gate = gate.ok_or_else(|| Error::bad_request("the gate has stopped"))?;
        let session = match gate.resumable.find(&open.token, open.received) {
            Ok(session) => session,
            Err(NotHere::Lost(lost)) => {
                return Ok(Opened {
                    lost: lost.as_str().to_owned(),
                    node: gate.node.member().map_or(0, Member::incarnation),
                    ..Opened::default()
                });
            }
            Err(NotHere::Moved(to)) => {
                return Ok(Opened {
                    moved: to.as_ref().to_owned(),
                    ..Opened::default()
                });
            }
            Err(NotHere::Moving) => {
                return Err(Error::new(
                    code::UNAVAILABLE,
                    "the session is about to move",
                ));
            }
        };
        let incoming = self.inboxes.open(open.tunnel, from);
        let incoming = incoming.ok_or_else(|| Error::bad_request("the id is in use"))?;
        let (caller, inboxes) = (self.caller.clone(), self.inboxes.clone());
        let outgoing = Outgoing::open(caller, from.to_owned(), open.tunnel, inboxes);
        // The other gate counts the connection: its end is of no interest here.
        let (connected, _) = oneshot::channel();
        let arrival = Arrival {
            transport: Box::new(Tunnelled::new(incoming, outgoing)),
            opening: Opening::new(gate.limits.max_packet()),
            remote: open.remote.parse().ok(),
            received: open.received.unwrap_or_default(),
            open: connected,
        };
        gate.resumable.deliver(session, arrival);
        Ok(Opened::default())
    }
}

impl NodeService for TunnelService {
    fn answer(&self, method: &str, call: NodeCall) {
        let malformed = |_| Error::bad_request("malformed");
        match method {
            "Open" => {
                let opened = Open::decode(call.body.clone()).map_err(malformed);
                let opened = opened.and_then(|open| self.open(open, &call.from));
                call.respond(opened.map(|opened| opened.encode_to_vec().into()));
            }
            "Find" => {
                let found = Find::decode(call.body.clone()).map_err(malformed);
                let found = found.map(|find| Found {
                    found: self.has(&find.token),
                });
                call.respond(found.map(|found| found.encode_to_vec().into()));
            }
            "Carry" => match Chunk::decode(call.body.clone()) {
                Ok(chunk) => self.inboxes.deliver(chunk, call),
                Err(error) => call.fail(malformed(error)),
            },
            _ => call.fail(Error::bad_request("no such method")),
        }
    }

    /// Ends the tunnels to a gate that was cut off: otherwise a side that has nothing to send would
    /// learn of it by its next heartbeat.
    fn disconnected(&self, node: &str) {
        self.inboxes.end_all(node);
    }
}
