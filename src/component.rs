//! Components: the services an application is made of.

use std::{any::type_name, fmt, sync::Arc};

use crate::{
    error::Result,
    handle::Handle,
    serialize::{Json, Serializer},
};

mod handlers;
mod invocation;
mod report;
mod service;
mod signature;

pub(crate) use self::{
    report::ErrorReporter,
    service::{Invoke, Service},
};
pub use handlers::{Handler, Handlers};

/// A service: state, handlers, and hooks into the life of the node.
///
/// `S` is the format of its messages, JSON unless named. A component serves all sessions at once,
/// on several schedulers if the application uses several, so it is shared: state sits in locks that
/// are held briefly, never while pushing.
///
/// ```
/// use nano::{Component, Group, Handlers, Result, Session};
/// use serde::Deserialize;
///
/// #[derive(Default)]
/// struct Room { group: Group }
///
/// #[derive(Deserialize)]
/// struct Say { text: String }
///
/// impl Component for Room {
///     fn handlers(h: Handlers<Self>) -> Handlers<Self> {
///         h.on("Join", Self::join).on("Say", Self::say)      // routes "Room.Join" and "Room.Say"
///     }
/// }
///
/// impl Room {
///     fn join(&self, session: &Session, _: ()) -> Result<&'static str> {
///         self.group.add(session)?;
///         Ok("welcome")
///     }
///     fn say(&self, _: &Session, message: Say) -> Result {
///         self.group.broadcast("onSay", &message.text)
///     }
/// }
/// ```
///
/// The hooks run on the node's default scheduler, one at a time: `init` of every component in the
/// order they were added, then `after_init` of every component; clients reach the node only after
/// that. When it stops, after the last client has gone, `before_shutdown` of every component in
/// reverse order, then `shutdown` likewise.
pub trait Component<S: Serializer = Json>: Send + Sync + Sized + 'static {
    /// Names the handlers.
    fn handlers(handlers: Handlers<Self, S>) -> Handlers<Self, S>;

    /// Runs before the node serves anybody. Other components may not be initialised yet.
    ///
    /// # Errors
    /// An error keeps the node from starting.
    fn init(self: &Arc<Self>, _node: &Handle) -> Result {
        Ok(())
    }

    /// Runs when every component is initialised.
    ///
    /// # Errors
    /// An error keeps the node from starting.
    fn after_init(self: &Arc<Self>, _node: &Handle) -> Result {
        Ok(())
    }

    /// Runs when the last client has gone, before any component shuts down.
    fn before_shutdown(self: &Arc<Self>, _node: &Handle) {}

    /// Runs last.
    fn shutdown(self: &Arc<Self>, _node: &Handle) {}
}

/// How a component is registered: under which names, and where its handlers run.
#[derive(Clone, Default)]
pub struct Options {
    pub(crate) name: Option<String>,
    pub(crate) name_func: Option<fn(&str) -> String>,
    pub(crate) placement: Where,
    pub(crate) internal: bool,
}

/// What [`Options`] say about schedulers; becomes a [`Placement`] when the node starts.
#[derive(Clone, Debug, Default)]
pub(crate) enum Where {
    #[default]
    Node,
    Session(String),
    Spread(usize),
}

impl Options {
    /// A service named like its type, on the node's default scheduler, open to clients.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the service, the part of its routes before the dot.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Changes the name of every handler, for example `str::to_lowercase`.
    #[must_use]
    pub fn name_func(mut self, rename: fn(&str) -> String) -> Self {
        self.name_func = Some(rename);
        self
    }

    /// Runs each session's messages on the scheduler that session is [pinned](crate::Session::pin)
    /// to under this name. A request of a session that is not pinned is answered with
    /// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE).
    #[must_use]
    pub fn scheduler(mut self, name: impl Into<String>) -> Self {
        self.placement = Where::Session(name.into());
        self
    }

    /// Spreads sessions over this many schedulers by id, so that a service without shared state
    /// uses every core. 0 is a start-up error.
    #[must_use]
    pub fn spread(mut self, schedulers: usize) -> Self {
        self.placement = Where::Spread(schedulers);
        self
    }

    /// Closes the service to clients: to them its routes do not exist.
    /// [`Session::rpc`](crate::Session::rpc) and [`Session::call`](crate::Session::call) reach it.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    pub(crate) fn service_name<C>(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let path = type_name::<C>();
            let path = path.split('<').next().unwrap_or(path);
            path.rsplit("::").next().unwrap_or(path).to_owned()
        })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("internal", &self.internal)
            .finish_non_exhaustive()
    }
}
