//! One incarnation of another node of this crate.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    config::{STREAMS, stream_index},
    context::{LinkContext, LinkOptions},
    effect::Effect,
    health::Health,
    proto::{Batch, Frame, Kind},
    remote::{Place, RemoteSession},
    served_session::NewSession,
    state::LinkState,
    stream::LinkStream,
};
#[cfg(feature = "admin")]
use crate::cluster::transport::PeerReport;
use crate::{
    cluster::{
        pending_calls::{PendingCalls, StreamId},
        transport::{OutboundNodeCall, PeerStatus, PeerTransport, Serves, Unreached, into_error},
    },
    dispatch::{ForwardError, Origin},
    error::{Error, Result, code},
    memory_budget::PeerCharge,
    message::Message,
    session::{Call, CloseReason, Push, ReplyTo, Session, UserId},
    trace::current_trace,
};

/// A peer that is reached by links. It appears with its join or its first stream, whichever is
/// first, and goes when it has left and its streams are gone.
pub(in crate::cluster) struct LinkPeer {
    pub(in crate::cluster) address: Arc<str>,
    pub(in crate::cluster) incarnation: u64,
    pub(super) context: Arc<LinkContext>,
    pub(in crate::cluster) streams: [Arc<LinkStream>; STREAMS],
    /// Hands inbound streams to the one task that reads them, from the first stream on.
    inbound: [OnceLock<mpsc::UnboundedSender<InboundStream>>; STREAMS],
    membership: AtomicU8,
    /// The later incarnation that a dial has found at the address, 0 for none.
    successor: AtomicU64,
    closed: CancellationToken,
}

/// What the master says of a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Membership {
    /// Not announced yet.
    Unverified,
    Member,
    Left,
}

/// A stream that a peer has opened.
pub(super) struct InboundStream {
    pub(super) number: u64,
    /// The peer's epoch.
    pub(super) epoch: u64,
    /// The frames behind the HELLO.
    pub(super) frames: Vec<Frame>,
    pub(super) batches: Streaming<Batch>,
    /// Answered when the stream is the current one, or refused.
    pub(super) accepted: oneshot::Sender<Result<(), Status>>,
}

impl LinkPeer {
    pub(super) fn new(
        address: &str,
        incarnation: u64,
        epoch: u64,
        context: Arc<LinkContext>,
    ) -> Arc<Self> {
        let LinkOptions {
            grace,
            idle_timeout,
            ..
        } = context.options;
        let measured = context.metrics.round_trip_seconds.is_some();
        Arc::new(Self {
            address: address.into(),
            incarnation,
            streams: std::array::from_fn(|index| {
                let id = StreamId { incarnation, index };
                let stream = LinkStream::new(id, epoch, (grace, idle_timeout));
                let charge = PeerCharge::new(context.node.memory());
                stream.input(|state| state.charge_to(charge));
                if measured {
                    stream.input(|state| state.measure());
                }
                stream
            }),
            context,
            inbound: Default::default(),
            membership: AtomicU8::new(Membership::Unverified as u8),
            successor: AtomicU64::new(0),
            closed: CancellationToken::new(),
        })
    }

    /// Checks that the node found at the address is this incarnation, and notes the other one.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] if it is another: frames for this one are not for that.
    pub(super) fn check_incarnation(&self, found: Option<u64>) -> Result {
        if found == Some(self.incarnation) {
            return Ok(());
        }
        self.successor
            .fetch_max(found.unwrap_or_default(), Ordering::AcqRel);
        Err(Error::new(
            code::UNAVAILABLE,
            "another incarnation of the node is at its address",
        ))
    }

    /// Whether a dial has found that later incarnation where this one was.
    pub(super) fn is_succeeded_by(&self, incarnation: u64) -> bool {
        incarnation > self.incarnation && self.successor.load(Ordering::Acquire) == incarnation
    }

    /// The master announced the peer.
    pub(super) fn join(&self) {
        self.membership
            .store(Membership::Member as u8, Ordering::Release);
    }

    /// The master announced that the peer has left.
    pub(super) fn leave(&self) {
        self.membership
            .store(Membership::Left as u8, Ordering::Release);
    }

    pub(super) fn is_member(&self) -> bool {
        self.membership.load(Ordering::Acquire) == Membership::Member as u8
    }

    /// Hands a stream to the task that reads this stream index; `start` starts the task.
    pub(super) fn hand_over(
        &self,
        index: usize,
        stream: InboundStream,
        start: impl FnOnce(mpsc::UnboundedReceiver<InboundStream>),
    ) {
        let reader = self.inbound[index].get_or_init(|| {
            let (sender, streams) = mpsc::unbounded_channel();
            start(streams);
            sender
        });
        // After the task has ended the drop of the stream refuses it.
        let _ = reader.send(stream);
    }

    /// The worst health of the streams.
    pub(super) fn health(&self) -> Health {
        let health = self.streams.iter().map(|stream| stream.health());
        health.max().unwrap_or(Health::Closed)
    }

    /// Whether a stream is broken, in either direction.
    pub(super) fn is_broken(&self) -> bool {
        self.any_stream(|stream| stream.is_broken())
    }

    /// Whether any stream is up or about to come up for the first time, in either direction.
    pub(super) fn is_active(&self) -> bool {
        self.any_stream(|stream| stream.is_active())
    }

    pub(super) fn is_sending(&self) -> bool {
        self.any_stream(|stream| stream.is_outbound_up())
    }

    fn any_stream(&self, is: impl Fn(&LinkState<Session>) -> bool) -> bool {
        self.streams.iter().any(|stream| stream.read(&is))
    }

    /// Whether all that the peer sent before it knew of this node's GOAWAY has arrived, or can never
    /// arrive.
    pub(super) fn is_drained(&self) -> bool {
        !self.any_stream(|stream| !stream.is_drained()) || !self.is_active()
    }

    /// Requests of the peer's clients that wait for an answer of this node.
    pub(super) fn served_requests(&self, now: Instant) -> usize {
        self.streams
            .iter()
            .map(|stream| stream.read(|state| state.served_requests(now)))
            .sum()
    }

    /// Whether pushes to users there are not acknowledged.
    pub(super) fn awaits_user_pushes(&self) -> bool {
        self.any_stream(LinkState::awaits_user_pushes)
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ready when the peer is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(in crate::cluster) fn context(&self) -> &LinkContext {
        &self.context
    }

    /// Where a session is that has this key on its stream.
    pub(in crate::cluster) fn place(&self, id: i64, key: u64) -> Place {
        Place {
            key,
            stream: self.streams[stream_index(id)].clone(),
            gate: self.address.clone(),
        }
    }

    /// Makes the handle of a session of the peer's client.
    pub(in crate::cluster) fn open_session(&self, new: &NewSession<'_>) -> Session {
        let sink = RemoteSession::new(new.id, self.place(new.id, new.key), new.client_address);
        self.context.node.sessions().open_remote(new.id, sink)
    }

    /// Returns a session of the peer's client, which a node without links knew of first.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if it has ended, or the peer is gone.
    pub(in crate::cluster) fn serve_unannounced(&self, id: i64) -> Result<Session> {
        self.streams[stream_index(id)]
            .input(|state| state.serve_unannounced(id, &mut |new| self.open_session(&new)))
    }

    /// Sends a call, and answers it if that fails.
    fn send_call(
        &self,
        id: u64,
        index: usize,
        caller: &Arc<ReplyTo>,
        send: impl FnOnce() -> Result,
    ) {
        let calls = &self.context.calls;
        calls.insert(id, self.streams[index].clone(), caller.clone());
        match send() {
            // Behind the frame of the call, so that a cancellation cannot precede it.
            Ok(()) => caller.forwarded(Arc::<PendingCalls>::downgrade(calls), id),
            Err(error) => {
                if let Some(caller) = calls.take(id) {
                    // Taken out of the table, so nothing else answers it.
                    let _ = caller.answer(Err(error));
                }
            }
        }
    }

    fn try_call(&self, index: usize, id: u64, call: Call) -> Result {
        let deadline = call.caller.deadline();
        let stream = &self.streams[index];
        let trace = current_trace();
        let trace = trace.as_ref().map(|trace| &trace.context);
        let Some(session) = &call.session else {
            let frame = Frame::message(Kind::Call, 0, id, call.route, call.body);
            return stream.call(frame.until(deadline).with_trace(trace));
        };
        let frame = |message: Message| {
            Frame::message(Kind::Call, session.id(), id, message.route, message.body)
                .until(deadline)
                .with_trace(trace)
        };
        stream
            .message(session, Message::request(id, call.route, call.body), frame)
            .map_err(into_error)
    }
}

impl PeerTransport for LinkPeer {
    fn address(&self) -> &str {
        &self.address
    }

    fn status(&self) -> PeerStatus {
        let (member, health) = (self.is_member(), self.health());
        PeerStatus {
            bound: member && health < Health::Draining,
            available: member && health < Health::Broken,
            suspect: health == Health::Suspect,
            draining: health == Health::Cordoned,
        }
    }

    fn answers_calls(&self) -> bool {
        true
    }

    fn load(&self) -> usize {
        self.streams
            .iter()
            .map(|stream| stream.read(|state| state.sessions()))
            .sum()
    }

    #[cfg(feature = "admin")]
    fn report(&self) -> PeerReport {
        let sum = |count: fn(&LinkState<Session>) -> usize| {
            self.streams.iter().map(|stream| stream.read(count)).sum()
        };
        let linked = self.any_stream(|state| state.is_linked());
        let health = self.health();
        PeerReport {
            address: self.address.to_string(),
            transport: "link",
            state: match health {
                Health::Good if !linked => "idle",
                health => health.name(),
            },
            sessions: self.load(),
            queue_bytes: sum(|state| state.queued_bytes()),
            streams_up: sum(|state| usize::from(state.is_outbound_up())),
            round_trip_seconds: self
                .streams
                .iter()
                .filter_map(|stream| stream.round_trip())
                .max()
                // What was measured before it broke says nothing of it now.
                .filter(|_| !matches!(health, Health::Broken | Health::Closed))
                .map(|took| took.as_secs_f64()),
        }
    }

    fn send(
        self: Arc<Self>,
        session: &Session,
        message: Message,
        origin: Origin,
    ) -> Result<(), ForwardError> {
        let id = session.id();
        let timeout = self.context.reporter.request_timeout;
        let timeout = timeout.filter(|_| message.id != 0);
        let kind = match origin {
            Origin::Client => Kind::Message,
            Origin::Node => Kind::Rpc,
        };
        let trace = current_trace();
        let trace = trace.as_ref().map(|trace| &trace.context);
        let frame = |message: Message| {
            Frame::message(kind, id, message.id, message.route, message.body)
                .within(timeout)
                .with_trace(trace)
        };
        self.streams[stream_index(id)].message(session, message, frame)
    }

    fn call(&self, call: Call) {
        let id = self.context.calls.next_id();
        let index = call
            .session
            .as_ref()
            .map_or((id % STREAMS as u64) as usize, |session| {
                stream_index(session.id())
            });
        let caller = call.caller.clone();
        self.send_call(id, index, &caller, || self.try_call(index, id, call));
    }

    fn node_call(&self, call: OutboundNodeCall) -> Result {
        let index = (call.key % STREAMS as u64) as usize;
        let frame = |id| Frame::message(Kind::NodeCall, 0, id, call.method, call.body);
        let Some(caller) = call.caller else {
            return self.streams[index].call(frame(0));
        };
        let id = self.context.calls.next_id();
        self.send_call(id, index, &caller, || {
            self.streams[index].call(frame(id).until(caller.deadline()))
        });
        Ok(())
    }

    fn push_to_users(
        &self,
        stream: usize,
        users: &mut dyn Iterator<Item = &UserId>,
        push: &Push<'_>,
    ) -> Result<oneshot::Receiver<Unreached>> {
        let frame = Frame::user_push(users, push);
        self.streams[stream].push_to_users(frame, &self.context.user_numbers)
    }

    fn session_bound(&self, session: &Session) {
        self.streams[stream_index(session.id())].session_bound(session);
    }

    fn session_shared(&self, session: &Session, key: &str) {
        self.streams[stream_index(session.id())].session_shared(session, key);
    }

    fn serves(&self, session: i64) -> Serves {
        let requests = self.streams[stream_index(session)].read(|state| state.requests_of(session));
        requests.map_or(Serves::Nothing, Serves::Movable)
    }

    fn session_moved(&self, session: i64) {
        self.streams[stream_index(session)].session_moved(session);
    }

    fn session_adopted(&self, session: &Session, requests: Vec<u64>) -> Result<u64> {
        let stream = &self.streams[stream_index(session.id())];
        Ok(stream.input(|state| state.session_adopted(session, requests)))
    }

    fn session_attached(&self, session: &Session, attached: bool) {
        let mut effects = Vec::new();
        let index = stream_index(session.id());
        let stream = &self.streams[index];
        stream.input(|state| state.session_attached(session, attached, &mut effects));
        for effect in effects {
            match effect {
                Effect::FailRequests { session, requests } => {
                    self.context.fail_requests(&session, requests);
                }
                Effect::Unbind(session) => session.inner().bindings.forget(&self.address),
                Effect::Wake(waker) => waker.wake(),
                // Nothing else follows from it.
                _ => {}
            }
        }
    }

    fn session_closed(self: Arc<Self>, session: &Session, reason: &CloseReason) -> bool {
        let always = self.context.has_outside_nodes();
        self.streams[stream_index(session.id())].session_closed(session, reason, always)
    }
}

impl fmt::Debug for LinkPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkPeer")
            .field("address", &self.address)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
