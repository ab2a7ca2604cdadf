//! What waits for its turn to be sent to a node of Go nano.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tonic::{Request, Status};

use crate::{
    cluster::{
        channel::Authorized,
        link::{MESSAGE_BYTES, pairing::Pairing, shard::Lost},
        proto::{
            CloseSessionRequest, NotifyMessage, PushMessage, RequestMessage, ResponseMessage,
            SessionClosedRequest, member_client::MemberClient,
        },
    },
    error::{Error, Result, code},
    message::{Kind, Message},
    session::Session,
};

/// One call of nano's protocol.
#[derive(Clone, Debug)]
pub(in crate::cluster) enum Outgoing {
    Request(RequestMessage),
    Notify(NotifyMessage),
    Push(PushMessage),
    Response(ResponseMessage),
    SessionClosed(i64),
    CloseSession(i64),
}

impl Outgoing {
    pub(super) async fn send(
        self,
        client: &mut MemberClient<Authorized>,
        timeout: Duration,
    ) -> Result<(), Status> {
        macro_rules! call {
            ($method:ident, $message:expr) => {{
                let mut request = Request::new($message);
                request.set_timeout(timeout);
                client.$method(request).await.map(drop)
            }};
        }
        match self {
            Self::Request(message) => call!(handle_request, message),
            Self::Notify(message) => call!(handle_notify, message),
            Self::Push(message) => call!(handle_push, message),
            Self::Response(message) => call!(handle_response, message),
            Self::SessionClosed(session_id) => {
                call!(session_closed, SessionClosedRequest { session_id })
            }
            Self::CloseSession(session_id) => {
                call!(close_session, CloseSessionRequest { session_id })
            }
        }
    }

    /// The request that fails if it is not delivered.
    pub(super) fn request(&self) -> Option<u64> {
        match self {
            Self::Request(message) => Some(message.id),
            _ => None,
        }
    }

    fn body(&self) -> Option<&Bytes> {
        match self {
            Self::Request(message) => Some(&message.data),
            Self::Notify(message) => Some(&message.data),
            Self::Push(message) => Some(&message.data),
            Self::Response(message) => Some(&message.data),
            Self::SessionClosed(_) | Self::CloseSession(_) => None,
        }
    }

    fn weight(&self) -> usize {
        64 + self.body().map_or(0, Bytes::len)
    }

    /// Whether it may be refused when too much waits.
    fn is_droppable(&self) -> bool {
        matches!(self, Self::Push(_) | Self::Notify(_))
    }
}

/// The calls for some sessions, in order, one at a time.
#[derive(Default)]
pub(super) struct Lane(Mutex<State>);

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    bytes: usize,
    /// Whether a task sends what is queued.
    running: bool,
    pairings: HashMap<i64, Pairing>,
    /// Readers of sessions that wait until there is room in the queue, whoever filled it.
    readers: Vec<Waker>,
}

pub(super) struct Item {
    pub(super) session: i64,
    pub(super) call: Outgoing,
    /// Whether it counts for the session's window.
    counted: bool,
}

/// Why a message was not queued.
pub(super) enum Refusal {
    Full(Message),
    Closed,
}

impl Lane {
    pub(super) fn sessions(&self) -> usize {
        self.0.lock().pairings.len()
    }

    /// Queues a message of a session of this gate. Whether a task must be started.
    pub(super) fn message(
        &self,
        session: &Session,
        message: Message,
        gate: &str,
    ) -> Result<bool, Refusal> {
        let mut state = self.0.lock();
        // Under the lock, so that no pairing comes behind the end of its session.
        if session.closed().is_some() {
            return Err(Refusal::Closed);
        }
        let State {
            pairings, bytes, ..
        } = &mut *state;
        let pairing = pairings
            .entry(session.id())
            .or_insert_with(|| Pairing::new(session));
        if !pairing.has_room() || *bytes > MESSAGE_BYTES {
            return Err(Refusal::Full(message));
        }
        let (gate_addr, session_id, route, data) = (
            gate.to_owned(),
            session.id(),
            message.route.to_string(),
            message.body,
        );
        let request = if message.kind == Kind::Request {
            message.id
        } else {
            0
        };
        pairing.sent(request);
        let call = match request {
            0 => Outgoing::Notify(NotifyMessage {
                gate_addr,
                session_id,
                route,
                data,
            }),
            id => Outgoing::Request(RequestMessage {
                gate_addr,
                session_id,
                id,
                route,
                data,
            }),
        };
        Ok(state.push(Item {
            session: session_id,
            call,
            counted: true,
        }))
    }

    /// Queues any other call. Whether a task must be started.
    ///
    /// # Errors
    /// [`code::TOO_MANY`] for what may be dropped.
    pub(super) fn push(&self, session: i64, call: Outgoing) -> Result<bool> {
        let mut state = self.0.lock();
        if call.is_droppable() && state.bytes > MESSAGE_BYTES {
            return Err(Error::new(
                code::TOO_MANY,
                "the other node does not take more",
            ));
        }
        Ok(state.push(Item {
            session,
            call,
            counted: false,
        }))
    }

    /// What to send next; without anything the task ends.
    pub(super) fn next(&self) -> Option<Item> {
        let mut state = self.0.lock();
        let item = state.queue.pop_front();
        match &item {
            Some(item) => state.bytes -= item.call.weight(),
            None => state.running = false,
        }
        let readers = if state.bytes <= MESSAGE_BYTES / 2 {
            std::mem::take(&mut state.readers)
        } else {
            Vec::new()
        };
        drop(state);
        readers.into_iter().for_each(Waker::wake);
        item
    }

    /// A message has been taken by the node, or lost.
    pub(super) fn sent(&self, item: &Item) {
        if item.counted {
            let reader = self
                .0
                .lock()
                .pairings
                .get_mut(&item.session)
                .and_then(|pairing| pairing.credit(1));
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    pub(super) fn answered(&self, session: i64, request: u64) -> Option<Session> {
        let mut state = self.0.lock();
        let pairing = state.pairings.get_mut(&session)?;
        pairing
            .answered(request)
            .then(|| pairing.session.with_request(request))
    }

    /// The session has ended; what waits for it is dropped with it, for nobody is left to be
    /// answered.
    pub(super) fn part(&self, session: i64) {
        self.0.lock().pairings.remove(&session);
    }

    /// The requests that the node owes an answer.
    pub(super) fn lose(&self) -> Lost {
        let mut readers = Vec::new();
        let lost = {
            let mut state = self.0.lock();
            // Those that have not been sent are not going to be: their senders have been told.
            state.queue.retain(|item| item.call.request().is_none());
            state.bytes = state.queue.iter().map(|item| item.call.weight()).sum();
            state.lose(&mut readers)
        };
        readers.into_iter().for_each(Waker::wake);
        lost
    }

    /// Drops everything.
    pub(super) fn close(&self) -> Lost {
        let mut readers = Vec::new();
        let lost = {
            let mut state = self.0.lock();
            state.queue.clear();
            state.bytes = 0;
            let lost = state.lose(&mut readers);
            readers.append(&mut state.readers);
            state.pairings.clear();
            lost
        };
        readers.into_iter().for_each(Waker::wake);
        lost
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.0.lock().running
    }

    /// Ready when a session may have room.
    pub(super) async fn room(&self, session: i64) {
        poll_fn(|cx| self.poll_room(session, cx)).await;
    }

    fn poll_room(&self, session: i64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        let State {
            pairings,
            bytes,
            readers,
            ..
        } = &mut *state;
        match pairings.get_mut(&session) {
            Some(pairing) if !pairing.has_room() => {
                pairing.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) if *bytes > MESSAGE_BYTES => {
                readers.push(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl State {
    fn push(&mut self, item: Item) -> bool {
        self.bytes += item.call.weight();
        self.queue.push_back(item);
        !std::mem::replace(&mut self.running, true)
    }

    fn lose(&mut self, readers: &mut Vec<Waker>) -> Lost {
        let lost = self.pairings.values_mut().filter_map(|pairing| {
            readers.extend(pairing.reader.take());
            let requests = pairing.lose();
            (!requests.is_empty()).then(|| (pairing.session.clone(), requests))
        });
        lost.collect()
    }
}
