//! Hooks of the application: handshakes, sessions, users, errors.

use std::sync::Arc;

use super::builder::App;
use crate::{
    error::{Error, Result},
    gate::{Accept, Handshake, OpenHook},
    session::{CloseReason, Session, UserId},
};

impl App {
    /// Looks at every client's handshake: the request, the client's address, and of a WebSocket the
    /// HTTP request with its query, headers and cookies.
    ///
    /// It answers with user data for the reply and a user to bind, or refuses with an error. That
    /// closes the connection, silently as nano does unless its code is a number, such as `501`,
    /// which is sent to the client as pomelo does. A panic refuses the client and is counted.
    ///
    /// Called on a thread that does the network's work: it must not block. A check that waits is
    /// [`on_handshake_async`](App::on_handshake_async), which sees the same. Replaces an earlier one.
    ///
    /// ```
    /// use nano::{Accept, App, Error};
    ///
    /// let app = App::new().on_handshake(|handshake| {
    ///     match handshake.request().user["version"].as_i64() {
    ///         Some(3..) => Ok(Accept::new().user("hello")),
    ///         _ => Err(Error::new("501", "update the game")),
    ///     }
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn on_handshake(
        mut self,
        hook: impl Fn(&Handshake) -> Result<Accept> + Send + Sync + 'static,
    ) -> Self {
        self.config.settings.on_handshake = Some(Box::new(hook));
        self
    }

    /// Looks at every client's handshake and may wait: for a database, for a token service.
    ///
    /// It sees what [`on_handshake`](App::on_handshake) sees, and accepts or refuses in the same way.
    /// If both are set, `on_handshake` runs first, and what this one answers wins. Replaces an earlier
    /// one.
    ///
    /// It runs on the runtime the node was started on, for at most
    /// [`Timeouts::handshake_check`](crate::Timeouts::handshake_check). Until it has ended, nothing of the client is
    /// handled, no heartbeat is missed, and a client that goes cancels it. A panic refuses the client
    /// and is counted. A client that returns to its session is not checked again; see
    /// [`on_resumed`](App::on_resumed).
    ///
    /// ```
    /// use nano::{Accept, App, Error, Handshake, Result};
    ///
    /// async fn player_of(token: &str) -> Result<i64> {
    ///     // A query of a database, perhaps.
    ///     token.parse().map_err(|_| Error::new("401", "who are you?"))
    /// }
    ///
    /// let app = App::new().on_handshake_async(|handshake: Handshake| async move {
    ///     let token = handshake.upgrade().and_then(|request| request.cookie("token"));
    ///     let token = token.or(handshake.request().user["token"].as_str());
    ///     Ok(Accept::new().bind(player_of(token.unwrap_or_default()).await?))
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn on_handshake_async<F>(
        mut self,
        check: impl Fn(Handshake) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Accept>> + Send + 'static,
    {
        let check = Arc::new(check);
        self.config.settings.check_handshake = Some(Arc::new(move |handshake| {
            let check = check.clone();
            // Called inside the future, so that a panic of either is one of the check.
            Box::pin(async move { check(handshake).await })
        }));
        self
    }

    /// Calls `hook` when a session opens: its client has acknowledged the handshake, and none of its
    /// messages has been handled. What the hook pushes is the first that the client gets.
    ///
    /// An error refuses the session: the client is kicked with its code and message, as by
    /// [`Session::kick_with`], and close callbacks see
    /// [`CloseReason::KickedWith`]. A panic does the same and is counted. A client that returns to its
    /// session opens none; see [`on_resumed`](App::on_resumed).
    ///
    /// Called on a thread that does the network's work: it must not block. A hook that waits is
    /// [`on_session_open_async`](App::on_session_open_async). One of both: the later replaces the
    /// earlier.
    ///
    /// ```
    /// use nano::{App, Error, code};
    ///
    /// let app = App::new().on_session_open(|session| {
    ///     if session.user().is_none() {
    ///         return Err(Error::new(code::UNAUTHENTICATED, "log in first"));
    ///     }
    ///     session.push("onHello", "hello")
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn on_session_open(
        mut self,
        hook: impl Fn(&Session) -> Result + Send + Sync + 'static,
    ) -> Self {
        self.config.settings.on_session_open = Some(OpenHook::Sync(Box::new(hook)));
        self
    }

    /// Calls `hook` when a session opens, as [`on_session_open`](App::on_session_open), and lets it
    /// wait: for the player's state, before a message needs it.
    ///
    /// It runs on the runtime the node was started on, for at most
    /// [`Timeouts::handshake_check`](crate::Timeouts::handshake_check). Until it has ended, nothing of
    /// the client is handled, no heartbeat is missed, and a client that goes cancels it. If such a
    /// client returns to its session, the hook begins anew.
    ///
    /// ```
    /// use nano::{App, Result, Session};
    ///
    /// struct Profile;
    /// # async fn load(_: &Session) -> Result<Profile> { Ok(Profile) }
    ///
    /// let app = App::new().on_session_open_async(|session: Session| async move {
    ///     session.extensions().insert(load(&session).await?);
    ///     Ok(())
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn on_session_open_async<F>(
        mut self,
        hook: impl Fn(Session) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result> + Send + 'static,
    {
        let hook = Arc::new(hook);
        self.config.settings.on_session_open = Some(OpenHook::Async(Box::new(move |session| {
            let hook = hook.clone();
            // Called inside the future, so that a panic of either is one of the hook.
            Box::pin(async move { hook(session).await })
        })));
        self
    }

    /// Calls `hook` before a session is bound to a user: by [`bind`](Session::bind), by
    /// [`login`](Session::login) before it claims the user, and by [`Accept::bind`].
    ///
    /// An error refuses it. The session keeps the user it had, and the caller gets the error: of a
    /// handshake that binds, it is the refusal. A panic refuses and is counted.
    ///
    /// Runs on the node that binds, on the thread of the caller; give all nodes the same. It must not
    /// block. Replaces an earlier one.
    ///
    /// ```
    /// use nano::{App, Error, UserId, code};
    ///
    /// fn is_banned(user: &UserId) -> bool {
    ///     user.number() == Some(666)
    /// }
    ///
    /// let app = App::new().on_bind(|_, user| match is_banned(user) {
    ///     true => Err(Error::new(code::FORBIDDEN, "banned")),
    ///     false => Ok(()),
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn on_bind(
        mut self,
        hook: impl Fn(&Session, &UserId) -> Result + Send + Sync + 'static,
    ) -> Self {
        self.config.on_bind = Some(Box::new(hook));
        self
    }

    /// Calls `hook` when the connection of a session is lost and its client may return; see
    /// [`Timeouts::resume_window`](crate::Timeouts::resume_window). The session stays open: it ends,
    /// with its close callbacks, when the client stays away for too long.
    ///
    /// Called on a thread that does the network's work: it must not block. Not called when the
    /// client is back before the loss was noticed.
    #[must_use]
    pub fn on_detached(mut self, hook: impl Fn(&Session) + Send + Sync + 'static) -> Self {
        self.config.settings.on_detached = Some(Box::new(hook));
        self
    }

    /// Calls `hook` whenever a client has returned to its session, before it is sent anything that
    /// it missed. The hooks for handshakes are not called then: this is the place to
    /// [kick](Session::kick) a client that may not return.
    ///
    /// Called on a thread that does the network's work: it must not block.
    #[must_use]
    pub fn on_resumed(mut self, hook: impl Fn(&Session) + Send + Sync + 'static) -> Self {
        self.config.settings.on_resumed = Some(Box::new(hook));
        self
    }

    /// Decides whether a session that handlers of this node have served may move to another gate when
    /// this one drains. By default it stays until the drain's deadline.
    ///
    /// Sessions that can be resumed move with their user, bindings, shared data and all that waits. What
    /// else a gate keeps of a session stays behind: one with local data, extensions, pins, groups,
    /// channels or close callbacks on its gate does not move in any case. Sessions that only other nodes
    /// have served always may. Asked again after a while if it declines, so a game can hold a session
    /// until it is over.
    ///
    /// Called on a thread that does the network's work: it must not block. A panic declines.
    ///
    /// ```
    /// use nano::App;
    ///
    /// // The gate only logs players in: nothing of them is left there.
    /// let app = App::new().on_migrate(|session| session.user().is_some());
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn on_migrate(mut self, hook: impl Fn(&Session) -> bool + Send + Sync + 'static) -> Self {
        self.config.settings.on_migrate = Some(Box::new(hook));
        self
    }

    /// Sees the error of every message that fails on its way to its handler or in it, with its
    /// session and route, and returns what the client gets: to log it, to map the error types of
    /// other crates ([`Error::source_as`]), or to hide what should not leave the server. It does
    /// not see the errors the node itself gives to unanswered requests: timeouts, dropped
    /// responders, the outbound pipeline, a shutdown.
    #[must_use]
    pub fn on_error(
        mut self,
        hook: impl Fn(&Session, &str, Error) -> Error + Send + Sync + 'static,
    ) -> Self {
        self.config.on_error = Some(Box::new(hook));
        self
    }

    /// Calls `callback` whenever a session has closed; see
    /// [`Sessions::on_closed`](crate::Sessions::on_closed).
    #[must_use]
    pub fn on_session_closed(
        mut self,
        callback: impl Fn(&Session, &CloseReason) + Send + Sync + 'static,
    ) -> Self {
        self.config.on_session_closed.push(Box::new(callback));
        self
    }
}
