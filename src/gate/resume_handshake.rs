//! What a client asks for and is granted in `sys.resume`: a session that outlives its connection, or
//! the return to one.

use std::{mem, net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::{
    handle::ConnectionHandle,
    refused::Refused,
    resume::{registry::NotHere, token},
    shared::Shared,
    tunnel::client::Distant,
};
use crate::{
    handshake::Request,
    member::Member,
    packet::{Kind, Packet},
    resume::{Ask, Grant, Lost},
    session::{CloseReason, Session},
};

/// Whether a session can outlive its connection.
#[derive(Default)]
pub(super) enum Resumption {
    /// It ends with it.
    #[default]
    None,
    /// The same, and the connection is one too many unless its client returns to another session.
    Required,
    /// The client may return after a loss.
    Allowed(Uncounted),
    /// The client has closed it for good: a final close.
    Over,
    /// The client has returned to the session of another connection.
    Elsewhere(Box<Return>),
}

/// Data packets of a client that its session has yet to count.
#[derive(Default)]
pub(super) struct Uncounted {
    packets: u64,
    /// The bytes of their bodies.
    bytes: usize,
}

/// A client's return to its session.
pub(super) enum Return {
    /// To one of this gate.
    Here {
        session: i64,
        /// The data packets the client has received.
        received: u64,
    },
    /// To one that another gate holds, if that agrees. With the body of the handshake.
    Distant(Distant, Bytes),
    /// To one that is about to move to another gate. The client may try again.
    Later,
}

/// What a client has asked for in its handshake.
#[derive(Default)]
pub(super) enum Offer {
    /// Nothing.
    #[default]
    None,
    /// A session that it may return to, with the reason if an earlier one is lost.
    Grant(Option<Lost>),
    /// The session of another connection; this one's is not needed.
    Return,
}

impl Resumption {
    /// Whether the client may return.
    pub(super) fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Sees the packets of a client that may return: counts, acknowledgements, a final close. Data
    /// packets are counted with the next [`count`](Resumption::count).
    ///
    /// # Errors
    /// Why the session ends.
    pub(super) fn receive(
        &mut self,
        packet: &Packet,
        handle: &ConnectionHandle,
    ) -> Result<(), CloseReason> {
        let Self::Allowed(uncounted) = self else {
            return Ok(());
        };
        if packet.kind == Kind::Data {
            uncounted.packets += 1;
            uncounted.bytes += packet.body.len();
            return Ok(());
        }
        self.count(handle);
        match packet.kind {
            Kind::Heartbeat => {
                if let Some(Err(error)) = handle.replay(|replay| replay.on_heartbeat(&packet.body))
                {
                    return Err(CloseReason::Protocol(error.to_string()));
                }
            }
            Kind::Kick if packet.body.is_empty() => {
                *self = Self::Over;
                return Err(CloseReason::Client);
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts the data packets that have come since the last time: with each read, so that a batch takes
    /// one lock.
    pub(super) fn count(&mut self, handle: &ConnectionHandle) {
        if let Self::Allowed(uncounted) = self
            && uncounted.packets > 0
        {
            let Uncounted { packets, bytes } = mem::take(uncounted);
            handle.replay(|replay| replay.receive(packets, bytes));
        }
    }

    /// Whether a connection that ends for this reason leaves a session behind, or belongs to a
    /// client that has returned to another one.
    pub(super) fn survives(&self, reason: &CloseReason) -> bool {
        match self {
            Self::None | Self::Required | Self::Over => false,
            Self::Allowed(_) => matches!(
                reason,
                CloseReason::Client
                    | CloseReason::Broken(_)
                    | CloseReason::HeartbeatTimeout
                    // The reply is lost, or the acknowledgement.
                    | CloseReason::HandshakeTimeout
            ),
            Self::Elsewhere(_) => true,
        }
    }

    /// Checks that the connection is not one too many.
    ///
    /// # Errors
    /// It is, and the client has not returned.
    pub(super) fn check_required(
        &self,
        gate: &Shared,
        remote: Option<SocketAddr>,
    ) -> Result<(), CloseReason> {
        if !matches!(self, Self::Required) {
            return Ok(());
        }
        gate.refused(Refused::Limit, remote, "its client has not returned");
        Err(CloseReason::HandshakeRefused(
            "too many connections".to_owned(),
        ))
    }

    /// Takes where the client has returned to, once it has.
    pub(super) fn take_return(&mut self) -> Option<Return> {
        match mem::take(self) {
            Self::Elsewhere(to) => Some(*to),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Reads what the client asks for. Only the first handshake of a connection can ask for a
    /// session; a later one renews the token of a client that may return.
    pub(super) fn read(
        &mut self,
        request: &Request,
        handle: &ConnectionHandle,
        gate: &Shared,
        body: &Bytes,
    ) -> Offer {
        let window = gate.config.resume_window;
        let Some(ask) = window.and_then(|_| request.resume()) else {
            return Offer::None;
        };
        if self.is_allowed() {
            return Offer::Grant(None);
        }
        let known = handle.greeted();
        if known.answered || known.acknowledged {
            return Offer::None;
        }
        let Ask::Return { token, received } = ask else {
            return Offer::Grant(None);
        };
        let holder = match gate.resumable.find(&token, received) {
            Ok(session) => {
                let received = received.unwrap_or_default();
                return self.is_elsewhere(Return::Here { session, received });
            }
            Err(NotHere::Moving) => return self.is_elsewhere(Return::Later),
            Err(NotHere::Moved(to)) => Some(to),
            Err(NotHere::Lost(lost)) => match holder(&token, gate) {
                Some(holder) if lost == Lost::Unknown => holder,
                _ => {
                    gate.metrics.session_lost(lost.as_str());
                    return Offer::Grant(Some(lost));
                }
            },
        };
        let distant = Distant {
            gate: holder,
            token,
            received,
        };
        self.is_elsewhere(Return::Distant(distant, body.clone()))
    }

    fn is_elsewhere(&mut self, to: Return) -> Offer {
        *self = Self::Elsewhere(Box::new(to));
        Offer::Return
    }

    /// Grants a client that it may return, if it was offered that. `None` also if there are too many
    /// such sessions.
    pub(super) fn grant(
        &mut self,
        offer: Offer,
        session: &Session,
        handle: &Arc<ConnectionHandle>,
        gate: &Shared,
    ) -> Option<Grant> {
        let Offer::Grant(lost) = offer else {
            return None;
        };
        let window = gate.config.resume_window?;
        let node = gate.node.member().map_or(0, Member::incarnation);
        let token = if self.is_allowed() {
            gate.resumable.renew(session.id(), node)?
        } else {
            let most = gate.limits.max_connections().saturating_mul(2);
            let token = gate
                .resumable
                .add(session.id(), handle.clone(), (most, node))?;
            handle.allow_return();
            *self = Self::Allowed(Uncounted::default());
            token
        };
        let received = handle.replay(|replay| replay.received())?;
        Some(
            Grant::new(token, window)
                .with_received(received)
                .with_lost(lost),
        )
    }
}

/// The address of the other gate that a token names, if that is a member; `None` if the token names
/// this node.
fn holder(token: &str, gate: &Shared) -> Option<Option<Arc<str>>> {
    let incarnation = token::node(token)?;
    gate.tunnels.as_ref()?;
    let own = gate.node.member().map(Member::incarnation);
    if own == Some(incarnation) {
        return None;
    }
    let members = gate.node.members();
    let holder = members
        .iter()
        .find(|member| member.incarnation() == incarnation);
    Some(holder.map(|member| member.address().into()))
}
