//! All sessions of one node.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::sync::Notify;
use tracing::error;

use super::{
    CloseReason, Core, Entity, Session,
    lifetime::{Ended, OnClosed},
};
use crate::scheduler::Scheduler;

/// Ids stay below 2^53, which a JavaScript number holds exactly.
const ID_LIMIT: i64 = 1 << 53;

type Callback = Arc<dyn Fn(&Session, &CloseReason) + Send + Sync>;

/// The sessions of one node, by id and by uid, and the callbacks that run when one ends.
pub struct Sessions {
    /// A random start and steps of one: unique on the node for good, and between nodes unless two starts out of 2^53 lie closer
    /// together than the number of connections between them.
    next_id: AtomicI64,
    table: RwLock<Table>,
    on_closed: RwLock<Vec<Callback>>,
    /// Sessions that have left the table while their close callbacks have yet to run.
    closing: AtomicUsize,
    all_closed: Notify,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<i64, Arc<Core>>,
    by_uid: HashMap<i64, Vec<i64>>,
}

impl Sessions {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            next_id: AtomicI64::new(rand::random_range(1..ID_LIMIT)),
            table: RwLock::default(),
            on_closed: RwLock::default(),
            closing: AtomicUsize::new(0),
            all_closed: Notify::new(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.read().by_id.len()
    }

    /// The session with this id.
    pub fn find(&self, id: i64) -> Option<Session> {
        self.table.read().by_id.get(&id).map(|core| Session::of(core.clone(), 0))
    }

    /// The sessions bound to this uid, in the order they were bound.
    pub fn find_by_uid(&self, uid: i64) -> Vec<Session> {
        let table = self.table.read();
        let ids = table.by_uid.get(&uid).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| table.by_id.get(id)).map(|core| Session::of(core.clone(), 0)).collect()
    }

    /// All of them, in no order.
    pub fn list(&self) -> Vec<Session> {
        self.table.read().by_id.values().map(|core| Session::of(core.clone(), 0)).collect()
    }

    /// Calls `callback` whenever a session has closed: on the node's default scheduler, after the handlers of all messages of that session
    /// have started, in the order of registration. The session's data is still there, its groups have forgotten it.
    pub fn on_closed(&self, callback: impl Fn(&Session, &CloseReason) + Send + Sync + 'static) {
        self.on_closed.write().push(Arc::new(callback));
    }

    /// A new session with a new id.
    pub(crate) fn open(self: &Arc<Self>, entity: Arc<dyn Entity>) -> Session {
        let id = self.new_id();
        let core = Arc::new(Core::new(id, entity, Arc::downgrade(self)));
        self.table.write().by_id.insert(id, core.clone());
        Session::of(core, 0)
    }

    fn new_id(&self) -> i64 {
        let wrap = |id: i64| Some(if id + 1 < ID_LIMIT { id + 1 } else { 1 });
        // The closure never says None, so both arms hold the previous id.
        self.next_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, wrap).unwrap_or_else(|id| id)
    }

    /// Changes the uid of a session together with the index. A session that has left the table gets the uid alone.
    pub(super) fn rebind(&self, core: &Core, uid: i64) {
        let mut table = self.table.write();
        let old = core.swap_uid(uid);
        if old != uid && table.by_id.contains_key(&core.id) {
            table.forget_uid(old, core.id);
            if uid != 0 {
                table.by_uid.entry(uid).or_default().push(core.id);
            }
        }
    }

    /// Ends a session, once: out of the table and its groups at once, callbacks on `scheduler` behind its last message.
    pub(crate) fn close(self: &Arc<Self>, session: &Session, reason: &CloseReason, scheduler: &Scheduler) {
        let Some(Ended { callbacks, groups }) = session.core().lifetime.end(reason) else { return };
        // Before it leaves the table, so that there is no moment at which it is neither here nor closing.
        self.closing.fetch_add(1, Ordering::AcqRel);
        self.table.write().remove(session.core());
        for group in groups {
            group.forget(session.id());
        }
        let closing = Closing { sessions: self.clone(), session: session.typed(), reason: reason.clone() };
        let task = Box::new(move || closing.run(callbacks));
        // A scheduler that takes nothing any more is one that has been shut down; the drop of the task says so to those who wait.
        drop(session.core().lane.enter_always(scheduler, task));
    }

    /// Waits until the close callbacks of every session that has ended have run.
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

impl Table {
    fn remove(&mut self, core: &Core) {
        self.by_id.remove(&core.id);
        self.forget_uid(core.uid(), core.id);
    }

    fn forget_uid(&mut self, uid: i64, id: i64) {
        if let Some(ids) = self.by_uid.get_mut(&uid) {
            ids.retain(|bound| *bound != id);
            if ids.is_empty() {
                self.by_uid.remove(&uid);
            }
        }
    }
}

/// The last task of a session.
struct Closing {
    sessions: Arc<Sessions>,
    session: Session,
    reason: CloseReason,
}

impl Closing {
    fn run(self, own: Vec<OnClosed>) {
        for callback in own {
            self.call(|| callback(&self.session, &self.reason));
        }
        let shared = self.sessions.on_closed.read().clone();
        for callback in shared {
            self.call(|| callback(&self.session, &self.reason));
        }
    }

    /// One callback's panic is its own.
    fn call(&self, callback: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(callback)).is_err() {
            metrics::counter!(crate::metrics::PANICS).increment(1);
            error!(session = self.session.id(), uid = self.session.uid(), reason = %self.reason, "a close callback panicked");
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.session.core().lane.done();
        if self.sessions.closing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.sessions.all_closed.notify_waiters();
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.read();
        f.debug_struct("Sessions").field("count", &table.by_id.len()).field("uids", &table.by_uid.len()).finish_non_exhaustive()
    }
}
