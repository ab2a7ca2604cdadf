//! Opens tunnels to the gates that hold the sessions of returning clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    inboxes::{Inboxes, Incoming},
    outgoing::Outgoing,
    wire::{OPEN, Open, Opened},
};
use crate::{cluster::NodeCaller, error::code, resume::Lost};

/// How long the other gate may take to answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A return to a session that another gate holds.
#[derive(Clone, Debug)]
pub(in crate::gate) struct Distant {
    /// The address of the gate.
    pub(in crate::gate) gate: String,
    pub(in crate::gate) token: String,
    /// The data packets the client has received, if it says so.
    pub(in crate::gate) received: Option<u64>,
}

/// Both directions of a tunnel, at the gate that the client is connected to.
pub(in crate::gate) struct Tunnel {
    pub(in crate::gate) incoming: Incoming,
    pub(in crate::gate) outgoing: Outgoing,
}

/// Opens tunnels.
pub(in crate::gate) struct TunnelClient {
    pub(in crate::gate) caller: NodeCaller,
    pub(in crate::gate) inboxes: Arc<Inboxes>,
}

impl TunnelClient {
    /// Asks the gate that holds the session to go on with this client.
    ///
    /// # Errors
    /// Why the session is lost; `None` if the gate does not answer, though it is a member: the client
    /// may try again.
    pub(in crate::gate) async fn open(
        &self,
        to: &Distant,
        remote: Option<SocketAddr>,
    ) -> Result<Tunnel, Option<Lost>> {
        let tunnel = rand::random();
        let incoming = self.inboxes.open(tunnel, &to.gate).ok_or(None)?;
        let open = Open {
            tunnel,
            token: to.token.clone(),
            received: to.received,
            remote: remote.map_or_else(String::new, |remote| remote.to_string()),
        };
        let opened = self
            .caller
            .call(&to.gate, tunnel, OPEN, &open, OPEN_TIMEOUT);
        let Opened { lost } = opened.await.map_err(|error| match error.code() {
            // It has left meanwhile, or is of another version.
            code::NOT_FOUND | code::UNSUPPORTED => Some(Lost::Unknown),
            _ => None,
        })?;
        if !lost.is_empty() {
            return Err(Some(Lost::of(&lost)));
        }
        let outgoing = Outgoing::open(self.caller.clone(), to.gate.clone(), tunnel);
        Ok(Tunnel { incoming, outgoing })
    }
}
