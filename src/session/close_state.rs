//! The end of a session: its reason, close callbacks and groups.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Session, SessionInner};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed the connection.
    Client,
    /// The application closed it, with a reason of its own (empty from [`Session::close`]).
    Closed(String),
    /// The application kicked it; the client was sent this reason.
    Kicked(String),
    /// The client sent nothing for two heartbeat intervals.
    HeartbeatTimeout,
    /// The client did not finish its handshake in time.
    HandshakeTimeout,
    /// The application refused the handshake, with this message.
    HandshakeRefused(String),
    /// The client broke the protocol, or sent something too large.
    Protocol(String),
    /// The client sent messages faster than the node allows.
    RateLimit,
    /// The client reads too slowly: its send queue is full.
    SlowClient,
    /// The node is shutting down.
    Shutdown,
    /// The connection broke.
    Broken(String),
}

impl CloseReason {
    /// A short fixed name, for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Closed(_) => "closed",
            Self::Kicked(_) => "kicked",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeRefused(_) => "handshake_refused",
            Self::Protocol(_) => "protocol",
            Self::RateLimit => "rate_limit",
            Self::SlowClient => "slow_client",
            Self::Shutdown => "shutdown",
            Self::Broken(_) => "broken",
        }
    }

    /// The label and the detail, as they travel between nodes.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        let detail = match self {
            Self::Closed(detail)
            | Self::Kicked(detail)
            | Self::HandshakeRefused(detail)
            | Self::Protocol(detail)
            | Self::Broken(detail) => detail,
            _ => "",
        };
        (self.label(), detail)
    }

    /// Reads the [parts](CloseReason::parts). An unknown label is a broken connection.
    pub(crate) fn of(label: &str, detail: String) -> Self {
        match label {
            "client" => Self::Client,
            "closed" => Self::Closed(detail),
            "kicked" => Self::Kicked(detail),
            "heartbeat_timeout" => Self::HeartbeatTimeout,
            "handshake_timeout" => Self::HandshakeTimeout,
            "handshake_refused" => Self::HandshakeRefused(detail),
            "protocol" => Self::Protocol(detail),
            "rate_limit" => Self::RateLimit,
            "slow_client" => Self::SlowClient,
            "shutdown" => Self::Shutdown,
            _ => Self::Broken(detail),
        }
    }

    /// The reason in the kick packet; `None` if none is sent.
    pub(crate) fn kick(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Kicked(reason) => Some(Cow::Borrowed(reason)),
            Self::RateLimit => Some(Cow::Borrowed("rate limit exceeded")),
            Self::Shutdown => Some(Cow::Borrowed("server is shutting down")),
            _ => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (label, "") => f.write_str(label),
            (label, detail) => write!(f, "{label}: {detail}"),
        }
    }
}

pub(crate) type OnClosed = Box<dyn FnOnce(&Session, &CloseReason) + Send>;

/// A callback registered with [`Session::on_closed`]. Dropping this does not withdraw it.
#[derive(Default)]
pub struct CloseCallback {
    session: Weak<SessionInner>,
    id: u64,
}

impl CloseCallback {
    pub(super) fn new(session: &Arc<SessionInner>, id: u64) -> Self {
        Self {
            session: Arc::downgrade(session),
            id,
        }
    }

    /// Withdraws the callback, and returns whether it did: false once the session has closed. Then
    /// it has run, runs now, or will.
    ///
    /// What the callback owns is dropped here.
    pub fn cancel(self) -> bool {
        let session = self.session.upgrade();
        let callback = session.and_then(|session| session.close_state.withdraw(self.id));
        callback.is_some()
    }
}

impl fmt::Debug for CloseCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseCallback").finish_non_exhaustive()
    }
}

/// A group, as its members see it.
pub(crate) trait GroupRef: Send + Sync {
    fn forget(&self, session: &Arc<SessionInner>);
}

/// What remains to be done for a session that has ended.
pub(super) struct Ended {
    pub(super) callbacks: Vec<OnClosed>,
    pub(super) groups: Vec<Arc<dyn GroupRef>>,
}

/// Ends one session, at most once.
///
/// The lock guards the reason, the callbacks and the list of groups. It is taken while a group's
/// lock is held ([`join`](CloseState::join)), never the other way round.
#[derive(Default)]
pub(crate) struct CloseState(Mutex<State>);

#[derive(Default)]
struct State {
    closed: Option<CloseReason>,
    /// By number, in the order they were registered.
    callbacks: Vec<(u64, OnClosed)>,
    next_callback: u64,
    groups: Vec<Weak<dyn GroupRef>>,
}

impl CloseState {
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.0.lock().closed.clone()
    }

    /// Keeps the callback under a number.
    ///
    /// # Errors
    /// The session is closed: gives the callback back with the reason.
    pub(super) fn on_closed(&self, callback: OnClosed) -> Result<u64, (OnClosed, CloseReason)> {
        let mut state = self.0.lock();
        if let Some(reason) = &state.closed {
            return Err((callback, reason.clone()));
        }
        let id = state.next_callback;
        state.next_callback += 1;
        state.callbacks.push((id, callback));
        Ok(id)
    }

    fn withdraw(&self, id: u64) -> Option<OnClosed> {
        let mut state = self.0.lock();
        let at = state.callbacks.binary_search_by_key(&id, |(id, _)| *id);
        Some(state.callbacks.remove(at.ok()?).1)
    }

    /// Remembers a group the session joins. False when the session is closed and may not join.
    pub(crate) fn join(&self, group: Weak<dyn GroupRef>) -> bool {
        let mut state = self.0.lock();
        if state.closed.is_some() {
            return false;
        }
        // Groups dropped with members in them are still listed. They are removed when the list
        // would grow, so that joining stays cheap.
        if state.groups.len() == state.groups.capacity() {
            state.groups.retain(|joined| joined.strong_count() > 0);
        }
        state.groups.push(group);
        true
    }

    pub(crate) fn leave(&self, group: &Weak<dyn GroupRef>) {
        let mut state = self.0.lock();
        if let Some(at) = state
            .groups
            .iter()
            .position(|joined| Weak::ptr_eq(joined, group))
        {
            state.groups.swap_remove(at);
        }
    }

    /// Ends the session. The first caller gets the callbacks to run and the groups to leave.
    pub(super) fn end(&self, reason: &CloseReason) -> Option<Ended> {
        let mut state = self.0.lock();
        if state.closed.is_some() {
            return None;
        }
        state.closed = Some(reason.clone());
        let groups = std::mem::take(&mut state.groups);
        let callbacks = std::mem::take(&mut state.callbacks);
        Some(Ended {
            callbacks: callbacks.into_iter().map(|(_, call)| call).collect(),
            groups: groups.iter().filter_map(Weak::upgrade).collect(),
        })
    }
}
