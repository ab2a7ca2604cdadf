//! Opens tunnels to the gates that hold the sessions of returning clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    inboxes::{Inboxes, Incoming},
    outgoing::Outgoing,
    searches::Searches,
    wire::{FIND, Find, Found, OPEN, Open, Opened},
};
use crate::{
    cluster::NodeCaller,
    error::{Error, code},
    gate::resume::token,
    member::Member,
    resume::Lost,
};

/// How long the other gate may take to answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a member may take to say whether it holds a session.
const FIND_TIMEOUT: Duration = Duration::from_secs(2);

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
    searches: Searches,
}

/// What a gate says that was asked for a session.
enum Answer {
    Opened(Tunnel),
    /// The gate at this address has the session.
    Moved(Arc<str>),
    /// It does not know the session. With its incarnation, 0 if it has not said.
    Unknown(u64),
}

impl TunnelClient {
    pub(in crate::gate) fn new(caller: NodeCaller) -> Self {
        Self {
            caller,
            inboxes: Arc::default(),
            searches: Searches::new(Instant::now()),
        }
    }
}

impl TunnelClient {
    /// Finds the gate that holds the session, and asks it to go on with this client.
    ///
    /// All gates are asked once at most, and only if the run of a gate that the token names cannot be:
    /// that run knows where its sessions are.
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
            gate = match self.open(&gate, to, remote).await? {
                Answer::Opened(tunnel) => return Ok((tunnel, gate)),
                Answer::Moved(to) => to,
                Answer::Unknown(node) if searched || token::node(&to.token) == Some(node) => {
                    return Err(Some(Lost::Unknown));
                }
                // It may have started again at its address since it gave the session away.
                Answer::Unknown(_) => {
                    searched = true;
                    self.find(&to.token, members).await?
                }
            };
        }
        Err(None)
    }

    /// Asks all gates which of them holds the session of a token.
    async fn find(&self, token: &str, members: &[Member]) -> Result<Arc<str>, Option<Lost>> {
        let gates = members.iter();
        let gates = gates.filter(|member| member.info().link && member.may_be_gate());
        let _permit = self
            .searches
            .begin(gates.clone().count(), Instant::now())
            .ok_or(None)?;
        let request = Find {
            token: token.to_owned(),
        };
        let mut calls: FuturesUnordered<_> = gates
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

    /// Asks the gate that holds the session to go on with this client. A gate that has left does not know
    /// the session.
    ///
    /// # Errors
    /// Why the session is lost; `None` if the gate does not answer, though it is a member: the client
    /// may try again.
    async fn open(
        &self,
        gate: &str,
        to: &Distant,
        remote: Option<SocketAddr>,
    ) -> Result<Answer, Option<Lost>> {
        let tunnel = rand::random();
        let incoming = self.inboxes.open(tunnel, gate).ok_or(None)?;
        let open = Open {
            tunnel,
            token: to.token.clone(),
            received: to.received,
            remote: remote.map_or_else(String::new, |remote| remote.to_string()),
        };
        let opened = self.caller.call(gate, tunnel, OPEN, &open, OPEN_TIMEOUT);
        let Opened { lost, moved, node } = match opened.await {
            Ok(opened) => opened,
            // It has left, or leaves: a session that it was given may have moved on.
            Err(error) if is_absent(&error) || !self.caller.is_member(gate) => {
                return Ok(Answer::Unknown(0));
            }
            Err(_) => return Err(None),
        };
        if !lost.is_empty() {
            return match Lost::of(&lost) {
                Lost::Unknown => Ok(Answer::Unknown(node)),
                lost => Err(Some(lost)),
            };
        }
        if !moved.is_empty() {
            return Ok(Answer::Moved(moved.into()));
        }
        let (caller, inboxes) = (self.caller.clone(), self.inboxes.clone());
        let outgoing = Outgoing::open(caller, gate.to_owned(), tunnel, inboxes);
        Ok(Answer::Opened(Tunnel { incoming, outgoing }))
    }
}

/// Whether a node holds no sessions: it has left meanwhile, or is of another version.
fn is_absent(error: &Error) -> bool {
    matches!(error.code(), code::NOT_FOUND | code::UNSUPPORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_member_without_tunnels_at_the_address_of_a_gate_does_not_know_its_sessions() {
        // It has taken the address of a gate to which a session had moved.
        let services = Arc::default();
        let caller = NodeCaller::standalone("a:1", &services);
        assert!(caller.is_member("a:1"));
        let to = Distant {
            gate: None,
            token: "token".to_owned(),
            received: None,
        };
        let opened = TunnelClient::new(caller).open("a:1", &to, None).await;
        assert!(matches!(opened, Ok(Answer::Unknown(0))));
    }
}
