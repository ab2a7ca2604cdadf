//! What a client is sent when its connection ends: the kick packet, and the code and text of the
//! close frame. Pure.

use std::{fmt::Display, io};

use crate::{
    error::code,
    kick::{Kick, Reconnect},
    session::CloseReason,
};

// Close codes of WebSocket connections; see RFC 6455, section 7.4. Those from 4000 on are kicks.

pub(super) const NORMAL: u16 = 1000;
pub(super) const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const POLICY_VIOLATION: u16 = 1008;
const TOO_BIG: u16 = 1009;
/// Kicked, without advice whether to connect again.
const KICKED: u16 = 4000;
const RECONNECT_HERE: u16 = 4001;
const RECONNECT_ELSEWHERE: u16 = 4002;
const RECONNECT_NEVER: u16 = 4003;

/// What a client has shown of itself when its connection ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greeted {
    /// Whether a handshake of it was answered.
    pub(super) answered: bool,
    /// Whether it has acknowledged a handshake.
    pub(super) acknowledged: bool,
    /// Whether it knows more of the protocol than nano has.
    pub(super) extended: bool,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) reason: CloseReason,
    /// Whether the client sent more than it may at once. Its reason is `Protocol`.
    too_large: bool,
}

impl From<CloseReason> for Ending {
    fn from(reason: CloseReason) -> Self {
        Self {
            reason,
            too_large: false,
        }
    }
}

impl Ending {
    /// The end of a client that sent a packet over the limit.
    pub(super) fn too_large(detail: String) -> Self {
        Self {
            reason: CloseReason::Protocol(detail),
            too_large: true,
        }
    }

    /// The end of a client that broke the protocol.
    pub(super) fn protocol(error: &impl Display) -> Self {
        CloseReason::Protocol(error.to_string()).into()
    }

    /// The end of a connection whose transport failed.
    pub(super) fn of_io(error: &io::Error) -> Self {
        let reason = match error.kind() {
            // Clients end without a close handshake too.
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => CloseReason::Client,
            io::ErrorKind::InvalidData => CloseReason::Protocol(error.to_string()),
            _ => CloseReason::Broken(error.to_string()),
        };
        reason.into()
    }

    /// Returns the kick that tells the client why; `None` if it learns nothing, as from Go nano.
    pub(super) fn kick(&self, client: Greeted) -> Option<Kick> {
        let here =
            |code, reason: &str| Some(Kick::new(code, reason).with_reconnect(Reconnect::Here));
        match &self.reason {
            CloseReason::Kicked(reason) => Some(Kick::because(reason)),
            CloseReason::KickedWith(kick) => Some(kick.clone()),
            CloseReason::RateLimit => here(code::TOO_MANY, "rate limit exceeded"),
            CloseReason::Shutdown => Some(
                Kick::new(code::UNAVAILABLE, "server is shutting down")
                    .with_reconnect(Reconnect::Elsewhere),
            ),
            // A client that has sent no handshake may speak another protocol.
            CloseReason::HandshakeTimeout if client.answered => {
                here(code::TIMEOUT, "handshake timeout")
            }
            // To connect again would end in the same way.
            CloseReason::LoginTimeout => Some(
                Kick::new(code::UNAUTHENTICATED, "login timeout").with_reconnect(Reconnect::Never),
            ),
            // Clients of nano know the silent end.
            CloseReason::HeartbeatTimeout if client.extended => {
                here(code::TIMEOUT, "heartbeat timeout")
            }
            CloseReason::Protocol(detail) if self.too_large => here(code::TOO_LARGE, detail),
            _ => None,
        }
    }

    /// Returns the text of the close frame: that of the kick, or what was wrong.
    pub(super) fn text(&self, client: Greeted) -> String {
        match (self.kick(client), &self.reason) {
            (Some(kick), _) => kick.reason,
            (None, CloseReason::Protocol(detail) | CloseReason::HandshakeRefused(detail)) => {
                detail.clone()
            }
            (None, _) => String::new(),
        }
    }

    /// Returns the code of the close frame that ends a WebSocket; `None` if none is sent, as by Go
    /// nano.
    pub(super) fn close_code(&self, client: Greeted) -> Option<u16> {
        match &self.reason {
            CloseReason::Kicked(_) => Some(KICKED),
            CloseReason::KickedWith(kick) => Some(match kick.reconnect {
                Some(Reconnect::Here) => RECONNECT_HERE,
                Some(Reconnect::Elsewhere) => RECONNECT_ELSEWHERE,
                Some(Reconnect::Never) => RECONNECT_NEVER,
                _ => KICKED,
            }),
            CloseReason::Shutdown => Some(GOING_AWAY),
            CloseReason::RateLimit
            | CloseReason::HandshakeTimeout
            | CloseReason::LoginTimeout
            | CloseReason::Denied
            | CloseReason::HandshakeRefused(_) => Some(POLICY_VIOLATION),
            CloseReason::HeartbeatTimeout if client.extended => Some(POLICY_VIOLATION),
            CloseReason::Protocol(_) if self.too_large => Some(TOO_BIG),
            CloseReason::Protocol(_) if client.acknowledged => Some(PROTOCOL_ERROR),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Greeted = Greeted {
        answered: false,
        acknowledged: false,
        extended: false,
    };
    const PLAYER: Greeted = Greeted {
        answered: true,
        acknowledged: true,
        extended: false,
    };

    fn code(reason: CloseReason, client: Greeted) -> Option<u16> {
        Ending::from(reason).close_code(client)
    }

    #[test]
    fn every_reason_has_its_close_code() {
        let kicked = |reconnect: Option<Reconnect>| {
            let kick = Kick::new("X", "x");
            let kick = reconnect.map_or(kick.clone(), |to| kick.with_reconnect(to));
            code(CloseReason::KickedWith(kick), PLAYER)
        };
        assert_eq!(kicked(None), Some(4000));
        assert_eq!(kicked(Some(Reconnect::Here)), Some(4001));
        assert_eq!(kicked(Some(Reconnect::Elsewhere)), Some(4002));
        assert_eq!(kicked(Some(Reconnect::Never)), Some(4003));
        assert_eq!(code(CloseReason::Kicked("x".into()), PLAYER), Some(4000));
        assert_eq!(code(CloseReason::Shutdown, SILENT), Some(1001));
        assert_eq!(code(CloseReason::RateLimit, PLAYER), Some(1008));
        assert_eq!(code(CloseReason::HandshakeTimeout, SILENT), Some(1008));
        assert_eq!(code(CloseReason::Protocol("x".into()), PLAYER), Some(1002));
        let too_large = Ending::too_large("x".into());
        assert_eq!(too_large.close_code(SILENT), Some(1009));
        // As Go nano: its recordings have none.
        assert_eq!(code(CloseReason::Protocol("x".into()), SILENT), None);
        assert_eq!(code(CloseReason::Closed("x".into()), PLAYER), None);
        assert_eq!(code(CloseReason::HeartbeatTimeout, PLAYER), None);
    }

    #[test]
    fn only_clients_that_know_more_than_nano_learn_of_a_heartbeat_timeout() {
        let ending = Ending::from(CloseReason::HeartbeatTimeout);
        assert_eq!(ending.kick(PLAYER), None);
        let known = Greeted {
            extended: true,
            ..PLAYER
        };
        assert_eq!(ending.kick(known).unwrap().reason, "heartbeat timeout");
        assert_eq!(ending.close_code(known), Some(1008));
    }

    #[test]
    fn clients_that_began_a_handshake_learn_of_its_timeout() {
        let ending = Ending::from(CloseReason::HandshakeTimeout);
        assert_eq!(ending.kick(SILENT), None);
        assert_eq!(ending.kick(PLAYER).unwrap().code, "NANO-408");
    }
}
