//! The handle of a running node, for its components and the rest of the program.

use std::{
    any::Any,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    channel::{Channel, ChannelNetwork},
    error::{Error, Result, code},
    member::{Member, OnMember},
    scheduler::{Pool, PushError, Scheduler},
    serialize::{Encode, Json, Serializer},
    session::{
        ByNode, CallBuilder, CallRouter, CloseReason, Push, Session, SessionOwner, Sessions,
        UserObserver,
    },
};

mod call;
mod certificates;
mod config;
mod deny_list;
mod lifecycle;
mod membership;
mod schedulers;
mod start_steps;
mod users;

pub use call::CallAllBuilder;
use certificates::Certificates;
pub(crate) use config::HandleConfig;
use deny_list::Denied;
pub use deny_list::DenyList;
use lifecycle::Lifecycle;
pub use lifecycle::Readiness;
pub(crate) use lifecycle::StopTimes;
pub(crate) use membership::ClusterMembership;
use membership::Membership;
pub(crate) use schedulers::Schedulers;
use start_steps::StartSteps;
pub(crate) use start_steps::Step;
use users::Running as UsersOfNode;
pub(crate) use users::UserRouter;
pub use users::{Location, Login, Unique, User, Users};

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
    schedulers: Schedulers,
    sessions: Arc<Sessions>,
    routes: Vec<ByteString>,
    denied: Arc<Denied>,
    certificates: Certificates,
    membership: Membership,
    start: StartSteps,
    admin: Option<SocketAddr>,
    lifecycle: Lifecycle,
    /// Set once, before the components' hooks run.
    parts: OnceLock<NodeParts>,
}

/// Reads the configuration again and applies what can change. Blocks on the file system.
type Reload = Arc<dyn Fn(&Handle) -> Result + Send + Sync>;

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
            routes: config.routes,
            denied: Arc::default(),
            certificates: Certificates::default(),
            membership: Membership::new(config.cluster),
            start: StartSteps::default(),
            admin: config.admin,
            lifecycle: Lifecycle::default(),
            parts: OnceLock::new(),
        }))
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

    /// Reads the certificate files of all listeners again, and uses those that have changed for the
    /// connections that follow. Open connections keep what they have.
    ///
    /// The node does so by itself every minute. Files that are replaced one after the other may be
    /// read when the key does not match the certificate yet: that is an error, and the next time
    /// they match.
    ///
    /// # Errors
    /// Names the files that are missing or invalid. Their listeners keep the old certificate.
    pub async fn reload_certificates(&self) -> Result {
        self.0.certificates.reload().await
    }

    /// Reads the configuration again that the node was started with, and the certificate files.
    ///
    /// Limits, time-outs, denied networks and certificates change at once; the functions of
    /// `Config::on_reload` take the rest. Keys that need a restart are logged, and keep their values.
    ///
    /// # Errors
    /// Lists what is wrong with the configuration: then nothing changes. Or names the certificate
    /// files that are: then the rest has changed. [`code::NOT_FOUND`] if the node was not started
    /// with a configuration from a file or the environment.
    pub async fn reload(&self) -> Result {
        let reload = self.0.reload().cloned().ok_or_else(|| {
            Error::new(
                code::NOT_FOUND,
                "the node was started without a configuration",
            )
        })?;
        let node = self.clone();
        spawn_blocking(move || reload(&node))
            .await
            .map_err(|error| Error::unavailable(error.to_string()))??;
        self.reload_certificates().await
    }

    /// Whether there is a configuration to read again.
    pub(crate) fn can_reload(&self) -> bool {
        self.0.reload().is_some()
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.0.certificates
    }

    /// The routes of this node's own handlers, sorted.
    pub fn routes(&self) -> Vec<ByteString> {
        self.0.routes.clone()
    }

    /// Calls a service of the cluster on behalf of the node.
    ///
    /// The session its handler gets has id 0 and no client. A node that has the service itself
    /// answers without the network; otherwise the balance policy chooses among the members that
    /// have it, unless [`to`](CallBuilder::to) names one.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// async fn rooms(node: &Handle, address: &str) -> Result<Vec<String>> {
    ///     node.call("Rooms.List").to(address).json(&()).await
    /// }
    /// ```
    pub fn call(&self, route: &str) -> CallBuilder<ByNode> {
        CallBuilder::by_node(self.0.sessions.clone(), route)
    }

    /// Calls a service on every node that has it, this one included.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// async fn players(node: &Handle) -> Result<u64> {
    ///     let counts = node.call_all("Rooms.Players").json::<u64, _>(&()).await?;
    ///     Ok(counts.into_iter().filter_map(|(_, count)| count.ok()).sum())
    /// }
    /// ```
    pub fn call_all(&self, route: &str) -> CallAllBuilder {
        CallAllBuilder::new(self.0.sessions.clone(), route)
    }

    /// The channel with this name, a group of sessions that spans the cluster.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// async fn say(node: &Handle, text: &str) -> Result {
    ///     node.channel("guild.7").publish("onSay", text).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn channel(&self, name: impl Into<Arc<str>>) -> Channel {
        let parts = self.0.parts.get();
        Channel::new(name.into(), parts.map(|parts| parts.channels.clone()))
    }

    /// Pushes a JSON message to all clients of all gates of the cluster, without a wait for them.
    ///
    /// Keeps its place among what this node sends to a session. Each gate gets one frame on each
    /// stream of its link. Returns the addresses of the members whose clients, if they have any, may
    /// have missed it: nodes of Go nano, which take no broadcasts, and nodes that cannot be reached.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// fn announce(node: &Handle, text: &str) -> Result {
    ///     for missed in node.broadcast("onAnnounce", text)? {
    ///         println!("not announced at {missed}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`code::TOO_LARGE`], the format's error for a message that it cannot write, and
    /// [`code::UNAVAILABLE`] when the node does not run.
    pub fn broadcast<M: Serialize + ?Sized>(
        &self,
        route: &str,
        message: &M,
    ) -> Result<Vec<String>> {
        self.broadcast_raw(route, Json::encode(message)?)
    }

    /// [`broadcast`](Handle::broadcast) of bytes as they are.
    ///
    /// # Errors
    /// As [`broadcast`](Handle::broadcast).
    pub fn broadcast_raw(&self, route: &str, body: impl Into<Bytes>) -> Result<Vec<String>> {
        let stopped = || Error::new(code::UNAVAILABLE, "the node is not running");
        let network = self.channel_network().ok_or_else(stopped)?;
        network.broadcast(&Push::new(route, body.into()))
    }

    /// The channels of a node that runs.
    pub(crate) fn channel_network(&self) -> Option<Arc<dyn ChannelNetwork>> {
        self.0.parts.get()?.channels.upgrade()
    }

    pub(crate) fn user_router(&self) -> UsersOfNode {
        let users = self.0.parts.get().map(|parts| parts.users.upgrade());
        UsersOfNode(users.flatten())
    }

    /// This node as the other members know it; `None` for a standalone node.
    pub fn member(&self) -> Option<&Member> {
        self.0.membership.own()
    }

    /// The address of the master that this node reports to, its own if it leads; `None` before any.
    pub fn master(&self) -> Option<String> {
        self.0.membership.master()
    }

    /// The other members of the cluster as this node knows them now: the master first.
    ///
    /// Empty for a standalone node, and before this node has joined, which is after `after_init`.
    pub fn members(&self) -> Vec<Member> {
        self.0.membership.others()
    }

    /// Calls `callback` whenever a member has joined, after this node's table has it.
    ///
    /// A callback registered in `init` or `after_init`, or with
    /// [`Cluster::on_member_joined`](crate::Cluster::on_member_joined), is also called for each member
    /// that is there when this node joins; one registered later, for those that join from then on.
    /// To miss no member, register first and then read [`members`](Handle::members); a member may
    /// appear in both.
    ///
    /// A member that restarts, or was evicted and returns, leaves and joins. Callbacks run on the
    /// node's default scheduler, in the order in which the table changed. A panic is counted and
    /// ends that call only. Never called on a standalone node.
    pub fn on_member_joined(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_joined(Arc::new(callback));
    }

    /// Calls `callback` whenever a member has left or was evicted, after this node's table has
    /// forgotten it. Otherwise like [`on_member_joined`](Handle::on_member_joined).
    pub fn on_member_left(&self, callback: impl Fn(&Member) + Send + Sync + 'static) {
        self.0.membership.on_left(Arc::new(callback));
    }

    /// Asks the node to let its players leave by themselves for at most this long, and then to stop;
    /// returns at once. With several calls the earliest deadline counts, and
    /// [`shutdown`](Handle::shutdown) ends the wait.
    ///
    /// 1. The node is [not ready](Handle::readiness), and other members choose it for no new session.
    ///    Sessions that it serves stay, and so do calls.
    /// 2. `before_drain` of its [components](crate::Component) runs, while all players are connected.
    /// 3. After [`Timeouts::shutdown_delay`](crate::Timeouts::shutdown_delay) its listeners close.
    /// 4. When no session is left, or at the deadline, it stops as by [`shutdown`](Handle::shutdown):
    ///    clients that are still there are kicked with the advice to connect elsewhere.
    ///
    /// Where the node handles signals, SIGTERM does this with
    /// [`Timeouts::drain`](crate::Timeouts::drain).
    pub fn drain(&self, within: Duration) {
        self.0.lifecycle.drain(within);
    }

    /// Whether the node takes new clients: for probes of load balancers and orchestrators.
    pub fn readiness(&self) -> Readiness {
        let lifecycle = &self.0.lifecycle;
        lifecycle.readiness(self.0.start.missing().next().is_none())
    }

    /// Asks the node to stop, and returns at once. Further calls do nothing.
    pub fn shutdown(&self) {
        self.0.lifecycle.shutdown();
    }

    /// Whether the node is stopping or has stopped.
    pub fn is_shutting_down(&self) -> bool {
        self.readiness() == Readiness::Stopping
    }

    /// Whether the node serves: it has joined its cluster, its listeners are open, and it neither
    /// drains nor stops. What `/readyz` of the [admin address](crate::App::admin) answers.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ready()
    }

    /// What the node still waits for, or why it does not serve any more.
    #[cfg(feature = "admin")]
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let ends = matches!(self.readiness(), Readiness::Draining | Readiness::Stopping);
        let missing = self.0.start.missing();
        missing.chain(ends.then_some("draining")).collect()
    }

    /// The bound address of the node's [admin server](crate::App::admin), if it has one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.0.admin
    }

    /// Notes that a step of the start is done.
    pub(crate) fn started(&self, step: Step) {
        self.0.start.done(step);
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.0.membership
    }

    pub(crate) fn notify_member_joined(&self, member: &Member) {
        self.0.membership.notify_joined(self.scheduler(), member);
    }

    pub(crate) fn notify_member_left(&self, member: &Member) {
        self.0.membership.notify_left(self.scheduler(), member);
    }

    /// Queues a membership callback on the default scheduler. A panic is counted. `done` is dropped
    /// when the callback has returned, or when it never will because the node has stopped.
    pub(crate) fn call_back(
        &self,
        hook: &'static str,
        callback: OnMember,
        member: &Member,
        done: impl Send + 'static,
    ) {
        self.0
            .membership
            .call_back(self.scheduler(), hook, callback, member, done);
    }

    /// Drops all callbacks of a stopped node: one that owns its handle would keep both alive.
    pub(crate) fn forget_callbacks(&self) {
        self.0.membership.forget_callbacks();
        self.0.sessions.forget_callbacks();
    }

    pub(crate) fn pool(&self) -> &Pool {
        self.0.schedulers.pool()
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }
}

impl Inner {
    fn reload(&self) -> Option<&Reload> {
        self.parts.get()?.reload.as_ref()
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
