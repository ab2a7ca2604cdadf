//! Opens tunnels to the gates that hold the sessions of returning clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::Semaphore;

use super::{
    inboxes::{Inboxes, Incoming},
    outgoing::Outgoing,
    wire::{FIND, Find, Found, OPEN, Open, Opened},
};
use crate::{
    cluster::NodeCaller,
    error::{Error, code},
    member::Member,
    resume::Lost,
};

/// How long the other gate may take to answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a member may take to say whether it holds a session.
const FIND_TIMEOUT: Duration = Duration::from_secs(2);

/// The most searches for the gate of a session at a time.
const MAX_FINDING: usize = 64;

/// The most gates to which a session is followed.
const MAX_MOVES: usize = 4;

/// A return to a session that another gate holds.
#[derive(Clone, Debug)]
pub(in crate::gate) struct Distant {
    /// The address of the gate; `None` if the gate that the token names is no member any more.
    pub(in crate::gate) gate: Option<Arc<str>>,
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
    /// Bounds the searches for a gate: any client can cause one, with an invented token.
    finding: Semaphore,
}

impl TunnelClient {
    pub(in crate::gate) fn new(caller: NodeCaller) -> Self {
        Self {
            caller,
            inboxes: Arc::default(),
            finding: Semaphore::new(MAX_FINDING),
        }
    }
}

impl TunnelClient {
    /// Finds the gate that holds the session, and asks it to go on with this client.
    ///
    /// # Errors
    /// As [`open`](TunnelClient::open), and `None` if not all `members` could be asked.
    pub(in crate::gate) async fn reach(
        &self,
        to: &Distant,
        remote: Option<SocketAddr>,
        members: &[Member],
    ) -> Result<(Tunnel, Arc<str>), Option<Lost>> {
        let mut searched = to.gate.is_none();
        let mut gate = match &to.gate {
            Some(gate) => gate.clone(),
            None => self.find(&to.token, members).await?,
        };
        for _ in 0..MAX_MOVES {
            if *gate == *self.caller.own_address() {
                // It has come meanwhile.
                return Err(None);
            }
            gate = match self.open(&gate, to, remote).await {
                Ok(Ok(tunnel)) => return Ok((tunnel, gate)),
                Ok(Err(moved)) => moved,
                // It may have started again at its address since it gave the session away.
                Err(Some(Lost::Unknown)) if !searched => {
                    searched = true;
                    self.find(&to.token, members).await?
                }
                Err(error) => return Err(error),
            };
        }
        Err(None)
    }

    /// Asks all members which of them holds the session of a token.
    async fn find(&self, token: &str, members: &[Member]) -> Result<Arc<str>, Option<Lost>> {
        let _permit = self.finding.try_acquire().map_err(|_| None)?;
        let request = Find {
            token: token.to_owned(),
        };
        let linked = members.iter().filter(|member| member.info().link);
        let mut calls: FuturesUnordered<_> = linked
            .map(|member| {
                let address = member.address();
                let call = self.caller.call(address, 0, FIND, &request, FIND_TIMEOUT);
                async move { (address, call.await) }
            })
            .collect();
        let mut all = true;
        while let Some((address, found)) = calls.next().await {
            match found {
                Ok(Found { found: true }) => return Ok(address.into()),
                Ok(_) => {}
                Err(error) => all &= is_absent(&error),
            }
        }
        Err(all.then_some(Lost::Unknown))
    }

    /// Asks the gate that holds the session to go on with this client.
    ///
    /// # Errors
    /// Why the session is lost; `None` if the gate does not answer, though it is a member: the client
    /// may try again.
    async fn open(
        &self,
        gate: &str,
        to: &Distant,
        remote: Option<SocketAddr>,
    ) -> Result<Result<Tunnel, Arc<str>>, Option<Lost>> {
        let tunnel = rand::random();
        let incoming = self.inboxes.open(tunnel, gate).ok_or(None)?;
        let open = Open {
            tunnel,
            token: to.token.clone(),
            received: to.received,
            remote: remote.map_or_else(String::new, |remote| remote.to_string()),
        };
        let opened = self.caller.call(gate, tunnel, OPEN, &open, OPEN_TIMEOUT);
        let opened = opened.await;
        let Opened { lost, moved } =
            opened.map_err(|error| is_absent(&error).then_some(Lost::Unknown))?;
        if !lost.is_empty() {
            return Err(Some(Lost::of(&lost)));
        }
        if !moved.is_empty() {
            return Ok(Err(moved.into()));
        }
        let (caller, inboxes) = (self.caller.clone(), self.inboxes.clone());
        let outgoing = Outgoing::open(caller, gate.to_owned(), tunnel, inboxes);
        Ok(Ok(Tunnel { incoming, outgoing }))
    }
}

/// Whether a node holds no sessions: it has left meanwhile, or is of another version.
fn is_absent(error: &Error) -> bool {
    matches!(error.code(), code::NOT_FOUND | code::UNSUPPORTED)
}
