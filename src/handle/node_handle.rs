//! The handle itself, and what it holds of its node.

use std::{
    any::Any,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock, Weak},
};

use bytestring::ByteString;

use super::{
    certificates::Certificates,
    config::HandleConfig,
    deny_list::{Denied, DenyList},
    lifecycle::Lifecycle,
    membership::Membership,
    schedulers::Schedulers,
    start_steps::StartSteps,
    users::UserRouter,
};
use crate::{
    channel::ChannelNetwork,
    error::{Error, Result, code},
    memory_budget::MemoryBudget,
    scheduler::{Pool, PushError, Scheduler},
    serialize::Serializer,
    session::{CallRouter, CloseReason, Session, SessionOwner, Sessions, UserObserver},
};

/// A handle to a running node: its sessions, schedulers, members and calls.
///
/// Handles are cheap: clone them, keep them, use them from any thread, inside or outside of a
/// runtime. No method blocks. Components get one in [`init`](crate::Component::init), handlers with
/// [`Session::node`], the rest of the program with [`Node::handle`](crate::Node::handle).
///
/// ```
/// use nano::{Handle, Result};
/// use std::time::Duration;
///
/// async fn close_for_tonight(node: Handle) -> Result {
///     for session in node.sessions().list() {
///         session.kick("we close");
///     }
///     let _: () = node.call("Stats.Flush").timeout(Duration::from_secs(5)).json(&()).await?;
///     node.shutdown();
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) schedulers: Schedulers,
    pub(super) sessions: Arc<Sessions>,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) routes: Vec<ByteString>,
    pub(super) denied: Arc<Denied>,
    pub(super) certificates: Certificates,
    pub(super) membership: Membership,
    pub(super) start: StartSteps,
    pub(super) admin: Option<SocketAddr>,
    pub(super) lifecycle: Lifecycle,
    /// Set once, before the components' hooks run.
    pub(super) parts: OnceLock<NodeParts>,
}

/// Reads the configuration again and applies what can change. Blocks on the file system.
pub(super) type Reload = Arc<dyn Fn(&Handle) -> Result<Vec<String>> + Send + Sync>;

/// The parts of a running node that its handle calls.
///
/// They are made from the handle, whose table of sessions they need, so none of them can exist before
/// it. Weak, because the node owns them: they are gone when it has stopped.
pub(crate) struct NodeParts {
    pub(crate) call_router: Weak<dyn CallRouter>,
    pub(crate) users: Weak<dyn UserRouter>,
    pub(crate) user_observer: Weak<dyn UserObserver>,
    pub(crate) channels: Weak<dyn ChannelNetwork>,
    /// `None` unless there is a configuration to read again.
    pub(crate) reload: Option<Reload>,
}
impl Handle {
    pub(crate) fn new(config: HandleConfig) -> Self {
        // Sessions find their node through the table, which the node owns.
        Self(Arc::new_cyclic(|this: &Weak<Inner>| Inner {
            schedulers: config.schedulers,
            sessions: Sessions::new(this.clone(), config.hooks),
            memory: config.memory,
            routes: config.routes,
            denied: Arc::default(),
            certificates: Certificates::new(config.certificates),
            membership: Membership::new(config.cluster),
            start: StartSteps::default(),
            admin: config.admin,
            lifecycle: Lifecycle::default(),
            parts: OnceLock::new(),
        }))
    }

    /// What is queued on the node, against its budget.
    pub(crate) fn memory(&self) -> &Arc<MemoryBudget> {
        &self.0.memory
    }

    /// Completes the handle with the parts of the node that were made from it. Called once.
    pub(crate) fn attach(&self, parts: NodeParts) {
        // A handle belongs to one node, which is started once.
        let _ = self.0.parts.set(parts);
    }

    /// The node's default scheduler. Handlers and close callbacks run on it unless a component has
    /// another one.
    pub fn scheduler(&self) -> &Scheduler {
        self.0.schedulers.default()
    }

    /// Makes a scheduler on the node's threads, for a room or a desk. It lives as long as its
    /// handles.
    pub fn new_scheduler(&self, name: impl Into<Arc<str>>) -> Scheduler {
        self.0.schedulers.create(name)
    }

    /// Runs a task on the default scheduler: [`Scheduler::push_task`].
    ///
    /// # Errors
    /// Gives the task back when the queue is full, or the node has stopped.
    pub fn push_task(&self, task: impl FnOnce() + Send + 'static) -> Result<(), PushError> {
        self.scheduler().push_task(task)
    }

    /// The node's table of sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// Calls `callback` whenever a session has closed: [`Sessions::on_closed`].
    #[doc(alias = "Lifetime")]
    pub fn on_session_closed(
        &self,
        callback: impl Fn(&Session, &CloseReason) + Send + Sync + 'static,
    ) {
        self.0.sessions.on_closed(callback);
    }

    /// The networks whose clients this node refuses. It is empty unless
    /// [`App::deny`](crate::App::deny) fills it, and may change at any time.
    pub fn deny_list(&self) -> DenyList {
        DenyList {
            denied: self.0.denied.clone(),
            sessions: self.0.sessions.clone(),
        }
    }

    pub(crate) fn is_denied(&self, ip: IpAddr) -> bool {
        self.0.denied.contains(ip)
    }

    /// The routes of this node's own handlers, sorted.
    pub fn routes(&self) -> Vec<ByteString> {
        self.0.routes.clone()
    }

    /// The bound address of the node's [admin server](crate::App::admin), if it has one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.0.admin
    }

    /// Drops all callbacks of a stopped node: one that owns its handle would keep both alive.
    pub(crate) fn forget_callbacks(&self) {
        self.0.membership.forget_callbacks();
        self.0.sessions.forget_callbacks();
    }

    pub(crate) fn pool(&self) -> &Pool {
        self.0.schedulers.pool()
    }
}

impl SessionOwner for Inner {
    fn call_router(self: Arc<Self>) -> Option<Arc<dyn CallRouter>> {
        self.parts.get()?.call_router.upgrade()
    }

    fn user_observer(&self) -> Option<Arc<dyn UserObserver>> {
        self.parts.get()?.user_observer.upgrade()
    }

    fn node(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

impl<S: Serializer> Session<S> {
    /// The node that serves the session here.
    ///
    /// ```
    /// # use nano::{Result, Session};
    /// fn online(session: &Session) -> Result<usize> {
    ///     Ok(session.node()?.sessions().count())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] for sessions of no node, as in unit tests.
    pub fn node(&self) -> Result<Handle, Error> {
        let node = self.inner().table().and_then(|table| table.node());
        node.and_then(|node| node.downcast().ok())
            .map(Handle)
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "the session belongs to no node"))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("sessions", &self.0.sessions.count())
            .field("stopping", &self.is_shutting_down())
            .finish_non_exhaustive()
    }
}
