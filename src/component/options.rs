//! How a component is registered.

use std::fmt;

use super::placement::Placement;
use crate::filter::{AnyFilter, IntoFilter};

/// How a component is registered: its name, its schedulers, and who may call it.
///
/// ```
/// use nano::{App, Component, Handlers, Options, Result, Session};
///
/// struct Lobby;
///
/// impl Component for Lobby {
///     fn handlers(h: Handlers<Self>) -> Handlers<Self> {
///         h.on("Join", |_: &Self, session: &Session, _: ()| -> Result<i64> { Ok(session.id()) })
///     }
/// }
///
/// // The route is "lobby.join". Four schedulers serve it, so four sessions can join at a time.
/// let options = Options::new()
///     .name("lobby")
///     .name_func(str::to_lowercase)
///     .spread(4);
/// let app = App::new().component_with(Lobby, options);
/// ```
#[derive(Clone, Default)]
pub struct Options {
    pub(super) name: Option<String>,
    pub(super) name_func: Option<fn(&str) -> String>,
    pub(super) placement: Placement,
    pub(super) internal: bool,
    pub(super) filters: Vec<AnyFilter>,
}

impl Options {
    /// A service named like its type, on the node's default scheduler, open to clients.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the service: the part of its routes before the last dot.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Changes the name of every handler, for example with `str::to_lowercase`.
    #[must_use]
    pub fn name_func(mut self, rename: fn(&str) -> String) -> Self {
        self.name_func = Some(rename);
        self
    }

    /// Runs each session's messages on the scheduler the session is
    /// [pinned](crate::Session::pin) to under this name.
    ///
    /// A request of a session without that pin fails with
    /// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE).
    #[must_use]
    pub fn scheduler(mut self, name: impl Into<String>) -> Self {
        self.placement = Placement::Pinned(name.into());
        self
    }

    /// Spreads sessions over this many schedulers by session id.
    ///
    /// For a service without shared state, so that it uses every core. 0 is a start-up error.
    #[must_use]
    pub fn spread(mut self, schedulers: usize) -> Self {
        self.placement = Placement::Spread(schedulers);
        self
    }

    /// Closes the service to clients: for them its routes do not exist.
    ///
    /// [`Session::rpc`](crate::Session::rpc), [`Session::call`](crate::Session::call) and the calls
    /// of other nodes still reach it. [`Handlers::internal`](crate::Handlers::internal) closes a
    /// single handler.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Installs a filter on all handlers of the service, behind the node's filters and ahead of the
    /// handlers' own.
    #[must_use]
    pub fn filter<Kind>(mut self, filter: impl IntoFilter<Kind>) -> Self {
        self.filters.push(filter.into_filter());
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("placement", &self.placement)
            .field("internal", &self.internal)
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}
