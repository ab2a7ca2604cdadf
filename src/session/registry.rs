//! All sessions of one node.

use std::{
    any::Any,
    fmt, mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use metrics::Counter;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tracing::error;

use super::{
    close_reason::CloseReason,
    close_state::Ended,
    endings::{EndHold, Endings},
    handle::{CallRouter, OnClosed, Session, SessionInner, SessionSink, SessionTable},
    last_servers::LastServers,
    sequencer::{Sequenced, SequencedTask, Ticket},
    table::Table,
    user_id::UserId,
};
use crate::{
    error::{Error, Result, code},
    log_limit::LogLimit,
    metrics::{GroupMetrics, InputRefusals},
    panic::catch_panic,
    scheduler::Scheduler,
};

/// Ids stay below 2^53, which a JavaScript number holds exactly.
const ID_LIMIT: i64 = 1 << 53;

type Callback = Arc<dyn Fn(&Session, &CloseReason) + Send + Sync>;

/// Learns of the users of a node's own clients. Called without the table's lock.
pub(crate) trait UserObserver: Send + Sync {
    /// The session is bound to another user, or to none: to the one that `user` returns.
    fn on_bound(&self, session: i64, user: &dyn Fn() -> Option<UserId>);

    /// The session has ended. Its close callbacks may still run.
    fn on_closed(&self, session: i64);

    /// The number of the session's claim on its user, 0 for none; `None` while it is not decided.
    fn claim(&self, session: i64) -> Option<u64>;

    /// The session comes from another gate, with its claim.
    fn on_adopted(&self, session: i64, user: UserId, claim: u64);

    /// Another gate has the session.
    fn on_moved(&self, session: i64);
}

/// The sessions of one node, by id and by user, and the callbacks that run when one ends.
///
/// Holds the sessions of the node's own clients, and in a cluster those of other gates' clients
/// that this node has served. Reached with [`Handle::sessions`](crate::Handle::sessions).
///
/// ```
/// use nano::Sessions;
///
/// fn announce(sessions: &Sessions, text: &str) {
///     for session in sessions.list() {
///         // A session that closes meanwhile fails; the others get it.
///         let _ = session.push("onAnnounce", text);
///     }
/// }
/// ```
///
/// The table's lock guards the three maps together. No callback and no sink is called under it.
pub struct Sessions {
    /// Starts at random and counts up. Ids of two nodes collide only if their starts, two of 2^53,
    /// are closer than the number of connections since.
    next_id: AtomicI64,
    pub(super) table: RwLock<Table>,
    on_closed: RwLock<Vec<Callback>>,
    /// Sessions that left the table and whose close callbacks have not finished.
    closing: AtomicUsize,
    all_closed: Notify,
    endings: Arc<Endings>,
    pub(crate) last_servers: LastServers,
    dropped_log: LogLimit,
    hooks: SessionHooks,
    /// Weak, because it owns the table.
    owner: Weak<dyn SessionOwner>,
}

/// The owner of a table of sessions: a node.
pub(crate) trait SessionOwner: Send + Sync {
    /// Carries the calls of the sessions; `None` unless the node runs.
    fn call_router(self: Arc<Self>) -> Option<Arc<dyn CallRouter>>;

    /// Learns of the users of the node's own clients; `None` unless the node runs.
    fn user_observer(&self) -> Option<Arc<dyn UserObserver>>;

    /// The inside of the node's handle, which is above this module; `None` without a node.
    fn node(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>>;
}

/// May refuse to bind a session to a user.
pub(crate) type OnBind = Box<dyn Fn(&Session, &UserId) -> Result + Send + Sync>;

/// Code of the application that the table calls, and what it counts.
pub(crate) struct SessionHooks {
    /// Counts close callbacks and hooks that panicked.
    pub(crate) panics: Counter,
    pub(crate) on_bind: Option<OnBind>,
    pub(crate) groups: Arc<GroupMetrics>,
    pub(crate) inputs: Arc<InputRefusals>,
}

impl Sessions {
    pub(crate) fn new(owner: Weak<dyn SessionOwner>, hooks: SessionHooks) -> Arc<Self> {
        Arc::new(Self {
            next_id: AtomicI64::new(rand::random_range(1..ID_LIMIT)),
            table: RwLock::default(),
            on_closed: RwLock::default(),
            closing: AtomicUsize::new(0),
            all_closed: Notify::new(),
            endings: Arc::default(),
            last_servers: LastServers::default(),
            dropped_log: LogLimit::default(),
            hooks,
            owner,
        })
    }

    /// The number of sessions.
    pub fn count(&self) -> usize {
        let table = self.table.read();
        table.local.len() + table.remote_count
    }

    /// The number of this node's own clients.
    pub(crate) fn local_count(&self) -> usize {
        self.table.read().local.len()
    }

    /// The session with this id.
    pub fn find(&self, id: i64) -> Option<Session> {
        let table = self.table.read();
        let inner = table
            .local
            .get(&id)
            .or_else(|| table.remote.get(&id)?.first())?;
        Some(Session::of(inner.clone(), 0))
    }

    /// The session of this node's own client with this id.
    pub(crate) fn find_local(&self, id: i64) -> Option<Session> {
        self.table
            .read()
            .local
            .get(&id)
            .map(|inner| Session::of(inner.clone(), 0))
    }

    /// Whether the session of this id is that of this node's own client.
    #[cfg(feature = "admin")]
    pub(crate) fn is_local(&self, id: i64) -> bool {
        self.table.read().local.contains_key(&id)
    }

    /// The sessions bound to this uid, in the order they were bound.
    pub fn find_by_uid(&self, uid: i64) -> Vec<Session> {
        self.find_by_user(uid)
    }

    /// The sessions bound to this user, in the order they were bound.
    pub fn find_by_user(&self, user: impl Into<UserId>) -> Vec<Session> {
        let table = self.table.read();
        let bound = table.by_user.get(&user.into());
        bound
            .into_iter()
            .flatten()
            .map(|inner| Session::of(inner.clone(), 0))
            .collect()
    }

    /// All sessions, in no order.
    pub fn list(&self) -> Vec<Session> {
        let table = self.table.read();
        table
            .local
            .values()
            .chain(table.remote.values().flatten())
            .map(|inner| Session::of(inner.clone(), 0))
            .collect()
    }

    /// The ids of all sessions that are larger than `after`, the lowest `limit` of them, sorted. Ids
    /// of other gates' clients may occur twice, and are listed once.
    #[cfg(feature = "admin")]
    pub(crate) fn ids(&self, after: i64, limit: usize) -> Vec<i64> {
        let mut ids: Vec<_> = {
            let table = self.table.read();
            let all = table.local.keys().chain(table.remote.keys());
            all.copied().filter(|id| *id > after).collect()
        };
        if ids.len() > limit && limit > 0 {
            ids.select_nth_unstable(limit - 1);
            ids.truncate(limit);
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Calls `callback` whenever a session has closed.
    ///
    /// It runs on the node's default scheduler, after the handlers of all messages of that session
    /// have started. Callbacks run in the order of registration. The session still has its data,
    /// and has left its groups.
    #[doc(alias = "Lifetime")]
    pub fn on_closed(&self, callback: impl Fn(&Session, &CloseReason) + Send + Sync + 'static) {
        self.on_closed.write().push(Arc::new(callback));
    }

    /// Drops the callbacks of a stopped node: one that holds the node's handle would keep it alive.
    pub(crate) fn forget_callbacks(&self) {
        // Dropped without the lock, which values they own may take.
        let forgotten = mem::take(&mut *self.on_closed.write());
        drop(forgotten);
    }

    /// Opens the session of a client of this node, with a new id.
    pub(crate) fn open(self: &Arc<Self>, sink: Arc<dyn SessionSink>) -> Session {
        let id = self.new_id();
        let inner = Arc::new(SessionInner::new(
            id,
            false,
            sink,
            Some(Arc::<Self>::downgrade(self)),
        ));
        self.table.write().local.insert(id, inner.clone());
        Session::of(inner, 0)
    }

    /// Creates a session with a new id that no table lists and whose end runs no callback: for a
    /// client that never sent a byte.
    pub(crate) fn unlisted(self: &Arc<Self>, sink: Arc<dyn SessionSink>) -> Session {
        Session::outside(self.new_id(), sink, Arc::<Self>::downgrade(self))
    }

    /// Opens the session of another gate's client, with the id it has there.
    pub(crate) fn open_remote(self: &Arc<Self>, id: i64, sink: Arc<dyn SessionSink>) -> Session {
        let inner = Arc::new(SessionInner::new(
            id,
            true,
            sink,
            Some(Arc::<Self>::downgrade(self)),
        ));
        let mut table = self.table.write();
        table.remote.entry(id).or_default().push(inner.clone());
        table.remote_count += 1;
        Session::of(inner, 0)
    }

    /// Returns what learns of the user of a session; `None` for those of other gates' clients.
    pub(super) fn observer(&self, session: &SessionInner) -> Option<Arc<dyn UserObserver>> {
        match session.remote {
            true => None,
            false => self.owner.upgrade()?.user_observer(),
        }
    }

    fn new_id(&self) -> i64 {
        let wrap = |id: i64| Some(if id + 1 < ID_LIMIT { id + 1 } else { 1 });
        // The closure never returns None, so both arms hold the previous id.
        self.next_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, wrap)
            .unwrap_or_else(|id| id)
    }

    /// Ends a session; a second call does nothing.
    ///
    /// It leaves the table and its groups at once. The callbacks run on `scheduler`, behind its
    /// last message.
    pub(crate) fn close(
        self: &Arc<Self>,
        session: &Session,
        reason: &CloseReason,
        scheduler: &Scheduler,
    ) {
        // Before the session is seen as ended, so that what waits for it cannot miss it.
        let hold = self.hold_end(session.id());
        let Some(Ended { callbacks, groups }) = session.inner().close_state.end(reason) else {
            return;
        };
        // Counted before it leaves the table, so that `callbacks_done` cannot miss it in between.
        self.closing.fetch_add(1, Ordering::AcqRel);
        if let Some(observer) = self.observer(session.inner()) {
            observer.on_closed(session.id());
        }
        self.table.write().remove(session.inner());
        for group in groups {
            group.forget(session.key());
        }
        let closing = Closing {
            ticket: Ticket::new(session.typed(), scheduler),
            sessions: self.clone(),
            reason: reason.clone(),
            _hold: hold,
        };
        let task = SequencedTask::new(
            closing.ticket.place(),
            Box::new(move || closing.run(callbacks)),
        );
        // A scheduler that is shut down drops the task, which ends the closing without callbacks.
        session.sequencer().submit_always(scheduler, task);
    }

    /// Ends a session of which no application knows: it leaves the table, and no callback runs.
    pub(crate) fn discard(&self, session: &Session) {
        let ended = session.inner().close_state.end(&CloseReason::Client);
        self.table.write().remove(session.inner());
        for group in ended.iter().flat_map(|ended| &ended.groups) {
            group.forget(session.key());
        }
        // Without the lock: callbacks may own values of an application.
        drop(ended);
    }

    /// Keeps the end of a session from being [over](Sessions::ended).
    pub(crate) fn hold_end(&self, id: i64) -> EndHold {
        self.endings.hold(id)
    }

    /// Waits until the close callbacks of a session that has ended have run or been dropped. Returns
    /// at once for a session that is open, or unknown.
    pub(crate) async fn ended(&self, id: i64) {
        self.endings.over(id).await;
    }

    /// Waits until the close callbacks of every ended session have run or been dropped.
    pub(crate) async fn callbacks_done(&self) {
        loop {
            let notified = self.all_closed.notified();
            if self.closing.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl SessionTable for Sessions {
    fn rebind(&self, session: &SessionInner, user: Option<UserId>) {
        let mut table = self.table.write();
        let old = session.swap_user(user.clone());
        if old == user {
            return;
        }
        let Some(entry) = table.entry(session).cloned() else {
            return;
        };
        table.forget_user(old, &entry);
        if let Some(user) = user {
            table.by_user.entry(user).or_default().push(entry);
        }
        drop(table);
        if let Some(observer) = self.observer(session) {
            observer.on_bound(session.id, &|| session.user());
            if session.close_state.closed().is_some() {
                // It may have ended before the observer had it.
                observer.on_closed(session.id);
            }
        }
    }

    fn check_bind(&self, session: &Session, user: &UserId) -> Result {
        match &self.hooks.on_bind {
            Some(hook) => catch_panic(&self.hooks.panics, "panicked", || hook(session, user)),
            None => Ok(()),
        }
    }

    fn log_dropped(&self) -> Option<u64> {
        self.dropped_log.pass()
    }

    fn call_router(&self) -> Result<Arc<dyn CallRouter>> {
        let owner = self.owner.upgrade();
        owner
            .and_then(|owner| owner.call_router())
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "the node is not running"))
    }

    fn node(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.owner.upgrade()?.node()
    }

    fn groups(&self) -> Arc<GroupMetrics> {
        self.hooks.groups.clone()
    }

    fn inputs(&self) -> Arc<InputRefusals> {
        self.hooks.inputs.clone()
    }
}

/// The last task of a session: its close callbacks.
struct Closing {
    ticket: Ticket<Session>,
    sessions: Arc<Sessions>,
    reason: CloseReason,
    _hold: EndHold,
}

impl Closing {
    fn run(self, own: Vec<OnClosed>) {
        for callback in own {
            self.call(|session| callback(session, &self.reason));
        }
        let shared = self.sessions.on_closed.read().clone();
        for callback in shared {
            self.call(|session| callback(session, &self.reason));
        }
    }

    /// Runs one callback. A panic ends that callback alone.
    fn call(&self, callback: impl FnOnce(&Session)) {
        let session = self.ticket.session();
        let panics = &self.sessions.hooks.panics;
        let run = || {
            callback(session);
            Ok(())
        };
        if catch_panic(panics, "close callback panicked", run).is_err() {
            error!(
                session = session.id(),
                user = session.logged_user(),
                reason = %self.reason,
                "close callback panicked"
            );
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if self.sessions.closing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.sessions.all_closed.notify_waiters();
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.read();
        f.debug_struct("Sessions")
            .field("count", &(table.local.len() + table.remote_count))
            .field("users", &table.by_user.len())
            .finish_non_exhaustive()
    }
}
