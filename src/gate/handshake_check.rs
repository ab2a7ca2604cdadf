//! Checks of a handshake that may wait: on the application's runtime, with a deadline.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use metrics::Counter;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
    time::{Instant, timeout},
};

use super::upgrade_request::UpgradeRequest;
use crate::{
    error::{Error, Result, code},
    handshake::Request,
    session::{Session, UserId},
};

/// The code of a refusal whose check took too long, as of an HTTP gateway.
const CHECK_TIMED_OUT: &str = "504";

/// Checks a client's handshake and may wait.
pub(crate) type CheckHandshake =
    Arc<dyn Fn(Handshake) -> Pin<Box<dyn Future<Output = Result<Accept>> + Send>> + Send + Sync>;

/// A client's handshake, for [`App::on_handshake_async`](crate::App::on_handshake_async).
#[derive(Clone)]
pub struct Handshake {
    pub(super) session: Session,
    pub(super) request: Request,
    pub(super) body: Bytes,
    pub(super) upgrade: Option<Arc<UpgradeRequest>>,
}

impl Handshake {
    /// The client's session. What is pushed to it waits until the client has acknowledged the reply.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The parsed request: the client library (`sys`) and the application's value (`user`). Empty
    /// where the client sent something else.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The bytes the client sent.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The client's address.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.session.remote_addr()
    }

    /// The HTTP request that opened the WebSocket; `None` for a client by TCP.
    pub fn upgrade(&self) -> Option<&UpgradeRequest> {
        self.upgrade.as_deref()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("session", &self.session.id())
            .field("remote", &self.remote_addr())
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}

/// How an accepted handshake is answered: nothing, user data for the client, a user to bind.
///
/// ```
/// use nano::Accept;
///
/// let accept = Accept::new().bind(7).user(serde_json::json!({ "motd": "hello" }));
/// # let _ = accept;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a handshake is accepted when the check returns this"]
pub struct Accept {
    user: Option<Value>,
    bound: Option<UserId>,
}

impl Accept {
    /// Accepts the client without more.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the user data of the reply.
    pub fn user(mut self, user: impl Into<Value>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Binds the session to this user, as [`Session::bind`], before the reply is sent.
    pub fn bind(mut self, user: impl Into<UserId>) -> Self {
        self.bound = Some(user.into());
        self
    }

    /// Binds the session to the user, if there is one, and returns the user data of the reply.
    pub(super) fn bind_to(self, session: &Session) -> Result<Option<Value>> {
        if let Some(user) = self.bound {
            session.bind(user)?;
        }
        Ok(self.user)
    }
}

/// One check under way. Dropping it cancels the check.
pub(super) struct PendingCheck {
    task: JoinHandle<Result<Accept>>,
    begun: Instant,
    /// Bytes of input that were read meanwhile.
    read_ahead: usize,
}

impl PendingCheck {
    /// Starts the check on the application's runtime. `user` is the user data of a reply for which
    /// it sets none.
    pub(super) fn start(
        runtime: &Handle,
        check: CheckHandshake,
        handshake: Handshake,
        user: Option<Value>,
        within: Duration,
        now: Instant,
    ) -> Self {
        let check = async move {
            let result = timeout(within, check(handshake)).await;
            let timed_out = || Error::new(CHECK_TIMED_OUT, "the handshake check timed out");
            let mut accept = result.map_err(|_| timed_out())??;
            accept.user = accept.user.or(user);
            Ok(accept)
        };
        Self {
            task: runtime.spawn(check),
            begun: now,
            read_ahead: 0,
        }
    }

    /// Ready with the result of the check. A panic is counted and refuses the client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, panics: &Counter) -> Poll<Result<Accept>> {
        let result = ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(result.unwrap_or_else(|error: JoinError| {
            if error.is_panic() {
                panics.increment(1);
                return Err(Error::new(code::INTERNAL, "panicked"));
            }
            Err(Error::new(code::UNAVAILABLE, "the runtime has shut down"))
        }))
    }

    /// How long the check has taken.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// Whether more input may be read while the check runs, to notice a client that goes.
    pub(super) fn reads_ahead(&self, limit: usize) -> bool {
        self.read_ahead < limit
    }

    /// Counts input that was read while the check runs.
    pub(super) fn add_input(&mut self, bytes: usize) {
        self.read_ahead += bytes;
    }
}

impl Drop for PendingCheck {
    fn drop(&mut self) {
        self.task.abort();
    }
}
