//! A session whose client sits on another gate.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    calls::Way,
    link::{
        CREDIT, SESSION_ACCOUNT,
        backlog::Account,
        proto::{Frame, Kind},
        shard::Shard,
        shard_of,
    },
    peer::Peer,
};
use crate::{
    dispatch::Dispatch,
    error::{Error, Result, code},
    message::Message,
    session::{CloseReason, GateMulticast, Push, Session, SessionSink},
};

/// A session that this node serves for another gate.
pub(super) struct Served {
    pub(super) session: Session,
    pub(super) sink: Arc<Remote>,
    /// The last stream that said that the session is there.
    pub(super) stream: u64,
}

/// The far end of such a session: what is sent to it goes to its gate.
pub(super) struct Remote {
    id: i64,
    gate: Arc<Peer>,
    address: Option<SocketAddr>,
    dispatch: Arc<Dispatch>,
    state: Mutex<State>,
    binds: Mutex<Binds>,
    /// What is sent to it and waits for the stream, answers apart.
    account: Arc<Account>,
    /// Messages of the gate that handlers are not done with.
    waiting: AtomicU32,
    /// Those done since the gate was last told.
    done: AtomicU32,
}

#[derive(Default)]
struct State {
    closing: bool,
    /// Requests without an answer, and until when their gate waits. One gate has one timeout, so
    /// the first is mostly over first.
    requests: VecDeque<(u64, Option<Instant>)>,
}

/// How often this node has bound the session, and how much of that its gate is known to have heard.
#[derive(Default)]
struct Binds {
    said: u32,
    heard: u32,
}

impl Remote {
    pub(super) fn new(
        id: i64,
        gate: Arc<Peer>,
        address: &str,
        dispatch: Arc<Dispatch>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            gate,
            address: address.parse().ok(),
            dispatch,
            state: Mutex::default(),
            binds: Mutex::default(),
            account: Account::new(SESSION_ACCOUNT),
            waiting: AtomicU32::new(0),
            done: AtomicU32::new(0),
        })
    }

    /// A message has arrived from the gate.
    pub(super) fn arrived(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// A request has arrived and waits for its answer.
    pub(super) fn expect(&self, request: u64, timeout: Option<Duration>) {
        let mut state = self.state.lock();
        let deadline = timeout.map(|timeout| {
            let now = Instant::now();
            while state
                .requests
                .front()
                .is_some_and(|(_, deadline)| deadline.is_some_and(|deadline| deadline <= now))
            {
                state.requests.pop_front();
            }
            now + timeout
        });
        state.requests.push_back((request, deadline));
    }

    /// How many requests wait for their answer, and their gate with them.
    pub(super) fn unanswered(&self, now: Instant) -> usize {
        let waits = |(_, deadline): &&(u64, Option<Instant>)| {
            deadline.is_none_or(|deadline| deadline > now)
        };
        self.state.lock().requests.iter().filter(waits).count()
    }

    /// The session has ended: nothing is sent to it any more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.requests.clear();
    }

    /// The gate says what the session is bound to. What this node has said since will be answered,
    /// and counts until then.
    pub(super) fn bound(&self, session: &Session, frame: &Frame) {
        let mut binds = self.binds.lock();
        binds.heard = frame.binds.max(binds.heard);
        if frame.binds >= binds.said {
            session.inner().rebind(frame.uid.max(0));
        }
    }

    /// Says again what the session is bound to, if it was said and may be lost.
    pub(super) fn bind_again(&self, session: &Session) {
        let binds = self.binds.lock();
        if binds.said > binds.heard {
            self.shard()
                .send(Frame::bind(self.id, session.uid(), binds.said));
        }
    }

    fn shard(&self) -> &Arc<Shard> {
        &self.gate.shards[shard_of(self.id)]
    }

    fn check_open(&self) -> Result {
        if self.state.lock().closing {
            Err(Error::new(code::CLOSED, "the session is closed"))
        } else {
            Ok(())
        }
    }
}

impl SessionSink for Remote {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        self.check_open()?;
        self.shard().try_send(
            Frame::push(self.id, Vec::new(), push.route(), push.body().clone()),
            &self.account,
        )
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        let mut state = self.state.lock();
        if state.closing {
            return Err(Error::new(code::CLOSED, "the session is closed"));
        }
        let at = state
            .requests
            .iter()
            .position(|(waiting, _)| *waiting == request);
        if at.and_then(|at| state.requests.remove(at)).is_none() {
            return Err(Error::new(
                code::CONFLICT,
                format!("request {request} does not wait for an answer"),
            ));
        }
        drop(state);
        // Bounded by the requests in flight.
        self.shard().send(Frame::response(self.id, request, answer));
        Ok(())
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        self.check_open()?;
        self.dispatch.rpc(session, Message::notify(route, body))
    }

    fn close(&self, reason: CloseReason) {
        if !std::mem::replace(&mut self.state.lock().closing, true) {
            self.shard().send(Frame::close(self.id, reason));
        }
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    fn bind(&self, session: &Session, uid: i64) {
        let mut binds = self.binds.lock();
        session.inner().rebind(uid);
        // Not on the session's account: what it is pushed is no reason to lose this. A gate that
        // takes nothing is a gate that is cut off; then its word counts when it is back.
        let bind = Frame::bind(self.id, uid, binds.said + 1);
        if self.check_open().is_ok() && self.shard().try_send(bind, &self.shard().node).is_ok() {
            binds.said += 1;
        }
    }

    fn done(&self) {
        // What this node itself sends to the session's handlers is not the gate's to be credited.
        if self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
                waiting.checked_sub(1)
            })
            .is_err()
        {
            return;
        }
        if (self.done.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(CREDIT) {
            self.gate.inlets[shard_of(self.id)].answer(Frame::credit(self.id, CREDIT));
        }
    }

    fn relay(&self) -> Option<Arc<dyn GateMulticast>> {
        // A session that is being closed gets its own error.
        self.check_open().ok()?;
        let shard: Arc<dyn GateMulticast> = self.shard().clone();
        Some(shard)
    }
}

impl Remote {
    /// Sends a message on behalf of the session to whom its gate thinks right: only the gate knows
    /// who serves it.
    pub(super) fn relay_message(
        &self,
        kind: Kind,
        id: u64,
        message: Message,
        deadline: Option<Instant>,
    ) -> Result {
        self.check_open()?;
        self.shard().try_send(
            Frame::message(kind, self.id, id, message.route, message.body).until(deadline),
            &self.account,
        )
    }

    /// How a call for the session's gate goes.
    pub(super) fn way(&self) -> Way {
        Way {
            incarnation: self.gate.incarnation,
            shard: shard_of(self.id),
        }
    }
}

impl GateMulticast for Shard {
    fn push(&self, sessions: Vec<i64>, push: &Push<'_>) -> Result {
        self.try_send(
            Frame::push(0, sessions, push.route(), push.body().clone()),
            &self.broadcasts,
        )
    }
}
