//! What happens, and what travels between clients and gates.

use std::fmt;

use bytes::Bytes;

use super::returns::Return;
use crate::session::Session;

/// The token of a client. Random, so no part of a trace.
#[derive(Clone)]
pub(super) struct Token(pub(super) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('-').next().unwrap_or_default())
    }
}

/// Whole packets, with a token perhaps.
pub(super) struct Packets(pub(super) Bytes);

impl fmt::Debug for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A session at one gate, in one incarnation of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) gate: usize,
    pub(super) incarnation: u64,
    pub(super) id: i64,
}

#[derive(Debug)]
pub(super) enum Event {
    /// Something at random.
    Act,
    /// Deadlines and sessions that may move.
    Tick,
    Up {
        conn: u64,
        packet: Up,
    },
    Down {
        conn: u64,
        packet: Down,
    },
    /// One end of a connection notices that it is lost.
    ClientLost(u64),
    GateLost(u64),
    /// A client opens a connection.
    Return {
        client: usize,
    },
    /// A client has waited for the reply to its handshake.
    ReplyDue(u64),
    /// A gate is asked for the session of a client that has returned.
    Find {
        gate: usize,
        back: Return,
    },
    Flush(At),
    /// A departure goes on.
    Left(At),
    Adopt(At),
    Release {
        at: At,
        node: usize,
        times: usize,
    },
    Close {
        at: At,
        to: usize,
        times: usize,
    },
    /// The task of a session that has moved ends.
    EndMoved(At),
    CallDue(u64),
    /// A session that arrives has entered its channels.
    Entered(At),
    Handled {
        at: usize,
        session: Session,
        request: u64,
    },
    Restart(usize),
}

/// From a client.
#[derive(Debug)]
pub(super) enum Up {
    Handshake(Option<(Token, u64)>),
    Acknowledge,
    Heartbeat(Vec<u8>),
    Data(Bytes),
}

/// To a client.
#[derive(Debug)]
pub(super) enum Down {
    Packets(Packets),
    /// The session is lost.
    Lost(&'static str),
    /// The gate closes the connection, for good or not.
    End {
        kicked: bool,
    },
}

/// A call between nodes that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Hold {
        at: At,
        node: usize,
    },
    Release {
        at: At,
        node: usize,
        times: usize,
    },
    Adopt {
        at: At,
    },
    Attach {
        at: At,
        node: usize,
    },
    Close {
        at: At,
        to: usize,
        times: usize,
    },
    /// A call of the gate `to`, which this gate has passed on.
    PassedOn {
        at: At,
        to: usize,
        call: u64,
    },
}
