//! A client of this gate, as its session sees it.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Waker},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Gate, SlowClient, outbox::Outbox};
use crate::{
    error::{Error, Result, code},
    handshake,
    in_flight::InFlight,
    message::{self, Kind, Message},
    packet::{self, PacketError},
    panic::catch_panic,
    session::{CloseReason, Push, Session, SessionSink},
};

/// Room for what stands before the body of a response: the flag and the longest id.
const RESPONSE_HEAD: usize = 16;
/// What fits into a packet beside that.
const MAX_RESPONSE: usize = packet::MAX_BODY - RESPONSE_HEAD;

/// The two sides of a connection meet here: any thread queues, the connection's task writes.
pub(super) struct Agent {
    gate: Arc<Gate>,
    remote: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    in_flight: InFlight,
    closing: Option<CloseReason>,
    /// Set with [`CloseReason::Shutdown`]: what is in flight may still be answered.
    draining: bool,
    goodbye: Goodbye,
    /// The connection's task, while it has nothing to write or cannot.
    writer: Option<Waker>,
    /// Whether it cannot: then more to write is no news to it, but the end is.
    blocked: bool,
}

/// How far the last packets of a connection are.
#[derive(Default, PartialEq, Eq)]
enum Goodbye {
    #[default]
    Unsaid,
    /// Requests that nobody will answer any more have got their errors.
    Answered,
    /// The client knows why.
    Said,
}

/// What the connection's task finds to do.
pub(super) enum Output {
    Packets,
    Nothing,
    /// Write the packets, then close.
    Close(CloseReason),
}

impl Agent {
    pub(super) fn new(gate: Arc<Gate>, remote: SocketAddr) -> Self {
        Self {
            gate,
            remote,
            state: Mutex::default(),
        }
    }

    /// Adds a request that has arrived; `deadline` is when it times out.
    ///
    /// # Errors
    /// `TOO_MANY` if the client has as many in flight as it may. The request is in flight anyway,
    /// so that it can be answered.
    pub(super) fn expect(&self, id: u64, deadline: Option<Instant>) -> Result {
        let mut state = self.state.lock();
        let limit = self.gate.settings.max_in_flight;
        let full = state.in_flight.len() >= limit;
        state.in_flight.insert(id, deadline, ());
        if full {
            Err(Error::new(
                code::TOO_MANY,
                format!("more than {limit} requests in flight"),
            ))
        } else {
            Ok(())
        }
    }

    /// Answers every request whose deadline has passed with a timeout, and returns the next
    /// deadline.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let expired = self.state.lock().in_flight.expired(now);
        for id in expired {
            self.gate.metrics.timed_out.increment(1);
            // An answer that comes between the look and this one wins.
            let _ = self.respond(id, Err(Error::new(code::TIMEOUT, "the request timed out")));
        }
        self.state.lock().in_flight.next_deadline()
    }

    /// Queues a packet of the protocol itself.
    pub(super) fn send_control(&self, kind: packet::Kind, body: &[u8]) {
        let settings = &self.gate.settings;
        self.change(|state| {
            let full =
                state
                    .outbox
                    .is_full(body.len(), settings.queue_bytes, settings.queue_messages);
            // What waits in a full queue is as good a sign of life as a heartbeat.
            if state.closing.is_some()
                || (full && kind == packet::Kind::Heartbeat)
                || self.admit(state, body.len(), false).is_err()
            {
                return;
            }
            if state
                .outbox
                .write(|out| packet::encode(kind, body, out))
                .is_err()
            {
                // Only the user data of a handshake reply can be over 16 MiB.
                state.closing = Some(CloseReason::Protocol(
                    "the handshake reply is too large".to_owned(),
                ));
            }
        });
    }

    /// Whether input is still wanted.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().closing.is_none()
    }

    /// Why to close although the client takes nothing; if there is no reason, the task is woken
    /// when there is one.
    pub(super) fn poll_close(&self, cx: &Context<'_>) -> Option<CloseReason> {
        let mut state = self.state.lock();
        if let Some(reason) = state.may_close() {
            return Some(reason.clone());
        }
        state.blocked = true;
        state.wait(cx);
        None
    }

    /// Why it is being closed.
    pub(super) fn closing(&self) -> Option<CloseReason> {
        self.state.lock().closing.clone()
    }

    /// Moves everything queued to `into`, or arranges for the task to be woken when there is
    /// something.
    pub(super) fn poll_output(
        &self,
        session: &Session,
        into: &mut VecDeque<Bytes>,
        cx: &Context<'_>,
    ) -> Output {
        let mut state = self.state.lock();
        if state.outbox.has_unprocessed() {
            drop(state);
            self.run_pipeline(session);
            state = self.state.lock();
        }
        state.blocked = false;
        let closing = state.may_close().cloned();
        if let Some(reason) = &closing {
            self.answer_pending(&mut state, reason);
        }
        if state.outbox.has_unprocessed() {
            // They came while the pipeline ran, or just now: another turn, for they are not to be
            // overtaken.
            cx.waker().wake_by_ref();
        } else if let Some(reason) = closing {
            self.say_why(&mut state, &reason);
            self.gate
                .metrics
                .sent
                .increment(state.outbox.take(into) as u64);
            return Output::Close(reason);
        }
        match state.outbox.take(into) {
            0 => {
                state.wait(cx);
                Output::Nothing
            }
            messages => {
                self.gate.metrics.sent.increment(messages as u64);
                Output::Packets
            }
        }
    }

    /// The last answers of a connection that shuts down; those of others end with it. A client that
    /// does not read gets nothing more at all.
    fn answer_pending(&self, state: &mut State, reason: &CloseReason) {
        if state.goodbye != Goodbye::Unsaid {
            return;
        }
        state.goodbye = Goodbye::Answered;
        if *reason == CloseReason::SlowClient {
            state.outbox.clear();
        }
        if *reason != CloseReason::Shutdown || self.gate.settings.silent {
            return;
        }
        let body = Error::new(code::UNAVAILABLE, "server is shutting down").to_body();
        for (id, ()) in state.in_flight.drain() {
            self.gate.metrics.failed.increment(1);
            if self.has_pipeline() {
                state
                    .outbox
                    .message(Message::response(id, true, body.clone()));
            } else {
                let _: Result<(), PacketError> =
                    state.outbox.write(|out| response(id, true, &body, out));
            }
        }
    }

    /// The last packet.
    fn say_why(&self, state: &mut State, reason: &CloseReason) {
        if std::mem::replace(&mut state.goodbye, Goodbye::Said) == Goodbye::Said {
            return;
        }
        if let Some(kick) = reason.kick() {
            let body = handshake::encode_kick(&kick);
            if let Err(error) = state
                .outbox
                .write(|out| packet::encode(packet::Kind::Kick, &body, out))
            {
                warn!(%error, "kick reason not sent");
            }
        }
    }

    /// The connection is gone: nobody writes any more, so nothing is kept.
    pub(super) fn end(&self, reason: &CloseReason) {
        let mut state = self.state.lock();
        state.closing.get_or_insert_with(|| reason.clone());
        state.draining = false;
        let left = (
            std::mem::take(&mut state.outbox),
            std::mem::take(&mut state.in_flight),
            state.writer.take(),
        );
        drop(state);
        drop(left);
    }

    /// Runs the outbound pipeline where messages are written, so that it sees them in the order of
    /// the wire. No lock is held meanwhile: a step may use the session.
    fn run_pipeline(&self, session: &Session) {
        let messages = self.state.lock().outbox.take_unprocessed();
        for message in messages {
            let encoded = self.process(session, message);
            let mut state = self.state.lock();
            if let Err(error) = encoded
                .and_then(|message| state.outbox.write(|out| encode(&message, &self.gate, out)))
            {
                debug!(session = session.id(), uid = session.uid(), %error, "message not sent");
            }
        }
    }

    /// A message the pipeline refuses is dropped; a response becomes an error reply, so that its
    /// request ends.
    fn process(&self, session: &Session, mut message: Message) -> Result<Message> {
        let outbound = self.gate.dispatch.outbound();
        let (kind, id, failed) = (message.kind, message.id, message.error);
        let process = |message: &mut Message| {
            catch_panic(&self.gate.metrics.panics, "the pipeline panicked", || {
                outbound.process(session, message)
            })
        };
        match process(&mut message) {
            Ok(()) => Ok(message),
            Err(error) if kind == Kind::Response && !self.gate.settings.silent => {
                self.gate.metrics.failed.increment(u64::from(!failed));
                let mut reply = Message::response(id, true, error.to_body());
                // The reply goes through the pipeline as well, for the client expects what it does;
                // if it is refused too, it goes as it is.
                let original = reply.clone();
                Ok(process(&mut reply).map_or(original, |()| reply))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes the state, and lets the connection's task look at it.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let writer = if state.blocked && state.closing.is_none() {
            None
        } else {
            state.writer.take()
        };
        drop(state);
        if let Some(writer) = writer {
            self.gate.bell.wake(writer);
        }
        result
    }

    /// Whether the queue takes another message. The connection of a client that does not read may
    /// end here.
    fn admit(&self, state: &mut State, len: usize, droppable: bool) -> Result {
        let settings = &self.gate.settings;
        state.check_open()?;
        if !state
            .outbox
            .is_full(len, settings.queue_bytes, settings.queue_messages)
        {
            return Ok(());
        }
        if droppable && settings.slow_client == SlowClient::DropPushes {
            self.gate.metrics.pushes_dropped.increment(1);
            return Err(Error::new(code::TOO_MANY, "the client reads too slowly"));
        }
        state.closing = Some(CloseReason::SlowClient);
        state.draining = false;
        Err(Error::new(
            code::CLOSED,
            "the client reads too slowly and is disconnected",
        ))
    }

    fn has_pipeline(&self) -> bool {
        !self.gate.dispatch.outbound().is_empty()
    }
}

impl State {
    /// Why to close now: a shutdown waits for what is in flight.
    fn may_close(&self) -> Option<&CloseReason> {
        self.closing
            .as_ref()
            .filter(|_| !self.draining || self.in_flight.is_empty())
    }

    fn check_open(&self) -> Result {
        if self.closing.is_some() && !self.draining {
            return Err(Error::new(code::CLOSED, "the connection is closed"));
        }
        Ok(())
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self
            .writer
            .as_ref()
            .is_some_and(|writer| writer.will_wake(cx.waker()))
        {
            self.writer = Some(cx.waker().clone());
        }
    }
}

impl SessionSink for Agent {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        if self.has_pipeline() {
            let message = Message::push(push.route(), push.body().clone());
            return self.change(|state| {
                self.admit(state, message.body.len(), true)?;
                state.outbox.message(message);
                Ok(())
            });
        }
        let packet = push.packet(&self.gate.dictionary)?;
        self.change(|state| {
            self.admit(state, packet.len(), true)?;
            state.outbox.packet(&packet);
            Ok(())
        })
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        if let Some(len) = answer
            .as_ref()
            .ok()
            .map(Bytes::len)
            .filter(|len| *len > MAX_RESPONSE)
        {
            // The request ends as well as the caller learns of it.
            let too_large = || Error::new(code::TOO_LARGE, format!("a response of {len} bytes"));
            self.respond(request, Err(too_large()))?;
            return Err(too_large());
        }
        let (failed, body) = match answer {
            Ok(body) => (false, body),
            Err(error) => (true, error.to_body()),
        };
        self.change(|state| {
            state.check_open()?;
            if state.in_flight.take(request).is_none() {
                self.gate.metrics.responses_dropped.increment(1);
                return Err(Error::new(
                    code::CONFLICT,
                    format!("request {request} does not wait for an answer"),
                ));
            }
            if failed {
                self.gate.metrics.failed.increment(1);
                if self.gate.settings.silent {
                    return Ok(());
                }
            }
            self.admit(state, body.len(), false)?;
            if self.has_pipeline() {
                state
                    .outbox
                    .message(Message::response(request, failed, body));
                return Ok(());
            }
            Ok(state
                .outbox
                .write(|out| response(request, failed, &body, out))?)
        })
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        self.gate
            .dispatch
            .rpc(session, Message::notify(route, body))
    }

    fn close(&self, reason: CloseReason) {
        self.change(|state| {
            // Asked twice: no more waiting.
            state.draining = state.closing.is_none() && reason == CloseReason::Shutdown;
            state.closing.get_or_insert(reason);
        });
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.remote)
    }

    fn bind(&self, session: &Session, uid: i64) {
        session.core().rebind(uid);
        self.gate.dispatch.bound(session);
    }
}

fn response(id: u64, failed: bool, body: &[u8], out: &mut BytesMut) -> Result<(), PacketError> {
    out.reserve(packet::HEADER + RESPONSE_HEAD + body.len());
    packet::encode_with(packet::Kind::Data, out, |out| {
        message::encode_response(id, failed, body, out);
        Ok(())
    })
}

fn encode(message: &Message, gate: &Gate, out: &mut BytesMut) -> Result {
    packet::encode_with(packet::Kind::Data, out, |out| {
        Ok::<_, Error>(message.encode(&gate.dictionary, out)?)
    })
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
