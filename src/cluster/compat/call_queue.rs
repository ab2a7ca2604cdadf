//! Calls that wait to be sent to a node of Go nano.

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
        grpc_channel::Authorized,
        link::{config::MESSAGE_BYTES, session_window::SessionWindow},
        proto::{
            CloseSessionRequest, NotifyMessage, PushMessage, RequestMessage, ResponseMessage,
            SessionClosedRequest, member_client::MemberClient,
        },
    },
    error::{Error, Result, code},
    memory_budget::PeerCharge,
    message::{Kind, Message},
    session::Session,
};

/// One call of nano's protocol.
#[derive(Clone, Debug)]
pub(super) enum OutboundCall {
    Request(RequestMessage),
    Notify(NotifyMessage),
    Push(PushMessage),
    Response(ResponseMessage),
    SessionClosed(i64),
    CloseSession(i64),
}

impl OutboundCall {
    /// Makes the call and waits for its reply, at most for `timeout`.
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

    /// The request that is failed if the call is.
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

/// The calls for some sessions, in order, one in flight.
pub(super) struct CallQueue(
    /// Never held while a task is woken or spawned.
    Mutex<State>,
);

struct State {
    queue: VecDeque<Item>,
    bytes: usize,
    charge: PeerCharge,
    /// Whether a task sends the calls.
    running: bool,
    windows: HashMap<i64, SessionWindow<Session>>,
    /// Readers of sessions that wait for room in the queue.
    readers: Vec<Waker>,
}

pub(super) struct Item {
    pub(super) session: i64,
    pub(super) call: OutboundCall,
    /// Whether it counts for the session's window.
    counted: bool,
}

/// Requests that will not be answered, by session.
pub(super) type OrphanedRequests = Vec<(Session, VecDeque<u64>)>;

/// Why a message was not queued.
pub(super) enum Blocked {
    Full(Message),
    Closed,
}

impl CallQueue {
    pub(super) fn new(charge: PeerCharge) -> Self {
        Self(Mutex::new(State {
            queue: VecDeque::new(),
            bytes: 0,
            charge,
            running: false,
            windows: HashMap::new(),
            readers: Vec::new(),
        }))
    }

    pub(super) fn sessions(&self) -> usize {
        self.0.lock().windows.len()
    }

    /// Whether the node serves the session.
    pub(super) fn has_window(&self, session: i64) -> bool {
        self.0.lock().windows.contains_key(&session)
    }

    /// Queues a message of a session of this gate. Returns whether a task must be started.
    pub(super) fn message(
        &self,
        session: &Session,
        message: Message,
        gate: &str,
    ) -> Result<bool, Blocked> {
        let mut state = self.0.lock();
        // Under the lock, so that no window is opened after the session's end.
        if session.closed().is_some() {
            return Err(Blocked::Closed);
        }
        let full = state.is_full();
        let window = (state.windows)
            .entry(session.id())
            .or_insert_with(|| SessionWindow::new(session, 0));
        if full || !window.has_room() {
            return Err(Blocked::Full(message));
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
        window.sent(request);
        let call = match request {
            0 => OutboundCall::Notify(NotifyMessage {
                gate_addr,
                session_id,
                route,
                data,
            }),
            id => OutboundCall::Request(RequestMessage {
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

    /// Queues any other call. Returns whether a task must be started.
    ///
    /// # Errors
    /// [`code::TOO_MANY`] for a push or notify while too many bytes wait.
    pub(super) fn push(&self, session: i64, call: OutboundCall) -> Result<bool> {
        let mut state = self.0.lock();
        if call.is_droppable() && state.is_full() {
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

    /// Takes the next call. With `None` the task ends.
    pub(super) fn next(&self) -> Option<Item> {
        let mut state = self.0.lock();
        let item = state.queue.pop_front();
        match &item {
            Some(item) => {
                let left = state.bytes - item.call.weight();
                state.resize(left);
            }
            None => state.running = false,
        }
        let readers = if state.bytes <= (MESSAGE_BYTES / 2).min(state.charge.share()) {
            std::mem::take(&mut state.readers)
        } else {
            Vec::new()
        };
        drop(state);
        readers.into_iter().for_each(Waker::wake);
        item
    }

    /// A call has been accepted by the node, or is lost: reopens the session's window.
    pub(super) fn sent(&self, item: &Item) {
        if item.counted {
            let reader = self
                .0
                .lock()
                .windows
                .get_mut(&item.session)
                .and_then(|window| window.credit(1));
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    /// Takes a request that the node answers. `None` if it is not in flight.
    pub(super) fn answered(&self, session: i64, request: u64) -> Option<Session> {
        let mut state = self.0.lock();
        let window = state.windows.get_mut(&session)?;
        window
            .answered(request)
            .then(|| window.session.with_request(request))
    }

    /// Closes the window of a session that has ended. Its requests are not failed: its client is
    /// gone.
    pub(super) fn close_window(&self, session: i64) {
        self.0.lock().windows.remove(&session);
    }

    /// Takes the requests in flight, and drops those that have not been sent: all of them are
    /// failed.
    pub(super) fn orphan_requests(&self) -> OrphanedRequests {
        let mut readers = Vec::new();
        let orphaned = {
            let mut state = self.0.lock();
            state.queue.retain(|item| item.call.request().is_none());
            let left = state.queue.iter().map(|item| item.call.weight()).sum();
            state.resize(left);
            state.orphan(&mut readers)
        };
        readers.into_iter().for_each(Waker::wake);
        orphaned
    }

    /// Drops all calls and windows. Returns the requests in flight.
    pub(super) fn close(&self) -> OrphanedRequests {
        let mut readers = Vec::new();
        let orphaned = {
            let mut state = self.0.lock();
            state.queue.clear();
            state.resize(0);
            let orphaned = state.orphan(&mut readers);
            readers.append(&mut state.readers);
            state.windows.clear();
            orphaned
        };
        readers.into_iter().for_each(Waker::wake);
        orphaned
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
        let full = state.is_full();
        let State {
            windows, readers, ..
        } = &mut *state;
        match windows.get_mut(&session) {
            Some(window) if !window.has_room() => {
                window.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) if full => {
                readers.push(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl State {
    fn resize(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.charge.set(bytes);
    }

    /// Whether what may be refused is refused.
    fn is_full(&self) -> bool {
        self.bytes > MESSAGE_BYTES.min(self.charge.share())
    }

    fn push(&mut self, item: Item) -> bool {
        self.resize(self.bytes + item.call.weight());
        self.queue.push_back(item);
        !std::mem::replace(&mut self.running, true)
    }

    fn orphan(&mut self, readers: &mut Vec<Waker>) -> OrphanedRequests {
        let orphaned = self.windows.values_mut().filter_map(|window| {
            readers.extend(window.reader.take());
            let requests = window.orphan();
            (!requests.is_empty()).then(|| (window.session.clone(), requests))
        });
        orphaned.collect()
    }
}
