//! The driver of one [`LinkState`]: locks it, feeds it, and does what follows after unlocking.

use std::{
    future::{poll_fn, ready},
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, futures::Notified, oneshot},
    time::Instant,
};

use super::{
    activity::OpenCalls,
    effect::Effect,
    frame::check_size,
    health::Health,
    proto::{Batch, Frame},
    sender::Blocked,
    state::LinkState,
};
use crate::{
    cluster::{
        pending_calls::{CallStream, StreamId},
        transport::Unreached,
    },
    dispatch::ForwardError,
    error::{Error, Result, code},
    message::Message,
    session::{CloseReason, GateMulticast, Push, ReplyTo, Session, UserId},
};

/// One stream index of a link to one peer, in both directions.
pub(in crate::cluster) struct LinkStream {
    pub(in crate::cluster) id: StreamId,
    /// Larger than that of an earlier link to the same incarnation of the peer.
    pub(super) epoch: u64,
    /// Held for a few instructions at a time: never while waking a task, while running the
    /// application's code, or together with the state of another stream. Taken before the table of
    /// sessions, which a session that begins or is bound changes.
    state: Mutex<LinkState<Session>>,
    /// [`LinkState::health`], to be read without the lock for every message that is routed.
    health: AtomicU8,
    /// The last round trip that was timed, in nanoseconds; 0 before the first.
    round_trip: AtomicU64,
    inbound_closed: Notify,
    /// Calls of the peer whose handlers have not answered. A leaf lock.
    served_calls: Mutex<FxHashMap<u64, Weak<ReplyTo>>>,
}

impl LinkStream {
    pub(super) fn new(
        id: StreamId,
        epoch: u64,
        (grace, idle_timeout): (Duration, Option<Duration>),
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            epoch,
            state: Mutex::new(LinkState::new(id.index, grace, idle_timeout)),
            health: AtomicU8::new(Health::Good as u8),
            round_trip: AtomicU64::new(0),
            inbound_closed: Notify::new(),
            served_calls: Mutex::default(),
        })
    }

    /// The health of the stream when it last changed.
    pub(super) fn health(&self) -> Health {
        const ALL: [Health; 6] = [
            Health::Good,
            Health::Suspect,
            Health::Cordoned,
            Health::Broken,
            Health::Draining,
            Health::Closed,
        ];
        ALL[usize::from(self.health.load(Ordering::Relaxed)).min(ALL.len() - 1)]
    }

    /// A PING was answered after this time.
    pub(super) fn set_round_trip(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanoseconds, Ordering::Relaxed);
    }

    /// The last round trip that was timed.
    #[cfg(feature = "admin")]
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self.round_trip.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// Looks at the state.
    pub(in crate::cluster) fn read<T>(&self, look: impl FnOnce(&LinkState<Session>) -> T) -> T {
        look(&self.state.lock())
    }

    /// Feeds an input that may change the health.
    pub(in crate::cluster) fn input<T>(
        &self,
        input: impl FnOnce(&mut LinkState<Session>) -> T,
    ) -> T {
        let mut state = self.state.lock();
        let result = input(&mut state);
        self.health.store(state.health() as u8, Ordering::Relaxed);
        result
    }

    /// Feeds one frame of a batch, whose arrival has been [fed](LinkStream::input) before.
    pub(super) fn frame<T>(&self, input: impl FnOnce(&mut LinkState<Session>) -> T) -> T {
        input(&mut self.state.lock())
    }

    /// Feeds an input from which nothing follows but that the writer is to be woken.
    fn send(&self, input: impl FnOnce(&mut LinkState<Session>) -> Option<Waker>) {
        let writer = input(&mut self.state.lock());
        wake(writer);
    }

    fn try_send(
        &self,
        input: impl FnOnce(&mut LinkState<Session>) -> Result<Option<Waker>>,
    ) -> Result {
        let writer = input(&mut self.state.lock())?;
        wake(writer);
        Ok(())
    }

    /// Queues a message of a session of this gate.
    ///
    /// # Errors
    /// Gives it back when the session's window or the queue is full, or the peer is draining.
    /// [`code::UNAVAILABLE`] when the peer cannot be reached, [`code::CLOSED`] when the session has
    /// ended, [`code::TOO_LARGE`].
    pub(super) fn message(
        self: &Arc<Self>,
        session: &Session,
        message: Message,
        frame: impl FnOnce(Message) -> Frame,
    ) -> Result<(), ForwardError> {
        check_size(message.body.len())?;
        let request = message.id;
        let sent = {
            let mut state = self.state.lock();
            let timed = (request != 0 && state.times_next_request())
                .then(|| ((&*message.route).into(), Instant::now()));
            let sent = state.message(session, message, frame);
            if request != 0 && sent.is_ok() {
                state.request_queued(session.id(), request, timed);
            }
            sent
        };
        match sent {
            Ok(writer) => {
                wake(writer);
                Ok(())
            }
            Err(Blocked::Full(message)) => {
                let room = self.clone().room(session.id());
                Err(ForwardError::Full(message, Box::pin(room)))
            }
            // To be routed again at once: the peer is not chosen any more.
            Err(Blocked::Draining(message)) => {
                Err(ForwardError::Full(message, Box::pin(ready(()))))
            }
            Err(Blocked::Refused(error)) => Err(error.into()),
        }
    }

    /// Ready when a session may have room.
    async fn room(self: Arc<Self>, session: i64) {
        poll_fn(|cx| self.state.lock().poll_room(session, cx.waker())).await;
    }

    pub(super) fn session_bound(&self, session: &Session) {
        self.send(|state| state.session_bound(session));
    }

    pub(super) fn session_shared(&self, session: &Session, key: &str) {
        self.send(|state| state.session_shared(session, key));
    }

    /// Forgets a session of this gate that another gate has now.
    pub(super) fn session_moved(&self, session: i64) {
        let wakers = self.state.lock().session_moved(session);
        wakers.into_iter().for_each(wake);
    }

    /// Returns whether the peer may run the session's close callbacks.
    pub(super) fn session_closed(
        &self,
        session: &Session,
        reason: &CloseReason,
        always: bool,
    ) -> bool {
        let mut runs_callbacks = always;
        self.send(|state| {
            runs_callbacks |= state.runs_callbacks_of(session.id());
            state.session_closed(session, reason, always)
        });
        runs_callbacks
    }

    /// Queues a frame to the gate of a served session.
    ///
    /// # Errors
    /// [`code::CLOSED`], [`code::TOO_MANY`], [`code::TOO_LARGE`].
    pub(super) fn push(&self, id: i64, key: u64, frame: Frame) -> Result {
        check_size(frame.body.len())?;
        self.try_send(|state| state.push(id, key, frame))
    }

    /// Queues the answer to a request of a served session.
    ///
    /// # Errors
    /// [`code::CLOSED`], or [`code::CONFLICT`] when the request is not in flight.
    pub(super) fn respond(
        &self,
        id: i64,
        key: u64,
        request: u64,
        answer: impl FnOnce() -> Result<Bytes>,
    ) -> Result {
        self.try_send(|state| state.respond(id, key, request, answer))
    }

    /// # Errors
    /// [`code::CLOSED`].
    pub(super) fn close_session(&self, id: i64, key: u64, reason: CloseReason) -> Result {
        self.try_send(|state| state.close_session(id, key, reason))
    }

    /// # Errors
    /// [`code::CLOSED`]. This node's copy has the user then, all the same.
    pub(super) fn bind(&self, session: &Session, key: u64, user: Option<UserId>) -> Result {
        self.try_send(|state| state.bind(session, key, user))
    }

    /// Asks the gate of a served session to bind a service.
    ///
    /// # Errors
    /// [`code::CLOSED`], [`code::TOO_MANY`].
    pub(super) fn route(&self, id: i64, key: u64, service: &str, address: Option<&str>) -> Result {
        self.try_send(|state| state.route(id, key, service, address))
    }

    /// Changes a shared value of a served session, here and at its gate.
    ///
    /// # Errors
    /// As [`LinkState::share`].
    pub(super) fn share(
        &self,
        session: &Session,
        key: u64,
        name: &str,
        value: Option<Bytes>,
    ) -> Result {
        self.try_send(|state| state.share(session, key, name, value))
    }

    pub(super) fn finished(&self, id: i64, key: u64) {
        self.send(|state| state.finished(id, key));
    }

    /// # Errors
    /// [`code::CLOSED`] when a served session has ended.
    pub(super) fn check_open(&self, id: i64, key: u64) -> Result {
        if self.state.lock().is_open(id, key) {
            return Ok(());
        }
        Err(Error::new(code::CLOSED, "the session is closed"))
    }

    /// Queues a call of this node.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the peer cannot be reached, [`code::TOO_MANY`],
    /// [`code::TOO_LARGE`].
    pub(super) fn call(&self, frame: Frame) -> Result {
        check_size(frame.body.len())?;
        self.try_send(|state| state.call(frame))
    }

    /// Queues a push to users at the peer, with numbers of the node. Returns what takes its end.
    ///
    /// # Errors
    /// As [`call`](LinkStream::call).
    pub(super) fn push_to_users(
        &self,
        frame: Frame,
        numbers: &AtomicU64,
    ) -> Result<oneshot::Receiver<Unreached>> {
        check_size(frame.body.len())?;
        let (done, ended) = oneshot::channel();
        // Taken under the lock, so that they rise within the link.
        let number = |users| numbers.fetch_add(users, Ordering::Relaxed);
        self.try_send(|state| state.push_to_users(frame, number, done))?;
        Ok(ended)
    }

    /// Acknowledges the pushes to users that were handled.
    pub(super) fn acknowledge_user_pushes(&self) {
        self.send(LinkState::acknowledge_user_pushes);
    }

    /// Keeps a call of the peer, to be cancelled until it is answered.
    pub(super) fn serve_call(&self, call: &Arc<ReplyTo>) {
        let mut calls = self.served_calls.lock();
        calls.insert(call.id(), Arc::downgrade(call));
    }

    /// The peer no longer waits for a reply. A call that has been answered is not known.
    pub(super) fn cancel_served(&self, request: u64) {
        let call = self.served_calls.lock().remove(&request);
        if let Some(call) = call.and_then(|call| call.upgrade()) {
            call.cancel();
        }
    }

    /// The peer waits for no reply any more.
    pub(super) fn cancel_all_served(&self) {
        let calls = std::mem::take(&mut *self.served_calls.lock());
        let calls = calls.into_values().filter_map(|call| call.upgrade());
        calls.for_each(|call| call.cancel());
    }

    pub(super) fn reply(&self, request: u64, answer: Result<Bytes>) {
        self.served_calls.lock().remove(&request);
        self.send(|state| state.reply(request, answer));
    }

    /// Whether calls of the peer have not been answered.
    pub(super) fn serves_calls(&self) -> bool {
        !self.served_calls.lock().is_empty()
    }

    /// The peer has closed its stream in order.
    pub(super) fn peer_idle(&self, calls: OpenCalls) {
        self.send(|state| state.peer_idle(calls));
    }

    pub(super) fn cordon(&self, open: bool) {
        self.send(|state| state.cordon(open));
    }

    pub(super) fn goaway(&self, open: bool) {
        self.send(|state| state.goaway(open));
    }

    /// The next batch of an outbound stream; `None` when the stream is over.
    pub(super) fn poll_batch(&self, stream: u64, waker: &Waker) -> Poll<Option<Batch>> {
        let mut readers = Vec::new();
        let batch = self.state.lock().poll_batch(stream, waker, &mut readers);
        readers.into_iter().for_each(Waker::wake);
        batch
    }

    /// The next batch of the answers to an inbound stream; `None` when the stream is over.
    pub(super) fn poll_answers(&self, stream: u64, waker: &Waker) -> Poll<Option<Batch>> {
        self.state.lock().poll_answers(stream, waker)
    }

    /// Feeds a frame of an answer stream. What follows is pushed to `effects`.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a kind that does not belong there.
    pub(super) fn answer(&self, frame: &Frame, effects: &mut Vec<Effect<Session>>) -> Result {
        self.state.lock().answer(frame, effects)
    }

    /// Lets the reader of the inbound stream know that the stream is closed.
    pub(super) fn close_inbound(&self) {
        self.inbound_closed.notify_one();
    }

    /// Ready when the inbound stream may have been closed.
    pub(super) fn inbound_closed(&self) -> Notified<'_> {
        self.inbound_closed.notified()
    }
}

impl CallStream for LinkStream {
    fn id(&self) -> StreamId {
        self.id
    }

    fn cancel(&self, call: u64) {
        self.send(|state| state.cancel(call));
    }
}

impl GateMulticast for LinkStream {
    fn push(&self, sessions: Vec<i64>, push: &Push<'_>, displaced: &mut Vec<i64>) -> Result {
        let frame = Frame::push(0, sessions, push.route(), push.body().clone());
        check_size(frame.body.len())?;
        self.try_send(|state| state.multicast(frame, displaced))
    }
}

/// The lock is not held any more.
fn wake(writer: Option<Waker>) {
    if let Some(writer) = writer {
        writer.wake();
    }
}
