//! What a link asks its driver to do.

use std::{collections::VecDeque, task::Waker};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    proto::{Frame, SharedValue},
    timing::Sample,
    user_pushes::Done,
};
use crate::{
    cluster::transport::Unreached,
    dispatch::Origin,
    error::Error,
    session::{CloseReason, UserId},
    trace::TraceContext,
};

/// A decision of [`LinkState`](super::state::LinkState). The driver applies it after unlocking, in
/// order.
pub(in crate::cluster) enum Effect<S> {
    /// Hand a message to a handler of this node. `request` is 0 for one without an answer.
    Deliver {
        session: S,
        request: u64,
        route: ByteString,
        body: Bytes,
        origin: Origin,
        /// The trace that the message is part of, if it is sampled.
        trace: Option<TraceContext>,
    },
    /// Hand a CALL to a handler of this node, on behalf of the session if there is one.
    DeliverCall {
        session: Option<S>,
        frame: Frame,
        route: ByteString,
    },
    /// Hand a NODE_CALL to a service of this node.
    NodeCall { method: ByteString, frame: Frame },
    /// Give the peer's answer to a client of this gate. The session handle is that of the request.
    Respond { session: S, frame: Frame },
    /// A PUSH, CLOSE, KICK, RPC_VIA_GATE or CALL_VIA_GATE for a session of this gate. Without a handle the
    /// link does not know the session; the gate may.
    Gate { session: Option<S>, frame: Frame },
    /// Bind a session of this gate to a user, or to none, unless the peer's BIND was applied before,
    /// and announce the session's user to every peer.
    Bind {
        session: Option<S>,
        id: i64,
        user: Option<Option<UserId>>,
    },
    /// Bind a service of a session of this gate to the address, or to none.
    Route {
        session: Option<S>,
        id: i64,
        service: ByteString,
        address: Option<ByteString>,
    },
    /// Change shared values of a session of this gate, and announce them to every peer that serves
    /// it.
    Share {
        session: Option<S>,
        id: i64,
        values: Vec<SharedValue>,
    },
    /// A PUSH for several sessions of this gate.
    Multicast {
        sessions: Vec<(i64, Option<S>)>,
        frame: Frame,
    },
    /// Push to users at this gate, and report that it was
    /// [handled](super::state::LinkState::user_push_handled).
    UserPush(Frame),
    /// Pushes to users at the peer have ended.
    UserPushesEnded(Vec<(Done, Unreached)>),
    /// Give the peer's REPLY to the call that waits for it.
    Reply(Frame),
    /// End a session that this node serves for the peer.
    EndSession { session: S, cause: EndCause },
    /// Answer requests of a client with UNAVAILABLE: the peer will not.
    FailRequests { session: S, requests: VecDeque<u64> },
    /// Free the session's bindings to the peer.
    Unbind(S),
    /// Fail the calls that went out on this stream: their replies are lost. Services of this node learn
    /// that the peer was cut off.
    FailCalls,
    /// The peer no longer waits for the reply to this call of its.
    CancelCall(u64),
    /// The peer has failed the calls of its that arrived on this stream.
    CancelCalls,
    /// The peer drains or stops: choose other members from now on.
    PeerDraining,
    /// The peer has closed its stream because nothing is shared or owed: do the same, unless this node
    /// waits for calls of its own or serves some.
    PeerIdle,
    /// A request that was timed was answered, maybe with an error.
    RequestTimed { request: Sample, failed: bool },
    /// A PING that was sent at this time was answered.
    PingTimed(Instant),
    /// No inbound frame for [`SUSPECT_AFTER`](super::config::SUSPECT_AFTER) probes.
    PeerSuspected,
    /// No inbound frame for [`DEAD_AFTER`](super::config::DEAD_AFTER) probes: the inbound stream is
    /// closed.
    InboundClosed,
    /// The partition grace is over; so many sessions of this gate and of the peer's ended.
    Detached { own: usize, served: usize },
    /// A frame made no sense.
    Refused(Error),
    /// Wake a task: a writer of frames, or the reader of a session that waits for room.
    Wake(Waker),
}

/// Why a session that this node serves for a peer ends.
pub(in crate::cluster) enum EndCause {
    /// Its gate closed it.
    Closed(CloseReason),
    /// Its gate did not name it after a reconnect.
    NotResumed,
    /// Its gate was unreachable for longer than the partition grace.
    Unreachable,
    /// Its gate is gone.
    GateGone,
    /// This node shuts down.
    Shutdown,
}
