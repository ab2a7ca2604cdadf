//! A client's handshake as the application's checks see it, and their answer.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

use super::upgrade_request::UpgradeRequest;
use crate::{
    error::Result,
    handshake::Request,
    session::{Session, UserId},
};

/// Checks a client's handshake at once.
pub(crate) type OnHandshake = Box<dyn Fn(&Handshake) -> Result<Accept> + Send + Sync>;

/// Checks a client's handshake and may wait.
pub(crate) type CheckHandshake =
    Arc<dyn Fn(Handshake) -> Pin<Box<dyn Future<Output = Result<Accept>> + Send>> + Send + Sync>;

/// A client's handshake, for [`App::on_handshake`](crate::App::on_handshake) and
/// [`App::on_handshake_async`](crate::App::on_handshake_async).
///
/// ```
/// use nano::{App, Error};
///
/// let app = App::new().on_handshake(|handshake| {
///     match handshake.request().sys.version.as_str() {
///         "1.0" => Err(Error::new("426", "please update the game")),
///         _ => Ok(Default::default()),
///     }
/// });
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct Handshake {
    pub(super) session: Session,
    pub(super) request: Request,
    pub(super) body: Bytes,
    pub(super) upgrade: Option<Arc<UpgradeRequest>>,
    pub(super) listener: Arc<str>,
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

    /// The name of the listener: that of [`Listener::name`](crate::Listener::name), or else its
    /// address as it was given.
    pub fn listener(&self) -> &str {
        &self.listener
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
            .field("listener", &self.listener)
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

    /// Fills what this one leaves out from another.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            user: self.user.or(other.user),
            bound: self.bound.or(other.bound),
        }
    }

    /// Binds the session to the user, if there is one, and returns the user data of the reply.
    pub(super) fn bind_to(self, session: &Session) -> Result<Option<Value>> {
        if let Some(user) = self.bound {
            session.bind(user)?;
        }
        Ok(self.user)
    }
}
