//! Logins: the gate of a session claims the user in the directory. Of two claims of one user
//! `directory::owner` grants one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tracing::warn;

use super::{context::UserContext, gate::closed};
use crate::{
    cluster::{
        directory::{driver::Directory, holdings::Outcome, message::Policy},
        players::{LoginReply, LoginRequest},
        user_ids::user,
    },
    error::{Error, Result, code},
    handle::Unique,
};

/// Logins of the sessions of this gate.
#[derive(Clone)]
pub(super) struct Logins {
    pub(super) context: Arc<UserContext>,
    pub(super) directory: Arc<Directory>,
    /// Whether the log says that logins may not be unique under the present master.
    pub(super) warned: Arc<AtomicBool>,
}

impl Logins {
    /// Claims a user for a session of this gate, and binds it. The node that claims has asked the hook
    /// of binds.
    ///
    /// # Errors
    /// [`code::CONFLICT`] while the user has another session that must not be replaced, and when the
    /// session was bound to another user, or logged in as one, meanwhile,
    /// [`code::CLOSED`], [`code::TIMEOUT`], and [`code::UNSUPPORTED`] if this gate has no unique
    /// users.
    pub(super) async fn login(self, request: LoginRequest) -> Result<LoginReply> {
        let user = user(request.user.as_ref())?;
        let policy = match self.context.unique {
            Some(Unique::Replace) => Policy::Replace,
            Some(Unique::Reject) => Policy::Reject,
            None => {
                let text = "the gate of the session has no unique users";
                return Err(Error::new(code::UNSUPPORTED, text));
            }
        };
        let id = request.session;
        let session = self.context.sessions.find_local(id).ok_or_else(closed)?;
        let outcome = self.directory.login(id, user.clone(), policy);
        if session.closed().is_some() {
            // It may have ended before the directory had it.
            self.directory.closed(id);
        }
        let failure = match outcome.await {
            Outcome::Granted { replaced, late } => {
                session.bind_checked(user);
                self.warn_of_basic_master();
                return Ok(LoginReply { replaced, late });
            }
            Outcome::Refused => Error::new(code::CONFLICT, "the user has another session"),
            Outcome::TimedOut => Error::new(code::TIMEOUT, "the login was not decided in time"),
            Outcome::Ended if session.closed().is_some() => return Err(closed()),
            Outcome::Ended => {
                let text = "the session was bound to another user meanwhile";
                return Err(Error::new(code::CONFLICT, text));
            }
        };
        // It keeps the user that it had.
        if session.closed().is_none() {
            self.directory.bound(id, &|| session.user());
        }
        Err(failure)
    }

    /// Logs once, for as long as the master is basic, that it cannot keep users unique.
    fn warn_of_basic_master(&self) {
        let basic = self.context.has_basic_master();
        if basic && !self.warned.swap(basic, Ordering::Relaxed) {
            warn!("logins may not be unique, the basic master numbers no views");
        }
        if !basic {
            self.warned.store(false, Ordering::Relaxed);
        }
    }
}
