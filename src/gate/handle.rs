//! The cross-thread side of one connection.

use std::{collections::VecDeque, fmt, net::SocketAddr, sync::Arc, task::Context};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    client_state::{Blocked, ClientState, CloseStep, Output, Refusal, Unanswered},
    close_code::{Ending, Greeted},
    connection_state::State,
    encoding::{MAX_RESPONSE, encode, response},
    shared::Shared,
    traffic::Traffic,
};
use crate::{
    error::{Error, Result, code},
    kick::{Kick, Reconnect},
    message::{Kind, Message},
    packet::{self, PacketError},
    panic::catch_panic,
    session::{CallRouter, CloseReason, Push, Session, SessionSink, UserId},
};

/// Lets any thread queue packets for a client and close it; the connection's task writes them.
pub(super) struct ConnectionHandle {
    pub(super) gate: Arc<Shared>,
    pub(super) remote: Mutex<Option<SocketAddr>>,
    pub(super) traffic: Traffic,
    /// Held for a few instructions and for copying a small packet. No other lock is taken inside,
    /// no pipeline runs inside, and the task is woken after it is released.
    pub(super) state: Mutex<State>,
}

impl ConnectionHandle {
    pub(super) fn new(gate: Arc<Shared>, remote: Option<SocketAddr>) -> Self {
        Self {
            gate,
            remote: Mutex::new(remote),
            traffic: Traffic::default(),
            state: Mutex::default(),
        }
    }

    /// Queues a handshake reply or a heartbeat. Called by the connection's task, which then writes
    /// what is queued: it is not woken for it.
    pub(super) fn send_control(&self, kind: packet::Kind, body: &[u8]) {
        let mut state = self.state.lock();
        let client = &mut state.client;
        if !client.admit_control(kind, body.len(), &self.gate.limits) {
            return;
        }
        let count;
        let body = match &mut client.replay {
            Some(replay) if kind == packet::Kind::Heartbeat => {
                count = replay.heartbeat();
                &count[..]
            }
            _ => body,
        };
        let written = client.queue.write(|out| packet::encode(kind, body, out));
        if kind == packet::Kind::Handshake {
            client.answer();
        }
        if written.is_err() {
            // Only the user data of a handshake reply can exceed 16 MiB.
            client.close(CloseReason::Protocol(
                "the handshake reply is too large".to_owned(),
            ));
        }
        state.charge(&self.gate.memory);
    }

    /// Notes whether the client knows the error bit of responses.
    pub(super) fn set_error_flag(&self, known: bool) {
        self.state.lock().client.set_error_flag(known);
    }

    /// Releases the messages that waited for the client's acknowledgement of the handshake.
    pub(super) fn acknowledge(&self) {
        self.change(|state| state.client.acknowledge());
    }

    /// Whether input is still wanted.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().client.is_open()
    }

    /// Counts bytes that were read.
    pub(super) fn received(&self, count: usize) {
        self.gate.metrics.bytes_received.increment(count as u64);
        self.traffic.received(count as u64);
    }

    /// Returns how to go on when the socket takes no more. The task is woken when that changes.
    pub(super) fn poll_blocked(&self, cx: &Context<'_>, now: Instant) -> Blocked {
        let mut state = self.state.lock();
        let blocked = state.client.blocked(now);
        if blocked == Blocked::Wait {
            state.blocked = true;
            state.wait(cx);
        }
        blocked
    }

    /// Returns why the connection is closing.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.state.lock().client.ending()
    }

    /// Returns what is known of the client.
    pub(super) fn greeted(&self) -> Greeted {
        self.state.lock().client.greeted()
    }

    /// Begins to close. Only the first reason counts.
    pub(super) fn end_with(&self, ending: Ending) {
        self.change(|state| state.client.close(ending));
    }

    /// Moves all queued packets to `into`, and the last ones when the connection closes. The task
    /// is woken when there is more.
    pub(super) fn poll_output(
        &self,
        session: &Session,
        into: &mut VecDeque<Bytes>,
        cx: &Context<'_>,
        now: Instant,
    ) -> Output {
        // Dropped after the guard of the state.
        let mut failed = Vec::new();
        let mut state = self.state.lock();
        if state.client.queue.has_unprocessed() {
            drop(state);
            self.run_pipeline(session);
            state = self.state.lock();
        }
        // The connection was taken from the client since the task looked, and the task was not waiting
        // to be woken for it.
        if state.client.is_away() {
            return Output::Away;
        }
        state.blocked = false;
        let flush = self.queue_last_packets(&mut state.client, now, &mut failed);
        if flush.is_none() && state.client.queue.has_unprocessed() {
            // Messages that came while the pipeline ran, or error replies: they are processed in
            // the next poll, and what follows must not overtake them.
            cx.waker().wake_by_ref();
        }
        // All that was taken before has been written.
        let before = state.client.queue.bytes();
        let messages = state.client.take(into);
        // What a client that may return has to acknowledge is counted as long as it is kept.
        state.taken = match state.client.replay {
            None => before - state.client.queue.bytes(),
            Some(_) => 0,
        };
        state.charge(&self.gate.memory);
        if messages > 0 {
            self.gate.metrics.sent.increment(messages as u64);
            self.traffic.taken(messages as u64);
        }
        match flush {
            Some((ending, by)) => Output::Flush { ending, by },
            None if messages > 0 => Output::Packets,
            None => {
                state.wait(cx);
                Output::Nothing
            }
        }
    }

    /// Queues what ends a connection that is closing; returns the reason and the flush deadline
    /// once everything is queued. `failed` takes the requests that fail.
    fn queue_last_packets(
        &self,
        client: &mut ClientState,
        now: Instant,
        failed: &mut Vec<Unanswered>,
    ) -> Option<(Ending, Instant)> {
        loop {
            match client.next_step(now) {
                CloseStep::Stay | CloseStep::Process => return None,
                CloseStep::FailRequests => self.fail_requests(client, failed),
                CloseStep::QueueKick(kick) => self.queue_kick(client, kick),
                CloseStep::Flush { ending, by } => return Some((ending, by)),
            }
        }
    }

    /// Appends the kick packet. It ignores the limits of the queue, which it exceeds once at most. A
    /// kick that sends clients elsewhere has the node's window, unless it has one of its own.
    fn queue_kick(&self, client: &mut ClientState, mut kick: Kick) {
        if kick.reconnect == Some(Reconnect::Elsewhere) && kick.retry_after.is_none() {
            kick.retry_after = self.gate.limits.reconnect_window();
        }
        let body = kick.encode();
        if let Err(error) = client
            .queue
            .write(|out| packet::encode(packet::Kind::Kick, &body, out))
        {
            warn!(%error, "kick reason not sent");
        }
    }

    fn fail_requests(&self, client: &mut ClientState, failed: &mut Vec<Unanswered>) {
        if self.gate.config.silent {
            return;
        }
        let body = Error::new(code::UNAVAILABLE, "server is shutting down").to_body();
        for (id, request) in client.in_flight.drain() {
            failed.push(request);
            self.gate.metrics.failed.increment(1);
            if self.has_pipeline() {
                let reply = Message::response(id, true, body.clone());
                client.queue.message(reply);
            } else {
                // An error body always fits into a packet.
                let flagged = client.error_flag();
                let _: Result<(), PacketError> =
                    client.queue.write(|out| response(id, flagged, &body, out));
            }
        }
    }

    /// The bytes that wait for the client.
    pub(super) fn queued_bytes(&self) -> usize {
        let state = self.state.lock();
        state.taken + state.client.queued_bytes()
    }

    /// Closes for good when the task ends, and drops everything that is queued.
    ///
    /// Returns whether its client could return after a lost connection.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state.lock();
        let resumable = state.client.replay.is_some();
        let left = (state.client.end(), state.writer.take());
        state.taken = 0;
        state.charge(&self.gate.memory);
        drop(state);
        // Without the lock: a body's owner may be an application's type.
        drop(left);
        resumable
    }

    /// Runs the outbound pipeline. It runs in the connection's task, so that it sees messages in the
    /// order of the wire, and without the lock, because a step may use the session.
    pub(super) fn run_pipeline(&self, session: &Session) {
        let messages = self.state.lock().client.queue.take_unprocessed();
        for message in messages {
            let encoded = self.process(session, message);
            let mut state = self.state.lock();
            if let Err(error) = encoded.and_then(|mut message| {
                message.error &= state.client.error_flag();
                state
                    .client
                    .queue
                    .write(|out| encode(&message, &self.gate, out))
            }) {
                debug!(session = session.id(), user = session.logged_user(), %error, "message not sent");
            }
        }
    }

    /// Processes one message. A message that the pipeline refuses is dropped; a response becomes an
    /// error reply, so that its request ends.
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
            Err(error) if kind == Kind::Response && !self.gate.config.silent => {
                self.gate.metrics.failed.increment(u64::from(!failed));
                let mut reply = Message::response(id, true, error.to_body());
                // The client expects what the pipeline does, such as encryption, in error replies
                // too. If the pipeline refuses the reply, it goes out unprocessed.
                let original = reply.clone();
                Ok(process(&mut reply).map_or(original, |()| reply))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes the state and wakes the connection's task, unless the change is of no use to it yet.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        state.charge(&self.gate.memory);
        let writer = if state.blocked && state.client.is_quiet() {
            None
        } else {
            state.writer.take()
        };
        drop(state);
        if let Some(writer) = writer {
            self.gate.wakes.wake(writer);
        }
        result
    }

    /// Checks that the queue takes a packet of `len` bytes; may close the connection of a slow
    /// client.
    fn admit(&self, client: &mut ClientState, len: usize, droppable: bool) -> Result {
        let limits = &self.gate.limits;
        let memory = &self.gate.memory;
        let metrics = &self.gate.metrics;
        let pressed = droppable && memory.is_pressed();
        let (admitted, dropped) = if pressed && memory.is_slow(client.queued_bytes()) {
            let refused = client.refuse(droppable, limits);
            (refused, &metrics.pushes_over_memory)
        } else {
            let admitted = client.admit(len, droppable, limits);
            (admitted, &metrics.pushes_over_queue)
        };
        admitted.map_err(|refusal| {
            if refusal == Refusal::Dropped {
                dropped.increment(1);
            }
            refusal.into()
        })
    }

    /// Queues the answer of a request, for a caller who may know what time it is.
    fn answer(&self, request: u64, answer: Result<Bytes>, now: Option<Instant>) -> Result {
        if let Some(len) = answer
            .as_ref()
            .ok()
            .map(Bytes::len)
            .filter(|len| *len > MAX_RESPONSE)
        {
            // Both ends learn of it: the request ends with an error reply, the call with an error.
            let too_large = || Error::new(code::TOO_LARGE, format!("a response of {len} bytes"));
            self.answer(request, Err(too_large()), now)?;
            return Err(too_large());
        }
        let (body, error) = match answer {
            Ok(body) => (body, None),
            Err(error) => (error.to_body(), Some(error)),
        };
        let failed = error.is_some();
        let mut span = None;
        let queued = self.change(|state| {
            let metrics = &self.gate.metrics;
            state
                .client
                .check_output()
                .inspect_err(|_| metrics.responses_closed.increment(1))?;
            let Some((deadline, known)) = state.client.in_flight.take_entry(request) else {
                metrics.responses_late.increment(1);
                return Err(Error::new(
                    code::CONFLICT,
                    format!("request {request} does not wait for an answer"),
                ));
            };
            span = known.span;
            self.measure(deadline, now);
            if failed {
                metrics.failed.increment(1);
                if self.gate.config.silent {
                    return Ok(());
                }
            }
            self.admit(&mut state.client, body.len(), false)?;
            if self.has_pipeline() {
                state
                    .client
                    .messages()
                    .message(Message::response(request, failed, body));
                return Ok(());
            }
            let flagged = failed && state.client.error_flag();
            Ok(state
                .client
                .messages()
                .write(|out| response(request, flagged, &body, out))?)
        });
        span.into_iter().for_each(|span| span.end(error.as_ref()));
        queued
    }

    /// Records how long a request took that has this deadline.
    fn measure(&self, deadline: Option<Instant>, now: Option<Instant>) {
        if let Some(seconds) = &self.gate.metrics.request_seconds
            && let (Some(deadline), Some(timeout)) = (deadline, self.gate.config.request_timeout)
        {
            let left = deadline.saturating_duration_since(now.unwrap_or_else(Instant::now));
            seconds.record(timeout.saturating_sub(left));
        }
    }

    fn has_pipeline(&self) -> bool {
        !self.gate.dispatch.outbound().is_empty()
    }
}

impl SessionSink for ConnectionHandle {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        if self.has_pipeline() {
            let message = Message::push(push.route(), push.body().clone());
            return self.change(|state| {
                self.admit(&mut state.client, message.body.len(), true)?;
                state.client.messages().message(message);
                Ok(())
            });
        }
        let packet = push.packet(&self.gate.dictionary)?;
        self.change(|state| {
            self.admit(&mut state.client, packet.len(), true)?;
            state.client.messages().packet(&packet);
            Ok(())
        })
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        self.answer(request, answer, None)
    }

    fn respond_at(&self, request: u64, answer: Result<Bytes>, now: Instant) -> Result {
        self.answer(request, answer, Some(now))
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        let message = Message::notify(route, body);
        self.gate.dispatch.rpc(session, message)
    }

    fn close(&self, reason: CloseReason) {
        self.end_with(reason.into());
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        *self.remote.lock()
    }

    fn unsent(&self) -> Option<(usize, usize)> {
        let state = self.state.lock();
        Some((state.client.queue.bytes(), state.client.in_flight.len()))
    }

    fn traffic(&self) -> Option<[u64; 3]> {
        Some(self.traffic.totals())
    }

    fn bind(&self, session: &Session, user: Option<UserId>) {
        session.inner().rebind(user);
        self.gate.dispatch.bound(session);
    }

    fn share(&self, session: &Session, key: &str, value: Option<Bytes>) -> Result {
        session.inner().shared.set(key, value)?;
        self.gate.dispatch.shared(session, key);
        Ok(())
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle")
            .field("remote", &*self.remote.lock())
            .finish_non_exhaustive()
    }
}
