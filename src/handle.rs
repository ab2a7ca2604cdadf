//! The handle of a running node, for its components and the rest of the program.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use bytestring::ByteString;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    error::{Error, code},
    scheduler::{Pool, PushError, Scheduler},
    serialize::Serializer,
    session::{CloseReason, Session, Sessions},
};

mod call;
mod membership;

pub use call::CallAllBuilder;

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
pub struct Handle(Arc<Inner>);

struct Inner {
    pool: Pool,
    scheduler: Scheduler,
    capacity: usize,
    sessions: Arc<Sessions>,
    routes: RwLock<Vec<ByteString>>,
    membership: membership::Membership,
    shutdown: watch::Sender<bool>,
}

impl Handle {
    pub(crate) fn new(pool: Pool, capacity: usize) -> Self {
        // Sessions find their node through the table, which the node owns.
        Self(Arc::new_cyclic(|this: &Weak<Inner>| Inner {
            scheduler: pool.scheduler("node", capacity),
            pool,
            capacity,
            sessions: Sessions::new(this.clone()),
            routes: RwLock::default(),
            membership: membership::Membership::default(),
            shutdown: watch::Sender::new(false),
        }))
    }

    /// The node's default scheduler. Handlers and close callbacks run on it unless a component has
    /// another one.
    pub fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }

    /// Makes a scheduler on the node's threads, for a room or a desk. It lives as long as its
    /// handles.
    pub fn new_scheduler(&self, name: impl Into<Arc<str>>) -> Scheduler {
        self.0.pool.scheduler(name, self.0.capacity)
    }

    /// Runs a task on the default scheduler: [`Scheduler::push_task`].
    ///
    /// # Errors
    /// Gives the task back when the queue is full, or the node has stopped.
    pub fn push_task(&self, task: impl FnOnce() + Send + 'static) -> Result<(), PushError> {
        self.0.scheduler.push_task(task)
    }

    /// The node's table of sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// The session with this id, if this node has it.
    pub fn session(&self, id: i64) -> Option<Session> {
        self.0.sessions.find(id)
    }

    /// The sessions of this node that are bound to this uid. Other nodes may have more.
    pub fn sessions_by_uid(&self, uid: i64) -> Vec<Session> {
        self.0.sessions.find_by_uid(uid)
    }

    /// Calls `callback` whenever a session has closed: [`Sessions::on_closed`].
    pub fn on_session_closed(
        &self,
        callback: impl Fn(&Session, &CloseReason) + Send + Sync + 'static,
    ) {
        self.0.sessions.on_closed(callback);
    }

    /// The routes of this node's own handlers, sorted. Complete from `after_init` on.
    pub fn routes(&self) -> Vec<ByteString> {
        self.0.routes.read().clone()
    }

    /// Asks the node to stop, and returns at once. Further calls do nothing.
    pub fn shutdown(&self) {
        self.0.shutdown.send_replace(true);
    }

    /// Whether the node is stopping or has stopped.
    pub fn is_shutting_down(&self) -> bool {
        *self.0.shutdown.borrow()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn name_routes(&self, routes: Vec<ByteString>) {
        *self.0.routes.write() = routes;
    }

    /// Waits for a call of [`shutdown`](Handle::shutdown).
    pub(crate) async fn shutdown_requested(&self) {
        // The sender is part of this handle, so the wait cannot fail.
        let _ = self.0.shutdown.subscribe().wait_for(|asked| *asked).await;
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
        let node = self.core().sessions().and_then(|sessions| sessions.node());
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
